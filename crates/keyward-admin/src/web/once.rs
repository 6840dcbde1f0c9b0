//! Does a form's work exactly once.

use super::claim::{Claim, ClaimRefused, Finished};
use super::failure::Failure;
use super::state::Web;
use super::submission::Submission;
use crate::service::{Error, Result};
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

impl Submission {
    /// Does the work of a form, unless it is being done or was done before. `work` gets the state and the name of the
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
        let claim = self.claim(purpose)?;
        let web = Arc::clone(&self.user.web);
        let work = work(Arc::clone(&web), self.user.actor().to_owned());
        let task = tokio::spawn(async move {
            let done = work.await?;
            if let Some(revision) = done.revision {
                web.changes.begin(revision);
            }
            claim.finish(done.finished);
            Ok::<_, Error>(done.value)
        });
        task.await.map_err(|_| Failure::Internal)
    }

    fn claim(&self, purpose: &str) -> std::result::Result<Claim, Failure> {
        let session = &self.user.session;
        let nonce = self.fields.text("nonce");
        let salt = self.user.web.nonces.check(&session.id, purpose, nonce).ok_or(Failure::Forged)?;
        session.claims.claim(salt).map_err(|refused| match refused {
            ClaimRefused::Busy => Failure::Busy,
            ClaimRefused::Already(finished) => Failure::Already(finished),
            ClaimRefused::Exhausted => {
                self.user.web.sessions.end(&session.id);
                Failure::SessionEnded { next: "/settings/keys".to_owned(), sent: true }
            }
        })
    }
}
