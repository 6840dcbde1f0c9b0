//! `keyward key`: make, list, regenerate and delete keys, through the admin service.

use super::client::{Client, encode};
use super::error::{CommandError, end};
use super::exit::Exit;
use super::output::{self, Format};
use anstyle::AnsiColor;
use clap::Subcommand;
use serde_json::{Value, json};
use std::time::Instant;
use ureq::http::Method;

/// Make, list, regenerate and delete keys (through the admin service)
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key; it is shown once
    Create {
        /// What to call it
        #[arg(value_name = "NAME", required_unless_present = "name_option")]
        name: Option<String>,
        /// The same as an option
        #[arg(long = "name", value_name = "NAME", conflicts_with = "name")]
        name_option: Option<String>,
        /// What it may do, like records:read; several, or separated by commas
        #[arg(long = "permission", visible_alias = "permissions", short, value_delimiter = ',', required = true, num_args = 1..)]
        permissions: Vec<String>,
        /// 7d, 30d, 60d, 90d, 180d or never
        #[arg(long, default_value = "30d")]
        expires_in: String,
        /// JSON instead of words
        #[arg(long)]
        json: bool,
    },
    /// List keys, newest first
    List {
        /// Only those in whose name, id or last four this is found
        #[arg(long, short, visible_alias = "search", default_value = "")]
        q: String,
        /// How many at most
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        limit: u32,
        /// JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Make a new key in the place of one; the old one stops working
    Regenerate(Target),
    /// Delete a key for good
    Delete(Target),
}

/// Which key, and how long to wait for its receipt.
#[derive(Debug, clap::Args)]
pub struct Target {
    /// Id or name
    #[arg(value_name = "ID|NAME")]
    key: String,
    /// How long to wait until every filter refuses the old key, up to 30s
    #[arg(long, default_value = "5s")]
    wait: String,
    /// JSON instead of words
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(command: KeyCommand) -> Exit {
    end(act(command))
}

fn act(command: KeyCommand) -> Result<(), CommandError> {
    let client = Client::admin()?;
    match command {
        KeyCommand::Create { name, name_option, permissions, expires_in, json } => {
            let name = name.or(name_option).unwrap_or_default();
            let body = json!({ "name": name, "permissions": permissions, "expires_in": expires_in });
            let created = client.call(Method::POST, "/v1/keys", Some(&body))?;
            show_secret(&created, Format::choose(json))?;
        }
        KeyCommand::List { q, limit, json } => list(&client, &q, limit, Format::choose(json))?,
        KeyCommand::Regenerate(target) => {
            let id = find(&client, &target.key)?;
            let begun = Instant::now();
            let path = format!("/v1/keys/{id}/regenerate?wait={}", encode(&target.wait));
            let done = client.call(Method::POST, &path, None)?;
            let format = Format::choose(target.json);
            show_secret(&done, format)?;
            if format == Format::Human {
                eprintln!("{}", receipt("The old key is", &done["applied"], begun));
            }
        }
        KeyCommand::Delete(target) => {
            let id = find(&client, &target.key)?;
            let begun = Instant::now();
            let path = format!("/v1/keys/{id}?wait={}", encode(&target.wait));
            let done = client.call(Method::DELETE, &path, None)?;
            match Format::choose(target.json) {
                Format::Json => output::json(&done)?,
                Format::Human => output::line(&receipt(&format!("Deleted {id}: it is"), &done["applied"], begun))?,
            }
        }
    }
    Ok(())
}

fn list(client: &Client, q: &str, limit: u32, format: Format) -> Result<(), CommandError> {
    let mut keys: Vec<Value> = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let page = (limit - u32::try_from(keys.len()).unwrap_or(limit)).min(200);
        let mut path = format!("/v1/keys?limit={page}&q={}", encode(q));
        if let Some(cursor) = cursor.as_str() {
            path.push_str(&format!("&cursor={cursor}"));
        }
        let mut answer = client.get(&path)?;
        if let Value::Array(some) = answer["keys"].take() {
            keys.extend(some);
        }
        cursor = answer["next_cursor"].take();
        if cursor.is_null() || keys.len() >= limit as usize {
            break;
        }
    }
    if format == Format::Json {
        output::json(&json!({ "keys": keys, "next_cursor": cursor }))?;
        return Ok(());
    }
    if keys.is_empty() {
        output::line(if q.is_empty() {
            "There is no key yet: `keyward key create` makes one."
        } else {
            "Nothing found."
        })?;
        return Ok(());
    }
    let text = |key: &Value, name: &str| key[name].as_str().unwrap_or_default().to_owned();
    let day = |key: &Value, name: &str, none: &str| {
        key[name].as_str().map_or(none.to_owned(), |time| time.get(..10).unwrap_or(time).to_owned())
    };
    let row = |key: &Value| {
        let permissions: Vec<&str> =
            key["permissions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let cells = vec![
            text(key, "name"),
            permissions.join(" "),
            text(key, "masked"),
            day(key, "created_at", ""),
            day(key, "expires_at", "never"),
            day(key, "last_used_at", "never"),
            text(key, "status"),
            text(key, "id"),
        ];
        let colour = match key["status"].as_str() {
            Some("expired") => Some(AnsiColor::Red),
            Some("disabled") => Some(AnsiColor::Yellow),
            _ => None,
        };
        (cells, colour)
    };
    let headings = ["name", "permissions", "key", "created", "expires", "last used", "status", "id"];
    output::table(&headings, keys.iter().map(row).collect())?;
    if !cursor.is_null() {
        eprintln!("There are more: --limit shows them, --q finds some.");
    }
    Ok(())
}

