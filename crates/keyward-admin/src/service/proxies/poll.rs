//! One poll of a table.

use super::limits::TooManyTables;
use super::registry::Proxies;
use super::told::{PollHeaders, Question, TableId};
use super::vm::Answered;
use std::sync::Arc;
use tokio::time::Instant;

/// A poll that is being served. If it is dropped without [`PollGuard::answered`], its connection is gone.
pub struct PollGuard {
    proxies: Arc<Proxies>,
    id: TableId,
    poll: u64,
    is_first: bool,
    answered: Option<Answered>,
}

/// The next step before an answer may count as contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The table has to be recorded in the store.
    Record,
    /// The other replicas have to be informed that the table is in contact here.
    Tell,
    /// The store has to be read, so that an answer contains all changes that were committed before.
    Read,
    /// Nothing.
    Ready,
}

impl Proxies {
    /// Returns the moment as of which an answer that is made now is contact. `None` means that it would be no contact.
    pub fn as_of(&self) -> Option<Instant> {
        let state = self.state.lock();
        state.replicas.as_ref().map_or_else(|| Some(Instant::now()), |replicas| replicas.contact.as_of())
    }

    /// Returns the next step before a caller that does not count may be answered.
    pub fn step(&self) -> Step {
        if self.as_of().is_some() { Step::Ready } else { Step::Read }
    }

    /// Waits until a message was sent, or the store was written or read. It must be called before [`PollGuard::step`].
    pub fn progress(&self) -> impl Future<Output = ()> + '_ {
        self.progress.notified()
    }

    /// Takes in a poll with a token. The caller holds the returned guard until the poll is answered. A caller that is
    /// not a filter gets no guard.
    ///
    /// # Errors
    /// Returns [`TooManyTables`] for a new table if its token or node has as many as allowed.
    pub fn begin(
        self: &Arc<Self>,
        headers: &PollHeaders,
        token: &Arc<str>,
        question: Question,
    ) -> Result<Option<PollGuard>, TooManyTables> {
        let Some(id) = headers.id(token) else { return Ok(None) };
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let now = Instant::now();
        if !state.vms.contains_key(&id) {
            state.admit(&id, self.limits, now)?;
        }
        state.polls += 1;
        let poll = state.polls;
        let is_older_filter = id.table.is_empty();
        let Some(vm) = state.vms.get_mut(&id) else { return Ok(None) };
        let is_first = vm.is_new_here();
        let told = (headers.poll, headers.told());
        let news = vm.asks(poll, told, question, is_older_filter, &state.timeline, now) && vm.may_serve();
        if !vm.is_recorded() {
            state.unsaved.insert(id.clone());
        }
        if news {
            state.share(&id);
        }
        drop(guard);
        if news {
            self.changed.notify_waiters();
        }
        Ok(Some(PollGuard { proxies: Arc::clone(self), id, poll, is_first, answered: None }))
    }

    fn end(&self, id: &TableId, poll: u64, answered: Option<Answered>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(vm) = state.vms.get_mut(id) else { return };
        if vm.ends(poll, answered, Instant::now()) {
            state.share(id);
            drop(guard);
            self.changed.notify_waiters();
        }
    }
}

impl PollGuard {
    /// Returns whether the instance has had no answer from this replica yet.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// Returns the next step before the instance may be answered with a complete table.
    pub fn step(&self) -> Step {
        let mut guard = self.proxies.state.lock();
        let state = &mut *guard;
        // A table that was forgotten while its poll waited is a new one.
        let vm = state.vms.get(&self.id).filter(|vm| vm.may_serve());
        if vm.is_some_and(|vm| !vm.is_recorded()) {
            state.unsaved.insert(self.id.clone());
            return Step::Record;
        }
        let Some(replicas) = &state.replicas else { return Step::Ready };
        if vm.is_some_and(|vm| vm.told_at.is_none()) {
            return Step::Tell;
        }
        let known = vm.and_then(|vm| vm.recorded.as_ref().map(|row| row.at).max(vm.told_at));
        if replicas.contact.has_read_after(known) && replicas.contact.as_of().is_some() {
            Step::Ready
        } else {
            Step::Read
        }
    }

    /// Notes that a complete table is about to be sent, from which moment on it counts.
    pub fn gives(&self) {
        let mut guard = self.proxies.state.lock();
        let state = &mut *guard;
        let vm = state.entry(&self.id, Instant::now());
        let news = vm.is_given(self.id.table.is_empty());
        let is_recorded = vm.is_recorded();
        if !is_recorded {
            state.unsaved.insert(self.id.clone());
        }
        if news {
            state.share(&self.id);
        }
    }

    /// Notes that a page was sent.
    pub fn answered(mut self, answered: Answered) {
        self.answered = Some(answered);
    }
}

impl Drop for PollGuard {
    fn drop(&mut self) {
        self.proxies.end(&self.id, self.poll, self.answered);
    }
}
