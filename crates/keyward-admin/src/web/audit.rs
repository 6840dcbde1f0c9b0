//! The view of the audit log.

use super::chrome::{Chrome, Section, render};
use super::entry::{ACTIONS, EntryRow};
use super::failure::Failure;
use super::form::FormFields;
use super::user::User;
use crate::store::audit::AuditFilter;
use askama::Template;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::Response;

/// Entries that the view shows at once.
const LIMIT: u32 = 50;

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditView {
    page: Chrome,
    actions: Vec<Choice>,
    actor: String,
    subject: String,
    filtered: bool,
    entries: Vec<EntryRow>,
    /// Whether there are newer entries than the ones shown.
    paged: bool,
    first_href: String,
    next: Option<String>,
}

struct Choice {
    value: &'static str,
    label: &'static str,
    chosen: bool,
}

pub(super) async fn list(user: User, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let fields = FormFields::of_query(query.as_deref());
    let text = |name: &str| fields.text(name).trim().chars().take(100).collect::<String>();
    let (subject, actor, action) = (text("subject"), text("actor"), text("action"));
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let filter = AuditFilter { subject_id: some(&subject), actor: some(&actor), action: some(&action) };
    let before = fields.text("before").parse().ok();
    let mut entries = user.web.service().audit(&filter, before, LIMIT + 1).await?;
    let more = entries.len() > LIMIT as usize;
    entries.truncate(LIMIT as usize);
    let href = |before: Option<i64>| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let filled = [("action", &action), ("actor", &actor), ("subject", &subject)];
        query.extend_pairs(filled.into_iter().filter(|(_, value)| !value.is_empty()));
        if let Some(before) = before {
            query.append_pair("before", &before.to_string());
        }
        match query.finish() {
            query if query.is_empty() => "/settings/audit".to_owned(),
            query => format!("/settings/audit?{query}"),
        }
    };
    let next = entries.last().filter(|_| more).map(|entry| href(Some(entry.seq)));
    let first_href = href(None);
    let catalogue = &user.web.service().settings.catalogue;
    let view = AuditView {
        page: user.chrome(Section::Audit, Some("audit")),
        actions: ACTIONS.iter().map(|(value, label)| Choice { value, label, chosen: *value == action }).collect(),
        filtered: !(subject.is_empty() && actor.is_empty() && action.is_empty()),
        actor,
        subject,
        entries: entries.into_iter().map(|entry| EntryRow::new(catalogue, entry)).collect(),
        paged: before.is_some(),
        first_href,
        next,
    };
    render(StatusCode::OK, &view)
}
