//! One-time nonces: each form carries one, bound to the session and to what the form does.
//!
//! A nonce proves that the form came from a page of this session, so that no other site can send it (CSRF). It is used
//! up when the form's work is done: the same form sent again, by a double click or by going back, is told so.

use super::session::{LONGEST, Session};
use crate::random;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use keyward_policy::digest::Digest;
use parking_lot::Mutex;
use sha2::Sha256;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::time::Instant;

const SALT: usize = 16;
const TIME: usize = 4;
const MAC: usize = 16;
/// Forms one session may send; then it has to sign in again, before what it did could be forgotten.
const MOST_DONE: usize = 20_000;

/// What became of a form that was sent.
#[derive(Debug, Clone)]
pub(super) enum Done {
    /// It is being worked on.
    Busy,
    /// It was done: what to tell whoever sends it again, and where to go on.
    Done(Outcome),
}

/// What was done.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// A sentence.
    pub text: String,
    /// Where to look at it.
    pub href: String,
}

/// Why a form is not worked on.
#[derive(Debug, Clone)]
pub(super) enum Refused {
    /// It came from elsewhere, from another session, or long ago.
    Invalid,
    /// The same form is being worked on.
    Busy,
    /// It was done already.
    Already(Outcome),
    /// The session has sent too many.
    Exhausted,
}

/// Makes and checks nonces.
pub(super) struct Nonces {
    key: Hmac<Sha256>,
    start: Instant,
    /// Of the sign-in form, which has no session yet.
    signed_in: Mutex<HashMap<[u8; SALT], Instant>>,
}

/// The right to do a form's work, once. Dropped without [`Claim::done`], the form can be sent again.
pub(super) struct Claim {
    session: Arc<Session>,
    salt: [u8; SALT],
    finished: bool,
}

impl Nonces {
    pub fn new() -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let key = Hmac::new_from_slice(&random::bytes::<32>()).expect("any length");
        Self { key, start: Instant::now(), signed_in: Mutex::default() }
    }

    /// A nonce for `purpose`, of whoever `owner` stands for.
    pub fn make(&self, owner: &Digest, purpose: &str) -> String {
        let mut bytes = [0; SALT + TIME + MAC];
        let (head, mac) = bytes.split_at_mut(SALT + TIME);
        head[..SALT].copy_from_slice(&random::bytes::<SALT>());
        head[SALT..].copy_from_slice(&self.now().to_be_bytes());
        mac.copy_from_slice(&self.mac(owner, purpose, head).finalize().into_bytes()[..MAC]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Whether a nonce is ours, for this owner and purpose, and not too old; its own part.
    pub fn check(&self, owner: &Digest, purpose: &str, nonce: &str) -> Option<[u8; SALT]> {
        let bytes: [u8; SALT + TIME + MAC] = URL_SAFE_NO_PAD.decode(nonce).ok()?.try_into().ok()?;
        let (head, mac) = bytes.split_at(SALT + TIME);
        self.mac(owner, purpose, head).verify_truncated_left(mac).ok()?;
        let (salt, time) = head.split_at(SALT);
        let age = self.now().checked_sub(u32::from_be_bytes(time.try_into().ok()?))?;
        (u64::from(age) <= LONGEST.as_secs()).then(|| salt.try_into().ok())?
    }

    /// The right to do the work of a form.
    ///
    /// # Errors
    /// Where it must not be done, or not again.
    pub fn claim(&self, session: &Arc<Session>, purpose: &str, nonce: &str) -> Result<Claim, Refused> {
        let salt = self.check(&session.id, purpose, nonce).ok_or(Refused::Invalid)?;
        let mut done = session.done.lock();
        match done.get(&salt) {
            Some(Done::Busy) => return Err(Refused::Busy),
            Some(Done::Done(outcome)) => return Err(Refused::Already(outcome.clone())),
            None if done.len() >= MOST_DONE => return Err(Refused::Exhausted),
            None => done.insert(salt, Done::Busy),
        };
        Ok(Claim { session: Arc::clone(session), salt, finished: false })
    }

    /// Uses up the nonce of a sign-in form; whether it was fresh.
    pub fn use_up_sign_in(&self, salt: [u8; SALT]) -> bool {
        let mut used = self.signed_in.lock();
        let now = Instant::now();
        used.retain(|_, at| now.duration_since(*at) <= LONGEST);
        used.insert(salt, now).is_none()
    }

    fn now(&self) -> u32 {
        u32::try_from(self.start.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    fn mac(&self, owner: &Digest, purpose: &str, head: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        mac.update(owner.as_bytes());
        mac.update(head);
        mac.update(purpose.as_bytes());
        mac
    }
}

impl Claim {
    /// The work is done.
    pub fn done(mut self, text: impl Into<String>, href: impl Into<String>) {
        self.finished = true;
        let outcome = Outcome { text: text.into(), href: href.into() };
        self.session.done.lock().insert(self.salt, Done::Done(outcome));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.finished {
            self.session.done.lock().remove(&self.salt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_its_owner_and_purpose_alone() {
        let nonces = Nonces::new();
        let (a, b) = (Digest::of_key(b"a"), Digest::of_key(b"b"));
        let nonce = nonces.make(&a, "delete:key_1");
        assert!(nonces.check(&a, "delete:key_1", &nonce).is_some());
        assert!(nonces.check(&b, "delete:key_1", &nonce).is_none());
        assert!(nonces.check(&a, "delete:key_2", &nonce).is_none());
        assert!(Nonces::new().check(&a, "delete:key_1", &nonce).is_none());
        assert_ne!(nonce, nonces.make(&a, "delete:key_1"));
        for (index, _) in nonce.char_indices() {
            let mut other = nonce.clone();
            let swap = if nonce[index..].starts_with('A') { "B" } else { "A" };
            other.replace_range(index..=index, swap);
            assert!(nonces.check(&a, "delete:key_1", &other).is_none(), "{index}");
        }
        for bad in ["", "AAAA", "…", &"A".repeat(48), &"A".repeat(4_000)] {
            assert!(nonces.check(&a, "delete:key_1", bad).is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_nonce_grows_old() {
        let nonces = Nonces::new();
        let owner = Digest::of_key(b"a");
        let nonce = nonces.make(&owner, "x");
        tokio::time::advance(LONGEST).await;
        assert!(nonces.check(&owner, "x", &nonce).is_some());
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        assert!(nonces.check(&owner, "x", &nonce).is_none());
    }
}
