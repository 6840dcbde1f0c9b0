//! The keys fetched from one admin service, shared by every root context of the VM that names it.

use keyward_policy::policy::Unavailable;
use keyward_policy::table::KeyTable;

/// Fetched keys.
pub struct Source {}

impl Source {
    /// The table in use.
    ///
    /// # Errors
    /// Why there is none that may be used.
    pub fn table(&self) -> Result<&KeyTable, Unavailable> {
        Err(Unavailable::NotYetLoaded)
    }
}
