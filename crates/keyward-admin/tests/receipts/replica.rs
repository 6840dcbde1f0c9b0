//! A replica of the service.

use crate::table::Sent;
use keyward_admin::service::proxies::Proxies;
use keyward_policy::timeline::{Mark, Point};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What a page is kept by: `since`, `base` and `mark`.
pub type PageKey = (u64, u64, Option<Mark>);
/// A page: its body, whether there is more, and its revision; or the status that refuses it.
pub type Page = Result<(String, bool, u64), u16>;

pub struct Replica {
    pub proxies: Arc<Proxies>,
    pub name: Arc<str>,
    /// Tells this process from those that ran here before.
    pub process: u64,
    pub known: Point,
    pub lineage: u64,
    /// Pages that were made while the known state was the newest.
    pub pages: HashMap<PageKey, Page>,
    pub held: Vec<Sent>,
    pub looks_at: u64,
    /// Whether notifications reach it.
    pub is_listening: bool,
    pub listens_at: u64,
    /// Notifications under way to it, in the order of their commits.
    pub inbox: VecDeque<String>,
    /// Whether it is telling the others something.
    pub is_telling: bool,
}
