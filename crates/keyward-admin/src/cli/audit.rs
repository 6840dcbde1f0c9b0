//! `keyward audit`: the audit log, through the admin service.

use super::client::{Client, encode};
use super::error::{CommandError, end};
use super::exit::Exit;
use super::output::{self, Format};
use crate::audit_words::details;
use crate::store::audit::{ACTIONS, ends_before_it_begins};
use clap::Args;
use keyward_policy::timestamp::{DAY_MS, Timestamp};
use serde_json::{Value, json};

/// Show the audit log, newest first (through the admin service)
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Only actions on the key, token or store with this id
    #[arg(long, value_name = "ID")]
    subject: Option<String>,
    /// Only actions of the token with this name
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Only this kind of action, such as key.delete
    #[arg(long, value_name = "ACTION", value_parser = ACTIONS, hide_possible_values = true)]
    action: Option<String>,
    /// Only actions since this day or moment, in UTC, such as 2026-11-01 or 2026-11-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// Only actions until this day, or before this moment
    #[arg(long, value_name = "TIME", value_parser = until)]
    until: Option<Timestamp>,
    /// Largest number of entries
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Reads the beginning of a range: a day begins at midnight.
fn since(text: &str) -> Result<Timestamp, String> {
    moment(text, 0)
}

/// Reads the end of a range, which a day is part of.
fn until(text: &str) -> Result<Timestamp, String> {
    moment(text, DAY_MS)
}

/// Returns the moment that a text names, and `later_ms` after the beginning of a day.
fn moment(text: &str, later_ms: i64) -> Result<Timestamp, String> {
    if let Ok(at) = Timestamp::parse(text) {
        return Ok(at);
    }
    let day = Timestamp::parse_day(text);
    let day = day.map_err(|_| "must be a day like 2026-11-01 or a time like 2026-11-01T12:00:00Z".to_owned())?;
    Ok(Timestamp::from_unix_ms(day.unix_ms() + later_ms))
}

/// Runs the command.
pub fn run(args: &AuditArgs) -> Exit {
    end(show(args))
}

fn show(args: &AuditArgs) -> Result<(), CommandError> {
    if ends_before_it_begins(args.since, args.until) {
        return Err(CommandError::invalid("`--until` is before `--since`: give the same day or a later one"));
    }
    let client = Client::admin()?;
    let mut filter = String::new();
    let filters = [
        ("subject", args.subject.clone()),
        ("actor", args.actor.clone()),
        ("action", args.action.clone()),
        ("since", args.since.map(|since| since.to_string())),
        ("until", args.until.map(|until| until.to_string())),
    ];
    for (name, value) in filters {
        if let Some(value) = value {
            filter.push_str(&format!("&{name}={}", encode(&value)));
        }
    }
    let mut entries: Vec<Value> = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let page = (args.limit - u32::try_from(entries.len()).unwrap_or(args.limit)).min(200);
        let after = cursor.as_str().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let mut answer = client.get(&format!("/v1/audit?limit={page}{filter}{after}"))?;
        if let Value::Array(some) = answer["entries"].take() {
            entries.extend(some);
        }
        cursor = answer["next_cursor"].take();
        if cursor.is_null() || entries.len() >= args.limit as usize {
            break;
        }
    }
    if Format::choose(args.json) == Format::Json {
        output::json(&json!({ "entries": entries, "next_cursor": cursor }))?;
        return Ok(());
    }
    let headings = ["at (UTC)", "by", "action", "name", "id", "details"];
    if entries.is_empty() {
        output::line(if filter.is_empty() { "Nothing has been done yet." } else { "No entry was found." })?;
        return Ok(());
    }
    output::table(&headings, entries.iter().map(|entry| (cells(entry), None)).collect())?;
    if !cursor.is_null() {
        eprintln!("There are more: `--limit` shows more of them.");
    }
    Ok(())
}

/// Returns an entry as a row of the table. The details are in words, with the ids of permissions, as the command takes them.
fn cells(entry: &Value) -> Vec<String> {
    let names = ["at", "actor", "action", "subject_name", "subject_id"];
    let mut cells: Vec<String> = names.map(|name| entry[name].as_str().unwrap_or_default().to_owned()).into();
    cells.push(details(&entry["detail"], str::to_owned).join("; "));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_words() {
        let detail =
            json!({"disabled": {"before": false, "after": true}, "permissions": {"before": ["a"], "after": ["b"]}});
        let entry = json!({"at": "2026-11-01T12:00:00Z", "actor": "admin", "action": "key.update", "subject_name": "CI Bot",
            "subject_id": "key_1", "detail": detail});
        let last = "Disabled; Granted: b. Removed: a";
        assert_eq!(cells(&entry), ["2026-11-01T12:00:00Z", "admin", "key.update", "CI Bot", "key_1", last]);
    }
}
