//! The key table inside a wasm module: what a key takes of linear memory, and how long a page of changes takes.
//!
//! Built for wasm32-unknown-unknown as a module of its own; whoever runs it reads the size of its memory from outside.

#![allow(unsafe_code, reason = "an exported name is all that a host can call")]

use keyward_policy::digest::Digest;
use keyward_policy::key::KeyId;
use keyward_policy::manifest::LiveKey;
use keyward_policy::table::KeyTable;
use std::cell::RefCell;

thread_local! {
    /// In use, being built.
    static TABLES: RefCell<(KeyTable, KeyTable)> = RefCell::default();
}

/// Sizes the table that is being built for `keys`.
#[unsafe(no_mangle)]
pub extern "C" fn reserve(keys: u32) {
    TABLES.with_borrow_mut(|(_, building)| building.reserve(keys as usize));
}

/// Puts keys `from..to` into the table that is being built, with names of twelve characters; how many it then holds.
#[unsafe(no_mangle)]
pub extern "C" fn fill(from: u32, to: u32) -> u32 {
    TABLES.with_borrow_mut(|(_, building)| {
        for n in from..to {
            let digest = Digest::of_key(&n.to_le_bytes());
            let [id @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *digest.as_bytes();
            let key = LiveKey {
                revision: u64::from(n),
                id: KeyId::Packed(id).to_string().into(),
                name: format!("name{n:08}").into(),
                sha256: digest.to_hex().into(),
                permissions: vec!["records:read".into(), "files:read".into()],
                expires_at: Some("2027-01-01T00:00:00Z".into()),
                disabled: false,
                must: Vec::new(),
            };
            // A key that is refused shows in the count.
            let _ = building.upsert(&key);
        }
        building.len() as u32
    })
}

/// Puts the table that was built into use and drops the one before it.
#[unsafe(no_mangle)]
pub extern "C" fn swap() {
    TABLES.with_borrow_mut(|(in_use, building)| *in_use = std::mem::take(building));
}

/// Looks up keys `from..to`; how many were found.
#[unsafe(no_mangle)]
pub extern "C" fn look_up(from: u32, to: u32) -> u32 {
    let found = |table: &KeyTable, n: &u32| table.get(&Digest::of_key(&n.to_le_bytes())).is_some();
    TABLES.with_borrow(|(in_use, _)| (from..to).filter(|n| found(in_use, n)).count() as u32)
}
