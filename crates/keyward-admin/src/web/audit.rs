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
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use keyward_policy::timestamp::{DAY_MS, Timestamp};

/// Entries that the view shows at once.
const LIMIT: u32 = 50;
/// Entries of a CSV file at most.
const MAX_EXPORTED: usize = 100_000;
const EXPORTED_AT_ONCE: u32 = 1_000;

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditView {
    page: Chrome,
    actions: Vec<Choice>,
    actor: String,
    subject: String,
    since: String,
    until: String,
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

fn filter_of(fields: &FormFields) -> AuditFilter {
    let some = |name: &str| {
        let text: String = fields.text(name).trim().chars().take(100).collect();
        (!text.is_empty()).then_some(text)
    };
    // Days are those of UTC. The last one is within the range.
    let day = |name: &str| Timestamp::parse_day(fields.text(name).trim()).ok();
    AuditFilter {
        subject_id: some("subject"),
        actor: some("actor"),
        action: some("action"),
        since: day("since"),
        until: day("until").map(|day| Timestamp::from_unix_ms(day.unix_ms() + DAY_MS)),
    }
}

/// Sends the entries as CSV, newest first.
pub(super) async fn export(user: User, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let filter = filter_of(&FormFields::of_query(query.as_deref()));
    let mut csv = String::from("at,actor,action,subject_id,subject_name,revision,detail\r\n");
    let (mut before, mut count) = (None, 0);
    loop {
        let entries = user.web.service().audit(&filter, before, EXPORTED_AT_ONCE).await?;
        for entry in &entries {
            let revision = entry.revision.map(|revision| revision.to_string()).unwrap_or_default();
            let (at, detail) = (entry.at.to_string(), entry.detail.to_string());
            let cells = [&at, &entry.actor, &entry.action, &entry.subject_id, &entry.subject_name, &revision, &detail];
            csv.push_str(&cells.map(|cell| cell_of(cell)).join(","));
            csv.push_str("\r\n");
        }
        count += entries.len();
        before = entries.last().map(|entry| entry.seq);
        if entries.len() < EXPORTED_AT_ONCE as usize || count >= MAX_EXPORTED {
            break;
        }
    }
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8"),
        (CONTENT_DISPOSITION, "attachment; filename=\"keyward-audit.csv\""),
    ];
    Ok((headers, csv).into_response())
}

/// Returns a cell of CSV. A text that a spreadsheet would take for a formula is no formula behind an apostrophe: names are
/// chosen by whoever makes keys.
fn cell_of(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

pub(super) async fn list(user: User, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let fields = FormFields::of_query(query.as_deref());
    let filter = filter_of(&fields);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (subject, actor, action) = (text(&filter.subject_id), text(&filter.actor), text(&filter.action));
    // What is no day is not shown again: it selects nothing.
    let day = |name: &str, is_set: bool| if is_set { fields.text(name).trim().to_owned() } else { String::new() };
    let (since, until) = (day("since", filter.since.is_some()), day("until", filter.until.is_some()));
    let before = fields.text("before").parse().ok();
    let mut entries = user.web.service().audit(&filter, before, LIMIT + 1).await?;
    let more = entries.len() > LIMIT as usize;
    entries.truncate(LIMIT as usize);
    let href = |before: Option<i64>| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let filled =
            [("action", &action), ("actor", &actor), ("subject", &subject), ("since", &since), ("until", &until)];
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
        filtered: filter != AuditFilter::default(),
        actor,
        subject,
        since,
        until,
        entries: entries.into_iter().map(|entry| EntryRow::new(catalogue, entry)).collect(),
        paged: before.is_some(),
        first_href,
        next,
    };
    render(StatusCode::OK, &view)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_text_to_every_reader() {
        assert_eq!(cell_of("CI \"Bot\", x"), "\"CI \"\"Bot\"\", x\"");
        assert_eq!(cell_of("=HYPERLINK(1)"), "\"'=HYPERLINK(1)\"");
        assert_eq!(cell_of(""), "\"\"");
    }
}
