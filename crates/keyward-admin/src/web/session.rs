//! Sessions: who is signed in. They exist in this process only, by the digest of what the cookie holds.

use super::claim::Claims;
use super::notice::Notice;
use crate::random;
use crate::service::tokens::Principal;
use keyward_policy::digest::Digest;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// How long a session may be unused before it ends.
const MAX_IDLE_TIME: Duration = Duration::from_secs(3600);
/// How long a session lasts at most.
pub(super) const MAX_SESSION_TIME: Duration = Duration::from_secs(12 * 3600);
/// Sessions at once. One more ends the session that was unused for the longest time.
const MAX_SESSIONS: usize = 1_000;
/// Event streams of one session at once: one for each tab, and a receipt. Views beyond them work without.
pub(super) const MAX_STREAMS: usize = 16;

/// One sign-in.
pub(super) struct Session {
    /// The token that signed in.
    pub principal: Arc<Principal>,
    /// Digest of what the cookie holds. Nonces are bound to it.
    pub id: Digest,
    begun: Instant,
    touched: Mutex<Instant>,
    /// Notices for the next view.
    pub notices: Mutex<Vec<Notice>>,
    /// The forms that were sent.
    pub claims: Arc<Claims>,
    /// Places for event streams.
    pub streams: Arc<Semaphore>,
}

/// All sessions.
#[derive(Default)]
pub(super) struct Sessions {
    by_id: Mutex<HashMap<Digest, Arc<Session>>>,
}

impl Sessions {
    /// Begins a session. Returns what its cookie has to hold; the session keeps only the digest of it.
    pub fn begin(&self, principal: Arc<Principal>) -> String {
        let secret = random::base62(43);
        let id = Digest::of_key(secret.as_bytes());
        let now = Instant::now();
        let session = Session {
            principal,
            id,
            begun: now,
            touched: Mutex::new(now),
            notices: Mutex::default(),
            claims: Arc::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        };
        let mut sessions = self.by_id.lock();
        sessions.retain(|_, session| session.is_alive(now));
        if sessions.len() >= MAX_SESSIONS {
            let stalest = sessions.values().min_by_key(|session| *session.touched.lock()).map(|session| session.id);
            stalest.map(|id| sessions.remove(&id));
        }
        sessions.insert(id, Arc::new(session));
        secret
    }

    /// Finds the session of a cookie. `touch` says that this is a use, which keeps the session from ending.
    pub fn find(&self, secret: &str, touch: bool) -> Option<Arc<Session>> {
        let id = Digest::of_key(secret.as_bytes());
        let mut sessions = self.by_id.lock();
        let session = Arc::clone(sessions.get(&id)?);
        let now = Instant::now();
        if !session.is_alive(now) {
            sessions.remove(&id);
            return None;
        }
        if touch {
            *session.touched.lock() = now;
        }
        Some(session)
    }

    /// Ends a session.
    pub fn end(&self, id: &Digest) {
        self.by_id.lock().remove(id);
    }

    /// Returns whether a session has not ended.
    pub fn is_open(&self, session: &Session) -> bool {
        self.by_id.lock().contains_key(&session.id) && session.is_alive(Instant::now())
    }
}

impl Session {
    fn is_alive(&self, now: Instant) -> bool {
        now.duration_since(self.begun) < MAX_SESSION_TIME && now.duration_since(*self.touched.lock()) < MAX_IDLE_TIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::secret::Secret;
    use crate::service::tokens::{EnvironmentToken, Tokens};
    use crate::store::Store;
    use crate::store::tokens::Role;
    use crate::token_scope::TokenScope;

    async fn principal() -> Arc<Principal> {
        let store = Store::open("sqlite::memory:").await.unwrap();
        let token = Secret::new("t".repeat(40));
        let given = EnvironmentToken {
            name: "test".into(),
            role: Role::Admin,
            scope: TokenScope::default(),
            secret: token.clone(),
        };
        let tokens = Tokens::new(store.clone(), Clock::system(), vec![given]);
        tokens.refresh(&store.head().await.unwrap()).await.unwrap();
        tokens.authenticate(token.reveal()).unwrap()
    }

    async fn pass(time: Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    }

    #[tokio::test]
    async fn a_session_ends_unused_and_in_any_case() {
        let sessions = Sessions::default();
        let cookie = sessions.begin(principal().await);
        assert!(sessions.find("another", true).is_none());
        pass(MAX_IDLE_TIME - Duration::from_secs(1)).await;
        assert!(sessions.find(&cookie, false).is_some());
        pass(Duration::from_secs(2)).await;
        assert!(sessions.find(&cookie, true).is_none(), "looking without touching kept it");

        let cookie = sessions.begin(principal().await);
        for _ in 0..23 {
            pass(Duration::from_secs(1800)).await;
            assert!(sessions.find(&cookie, true).is_some());
        }
        pass(Duration::from_secs(1800)).await;
        assert!(sessions.find(&cookie, true).is_none(), "it outlived its longest time");
    }

    #[tokio::test]
    async fn there_are_never_too_many() {
        let sessions = Sessions::default();
        let principal = principal().await;
        let first = sessions.begin(Arc::clone(&principal));
        let second = sessions.begin(Arc::clone(&principal));
        for _ in 0..MAX_SESSIONS - 1 {
            pass(Duration::from_millis(1)).await;
            sessions.begin(Arc::clone(&principal));
        }
        assert!(sessions.find(&first, false).is_none());
        assert!(sessions.find(&second, false).is_some());
        let session = sessions.find(&second, false).unwrap();
        sessions.end(&session.id);
        assert!(!sessions.is_open(&session));
    }
}
