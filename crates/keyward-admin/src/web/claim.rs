//! Claims: the forms of a session, each of which is worked on once.

use super::nonce::Salt;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Forms that a session may send. The session then ends, before a form could be forgotten and be done again.
const MAX_FORMS: usize = 20_000;

/// The forms that a session has sent, by the salt of their nonce.
#[derive(Debug, Default)]
pub(super) struct Claims {
    forms: Mutex<HashMap<Salt, FormState>>,
}

#[derive(Debug, Clone)]
enum FormState {
    Busy,
    Done(Finished),
}

/// The work of a form that was finished, for those who send the form again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finished {
    /// A sentence that says what was done.
    pub text: String,
    /// A path that shows the result.
    pub href: String,
}

/// Why a form is not worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClaimRefused {
    /// The same form is being worked on.
    Busy,
    /// The form's work was done before.
    Already(Finished),
    /// The session has sent as many forms as it may.
    Exhausted,
}

/// The right to do a form's work, once. If it is dropped without [`Claim::finish`], the form can be sent again.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Arc<Claims>,
    salt: Salt,
    finished: bool,
}

impl Claims {
    /// Claims the form whose nonce has this salt.
    ///
    /// # Errors
    /// Returns an error if the form must not be worked on now, or not again.
    pub fn claim(self: &Arc<Self>, salt: Salt) -> Result<Claim, ClaimRefused> {
        let mut forms = self.forms.lock();
        match forms.get(&salt) {
            Some(FormState::Busy) => return Err(ClaimRefused::Busy),
            Some(FormState::Done(finished)) => return Err(ClaimRefused::Already(finished.clone())),
            None if forms.len() >= MAX_FORMS => return Err(ClaimRefused::Exhausted),
            None => forms.insert(salt, FormState::Busy),
        };
        Ok(Claim { claims: Arc::clone(self), salt, finished: false })
    }
}

impl Claim {
    /// Records that the work is done.
    pub fn finish(mut self, finished: Finished) {
        self.finished = true;
        self.claims.forms.lock().insert(self.salt, FormState::Done(finished));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.finished {
            self.claims.forms.lock().remove(&self.salt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_worked_on_once() {
        let claims = Arc::new(Claims::default());
        let claim = claims.claim([1; 16]).unwrap();
        assert_eq!(claims.claim([1; 16]).unwrap_err(), ClaimRefused::Busy);
        assert!(claims.claim([2; 16]).is_ok());
        drop(claim);
        let finished = Finished { text: "done".into(), href: "/".into() };
        claims.claim([1; 16]).unwrap().finish(finished.clone());
        assert_eq!(claims.claim([1; 16]).unwrap_err(), ClaimRefused::Already(finished));
    }

    #[test]
    fn a_session_ends_before_a_form_is_forgotten() {
        let claims = Arc::new(Claims::default());
        let salt = |number: usize| {
            let mut salt = [0; 16];
            salt[..8].copy_from_slice(&number.to_be_bytes());
            salt
        };
        for number in 0..MAX_FORMS {
            claims.claim(salt(number)).unwrap().finish(Finished { text: String::new(), href: String::new() });
        }
        assert_eq!(claims.claim(salt(MAX_FORMS)).unwrap_err(), ClaimRefused::Exhausted);
        assert!(matches!(claims.claim(salt(0)), Err(ClaimRefused::Already(_))));
    }
}
