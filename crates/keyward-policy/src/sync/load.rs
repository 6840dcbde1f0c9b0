//! A table that is built from the first page to the last, beside the one in use.

use super::failure::Failure;
use crate::manifest::Page;
use crate::table::KeyTable;

#[derive(Debug)]
pub(super) struct Load {
    pub(super) store: Box<str>,
    /// The head of the first page. Keys that were deleted before it have no tombstones in this load.
    pub(super) base: u64,
    pub(super) since: u64,
    pub(super) table: KeyTable,
}

impl Load {
    /// Creates the load for its first page, whose keys are not added yet.
    pub(super) fn begin(page: &Page<'_>) -> Self {
        let mut table = KeyTable::new();
        table.reserve(usize::try_from(page.live.count).unwrap_or(usize::MAX));
        Self { store: (&*page.store).into(), base: page.head, since: page.since, table }
    }

    /// Adds the keys of a page.
    pub(super) fn add(&mut self, page: &Page<'_>) -> Result<(), Failure> {
        self.table.apply(&page.keys).map_err(Failure::Record)?;
        self.since = page.revision;
        Ok(())
    }
}
