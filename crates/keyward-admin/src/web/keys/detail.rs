//! The view of one key.

use super::create;
use super::deleted::failure;
use super::fields::KeyFields;
use crate::service::proxies::ContactState;
use crate::service::usage::KeyDetail;
use crate::store::audit::AuditFilter;
use crate::web::chart::Chart;
use crate::web::chrome::{Chrome, Section, render};
use crate::web::entry::EntryRow;
use crate::web::failure::Failure;
use crate::web::form::FormFields;
use crate::web::may::{self, MayView};
use crate::web::moment::{time, time_inline};
use crate::web::number::grouped;
use crate::web::tag::Tag;
use crate::web::usage;
use crate::web::user::User;
use crate::web::view::{KeyRow, PermissionTag, permission_label};
use askama::Template;
use axum::extract::{Path, RawQuery};
use axum::http::StatusCode;
use axum::response::Response;
use keyward_policy::count::counted;
use keyward_policy::timestamp::Timestamp;

/// How long a permission was granted before the view advises to remove it if it was never used: 7 days.
const ADVISE_AFTER_MS: i64 = 7 * 24 * 3_600_000;
/// Entries of the audit log in the view.
const AUDIT_ENTRIES: u32 = 8;

#[derive(Template)]
#[template(path = "key.html")]
pub(super) struct KeyView {
    page: Chrome,
    key: KeyRow,
    pub problem: Option<String>,
    requests: String,
    requests_count: u64,
    /// Whether the permissions were granted so long ago that unused ones should be removed.
    advise: bool,
    unused: Vec<PermissionTag>,
    chart: Chart,
    usage: Vec<UsageRow>,
    edit_nonce: String,
    pub fields: KeyFields,
    /// Whether the fields hold what somebody has filled in.
    refilled: bool,
    /// When an expired key is deleted for good, as markup. `None` means that the key has not expired.
    purged: Option<String>,
    toggle_nonce: String,
    nodes: Vec<NodeRow>,
    /// What the key may do. `None` means that no configuration is set.
    may: Option<MayView>,
    audit: Vec<EntryRow>,
    more_audit: bool,
}

struct UsageRow {
    id: String,
    label: String,
    granted: bool,
    count: String,
    /// Markup.
    last: String,
    /// Whether the permission is granted, was never used, and is not the only one.
    removable: bool,
    nonce: String,
}

struct NodeRow {
    name: String,
    kind: &'static str,
    text: String,
}

/// Returns the view of a key. `sent` is shown in the fields in place of the key's own name and permissions.
pub(super) async fn view(user: &User, id: &str, sent: Option<&FormFields>) -> Result<KeyView, Failure> {
    let service = user.web.service();
    let detail = match service.key_detail(id).await {
        Ok(detail) => detail,
        Err(error) => return Err(failure(user, id, error).await),
    };
    let filter = AuditFilter { subject_id: Some(id.to_owned()), ..AuditFilter::default() };
    let mut entries = service.audit(&filter, None, AUDIT_ENTRIES + 1).await?;
    let more_audit = entries.len() > AUDIT_ENTRIES as usize;
    entries.truncate(AUDIT_ENTRIES as usize);
    let catalogue = &service.settings.catalogue;
    let usage = rows_of(user, &detail);
    let KeyDetail { key, .. } = &detail;
    let requests_count = detail.usage.iter().find(|total| total.permission.is_empty()).map_or(0, |total| total.count);
    let unused = usage.iter().filter(|row| row.removable);
    let fields = match sent {
        Some(sent) => KeyFields::new(catalogue, sent.text("name"), &sent.all("permissions"), &key.permissions),
        None => KeyFields::new(catalogue, &key.name, &key.permissions, &key.permissions),
    };
    let now = service.clock().now();
    let granted_at =
        entries.iter().filter(|entry| entry.detail.get("permissions").is_some()).map(|entry| entry.at).max();
    let granted_for = now.unix_ms() - granted_at.unwrap_or(key.created_at).unix_ms();
    let expired_at = key.expires_at.filter(|at| *at <= now);
    let purge_after = i64::try_from(service.settings.purge_after.as_millis()).unwrap_or(i64::MAX);
    let purged = expired_at.map(|at| Timestamp::from_unix_ms(at.unix_ms().saturating_add(purge_after)));
    let mut row = KeyRow::new(&user.web, key);
    row.state = row.state.or_else(|| Some(Tag::new("good", "Active")));
    Ok(KeyView {
        page: user.chrome(Section::Keys, Some("key")),
        key: row,
        problem: None,
        requests: grouped(requests_count),
        requests_count,
        advise: granted_for >= ADVISE_AFTER_MS,
        unused: unused.map(|row| PermissionTag { id: row.id.clone(), label: row.label.clone() }).collect(),
        chart: usage::chart(user, Some(id)).await?,
        usage,
        edit_nonce: user.nonce(&format!("edit:{id}")),
        fields,
        refilled: sent.is_some(),
        purged: purged.map(time_inline),
        toggle_nonce: user.nonce(&format!("toggle:{id}")),
        nodes: nodes(user, key.revision),
        may: may::view(service.settings.explain_config.as_deref(), catalogue, &key.permissions),
        audit: entries.into_iter().map(|entry| EntryRow::new(catalogue, entry)).collect(),
        more_audit,
    })
}

