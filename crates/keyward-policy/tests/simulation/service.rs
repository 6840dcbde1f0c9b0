//! The service in front of the store, as the contract has it.

use crate::store::Store;
use keyward_policy::manifest::{Change, FORMAT, Live, Page};
use keyward_policy::timeline::Mark;

#[derive(Debug, Clone, Copy)]
pub struct Question {
    pub since: u64,
    pub base: u64,
    pub mark: Option<Mark>,
    pub wait_ms: u64,
}

/// What the service answers at once; None: it holds the request.
pub fn answer(store: &Store, question: Question, page_max: usize, held: bool) -> Option<(u16, String)> {
    let Question { since, base, mark, wait_ms } = question;
    let gone = |code: &str| Some((410, format!(r#"{{"code":"{code}"}}"#)));
    if since > store.revision {
        return gone("revision_ahead");
    }
    if mark.is_some_and(|mark| store.marks.get(&since) != Some(&mark)) {
        return gone("revision_forked");
    }
    // A first request needs no tombstones; any other needs those later than its base.
    if since > 0 && store.compacted > base {
        return gone("revision_compacted");
    }
    if since == store.revision && wait_ms > 0 && !held {
        return None;
    }
    let live = store.live.values().filter(|key| key.revision > since).map(|key| Change::Live((**key).clone()));
    let needed = |revision: u64| since > 0 && revision > since && revision > base;
    let dead = store.tombstones.iter().filter(|(revision, _)| needed(**revision));
    let dead = dead.map(|(revision, id)| Change::Deleted { revision: *revision, id: id.clone().into() });
    let mut keys: Vec<Change<'_>> = live.chain(dead).collect();
    keys.sort_by_key(Change::revision);
    let more = keys.len() > page_max;
    keys.truncate(page_max);
    let revision = if more { keys.last().map_or(since, Change::revision) } else { store.revision };
    let checksum = (!more).then(|| store.checksum().to_string().into());
    let live = Live { count: store.live.len() as u64, checksum };
    let mark = (!more).then(|| store.mark());
    let head = store.revision;
    let page = Page { format: FORMAT, store: (&*store.id).into(), since, revision, mark, head, more, keys, live };
    serde_json::to_string(&page).ok().map(|body| (200, body))
}
