//! One-time nonces: each form carries one, bound to the session and to the purpose of the form.
//!
//! A nonce proves that the form came from a view of this session, so that no other site can send it (CSRF). A form whose
//! work was done keeps its nonce in the session's [`Claims`](super::claim::Claims), so that it is not done again after a
//! double click or after going back.

use crate::random;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use keyward_policy::digest::Digest;
use parking_lot::Mutex;
use sha2::Sha256;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

const SALT_BYTES: usize = 16;
const TIME_BYTES: usize = 4;
const MAC_BYTES: usize = 16;

/// The random part of a nonce, by which its form is known.
pub(super) type Salt = [u8; SALT_BYTES];

/// Makes and checks nonces.
pub(super) struct Nonces {
    key: Hmac<Sha256>,
    start: Instant,
    max_age: Duration,
    /// Nonces of the sign-in form that were used. That form has no session yet.
    used_to_sign_in: Mutex<HashMap<Salt, Instant>>,
}

impl Nonces {
    /// Returns a maker of nonces that are valid for `max_age`.
    pub fn new(max_age: Duration) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let key = Hmac::new_from_slice(&random::bytes::<32>()).expect("any length");
        Self { key, start: Instant::now(), max_age, used_to_sign_in: Mutex::default() }
    }

    /// Makes a nonce for a purpose. `owner` is the digest of what the browser's cookie holds.
    pub fn make(&self, owner: &Digest, purpose: &str) -> String {
        let mut bytes = [0; SALT_BYTES + TIME_BYTES + MAC_BYTES];
        let (head, mac) = bytes.split_at_mut(SALT_BYTES + TIME_BYTES);
        head[..SALT_BYTES].copy_from_slice(&random::bytes::<SALT_BYTES>());
        head[SALT_BYTES..].copy_from_slice(&self.now().to_be_bytes());
        mac.copy_from_slice(&self.mac(owner, purpose, head).finalize().into_bytes()[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Returns the salt of a nonce. `None` means that it is not valid: made for another owner or purpose, forged, or too
    /// old.
    pub fn check(&self, owner: &Digest, purpose: &str, nonce: &str) -> Option<Salt> {
        let bytes: [u8; SALT_BYTES + TIME_BYTES + MAC_BYTES] = URL_SAFE_NO_PAD.decode(nonce).ok()?.try_into().ok()?;
        let (head, mac) = bytes.split_at(SALT_BYTES + TIME_BYTES);
        self.mac(owner, purpose, head).verify_truncated_left(mac).ok()?;
        let (salt, time) = head.split_at(SALT_BYTES);
        let age = self.now().checked_sub(u32::from_be_bytes(time.try_into().ok()?))?;
        (u64::from(age) <= self.max_age.as_secs()).then(|| salt.try_into().ok())?
    }

    /// Uses up the nonce of a sign-in form. Returns whether it was unused.
    pub fn use_up_sign_in(&self, salt: Salt) -> bool {
        let mut used = self.used_to_sign_in.lock();
        let now = Instant::now();
        used.retain(|_, at| now.duration_since(*at) <= self.max_age);
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

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_AGE: Duration = Duration::from_secs(60);

    #[test]
    fn a_nonce_is_good_for_its_owner_and_purpose_alone() {
        let nonces = Nonces::new(MAX_AGE);
        let (a, b) = (Digest::of_key(b"a"), Digest::of_key(b"b"));
        let nonce = nonces.make(&a, "delete:key_1");
        assert!(nonces.check(&a, "delete:key_1", &nonce).is_some());
        assert!(nonces.check(&b, "delete:key_1", &nonce).is_none());
        assert!(nonces.check(&a, "delete:key_2", &nonce).is_none());
        assert!(Nonces::new(MAX_AGE).check(&a, "delete:key_1", &nonce).is_none());
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
        let nonces = Nonces::new(MAX_AGE);
        let owner = Digest::of_key(b"a");
        let nonce = nonces.make(&owner, "x");
        tokio::time::advance(MAX_AGE).await;
        assert!(nonces.check(&owner, "x", &nonce).is_some());
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        assert!(nonces.check(&owner, "x", &nonce).is_none());
    }
}
