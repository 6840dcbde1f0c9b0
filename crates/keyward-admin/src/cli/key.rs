//! `keyward key`: make, list, regenerate and delete keys, through the admin service.

use super::client::{Client, encode};
use super::error::{CommandError, end};
use super::exit::Exit;
use super::find::find;
use super::output::{self, Format};
use super::usage;
use crate::suggest::did_you_mean;
use anstyle::AnsiColor;
use clap::Subcommand;
use keyward_policy::count::counted;
use serde_json::{Value, json};
use std::io::IsTerminal as _;
use std::time::Instant;
use ureq::http::Method;

/// The days that `show` looks back on.
const SHOWN_DAYS: u16 = 30;

/// List, create, show, change, regenerate and delete keys (through the admin service)
///
/// Without a subcommand, the keys are listed.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: Option<KeyCommand>,
    /// What `list` takes.
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Create a key; its secret is shown once
    Create {
        /// The name of the key
        #[arg(value_name = "NAME")]
        name: Option<String>,
        /// The name of the key, as an option
        #[arg(long = "name", value_name = "NAME", conflicts_with = "name")]
        name_option: Option<String>,
        /// The permissions of the key, such as records:read; several, or separated by commas
        #[arg(long = "permission", visible_alias = "permissions", short, value_name = "PERMISSION", value_delimiter = ',', required = true, num_args = 1..)]
        permissions: Vec<String>,
        /// 7d, 30d, 60d, 90d, 180d or never
        #[arg(long, default_value = "30d")]
        expires_in: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List keys, newest first
    List(ListArgs),
    /// Show a key and how it was used
    Show {
        /// Id or name
        #[arg(value_name = "ID|NAME")]
        key: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change the name or the permissions of a key
    Edit {
        /// The key.
        #[command(flatten)]
        target: Target,
        /// The new name
        #[arg(long, value_name = "NAME", required_unless_present = "permissions")]
        name: Option<String>,
        /// All permissions that the key has from now on; several, or separated by commas
        #[arg(
            long = "permission",
            visible_alias = "permissions",
            short,
            value_name = "PERMISSION",
            value_delimiter = ','
        )]
        permissions: Vec<String>,
    },
    /// Disable a key: it is refused until it is enabled
    Disable(Target),
    /// Enable a key that was disabled
    Enable(Target),
    /// Give a key a new secret; the old one is refused
    Regenerate {
        /// The key.
        #[command(flatten)]
        target: Target,
        /// Do not ask for confirmation
        #[arg(long, short)]
        yes: bool,
    },
    /// Delete a key; this cannot be undone
    Delete {
        /// The key.
        #[command(flatten)]
        target: Target,
        /// Do not ask for confirmation
        #[arg(long, short)]
        yes: bool,
    },
}

/// What `keyward key list` is given.
#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only keys whose name, id or last four characters hold this text
    #[arg(long, short, visible_alias = "search", default_value = "")]
    q: String,
    /// Which keys, and in which order.
    #[command(flatten)]
    which: Which,
    /// Largest number of keys
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which keys a list holds, and in which order.
#[derive(Debug, clap::Args)]
struct Which {
    /// Only keys with this status
    #[arg(long, value_parser = ["active", "expired", "disabled"])]
    status: Option<String>,
    /// Only keys with this permission
    #[arg(long, value_name = "PERMISSION")]
    permission: Option<String>,
    /// Only keys that no filter has reported a use of
    #[arg(long)]
    never_used: bool,
    /// Only keys that never expire
    #[arg(long)]
    never_expires: bool,
    /// Only keys that expire within this time from now, such as 14d
    #[arg(long, value_name = "DURATION")]
    expires_within: Option<String>,
    /// The order: newest first, by name, or those that expire soonest first; `-` before it reverses it
    #[arg(long, allow_hyphen_values = true, value_parser = ["created", "-created", "name", "-name", "expires", "-expires"])]
    sort: Option<String>,
}

