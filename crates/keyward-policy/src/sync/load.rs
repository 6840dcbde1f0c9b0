//! A table that is being built from the first page to the last, beside the one in use.

use super::failure::Failure;
use crate::manifest::Page;
use crate::table::KeyTable;

#[derive(Debug)]
pub(super) struct Load {
    pub(super) store: Box<str>,
    /// The head of the first page: what was deleted before that is never heard of.
    pub(super) base: u64,
    pub(super) since: u64,
    pub(super) table: KeyTable,
}

impl Load {
    /// Begins with the first page, which is not taken in yet.
    pub(super) fn begin(page: &Page<'_>) -> Self {
        let mut table = KeyTable::new();
        table.reserve(usize::try_from(page.live.count).unwrap_or(usize::MAX));
        Self { store: (&*page.store).into(), base: page.head, since: page.since, table }
    }

    /// Takes a page in.
    pub(super) fn add(&mut self, page: &Page<'_>) -> Result<(), Failure> {
        self.table.apply(&page.keys).map_err(Failure::Record)?;
        self.since = page.revision;
        Ok(())
    }
}
