//! The use cases, without HTTP and without SQL. The API and the page call them.

pub mod error;
pub mod feed;
pub mod keys;
pub mod manifest;
pub mod proxies;
mod sense_of_time;
pub mod tokens;
mod upkeep;
pub mod usage;
pub mod validate;

pub use error::{Error, FieldError, Result};

use crate::address::{ApiUrl, PublicUrl};
use crate::catalogue::Catalogue;
use crate::clock::Clock;
use crate::random;
use crate::store::Store;
use crate::store::audit::{AuditEntry, AuditFilter};
use feed::Feed;
use proxies::Proxies;
use std::sync::Arc;
use std::time::Duration;
use tokens::{EnvironmentToken, Tokens};

/// The settings of the service.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The only realm whose filters get the manifest. `None` means that all filters get it.
    pub realm: Option<String>,
    /// The part of new keys before the last underscore.
    pub key_prefix: String,
    /// The permissions that a key can be granted.
    pub catalogue: Catalogue,
    /// The tokens from the environment.
    pub tokens: Vec<EnvironmentToken>,
    /// How long expired keys are kept.
    pub purge_after: Duration,
    /// How long tombstones are kept.
    pub tombstones_for: Duration,
    /// How many polls may wait with one token.
    pub max_waiters: usize,
    /// How many tables of filters one token and one node may have.
    pub tables: proxies::Limits,
    /// Where browsers find the page. `None` means where the service listens.
    pub public_url: Option<PublicUrl>,
    /// Where clients call the protected API. `None` means that this is not known.
    pub api_url: Option<ApiUrl>,
    /// The text of the filter configuration that keys are explained with. `None` means that none is set.
    pub explain_config: Option<String>,
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
            max_waiters: 20_000,
            tables: proxies::Limits::default(),
            public_url: None,
            api_url: None,
            explain_config: None,
        }
    }
}

/// The admin service.
pub struct Service {
    /// The settings.
    pub settings: Settings,
    /// The store.
    pub store: Store,
    /// The newest state of the store, and the pages of the manifest.
    pub feed: Feed,
    /// The filter instances and their receipts.
    pub proxies: Arc<Proxies>,
    /// The tokens that are valid.
    pub tokens: Tokens,
    clock: Clock,
    sense_of_time: parking_lot::Mutex<sense_of_time::SenseOfTime>,
    /// The name of this replica among those that share the store.
    replica: Arc<str>,
    /// Listening has to begin again: the store is found elsewhere.
    listen_again: tokio::sync::Notify,
}

impl Service {
    /// Makes a service on an open store. [`Service::run`] starts its background work.
    ///
    /// # Errors
    /// Returns an error when the store cannot be read.
    pub async fn new(store: Store, settings: Settings, clock: Clock) -> Result<Arc<Self>> {
        // First the rows: those of the place that the head names are among them.
        let known = store.proxies().await?;
        let head = store.head().await?;
        let tokens = Tokens::new(store.clone(), clock.clone(), settings.tokens.clone());
        tokens.refresh(&head).await?;
        if !head.has_all_tables {
            tracing::warn!("{}", proxies::VMS_MAY_BE_MISSING);
        }
        let proxies = Proxies::new(clock.clone(), known, feed::found(&head), store.is_shared(), settings.tables);
        Ok(Arc::new(Self {
            settings,
            feed: Feed::new(store.clone(), head, Arc::clone(&proxies)),
            proxies,
            tokens,
            clock,
            sense_of_time: parking_lot::Mutex::default(),
            listen_again: tokio::sync::Notify::new(),
            replica: hex::encode(random::bytes::<8>()).into(),
            store,
        }))
    }

    /// Returns the clock of the service.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns up to `limit` entries of the audit log older than `before`, newest first.
    ///
    /// # Errors
    /// Returns an error when the store cannot be read.
    pub async fn audit(&self, filter: &AuditFilter, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>> {
        Ok(self.store.audit(filter, before, limit).await?)
    }

    /// Returns why the service cannot do its work. `None` means that it can.
    pub fn unready(&self) -> Option<&'static str> {
        let state = self.feed.state();
        if state.closing {
            Some("the service is stopping")
        } else if !state.reachable {
            Some("the store cannot be reached")
        } else if self.store.write_failure().is_some() {
            Some("the store cannot be written; the log says why")
        } else {
            None
        }
    }
}
