//! What every handler of the page can reach.

use super::changes::Changes;
use super::nonce::Nonces;
use super::session::{MAX_SESSION_TIME, Sessions};
use crate::app::App;
use crate::service::Service;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Event streams that may be open at once. Views without one work, and do not update themselves.
const MAX_STREAMS: usize = 256;

/// The state of the page.
pub(super) struct Web {
    /// What the page shares with the API.
    pub app: Arc<App>,
    /// Who is signed in.
    pub sessions: Sessions,
    /// Makes and checks the nonces of forms.
    pub nonces: Nonces,
    /// The last changes that were made on the page.
    pub changes: Changes,
    /// One permit for each event stream.
    pub streams: Arc<Semaphore>,
    /// When the list of proxies was last looked at for event streams, and a number for what was found.
    pub proxies_seen: Mutex<Option<(Instant, u64)>>,
    /// Whether connections are encrypted. Browsers then send the cookies over encrypted connections only.
    pub secure: bool,
}

impl Web {
    /// Returns the state at start, when nobody is signed in.
    pub fn new(app: Arc<App>, secure: bool) -> Self {
        Self {
            app,
            sessions: Sessions::default(),
            nonces: Nonces::new(MAX_SESSION_TIME),
            changes: Changes::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            proxies_seen: Mutex::default(),
            secure,
        }
    }

    /// The use cases.
    pub fn service(&self) -> &Service {
        &self.app.service
    }
}
