//! The view of the audit log.

use super::chrome::{Chrome, Section, render};
use super::entry::EntryRow;
use super::failure::Failure;
use super::form::FormFields;
use super::user::User;
use crate::audit_words::label;
use crate::store::audit::{ACTIONS, AuditFilter, ends_before_it_begins};
use askama::Template;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Redirect, Response};
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
    wrong: WrongDays,
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

/// What is wrong with the days of a range.
#[derive(Default, PartialEq, Eq)]
struct WrongDays {
    since: Option<&'static str>,
    until: Option<&'static str>,
}

impl WrongDays {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads the filter, and what is wrong with its days.
fn filter_of(fields: &FormFields) -> (AuditFilter, WrongDays) {
    let some = |name: &str| {
        let text: String = fields.text(name).trim().chars().take(100).collect();
        (!text.is_empty()).then_some(text)
    };
    let day = |name: &str, wrong: &mut Option<&'static str>| match fields.text(name).trim() {
        "" => None,
        text => Timestamp::parse_day(text).map_err(|_| *wrong = Some("Give a day like 2026-11-01.")).ok(),
    };
    let mut wrong = WrongDays::default();
    let filter = AuditFilter {
        subject_id: some("subject"),
        actor: some("actor"),
        action: some("action"),
        since: day("since", &mut wrong.since),
        // Days are those of UTC. The last one is within the range.
        until: day("until", &mut wrong.until).map(|day| Timestamp::from_unix_ms(day.unix_ms() + DAY_MS)),
    };
    if ends_before_it_begins(filter.since, filter.until) {
        wrong.until = Some("This day is before the first one. Choose the same day or a later one.");
    }
    (filter, wrong)
}

/// Sends the entries as CSV, newest first. Where the days are wrong, the view says so.
pub(super) async fn export(user: User, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let view = || Redirect::to(&format!("/settings/audit?{}", query.as_deref().unwrap_or_default())).into_response();
    let (filter, wrong) = filter_of(&FormFields::of_query(query.as_deref()));
    if !wrong.is_empty() {
        return Ok(view());
    }
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
    let (filter, wrong) = filter_of(&fields);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (subject, actor, action) = (text(&filter.subject_id), text(&filter.actor), text(&filter.action));
    let (since, until) = (fields.text("since").trim().to_owned(), fields.text("until").trim().to_owned());
    let before = fields.text("before").parse().ok();
    let mut entries = Vec::new();
    if wrong.is_empty() {
        entries = user.web.service().audit(&filter, before, LIMIT + 1).await?;
    }
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
        actions: ACTIONS.map(|value| Choice { value, label: label(value), chosen: value == action }).into(),
        filtered: filter != AuditFilter::default() || !wrong.is_empty(),
        actor,
        subject,
        since,
        until,
        wrong,
        entries: entries.into_iter().map(|entry| EntryRow::new(catalogue, entry)).collect(),
        paged: before.is_some(),
        first_href,
        next,
    };
    render(if view.wrong.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY }, &view)
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