impl Which {
    /// The parameters of the call.
    fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let texts = [
            ("status", &self.status),
            ("permission", &self.permission),
            ("expires_within", &self.expires_within),
            ("sort", &self.sort),
        ];
        query.extend_pairs(texts.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))));
        let flags = [("never_used", self.never_used), ("never_expires", self.never_expires)];
        query.extend_pairs(flags.iter().filter(|(_, set)| *set).map(|(name, _)| (name, "true")));
        query.finish()
    }
}

/// A key, and how long to wait for the receipt of its change.
#[derive(Debug, clap::Args)]
struct Target {
    /// Id or name
    #[arg(value_name = "ID|NAME")]
    key: String,
    /// How long to wait until every filter in contact has applied the change, up to 30s
    #[arg(long, default_value = "5s")]
    wait: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: KeyArgs) -> Exit {
    end(act(args.command.unwrap_or(KeyCommand::List(args.list))))
}

fn act(command: KeyCommand) -> Result<(), CommandError> {
    let client = Client::admin()?;
    match command {
        KeyCommand::Create { name, name_option, mut permissions, expires_in, json } => {
            let name = match name.or(name_option) {
                Some(name) => name,
                None => name_among(&client, &mut permissions)?,
            };
            let body = json!({ "name": name, "permissions": permissions, "expires_in": expires_in });
            let created = client.call(Method::POST, "/v1/keys", Some(&body))?;
            show_secret(&created, Format::choose(json))?;
        }
        KeyCommand::List(args) => list(&client, &args)?,
        KeyCommand::Show { key, json } => {
            let key = find(&client, &key)?;
            let mut detail = client.get(&format!("/v1/keys/{}", key.id))?;
            detail["usage"]["by_day"] = usage::of_key(&client, &key.id, SHOWN_DAYS)?;
            match Format::choose(json) {
                Format::Json => output::json(&detail)?,
                Format::Human => show(&detail)?,
            }
        }
        KeyCommand::Edit { target, name, permissions } => {
            let mut body = serde_json::Map::new();
            body.extend(name.map(|name| ("name".to_owned(), json!(name))));
            if !permissions.is_empty() {
                body.insert("permissions".into(), json!(permissions));
            }
            change(&client, &target, &Value::Object(body), "changed", "applied")?;
        }
        KeyCommand::Disable(target) => change(&client, &target, &json!({"disabled": true}), "disabled", "refused")?,
        KeyCommand::Enable(target) => change(&client, &target, &json!({"disabled": false}), "enabled", "applied")?,
        KeyCommand::Regenerate { target, yes } => {
            let key = find(&client, &target.key)?;
            confirm(yes, &format!("Regenerate {key}? Its current secret is refused from then on."))?;
            let begun = Instant::now();
            let path = format!("/v1/keys/{}/regenerate?wait={}", key.id, encode(&target.wait));
            let done = client.call(Method::POST, &path, None)?;
            let format = Format::choose(target.json);
            show_secret(&done, format)?;
            if format == Format::Human {
                eprintln!("{}", receipt("The old secret is", "refused", &done["applied"], begun));
            }
        }
        KeyCommand::Delete { target, yes } => {
            let key = find(&client, &target.key)?;
            confirm(yes, &format!("Delete {key}? This cannot be undone."))?;
            let begun = Instant::now();
            let path = format!("/v1/keys/{}?wait={}", key.id, encode(&target.wait));
            let done = client.call(Method::DELETE, &path, None)?;
            match Format::choose(target.json) {
                Format::Json => output::json(&done)?,
                Format::Human => {
                    output::line(&format!("Deleted {key}. {}", receipt("It is", "refused", &done["applied"], begun)))?;
                }
            }
        }
    }
    Ok(())
}

