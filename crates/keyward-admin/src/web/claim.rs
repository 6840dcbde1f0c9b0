//! Claims: the forms of a session, each of which is worked on once.

use super::nonce::Salt;
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Mutex, oneshot};

/// Forms that a session may send. The session then ends, before a form could be forgotten and be done again.
const MAX_FORMS: usize = 20_000;

/// The forms that a session has sent, by the salt of their nonce.
#[derive(Debug, Default)]
pub(super) struct Claims {
    forms: parking_lot::Mutex<HashMap<Salt, FormState>>,
}

#[derive(Debug, Clone)]
enum FormState {
    Busy(Arc<Work>),
    Done(Finished),
}

/// The result of work, of the type that belongs to the form's purpose.
pub(super) type Outcome = Box<dyn Any + Send>;

/// The work of a form that is under way.
///
/// Its result goes to one of those who wait for it, so that a new key is not lost if the first sender has gone away and
/// the form is sent again. The result is never kept: if nobody waits for it, it is gone when the work ends.
#[derive(Debug)]
pub(super) struct Work(Mutex<Option<oneshot::Receiver<Outcome>>>);

impl Work {
    /// Waits for the end of the work. `None` means that another sender got the result, or that the work panicked.
    pub async fn wait(&self) -> Option<Outcome> {
        let mut receiver = self.0.lock().await;
        let outcome = receiver.as_mut()?.await;
        *receiver = None;
        outcome.ok()
    }
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
#[derive(Debug, Clone)]
pub(super) enum ClaimRefused {
    /// The same form is being worked on.
    Busy(Arc<Work>),
    /// The form's work was done before.
    Already(Finished),
    /// The session has sent as many forms as it may.
    Exhausted,
}

/// The right to do a form's work, once. If it is dropped without [`Claim::end`], the form can be sent again.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Arc<Claims>,
    salt: Salt,
    work: Arc<Work>,
    /// Takes the result. `None` means that the work has ended.
    sender: Option<oneshot::Sender<Outcome>>,
}

impl Claims {
    /// Claims the form whose nonce has this salt.
    ///
    /// # Errors
    /// Returns an error if the form must not be worked on now, or not again.
    pub fn claim(self: &Arc<Self>, salt: Salt) -> Result<Claim, ClaimRefused> {
        let mut forms = self.forms.lock();
        match forms.get(&salt) {
            Some(FormState::Busy(work)) => return Err(ClaimRefused::Busy(Arc::clone(work))),
            Some(FormState::Done(finished)) => return Err(ClaimRefused::Already(finished.clone())),
            None if forms.len() >= MAX_FORMS => return Err(ClaimRefused::Exhausted),
            None => {}
        }
        let (sender, receiver) = oneshot::channel();
        let work = Arc::new(Work(Mutex::new(Some(receiver))));
        forms.insert(salt, FormState::Busy(Arc::clone(&work)));
        Ok(Claim { claims: Arc::clone(self), salt, work, sender: Some(sender) })
    }
}

impl Claim {
    /// Returns the work, to wait for.
    pub fn work(&self) -> Arc<Work> {
        Arc::clone(&self.work)
    }

    /// Records that the work is done, and hands its result to whoever waits. Without `finished`, the work failed, and the
    /// form can be sent again.
    pub fn end(mut self, finished: Option<Finished>, outcome: Outcome) {
        if let Some(finished) = finished {
            self.claims.forms.lock().insert(self.salt, FormState::Done(finished));
        } else {
            self.claims.forms.lock().remove(&self.salt);
        }
        if let Some(sender) = self.sender.take() {
            // An error means that nobody waits.
            let _ = sender.send(outcome);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.sender.is_some() {
            self.claims.forms.lock().remove(&self.salt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished() -> Option<Finished> {
        Some(Finished { text: "done".into(), href: "/".into() })
    }

    #[tokio::test]
    async fn a_form_is_worked_on_once() {
        let claims = Arc::new(Claims::default());
        let claim = claims.claim([1; 16]).unwrap();
        assert!(matches!(claims.claim([1; 16]), Err(ClaimRefused::Busy(_))));
        assert!(claims.claim([2; 16]).is_ok());
        drop(claim);
        claims.claim([1; 16]).unwrap().end(None, Box::new(0));
        claims.claim([1; 16]).unwrap().end(finished(), Box::new(1));
        assert!(matches!(claims.claim([1; 16]), Err(ClaimRefused::Already(of)) if Some(&of) == finished().as_ref()));
    }

    #[tokio::test]
    async fn a_result_goes_to_one_sender_who_still_waits() {
        let claims = Arc::new(Claims::default());
        let claim = claims.claim([1; 16]).unwrap();
        let Err(ClaimRefused::Busy(again)) = claims.claim([1; 16]) else { panic!("nobody works on it") };
        // The first sender goes away.
        let first = claim.work();
        assert!(tokio::time::timeout(std::time::Duration::ZERO, first.wait()).await.is_err());
        let (told, third) = tokio::join!(async { (again.wait().await, first.wait().await) }, async {
            claim.end(finished(), Box::new(7));
        });
        assert_eq!(told.0.and_then(|outcome| outcome.downcast_ref::<i32>().copied()), Some(7));
        assert!(told.1.is_none());
        let () = third;
        // Nobody is left hanging by work that panics.
        let claim = claims.claim([2; 16]).unwrap();
        let work = claim.work();
        drop(claim);
        assert!(work.wait().await.is_none());
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
            claims.claim(salt(number)).unwrap().end(finished(), Box::new(()));
        }
        assert!(matches!(claims.claim(salt(MAX_FORMS)), Err(ClaimRefused::Exhausted)));
        assert!(matches!(claims.claim(salt(0)), Err(ClaimRefused::Already(_))));
    }
}
