//! The view of proxies, and of what their instances have applied; forgetting an instance, and confirming the list.

use super::chrome::{Chrome, Section, render};
use super::claim::Finished;
use super::failure::Failure;
use super::form::FormFields;
use super::home::MessageView;
use super::moment::{time_inline, time_to_the_second};
use super::once::Done;
use super::state::Web;
use super::submission::Submission;
use super::user::User;
use crate::service::proxies::{ContactState, ProxyView};
use askama::Template;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::Response;
use keyward_policy::count::counted;
use keyward_policy::duration;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "proxies.html")]
struct ProxiesView {
    page: Chrome,
    head: u64,
    in_contact: usize,
    unreachable: usize,
    nodes: Vec<NodeRow>,
    /// The name of the list, if it can be confirmed.
    list: Option<String>,
    /// How many instances are not shown, because there are too many.
    left_out: usize,
}

/// Asks before an instance is forgotten.
#[derive(Template)]
#[template(path = "proxy_forget.html")]
struct ForgetView {
    page: Chrome,
    vm: VmRow,
    nonce: String,
}

/// Asks before the list is confirmed.
#[derive(Template)]
#[template(path = "proxies_confirm.html")]
struct ConfirmView {
    page: Chrome,
    in_contact: usize,
    unreachable: usize,
    /// The name of the list that was looked at.
    list: String,
    nonce: String,
}

/// How many instances are shown. A browser would take long to show more, and nobody reads them.
const MAX_ROWS: usize = 2_000;
/// The purpose of the form that confirms the list.
const CONFIRM: &str = "confirm-proxies";
/// Where the list is.
const LIST: &str = "/settings/proxies";

struct NodeRow {
    name: String,
    count: String,
    vms: Vec<VmRow>,
}

struct VmRow {
    node: String,
    name: String,
    /// The path of the form that forgets the instance. `None` for an instance in contact, which would be listed again
    /// at once.
    forget: Option<String>,
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
            behind => counted(behind, "revision").to_string(),
        };
        let without_contact = match (vm.state, vm.max_staleness, vm.refuses_by) {
            (ContactState::Unreachable, Some(_), Some(by)) => format!("refuses everything by {}", time_inline(by)),
            (ContactState::Gone, Some(_), Some(by)) => format!("refuses everything since {}", time_inline(by)),
            (_, Some(limit), _) => format!("serves for {}", duration::format(limit)),
            (_, None, _) => "serves without limit".to_owned(),
        };
        let name = form_urlencoded::byte_serialize(vm.vm.as_bytes());
        let forget = (vm.state != ContactState::InContact)
            .then(|| name.fold(format!("{LIST}/forget?vm="), |path, piece| path + piece));
        Self {
            forget,
            node: node_name(&vm.node),
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

fn node_name(node: &str) -> String {
    if node.is_empty() { "(without a name)".to_owned() } else { node.to_owned() }
}

/// Returns how many instances are in a state.
fn count(list: &[ProxyView], state: ContactState) -> usize {
    list.iter().filter(|vm| vm.state == state).count()
}

pub(super) async fn list(user: User) -> Result<Response, Failure> {
    let service = user.web.service();
    let head = service.feed.state().head.revision;
    let listed = service.list_proxies().await;
    let list = listed.vms;
    let (in_contact, unreachable) = (count(&list, ContactState::InContact), count(&list, ContactState::Unreachable));
    let left_out = list.len().saturating_sub(MAX_ROWS);
    let mut nodes: Vec<NodeRow> = Vec::new();
    for vm in list.into_iter().take(MAX_ROWS) {
        let name = node_name(&vm.node);
        if nodes.last().is_none_or(|node| node.name != name) {
            nodes.push(NodeRow { name, count: String::new(), vms: Vec::new() });
        }
        if let Some(node) = nodes.last_mut() {
            node.vms.push(VmRow::new(vm, head));
        }
    }
    for node in &mut nodes {
        node.count = counted(node.vms.len() as u64, "instance").to_string();
    }
    let page = user.chrome(Section::Proxies, Some("proxies"));
    render(StatusCode::OK, &ProxiesView { page, head, in_contact, unreachable, nodes, list: listed.name, left_out })
}

/// Returns the purpose of the form that forgets an instance.
fn forget_purpose(vm: &str) -> String {
    format!("forget:{vm}")
}

pub(super) async fn ask_to_forget(user: User, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let fields = FormFields::of_query(query.as_deref());
    let name = fields.text("vm");
    let service = user.web.service();
    let head = service.feed.state().head.revision;
    let vm = service.proxies.list().into_iter().find(|vm| vm.vm == name).ok_or(Failure::NoSuchVm)?;
    let page = user.chrome(Section::Proxies, None);
    render(StatusCode::OK, &ForgetView { page, vm: VmRow::new(vm, head), nonce: user.nonce(&forget_purpose(name)) })
}

pub(super) async fn forget(submission: Submission) -> Result<Response, Failure> {
    let name = submission.fields.text("vm").to_owned();
    let text = format!("“{name}” is no longer in the list, and receipts do not count it.");
    let vm = name.clone();
    change(submission, &forget_purpose(&name), "Instance forgotten", text, move |web, actor| async move {
        web.service().forget_vm(&actor, &vm).await
    })
    .await
}

pub(super) async fn ask_to_confirm(user: User, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let fields = FormFields::of_query(query.as_deref());
    let listed = user.web.service().list_proxies().await;
    // The link says which list was looked at. Somebody who did not follow it sees the counts of this one.
    let list = Some(fields.text("list")).filter(|list| !list.is_empty()).map(str::to_owned).or(listed.name);
    let view = ConfirmView {
        page: user.chrome(Section::Proxies, None),
        in_contact: count(&listed.vms, ContactState::InContact),
        unreachable: count(&listed.vms, ContactState::Unreachable),
        list: list.unwrap_or_default(),
        nonce: user.nonce(CONFIRM),
    };
    render(StatusCode::OK, &view)
}

pub(super) async fn confirm(submission: Submission) -> Result<Response, Failure> {
    let text = "Receipts name times again.".to_owned();
    let list = submission.fields.text("list").to_owned();
    change(submission, CONFIRM, "List confirmed", text, move |web, actor| async move {
        web.service().confirm_proxies(&actor, Some(&list)).await
    })
    .await
}

/// Does the work of a form once, and says that it is done.
async fn change<F: Future<Output = crate::service::Result<()>> + Send + 'static>(
    submission: Submission,
    purpose: &str,
    heading: &str,
    text: String,
    work: impl FnOnce(Arc<Web>, String) -> F,
) -> Result<Response, Failure> {
    let finished = Finished { text: text.clone(), href: LIST.to_owned() };
    submission
        .once(purpose, move |web, actor| {
            let work = work(web, actor);
            async move {
                work.await?;
                Ok(Done { revision: None, value: (), finished })
            }
        })
        .await??;
    let view = MessageView {
        page: submission.user.chrome(Section::Proxies, None),
        heading: heading.to_owned(),
        text,
        href: LIST.to_owned(),
        link: "Proxies",
    };
    render(StatusCode::OK, &view)
}