/// Reads the ids of the permissions that keys can be given.
fn catalogue(client: &Client) -> Result<Vec<String>, CommandError> {
    let catalogue = client.get("/v1/permissions")?;
    let groups = catalogue["groups"].as_array().into_iter().flatten();
    let permissions = groups.flat_map(|group| group["permissions"].as_array().into_iter().flatten());
    Ok(permissions.filter_map(|permission| permission["id"].as_str()).map(str::to_owned).collect())
}

/// Takes the name of a new key from the values after `--permission`, which takes several and so also a name that follows.
fn name_among(client: &Client, permissions: &mut Vec<String>) -> Result<String, CommandError> {
    let missing = || CommandError::invalid("NAME is missing: keyward key create NAME --permission PERMISSION");
    let last = permissions.pop().filter(|_| !permissions.is_empty()).ok_or_else(missing)?;
    if catalogue(client)?.contains(&last) { Err(missing()) } else { Ok(last) }
}

/// Changes a key.
fn change(client: &Client, target: &Target, body: &Value, done: &str, verb: &str) -> Result<(), CommandError> {
    let key = find(client, &target.key)?;
    let begun = Instant::now();
    let path = format!("/v1/keys/{}?wait={}", key.id, encode(&target.wait));
    let answer = client.call(Method::PATCH, &path, Some(body))?;
    match Format::choose(target.json) {
        Format::Json => output::json(&answer)?,
        Format::Human => {
            let subject = if verb == "refused" { "It is" } else { "The change is" };
            output::line(&format!("{key} is {done}. {}", receipt(subject, verb, &answer["applied"], begun)))?;
        }
    }
    Ok(())
}

/// Asks before something that cannot be undone, if a person is there to answer.
fn confirm(yes: bool, question: &str) -> Result<(), CommandError> {
    if yes || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(());
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(CommandError::failed)?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(CommandError::failed("nothing was done"))
    }
}

