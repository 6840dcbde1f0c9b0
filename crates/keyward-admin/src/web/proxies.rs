//! The view of proxies, and of what their VMs have applied.

use super::chrome::{Chrome, Section, render};
use super::failure::Failure;
use super::moment::{time_inline, time_to_the_second};
use super::user::User;
use crate::service::proxies::{ContactState, ProxyView};
use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;
use keyward_policy::duration;

#[derive(Template)]
#[template(path = "proxies.html")]
struct ProxiesView {
    page: Chrome,
    head: u64,
    in_contact: usize,
    unreachable: usize,
    nodes: Vec<NodeRow>,
}

struct NodeRow {
    name: String,
    workers: String,
    vms: Vec<VmRow>,
}

struct VmRow {
    name: String,
    kind: &'static str,
    state: &'static str,
    applied: u64,
    lag: String,
    /// Markup.
    last_contact: String,
    /// Markup.
    without_contact: String,
    filter: String,
}

impl VmRow {
    fn new(vm: ProxyView, head: u64) -> Self {
        let (kind, state) = match vm.state {
            ContactState::InContact => ("good", "In contact"),
            ContactState::Unreachable => ("warn", "Out of contact"),
            ContactState::Gone => ("quiet", "Gone: refuses everything"),
        };
        let lag = match head.saturating_sub(vm.applied) {
            0 => "Up to date".to_owned(),
            1 => "1 revision".to_owned(),
            behind => format!("{behind} revisions"),
        };
        let without_contact = match (vm.state, vm.max_staleness, vm.refuses_by) {
            (ContactState::Unreachable, Some(_), Some(by)) => format!("refuses everything by {}", time_inline(by)),
            (ContactState::Gone, Some(_), Some(by)) => format!("refuses everything since {}", time_inline(by)),
            (_, Some(limit), _) => format!("serves for {}", duration::format(limit)),
            (_, None, _) => "serves without limit".to_owned(),
        };
        Self {
            name: vm.vm,
            kind,
            state,
            applied: vm.applied,
            lag,
            last_contact: if vm.state == ContactState::InContact {
                "now".to_owned()
            } else {
                time_to_the_second(vm.last_contact_at)
            },
            without_contact,
            filter: if vm.filter.is_empty() { "not told".to_owned() } else { vm.filter },
        }
    }
}

pub(super) async fn list(user: User) -> Result<Response, Failure> {
    let service = user.web.service();
    let head = service.feed.state().head.revision;
    let list = service.proxies.list();
    let count = |state: ContactState| list.iter().filter(|vm| vm.state == state).count();
    let (in_contact, unreachable) = (count(ContactState::InContact), count(ContactState::Unreachable));
    let mut nodes: Vec<NodeRow> = Vec::new();
    for vm in list {
        let name = if vm.node.is_empty() { "(without a name)".to_owned() } else { vm.node.clone() };
        if nodes.last().is_none_or(|node| node.name != name) {
            nodes.push(NodeRow { name, workers: String::new(), vms: Vec::new() });
        }
        if let Some(node) = nodes.last_mut() {
            node.vms.push(VmRow::new(vm, head));
        }
    }
    for node in &mut nodes {
        let count = node.vms.len();
        node.workers = format!("{count} {}", if count == 1 { "VM" } else { "VMs" });
    }
    let view =
        ProxiesView { page: user.chrome(Section::Proxies, Some("proxies")), head, in_contact, unreachable, nodes };
    render(StatusCode::OK, &view)
}
