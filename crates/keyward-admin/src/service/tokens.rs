//! Who may call: tokens by their digests, from the store and from the environment.

use super::error::{Error, FieldError, Result};
use super::validate;
use crate::clock::Clock;
use crate::random;
use crate::secret::Secret;
use crate::store::keys::By;
use crate::store::tokens::{Role, TokenRecord};
use crate::store::{Head, Store};
use keyward_policy::digest::Digest;
use keyward_policy::timestamp::Timestamp;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// A caller that proved itself.
#[derive(Debug)]
pub struct Principal {
    /// Name of its token; audit entries carry it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When the token ends; none: never.
    pub expires_at: Option<Timestamp>,
    /// Polls that wait with this token.
    pub waiters: AtomicUsize,
    digest: Digest,
}

/// The tokens that are valid now.
pub struct Tokens {
    store: Store,
    clock: Clock,
    environment: Vec<Arc<Principal>>,
    by_digest: RwLock<HashMap<Digest, Arc<Principal>>>,
    version: parking_lot::Mutex<u64>,
}

impl Tokens {
    /// Starts with none but those from outside: name, role, secret.
    pub fn new(store: Store, clock: Clock, environment: Vec<(String, Role, Secret)>) -> Self {
        let environment = environment
            .into_iter()
            .map(|(name, role, secret)| {
                let waiters = AtomicUsize::new(0);
                Arc::new(Principal { name, role, expires_at: None, waiters, digest: secret.digest() })
            })
            .collect();
        let version = parking_lot::Mutex::new(u64::MAX);
        Self { store, clock, environment, by_digest: RwLock::default(), version }
    }

    /// Reads the tokens again where the store says that they changed; whether it did.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn refresh(&self, head: &Head) -> Result<bool> {
        if *self.version.lock() == head.version {
            return Ok(false);
        }
        let stored = self.store.tokens().await?;
        let mut by_digest = self.by_digest.write();
        let mut fresh: HashMap<Digest, Arc<Principal>> = HashMap::new();
        for token in stored {
            // Who stays keeps its count of waiting polls.
            let principal = by_digest.remove(&token.digest).unwrap_or_else(|| Arc::new(principal(token)));
            fresh.insert(principal.digest, principal);
        }
        for principal in &self.environment {
            fresh.insert(principal.digest, Arc::clone(principal));
        }
        *by_digest = fresh;
        *self.version.lock() = head.version;
        Ok(true)
    }

    /// Who shows this token; none: nobody that we know, or its time has ended.
    pub fn authenticate(&self, token: &str) -> Option<Arc<Principal>> {
        self.find(&Digest::of_key(token.as_bytes()))
    }

    /// Whether this caller would be let in now.
    pub fn is_valid(&self, principal: &Principal) -> bool {
        self.find(&principal.digest).is_some()
    }

    /// Whether there is a valid token of each role.
    pub fn has(&self, role: Role) -> bool {
        let now = self.clock.now();
        self.by_digest.read().values().any(|p| p.role == role && p.expires_at.is_none_or(|at| now < at))
    }

    // A look-up by digest tells by its time nothing that helps to guess 256 random bits.
    fn find(&self, digest: &Digest) -> Option<Arc<Principal>> {
        let principal = self.by_digest.read().get(digest).cloned()?;
        principal.expires_at.is_none_or(|at| self.clock.now() < at).then_some(principal)
    }
}

fn principal(token: TokenRecord) -> Principal {
    Principal {
        name: token.name,
        role: token.role,
        expires_at: token.expires_at,
        waiters: AtomicUsize::new(0),
        digest: token.digest,
    }
}

/// Makes a token; its plaintext is returned once and kept nowhere.
///
/// # Errors
/// For an invalid or taken name; when the store cannot be written.
pub async fn create_token(
    store: &Store,
    name: &str,
    role: Role,
    lifetime: Option<std::time::Duration>,
    by: By<'_>,
) -> Result<(TokenRecord, Secret)> {
    let mut errors = Vec::new();
    validate::name("name", name, &mut errors);
    let lifetime_ms = lifetime.map(|lifetime| i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX));
    if lifetime_ms.is_some_and(|ms| !(1_000..=100 * 366 * 86_400_000).contains(&ms)) {
        errors.push(FieldError::new("expires_in", "must be from 1s to 36600d"));
    }
    if !errors.is_empty() {
        return Err(Error::Invalid(errors));
    }
    let secret = Secret::new_token();
    let token = TokenRecord {
        id: format!("tok_{}", random::base32_16()),
        name: name.to_owned(),
        role,
        digest: secret.digest(),
        created_at: by.at,
        expires_at: lifetime_ms.map(|ms| Timestamp::from_unix_ms(by.at.unix_ms() + ms)),
    };
    store.create_token(&token, by).await?;
    Ok((token, secret))
}
