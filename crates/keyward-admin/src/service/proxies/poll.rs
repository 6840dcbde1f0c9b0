//! One poll of a table.

use super::limits::TooManyTables;
use super::registry::Proxies;
use super::told::{PollHeaders, Question, TableId};
use super::vm::Answered;
use std::sync::Arc;
use tokio::time::Instant;

/// A poll that is being served. Dropped without [`PollGuard::answered`]: its connection is gone.
pub struct PollGuard {
    proxies: Arc<Proxies>,
    id: TableId,
    poll: u64,
    is_first: bool,
    answered: Option<Answered>,
}

/// What has to be done before an answer may count as contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The store has to hold the table.
    Record,
    /// The other replicas have to be told that the table is in contact here.
    Tell,
    /// The store has to be read, so that an answer contains what was committed before that.
    Read,
    /// Nothing.
    Ready,
}

impl Proxies {
    /// As of when an answer that is made now is contact. `None` means that it would be none.
    pub fn as_of(&self) -> Option<Instant> {
        let state = self.state.lock();
        state.replicas.as_ref().map_or_else(|| Some(Instant::now()), |replicas| replicas.contact.as_of())
    }

    /// What has to be done before a caller that is not counted may be answered.
    pub fn step(&self) -> Step {
        if self.as_of().is_some() { Step::Ready } else { Step::Read }
    }

    /// Waits until something was told, written or read. To be called before [`PollGuard::step`] is asked.
    pub fn progress(&self) -> impl Future<Output = ()> + '_ {
        self.progress.notified()
    }

    /// A poll came, with a token. The guard is to be held until it is answered; there is none for a caller that is not a
    /// filter.
    ///
    /// # Errors
    /// [`TooManyTables`] for a table that is not known yet, where the token or the node has as many as it may.
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
            state.unshared.insert(id.clone());
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
            state.unshared.insert(id.clone());
            drop(guard);
            self.changed.notify_waiters();
        }
    }
}

impl PollGuard {
    /// Whether the VM had no answer from here yet.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// What has to be done before the VM may be answered with a complete table.
    pub fn step(&self) -> Step {
        let mut guard = self.proxies.state.lock();
        let state = &mut *guard;
        // Forgotten while it waited: it is simply new.
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

    /// A complete table is about to leave: from now on it counts.
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
            state.unshared.insert(self.id.clone());
        }
    }

    /// A page went out.
    pub fn answered(mut self, answered: Answered) {
        self.answered = Some(answered);
    }
}

impl Drop for PollGuard {
    fn drop(&mut self) {
        self.proxies.end(&self.id, self.poll, self.answered);
    }
}