fn list(client: &Client, args: &ListArgs) -> Result<(), CommandError> {
    let ListArgs { q, which, limit, json } = args;
    let limit = *limit;
    let mut keys: Vec<Value> = Vec::new();
    let mut cursor = Value::Null;
    let filters = which.query();
    loop {
        let page = (limit - u32::try_from(keys.len()).unwrap_or(limit)).min(200);
        let mut path = format!("/v1/keys?limit={page}&q={}&{filters}", encode(q));
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
    // A key may have a permission that the catalogue no longer lists, so this is a hint and no error.
    if let (true, Some(permission)) = (keys.is_empty(), &which.permission) {
        let known = catalogue(client)?;
        let hint = did_you_mean(permission, known.iter().map(String::as_str));
        if !known.contains(permission) {
            eprintln!("`{permission}` is not a permission of the catalogue{hint}");
        }
    }
    if Format::choose(*json) == Format::Json {
        output::json(&json!({ "keys": keys, "next_cursor": cursor }))?;
        return Ok(());
    }
    if keys.is_empty() {
        output::line(if q.is_empty() && filters.is_empty() {
            "There is no key yet: `keyward key create` creates one."
        } else {
            "No key was found."
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
    let headings = ["name", "permissions", "key", "created (UTC)", "expires (UTC)", "last used (UTC)", "status", "id"];
    output::table(&headings, keys.iter().map(row).collect())?;
    if !cursor.is_null() {
        eprintln!(
            "There are more: `--limit` shows more of them, `--q` searches, and `--status` and the like leave some out."
        );
    }
    Ok(())
}

/// Writes a key and how it was used.
fn show(key: &Value) -> Result<(), CommandError> {
    let text = |value: &Value, none: &str| value.as_str().unwrap_or(none).to_owned();
    let lines = [
        ("name", text(&key["name"], "")),
        ("id", text(&key["id"], "")),
        ("key", text(&key["masked"], "")),
        ("status", text(&key["status"], "")),
        ("created", text(&key["created_at"], "")),
        ("regenerated", text(&key["regenerated_at"], "never")),
        ("expires", text(&key["expires_at"], "never")),
        ("last used", text(&key["last_used_at"], "never")),
        ("requests", key["usage"]["count"].to_string()),
    ];
    for (name, value) in lines {
        output::line(&format!("{name:<12} {value}"))?;
    }
    for usage in key["usage"]["permissions"].as_array().into_iter().flatten() {
        let granted = if usage["granted"] == true { "" } else { " (no longer granted)" };
        let last = text(&usage["last_used_at"], "never");
        let name = text(&usage["permission"], "");
        let requests = counted(usage["count"].as_u64().unwrap_or_default(), "request");
        output::line(&format!("  {name}{granted}: {requests}, last {last}"))?;
    }
    output::line("")?;
    usage::write(&key["usage"]["by_day"])
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

/// Returns a receipt in words. `verb` is what the filters do: `refused` or `applied`.
fn receipt(what: &str, verb: &str, applied: &Value, begun: Instant) -> String {
    let number = |name: &str| applied[name].as_u64();
    let ms = begun.elapsed().as_millis();
    let vms = number("vms").unwrap_or_default();
    let away = number("unreachable").unwrap_or_default();
    let mut text = match number("of") {
        None => {
            let known = counted(vms, "filter instance");
            format!("{what} {verb} by at least {known}; those of other replicas cannot be seen now.")
        }
        Some(0) if away > 0 => "No filter instance is in contact.".to_owned(),
        Some(0) => "No filter instance is in contact, and none was lately.".to_owned(),
        Some(of) => format!("{what} {verb} by {vms} of {} after {ms} ms.", counted(of, "filter instance")),
    };
    let left = number("of").unwrap_or(vms).saturating_sub(vms);
    if away > 0 {
        text.push_str(&format!(" {away} out of contact."));
    }
    let because: Vec<&str> = applied["unknown_because"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|doubt| doubt["reason"].as_str())
        .collect();
    if verb == "refused" && !because.is_empty() {
        let because: Vec<&str> = because.into_iter().map(doubt).collect();
        text.push_str(&format!(" Whether every proxy refuses it is not known: {}.", because.join("; ")));
    } else if verb == "refused" && (left > 0 || away > 0) {
        match applied["refused_everywhere_by"].as_str() {
            Some(by) => text.push_str(&format!(" All refuse by {by} at the latest.")),
            None => text.push_str(" How long those may still accept it cannot be said."),
        }
    }
    text
}

/// Returns a reason why a receipt names no time, in words.
fn doubt(reason: &str) -> &str {
    match reason {
        "shadow_mode" => "some instances are in shadow mode, which refuses nothing",
        "inline_keys" => "some instances have keys of their own configuration",
        "older_filter" => "some instances have an older filter, which does not state its mode",
        "no_staleness_limit" => "some instances that have not applied it serve without a limit of staleness",
        "disputed" => "polls of some instances disagree",
        "store_went_back" => "the store went back, and the change may be lost",
        "vms_may_be_missing" => {
            "instances may be missing in the list: see `keyward proxies list`, and confirm it by `keyward proxies confirm`"
        }
        "replicas_unseen" => "this replica does not hear the others",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::receipt;
    use serde_json::json;
    use std::time::Instant;

    #[test]
    fn a_receipt_agrees_with_its_numbers() {
        let words = |vms: u64, of: Option<u64>| {
            let text = receipt("Changed:", "applied", &json!({"vms": vms, "of": of, "unreachable": 0}), Instant::now());
            text.split(" after ").next().unwrap_or_default().to_owned()
        };
        assert_eq!(words(0, Some(1)), "Changed: applied by 0 of 1 filter instance");
        assert_eq!(words(1, Some(2)), "Changed: applied by 1 of 2 filter instances");
        assert!(words(1, None).starts_with("Changed: applied by at least 1 filter instance;"));
        assert!(words(2, None).starts_with("Changed: applied by at least 2 filter instances;"));
    }
}
