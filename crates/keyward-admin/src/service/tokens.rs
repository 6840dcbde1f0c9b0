//! The tokens of callers, by their digests: from the store and from the environment.

use super::error::{Error, FieldError, Result};
use super::validate;
use crate::clock::Clock;
use crate::random;
use crate::secret::Secret;
use crate::store::keys::By;
use crate::store::tokens::{Role, TokenRecord};
use crate::store::{Head, Store};
use crate::token_scope::TokenScope;
use keyward_policy::digest::Digest;
use keyward_policy::timestamp::Timestamp;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::sync::Semaphore;

/// The end of the names of tokens from the environment.
pub const ENVIRONMENT: &str = "(environment)";

/// A token that is set from outside.
#[derive(Debug, Clone)]
pub struct EnvironmentToken {
    /// The name of the token.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// The filters that it is bound to.
    pub scope: TokenScope,
    /// The plaintext.
    pub secret: Secret,
}

/// A caller that has shown a valid token.
#[derive(Debug)]
pub struct Principal {
    /// The name of the token, which audit entries carry.
    pub name: String,
    /// What the caller may do.
    pub role: Role,
    /// The filters that the token is bound to.
    pub scope: TokenScope,
    /// From when on the token is refused. `None` means that it does not expire.
    pub expires_at: Option<Timestamp>,
    /// The number of polls that wait with this token.
    pub waiters: AtomicUsize,
    /// Names the token where tables of filters are told apart. It cannot be turned back into the token.
    pub fingerprint: Arc<str>,
    /// The one place for a usage batch of this token.
    pub(super) usage: Arc<Semaphore>,
    digest: Digest,
}

fn fingerprint(digest: &Digest) -> Arc<str> {
    let mut text = b"tables of a token\n".to_vec();
    text.extend(digest.as_bytes());
    let hex = Digest::of_key(&text).to_hex();
    hex.get(..16).unwrap_or_default().into()
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
    /// Begins with the tokens from the environment alone.
    pub fn new(store: Store, clock: Clock, environment: Vec<EnvironmentToken>) -> Self {
        let environment = environment
            .into_iter()
            .map(|token| Arc::new(principal((token.name, token.role, token.scope), None, token.secret.digest())))
            .collect();
        let version = parking_lot::Mutex::new(u64::MAX);
        Self { store, clock, environment, by_digest: RwLock::default(), version }
    }

    /// Reads the tokens again if they changed since the last time. Returns whether they did.
    ///
    /// # Errors
    /// Returns an error when the store cannot be read.
    pub async fn refresh(&self, head: &Head) -> Result<bool> {
        if *self.version.lock() == head.version {
            return Ok(false);
        }
        let stored = self.store.tokens().await?;
        let mut by_digest = self.by_digest.write();
        let mut fresh: HashMap<Digest, Arc<Principal>> = HashMap::new();
        for token in stored {
            // A token that stays keeps its count of waiting polls.
            let principal = by_digest.remove(&token.digest).unwrap_or_else(|| {
                Arc::new(principal((token.name, token.role, token.scope), token.expires_at, token.digest))
            });
            fresh.insert(principal.digest, principal);
        }
        for principal in &self.environment {
            fresh.insert(principal.digest, Arc::clone(principal));
        }
        *by_digest = fresh;
        *self.version.lock() = head.version;
        Ok(true)
    }

    /// Forgets which state of the store was read last: the next [`Tokens::refresh`] reads all tokens.
    pub fn forget_version(&self) {
        *self.version.lock() = u64::MAX;
    }

    /// Returns the caller with this token. `None` means that the token is unknown or expired.
    pub fn authenticate(&self, token: &str) -> Option<Arc<Principal>> {
        self.find(&Digest::of_key(token.as_bytes()))
    }

    /// Returns whether the token of this caller is still valid.
    pub fn is_valid(&self, principal: &Principal) -> bool {
        self.find(&principal.digest).is_some()
    }

    /// Returns whether there is a valid token of this role.
    pub fn has(&self, role: Role) -> bool {
        let now = self.clock.now();
        self.by_digest.read().values().any(|p| p.role == role && p.expires_at.is_none_or(|at| now < at))
    }

    // The time of a look-up by digest reveals nothing that helps to guess 256 random bits.
    fn find(&self, digest: &Digest) -> Option<Arc<Principal>> {
        let principal = self.by_digest.read().get(digest).cloned()?;
        principal.expires_at.is_none_or(|at| self.clock.now() < at).then_some(principal)
    }
}

fn principal(
    (name, role, scope): (String, Role, TokenScope),
    expires_at: Option<Timestamp>,
    digest: Digest,
) -> Principal {
    let usage = Arc::new(Semaphore::new(1));
    let fingerprint = fingerprint(&digest);
    Principal { name, role, scope, expires_at, waiters: AtomicUsize::new(0), fingerprint, usage, digest }
}

/// Creates a token. Its plaintext is returned once and kept nowhere.
///
/// # Errors
/// For an invalid or taken name, and for a scope of another role than `edge`; when the store cannot be written.
pub async fn create_token(
    store: &Store,
    name: &str,
    (role, scope): (Role, TokenScope),
    lifetime: Option<std::time::Duration>,
    by: By<'_>,
) -> Result<(TokenRecord, Secret)> {
    let mut errors = Vec::new();
    let name = validate::normalized(name);
    validate::name("name", &name, &mut errors);
    if name.ends_with(ENVIRONMENT) {
        errors.push(FieldError::new(
            "name",
            format!("must not end in `{ENVIRONMENT}`, as those from the environment do"),
        ));
    }
    if role != Role::Edge && !scope.is_everything() {
        errors.push(FieldError::new("role", "must be `edge` for a token that is bound to a realm or to nodes"));
    }
    let lifetime_ms = lifetime.map(|lifetime| i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX));
    if lifetime_ms.is_some_and(|ms| !(1_000..=100 * 366 * 86_400_000).contains(&ms)) {
        errors.push(FieldError::new("expires_in", "must be from 1s to 36600d"));
    }
    if !errors.is_empty() {
        return Err(Error::Invalid(errors));
    }
    // Audit entries carry the name alone, so that a later token must not have the name of a revoked one.
    if store.had_token_named(&name).await? {
        return Err(Error::NameTaken);
    }
    let secret = Secret::new_token();
    let token = TokenRecord {
        id: format!("tok_{}", random::base32_16()),
        name,
        role,
        scope,
        digest: secret.digest(),
        created_at: by.at,
        expires_at: lifetime_ms.map(|ms| Timestamp::from_unix_ms(by.at.unix_ms() + ms)),
    };
    store.create_token(&token, by).await?;
    Ok((token, secret))
}
