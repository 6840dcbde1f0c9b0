//! The use cases, without HTTP and without SQL: the API, the page and the tests call these.

pub mod error;
pub mod feed;
mod keys;
mod manifest;
pub mod proxies;
pub mod tokens;
mod upkeep;
mod usage;
pub mod validate;

pub use error::{Error, FieldError, Result};
pub use keys::{CreateKey, EditKey, IssuedKey, KeyPage, check_prefix};
pub use manifest::Poll;
pub use usage::KeyDetail;

use crate::catalogue::Catalogue;
use crate::clock::Clock;
use crate::random;
use crate::secret::Secret;
use crate::store::Store;
use crate::store::audit::{AuditEntry, AuditFilter};
use crate::store::tokens::Role;
use feed::Feed;
use proxies::Proxies;
use std::sync::Arc;
use std::time::Duration;
use tokens::Tokens;

/// What the service is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Only filters of this realm get the manifest; none: all do.
    pub realm: Option<String>,
    /// What new keys begin with.
    pub key_prefix: String,
    /// What a key can be granted.
    pub catalogue: Catalogue,
    /// Tokens from outside: name, role, plaintext.
    pub tokens: Vec<(String, Role, Secret)>,
    /// Expired keys are deleted after this long.
    pub purge_after: Duration,
    /// Tombstones are kept for this long.
    pub tombstones_for: Duration,
    /// Polls that may wait with one token.
    pub most_waiters: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            realm: None,
            key_prefix: "kw".to_owned(),
            catalogue: Catalogue::databases_api(),
            tokens: Vec::new(),
            purge_after: Duration::from_secs(30 * 86_400),
            tombstones_for: Duration::from_secs(7 * 86_400),
            most_waiters: 20_000,
        }
    }
}

/// The service.
pub struct Service {
    /// As told at start.
    pub settings: Settings,
    /// Where everything is kept.
    pub store: Store,
    /// The newest state, and pages for filters.
    pub feed: Feed,
    /// Filter VMs and receipts.
    pub proxies: Arc<Proxies>,
    /// Who may call.
    pub tokens: Tokens,
    clock: Clock,
    /// Name of this replica among those that share the store.
    replica: Arc<str>,
}

impl Service {
    /// Starts on an open store. [`Service::run`] does what it does by itself.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn new(store: Store, settings: Settings, clock: Clock) -> Result<Arc<Self>> {
        let head = store.head().await?;
        let tokens = Tokens::new(store.clone(), clock.clone(), settings.tokens.clone());
        tokens.refresh(&head).await?;
        let proxies = Proxies::new(clock.clone(), store.proxies().await?, store.is_shared());
        Ok(Arc::new(Self {
            settings,
            feed: Feed::new(store.clone(), head),
            proxies,
            tokens,
            clock,
            replica: hex::encode(random::bytes::<8>()).into(),
            store,
        }))
    }

    /// The time by which the service goes.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Up to `limit` entries of the audit log older than `before`, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn audit(&self, filter: &AuditFilter, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>> {
        Ok(self.store.audit(filter, before, limit).await?)
    }

    /// Whether the service can do its work.
    pub fn is_ready(&self) -> bool {
        let state = self.feed.state();
        state.reachable && !state.closing
    }
}
