//! Eight writers at once.

use super::Place;
use super::cases::{BY, digest, new_key};
use keyward_admin::store::keys::KeyEdit;
use keyward_admin::store::manifest::KeyChange;
use keyward_admin::store::{Error, Store};
use keyward_policy::checksum::{Checksum, contribution};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const WRITERS: usize = 8;
const CHANGES: usize = 30;

async fn write(store: Store, writer: usize) {
    let mut ids: Vec<String> = Vec::new();
    for n in 0..CHANGES {
        match n % 5 {
            3 => drop(store.delete_key(&ids.remove(0), None, BY).await.unwrap()),
            4 => drop(store.regenerate_key(&ids[0], &digest(), None, BY).await.unwrap()),
            2 => {
                let edit = KeyEdit { name: Some(format!("renamed {writer} {n}")), ..KeyEdit::default() };
                store.edit_key(&ids[1], &edit, None, BY).await.unwrap();
            }
            _ => {
                let new = new_key(&format!("writer {writer} change {n}"));
                store.create_key(&new, BY).await.unwrap();
                ids.push(new.id);
            }
        }
    }
}

/// Follows the store like a filter that verifies each step. Had revision N+1 ever been visible before N, N would be
/// missed and the checksum would differ from then on.
async fn follow(store: Store, done: Arc<AtomicBool>) -> u64 {
    let mut since = 0;
    let mut table: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        let finished = done.load(Ordering::Acquire);
        let page = store.changes(since, since, None, 7).await.unwrap();
        for change in page.changes {
            match change {
                KeyChange::Live(key) => drop(table.insert(key.id.clone(), contribution(&key.wire()))),
                KeyChange::Deleted { id, .. } => drop(table.remove(&id)),
            }
        }
        assert!(page.revision >= since);
        since = page.revision;
        if !page.more {
            let mut sum = Checksum::default();
            table.values().for_each(|one| sum.add(*one));
            assert_eq!((table.len() as u64, sum), (page.head.live_count, page.head.checksum), "at {since}");
            if finished {
                return since;
            }
        }
    }
}

pub(crate) async fn no_reader_sees_a_revision_before_an_earlier_one(place: Arc<Place>) {
    let store = place.open().await;
    // On disk and on PostgreSQL a second service writes too.
    let second = if place.url.contains(":memory:") { store.clone() } else { place.open().await };
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> =
        [&store, &second].map(|store| tokio::spawn(follow(store.clone(), Arc::clone(&done)))).into_iter().collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(if writer % 2 == 0 { store.clone() } else { second.clone() }, writer)))
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    done.store(true, Ordering::Release);
    for reader in readers {
        assert_eq!(reader.await.unwrap(), (WRITERS * CHANGES) as u64);
    }
}

pub(crate) async fn one_of_many_gets_the_name(place: Arc<Place>) {
    let store = place.open().await;
    let tries: Vec<_> = (0..WRITERS)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.create_key(&new_key("the name"), BY).await.map(|_| ()) })
        })
        .collect();
    let mut made = 0;
    for one in tries {
        match one.await.unwrap() {
            Ok(()) => made += 1,
            Err(Error::NameTaken) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((made, store.head().await.unwrap().revision), (1, 1));
}
