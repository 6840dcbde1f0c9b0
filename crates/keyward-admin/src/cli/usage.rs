//! `keyward usage`: requests by day, through the admin service.

use super::client::Client;
use super::error::{CommandError, end};
use super::exit::Exit;
use super::find::find;
use super::output::{self, Format, Row};
use clap::Args;
use serde_json::Value;

/// Show how often keys were used and refused, by day (through the admin service)
#[derive(Debug, Args)]
pub struct UsageArgs {
    /// Only this key, by its id or name; without it, all keys together
    #[arg(value_name = "ID|NAME")]
    key: Option<String>,
    /// Number of days, today included
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=90))]
    days: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &UsageArgs) -> Exit {
    end(show(args))
}

fn show(args: &UsageArgs) -> Result<(), CommandError> {
    let client = Client::admin()?;
    let usage = match &args.key {
        Some(key) => of_key(&client, &find(&client, key)?.id, args.days)?,
        None => client.get(&format!("/v1/usage?days={}", args.days))?,
    };
    match Format::choose(args.json) {
        Format::Json => output::json(&usage)?,
        Format::Human => write(&usage)?,
    }
    Ok(())
}

/// Reads the requests of a key by day.
pub(super) fn of_key(client: &Client, id: &str, days: u16) -> Result<Value, CommandError> {
    client.get(&format!("/v1/keys/{id}/usage?days={days}"))
}

/// Writes the sums, and below them the days that have requests, newest first.
pub(super) fn write(usage: &Value) -> Result<(), CommandError> {
    let days: Vec<&Value> = usage["days"].as_array().into_iter().flatten().rev().collect();
    let period = period(days.len());
    output::line(&format!("{period}: {} allowed, {}", usage["allowed"], denied(&usage["denied"])))?;
    let has_requests =
        |day: &&&Value| day["allowed"] != 0 || day["denied"].as_object().is_some_and(|all| !all.is_empty());
    let row = |day: &&Value| -> Row {
        let date = day["day"].as_str().unwrap_or_default().to_owned();
        (vec![date, day["allowed"].to_string(), denied(&day["denied"])], None)
    };
    let rows: Vec<Row> = days.iter().filter(has_requests).map(row).collect();
    if !rows.is_empty() {
        output::table(&["day (UTC)", "allowed", "denied"], rows)?;
    }
    Ok(())
}

/// Writes counts by code: the sum, and what it is made of.
fn denied(codes: &Value) -> String {
    let codes = codes.as_object().into_iter().flatten();
    let codes: Vec<(&String, u64)> = codes.map(|(code, count)| (code, count.as_u64().unwrap_or_default())).collect();
    let sum = codes.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    let parts: Vec<String> = codes.iter().map(|(code, count)| format!("{code} {count}")).collect();
    if parts.is_empty() { "0 denied".to_owned() } else { format!("{sum} denied ({})", parts.join(", ")) }
}

/// Returns a number of days up to today in words.
fn period(days: usize) -> String {
    match days {
        1 => "Today".to_owned(),
        days => format!("Last {days} days"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_period_of_one_day_is_today() {
        assert_eq!([1, 2, 30].map(super::period), ["Today", "Last 2 days", "Last 30 days"]);
    }
}
