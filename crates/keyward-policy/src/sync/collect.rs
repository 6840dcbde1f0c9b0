//! Collecting the changes of an answer, which needs the state of synchronization for no more than a moment.
//!
//! A caller that shares the state with other threads applies an outcome in four steps, so that it keeps them waiting for the
//! second and the last alone, which are short:
//!
//! 1. [`Received::read`] reads the answer, without the state.
//! 2. `ManifestSync::lend` hands over what was collected so far.
//! 3. [`Received::collect`] adds the page to it, and only reads the table in use.
//! 4. `ManifestSync::apply` takes it back, and makes it visible where it is complete.

use super::event::Reason;
use super::failure::Failure;
use super::load::Load;
use super::page;
use super::request::{Outcome, RequestId};
use crate::manifest::{Change, Page};
use crate::table::{KeyTable, Record, Staged};

/// The number of changes that are collected beside the table. For more, a new load takes less memory.
const MAX_STAGED: usize = 50_000;

/// The purpose of the next answer.
#[derive(Debug)]
pub(super) enum Job {
    /// A complete table. `None` means that the answer is its first page.
    Load(Option<Load>),
    /// The changes since the table in use.
    Follow,
    /// The rest of these changes.
    CatchUp { staged: Staged, since: u64 },
}

/// Why an answer was not applied.
pub(super) struct Refused {
    pub(super) failure: Option<Failure>,
    /// The collected changes cannot be used.
    pub(super) start_over: Option<Reason>,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { failure: Some(failure), start_over: None }
    }
}

impl Refused {
    pub(super) fn start_over(reason: Reason) -> Self {
        Self { failure: None, start_over: Some(reason) }
    }

    pub(super) fn mismatch(failure: Failure) -> Self {
        Self { failure: Some(failure), start_over: Some(Reason::Mismatch) }
    }
}

/// An outcome that was read, and what is collected with it.
pub struct Received<'a> {
    pub(super) id: RequestId,
    pub(super) page: Result<Page<'a>, Failure>,
    /// What was collected before, and the page once it is added. `None` where the page is not to be collected.
    pub(super) job: Option<Job>,
    pub(super) collected: Result<(), Refused>,
}

impl<'a> Received<'a> {
    /// Reads the outcome of a request with this `since`.
    pub fn read(id: RequestId, since: u64, outcome: &Outcome<'a>) -> Self {
        Self { id, page: page::read(outcome, since), job: None, collected: Ok(()) }
    }

    /// Adds the page to what was collected before. `table` is the one in use.
    pub fn collect(&mut self, table: Option<&KeyTable>) {
        let (Ok(page), Some(job)) = (&self.page, &mut self.job) else { return };
        self.collected = match job {
            Job::Load(load) => load.get_or_insert_with(|| Load::begin(page)).add(page).map_err(Refused::mismatch),
            Job::Follow => {
                let mut staged = Staged::default();
                let result = stage(&mut staged, table, page);
                *job = Job::CatchUp { staged, since: page.revision };
                result
            }
            Job::CatchUp { staged, since } => {
                *since = page.revision;
                stage(staged, table, page)
            }
        };
    }
}

/// Adds the changes of a page to those that are collected beside the table in use.
fn stage(staged: &mut Staged, table: Option<&KeyTable>, page: &Page<'_>) -> Result<(), Refused> {
    let Some(table) = table else { return Err(Refused::start_over(Reason::Mismatch)) };
    for change in &page.keys {
        match change {
            Change::Live(key) => Record::read(key)
                .and_then(|record| staged.upsert(table, &record))
                .map_err(|invalid| Refused::mismatch(Failure::Record(invalid)))?,
            Change::Deleted { id, .. } => {
                staged.remove(table, id).map_err(|_| Refused::start_over(Reason::FarBehind))?
            }
        }
    }
    if staged.len() > MAX_STAGED { Err(Refused::start_over(Reason::FarBehind)) } else { Ok(()) }
}