fn rows_of(user: &User, detail: &KeyDetail) -> Vec<UsageRow> {
    let catalogue = &user.web.service().settings.catalogue;
    let granted = &detail.key.permissions;
    let used = detail.usage.iter().filter(|total| !total.permission.is_empty());
    let no_longer = used.map(|total| &total.permission).filter(|id| !granted.contains(id));
    granted
        .iter()
        .map(|id| (id, true))
        .chain(no_longer.map(|id| (id, false)))
        .map(|(id, is_granted)| {
            let total = detail.usage.iter().find(|total| total.permission == *id);
            UsageRow {
                id: id.clone(),
                label: permission_label(catalogue, id),
                granted: is_granted,
                count: grouped(total.map_or(0, |total| total.count)),
                last: total
                    .map_or_else(|| "<span class=\"tag quiet\">Never used</span>".into(), |t| time(t.last_used_at)),
                removable: is_granted && total.is_none() && granted.len() > 1,
                nonce: user.nonce(&format!("drop:{}:{id}", detail.key.id)),
            }
        })
        .collect()
}

/// Returns which proxies have applied the key's last change.
fn nodes(user: &User, revision: u64) -> Vec<NodeRow> {
    let mut nodes: Vec<(String, u64, u64, u64)> = Vec::new();
    for vm in user.web.service().proxies.list() {
        if vm.state == ContactState::Gone {
            continue;
        }
        if nodes.last().is_none_or(|(name, ..)| *name != vm.node) {
            nodes.push((vm.node.clone(), 0, 0, 0));
        }
        if let Some((_, know, of, lost)) = nodes.last_mut() {
            *of += 1;
            *know += u64::from(vm.applied >= revision);
            *lost += u64::from(vm.state == ContactState::Unreachable);
        }
    }
    let view = |(name, know, of, lost): (String, u64, u64, u64)| {
        let name = if name.is_empty() { "(without a name)".to_owned() } else { name };
        let out = if lost > 0 { format!(", {lost} cut off") } else { String::new() };
        let kind = if know == of && lost == 0 { "good" } else { "warn" };
        NodeRow { name, kind, text: format!("Applied by {know} of {}{out}", counted(of, "instance")) }
    };
    nodes.into_iter().map(view).collect()
}

pub(in crate::web) async fn detail(
    user: User,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let sent = FormFields::of_query(query.as_deref());
    let refilled = sent.has("name").then_some(&sent);
    match view(&user, &id, refilled).await {
        Ok(view) => render(StatusCode::OK, &view),
        Err(Failure::NotFound | Failure::Deleted(_)) if refilled.is_some() => Ok(create::after_delete(&id, &sent)),
        Err(failure) => Err(failure),
    }
}
