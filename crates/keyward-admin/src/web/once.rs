//! Does a form's work exactly once.

use super::claim::{Claim, ClaimRefused, Finished, Outcome, Work};
use super::failure::Failure;
use super::state::Web;
use super::submission::Submission;
use crate::service::Result;
use std::sync::Arc;

/// A change that was made, and what to answer if its form is sent again.
pub(super) struct Done<T> {
    /// The result of the use case.
    pub value: T,
    /// The revision of the change. `None` means that it takes none.
    pub revision: Option<u64>,
    /// The answer to the same form.
    pub finished: Finished,
}

/// The state of a form that may be worked on.
enum Claimed {
    /// The form was not sent before.
    New(Claim),
    /// The form was sent before, and is being worked on.
    Busy(Arc<Work>),
}

/// Returns the result of the work of a form. Forms of the same purpose have results of the same type.
fn of_type<T: Send + 'static>(outcome: Outcome) -> std::result::Result<Result<T>, Failure> {
    outcome.downcast().map(|result| *result).map_err(|_| Failure::Internal)
}

impl Submission {
    /// Does the work of a form, unless it was done before. A form that is sent again while it is worked on waits for the
    /// result, and gets it if the first sender has gone away. `work` gets the state and the name of the
    /// token, for the audit log.
    ///
    /// The work runs in a task of its own: it is finished, and recorded as done, even if the browser goes away.
    ///
    /// # Errors
    /// The outer error says that the work must not be done, the inner one that it failed.
    pub async fn once<T, F>(
        &self,
        purpose: &str,
        work: impl FnOnce(Arc<Web>, String) -> F,
    ) -> std::result::Result<Result<T>, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<Done<T>>> + Send + 'static,
    {
        let claim = loop {
            match self.claim(purpose)? {
                Claimed::New(claim) => break claim,
                // The one who sent the form before may have gone away.
                Claimed::Busy(running) => {
                    if let Some(outcome) = running.wait().await {
                        return of_type(outcome);
                    }
                }
            }
        };
        let web = Arc::clone(&self.user.web);
        let work = work(Arc::clone(&web), self.user.actor().to_owned());
        let running = claim.work();
        tokio::spawn(async move {
            let (value, finished) = match work.await {
                Ok(done) => {
                    if let Some(revision) = done.revision {
                        web.changes.begin(revision);
                    }
                    (Ok(done.value), Some(done.finished))
                }
                Err(error) => (Err(error), None),
            };
            claim.end(finished, Box::new(value));
        });
        match running.wait().await {
            Some(outcome) => of_type(outcome),
            // The same form was sent again and got the result, or the work panicked.
            None => self.claim(purpose).and(Err(Failure::Internal)),
        }
    }

    fn claim(&self, purpose: &str) -> std::result::Result<Claimed, Failure> {
        let session = &self.user.session;
        let nonce = self.fields.text("nonce");
        let salt = self.user.web.nonces.check(&session.id, purpose, nonce).ok_or(Failure::Forged)?;
        match session.claims.claim(salt) {
            Ok(claim) => Ok(Claimed::New(claim)),
            Err(ClaimRefused::Busy(running)) => Ok(Claimed::Busy(running)),
            Err(ClaimRefused::Already(finished)) => Err(Failure::Already(finished)),
            Err(ClaimRefused::Exhausted) => {
                self.user.web.sessions.end(&session.id);
                Err(Failure::SessionEnded { next: "/settings/keys".to_owned(), sent: true })
            }
        }
    }
}