/// The id of the key with this id or name.
fn find(client: &Client, id_or_name: &str) -> Result<String, CommandError> {
    let is_id = |text: &str| {
        text.strip_prefix("key_").is_some_and(|rest| {
            rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b))
        })
    };
    if is_id(id_or_name) {
        return Ok(id_or_name.to_owned());
    }
    let mut cursor = String::new();
    loop {
        // A long name is found by its start: `q` has a limit.
        let q: String = id_or_name.chars().take(100).collect();
        let answer = client.get(&format!("/v1/keys?limit=200&q={}{cursor}", encode(&q)))?;
        let found = answer["keys"].as_array().into_iter().flatten().find(|key| key["name"] == id_or_name);
        if let Some(id) = found.and_then(|key| key["id"].as_str()) {
            return Ok(id.to_owned());
        }
        match answer["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Err(CommandError::failed(format!("there is no key `{id_or_name}`"))),
        }
    }
}

/// Writes a key with its secret. The secret alone goes to standard output, so that it can be piped.
fn show_secret(key: &Value, format: Format) -> Result<(), CommandError> {
    let text = |name: &str| key[name].as_str().unwrap_or_default();
    let written = match format {
        Format::Json => output::secret_line(&serde_json::to_string_pretty(key).unwrap_or_default()),
        Format::Human => output::secret_line(&output::coloured(text("key"), AnsiColor::Green)),
    };
    written.map_err(|error| {
        CommandError::failed(format!(
            "{error}\n  the key {} ({}) exists and its secret is lost; `keyward key regenerate {}` makes a new one",
            text("id"),
            text("name"),
            text("id"),
        ))
    })?;
    if format == Format::Human {
        let expires = key["expires_at"].as_str().map_or("never expires".to_owned(), |at| format!("expires {at}"));
        eprintln!("Copy it now: it is not shown again. {} ({}), {expires}.", text("name"), text("id"));
    }
    Ok(())
}

/// A receipt in words.
fn receipt(what: &str, applied: &Value, begun: Instant) -> String {
    let number = |name: &str| applied[name].as_u64();
    let ms = begun.elapsed().as_millis();
    let vms = number("vms").unwrap_or_default();
    let mut text = match number("of") {
        None => format!("{what} refused by at least {vms} filter VMs; those of other replicas cannot be seen now."),
        Some(0) => format!("{what} gone. No filter VM is in contact."),
        Some(of) => format!("{what} refused by {vms} of {of} filter VMs after {ms} ms."),
    };
    let left = number("of").unwrap_or(vms).saturating_sub(vms);
    let away = number("unreachable").unwrap_or_default();
    if away > 0 {
        text.push_str(&format!(" {away} out of contact."));
    }
    if left > 0 || away > 0 {
        match applied["refused_everywhere_by"].as_str() {
            Some(by) => text.push_str(&format!(" All refuse by {by} at the latest.")),
            None => text.push_str(" There is no limit to how long those may serve it."),
        }
    }
    text
}
