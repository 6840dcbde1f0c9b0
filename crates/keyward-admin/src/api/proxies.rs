//! `/v1/proxies`, and receipts as they are shown.

use super::auth::Admin;
use super::problem::Problem;
use super::read::Query;
use crate::app::App;
use crate::service::proxies::{Applied, ProxyView};
use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use keyward_policy::duration;
use keyward_policy::timeline::{Enforcement, InlineKeys};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// How far a change has come. It speaks of requests that begin afterwards.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppliedView {
    /// Filter instances in contact that have applied it.
    vms: u64,
    /// Filter instances in contact; null: this replica of the service cannot see those of the others now.
    #[schema(required)]
    of: Option<u64>,
    /// Filter instances that were in contact lately and are not now.
    unreachable: u64,
    /// By when even those refuse; null: one of them has no limit of staleness, or not all can be seen.
    #[schema(format = DateTime, required)]
    refused_everywhere_by: Option<String>,
    /// Why no time can be named. Empty where one is.
    unknown_because: Vec<DoubtView>,
}

/// One reason why no time can be named.
#[derive(Debug, Serialize, ToSchema)]
struct DoubtView {
    /// What keeps the service from naming a time.
    #[schema(
        pattern = "^(shadow_mode|inline_keys|older_filter|disputed|no_staleness_limit|store_went_back|vms_may_be_missing|replicas_unseen)$"
    )]
    reason: &'static str,
    /// How many instances it is about. Missing where that is not what counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    vms: Option<u64>,
}

impl From<Applied> for AppliedView {
    fn from(applied: Applied) -> Self {
        Self {
            vms: applied.vms,
            of: applied.of,
            unreachable: applied.unreachable,
            refused_everywhere_by: applied.refused_everywhere_by.map(|at| at.to_string()),
            unknown_because: applied
                .doubts
                .reasons()
                .into_iter()
                .map(|(reason, vms)| DoubtView { reason, vms })
                .collect(),
        }
    }
}

/// All filters that asked for the manifest.
#[derive(Serialize, ToSchema)]
pub(super) struct ProxiesView {
    /// The newest revision of the store.
    head: u64,
    /// Whether instances may serve that are not listed: the store failed over or came from a backup, and nobody has
    /// confirmed the list since.
    may_be_incomplete: bool,
    /// The name of this list, for `POST /v1/proxies/confirm`; null: there is nothing to confirm, or the store cannot be
    /// written.
    #[schema(required)]
    list: Option<String>,
    nodes: Vec<NodeView>,
}

/// One Envoy.
#[derive(Serialize, ToSchema)]
struct NodeView {
    /// As its filters name it.
    node: String,
    vms: Vec<VmView>,
}

/// One instance of the filter: a VM of the WebAssembly edition, of which Envoy has one for each worker and one more, or
/// the library of the native edition, of which a process has one.
#[derive(Serialize, ToSchema)]
struct VmView {
    vm: String,
    /// Version of the filter.
    filter: String,
    /// The newest revision it has applied.
    applied_revision: u64,
    /// How many revisions it is behind.
    lag: u64,
    #[schema(format = DateTime)]
    last_contact_at: String,
    /// `in_contact`, `unreachable` (it may serve what it knew) or `gone` (it refuses everything by now).
    #[schema(pattern = "^(in_contact|unreachable|gone)$")]
    state: &'static str,
    /// How long it serves without contact; null: for ever.
    #[schema(required)]
    max_staleness: Option<String>,
    /// When it refuses everything at the latest if no contact follows; null: never.
    #[schema(format = DateTime, required)]
    refuses_by: Option<String>,
    /// `enforce`, or `shadow`: then it refuses nothing. Null: the filter does not say.
    #[schema(required)]
    mode: Option<&'static str>,
    /// Whether its configuration has keys of its own: `none`, `fallback` or `always`. Null: the filter does not say.
    #[schema(required)]
    inline_keys: Option<&'static str>,
    /// Whether two polls for it told different things.
    disputed: bool,
}

impl VmView {
    fn new(vm: ProxyView, head: u64) -> Self {
        Self {
            vm: vm.vm,
            filter: vm.filter,
            applied_revision: vm.applied,
            lag: head.saturating_sub(vm.applied),
            last_contact_at: vm.last_contact_at.to_string(),
            state: vm.state.as_str(),
            max_staleness: vm.max_staleness.map(duration::format),
            refuses_by: vm.refuses_by.map(|at| at.to_string()),
            mode: vm.mode.map(Enforcement::as_str),
            inline_keys: vm.inline_keys.map(InlineKeys::as_str),
            disputed: vm.disputed,
        }
    }
}

/// List filters and what they have applied
#[utoipa::path(
    get, path = "/v1/proxies", tag = "proxies", security(("admin" = [])),
    responses((status = 200, body = ProxiesView)))]
pub(super) async fn list(
    _: Admin,
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Json<ProxiesView>, Problem> {
    Query::parse(query.as_deref()).finish()?;
    let head = app.service.feed.state().head.revision;
    let mut nodes: Vec<NodeView> = Vec::new();
    let listed = app.service.list_proxies().await;
    for vm in listed.vms {
        if nodes.last().is_none_or(|node| node.node != vm.node) {
            nodes.push(NodeView { node: vm.node.clone(), vms: Vec::new() });
        }
        if let Some(node) = nodes.last_mut() {
            node.vms.push(VmView::new(vm, head));
        }
    }
    Ok(Json(ProxiesView { head, may_be_incomplete: listed.may_be_incomplete, list: listed.name, nodes }))
}

/// Confirm that no instance is missing in the list
///
/// A store that failed over to a copy, or came from a backup, may have lost instances that still serve, so receipts
/// name no time. Confirm once every proxy that runs is listed.
#[utoipa::path(
    post, path = "/v1/proxies/confirm", tag = "proxies", security(("admin" = [])),
    params(
        ("list" = Option<String>, Query, pattern = "^[0-9a-f]{16}$", description = "The list that was looked at, as \
            `GET /v1/proxies` names it. With it, a list that another failover has made incomplete since is not confirmed by \
            mistake")),
    responses(
        (status = 204, description = "Receipts name times again"),
        (status = 409, description = "`list_changed`: look at the list again", body = Problem,
            content_type = "application/problem+json"),
    ))]
pub(super) async fn confirm(
    Admin(caller): Admin,
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, Problem> {
    let mut query = Query::parse(query.as_deref());
    let list = query.text("list", 64);
    query.finish()?;
    app.service.confirm_proxies(&caller.name, list.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Forget an instance that does not come back
///
/// For instances whose end the service cannot see: they count in every receipt until their limit of staleness has
/// passed, and for ever where they have none. An instance that asks again is new.
#[utoipa::path(
    delete, path = "/v1/proxies/{vm}", tag = "proxies", security(("admin" = [])),
    params(("vm" = String, Path, description = "The instance, as `GET /v1/proxies` names it")),
    responses(
        (status = 204, description = "It is forgotten"),
        (status = 404, description = "`vm_not_found`", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn forget(
    Admin(caller): Admin,
    State(app): State<Arc<App>>,
    Path(vm): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, Problem> {
    Query::parse(query.as_deref()).finish()?;
    app.service.forget_vm(&caller.name, &vm).await?;
    Ok(StatusCode::NO_CONTENT)
}
