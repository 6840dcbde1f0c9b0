//! `keyward proxies`: proxies and their instances, through the admin service.

use super::client::{Client, encode};
use super::error::{CommandError, end};
use super::exit::Exit;
use super::output::{self, Format};
use crate::suggest::did_you_mean;
use anstyle::AnsiColor;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use ureq::http::Method;

/// List proxies and what they have applied, and forget instances that do not come back (through the admin service)
///
/// Without a subcommand, the proxies are listed.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ProxiesArgs {
    #[command(subcommand)]
    command: Option<ProxiesCommand>,
    /// What `list` takes.
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum ProxiesCommand {
    /// List the instances of every proxy, and what they have applied
    List(ListArgs),
    /// Forget an instance that does not come back, so that receipts no longer count it
    Forget {
        /// The instance, as `keyward proxies list` names it
        #[arg(value_name = "INSTANCE")]
        vm: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Confirm that every proxy that runs is listed, so that receipts name times again after a failover or a restore
    Confirm {
        /// The list that was looked at, as `keyward proxies list` names it: a list that is another one by now is not confirmed
        #[arg(long, value_name = "LIST")]
        list: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What `keyward proxies list` is given.
#[derive(Debug, Args)]
struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: ProxiesArgs) -> Exit {
    end(act(args.command.unwrap_or(ProxiesCommand::List(args.list))))
}

fn act(command: ProxiesCommand) -> Result<(), CommandError> {
    let client = Client::admin()?;
    match command {
        ProxiesCommand::List(ListArgs { json }) => {
            let answer = client.get("/v1/proxies")?;
            if Format::choose(json) == Format::Json {
                output::json(&answer)?;
                return Ok(());
            }
            let mut rows = Vec::new();
            for node in answer["nodes"].as_array().into_iter().flatten() {
                for vm in node["vms"].as_array().into_iter().flatten() {
                    rows.push(row(node, vm));
                }
            }
            if rows.is_empty() {
                output::line("No proxy has asked for keys yet.")?;
            } else {
                let headings =
                    ["node", "instance", "state", "applied", "behind", "last contact (UTC)", "without contact until"];
                output::table(&headings, rows)?;
            }
            if answer["may_be_incomplete"] == true {
                let list = answer["list"].as_str().map(|list| format!(" --list {list}")).unwrap_or_default();
                eprintln!(
                    "Instances may be missing in this list, so receipts name no time: the store failed over, came from a \
                     backup, or was kept by an older version. If every proxy that runs is listed, confirm it by \
                     `keyward proxies confirm{list}`."
                );
            }
        }
        ProxiesCommand::Forget { vm, json } => {
            client.call(Method::DELETE, &format!("/v1/proxies/{}", encode(&vm)), None).map_err(|mut error| {
                error.message.push_str(&nearest_vm(&client, &vm));
                error
            })?;
            match Format::choose(json) {
                Format::Json => output::json(&json!({ "vm": vm, "forgotten": true }))?,
                Format::Human => output::line(&format!("`{vm}` is forgotten."))?,
            }
        }
        ProxiesCommand::Confirm { list, json } => {
            let query = list.map(|list| format!("?list={}", encode(&list))).unwrap_or_default();
            client.call(Method::POST, &format!("/v1/proxies/confirm{query}"), None)?;
            match Format::choose(json) {
                Format::Json => output::json(&json!({ "confirmed": true }))?,
                Format::Human => output::line("The list is confirmed. Receipts name times again.")?,
            }
        }
    }
    Ok(())
}

/// Returns the end of a message about an instance: the one that was probably meant, or nothing.
fn nearest_vm(client: &Client, vm: &str) -> String {
    let answer = client.get("/v1/proxies").unwrap_or_default();
    let nodes = answer["nodes"].as_array().into_iter().flatten();
    let vms = nodes.flat_map(|node| node["vms"].as_array().into_iter().flatten());
    let names: Vec<&str> = vms.filter_map(|vm| vm["vm"].as_str()).collect();
    if names.contains(&vm) { String::new() } else { did_you_mean(vm, names.into_iter()) }
}

fn row(node: &Value, vm: &Value) -> output::Row {
    let text = |value: &Value, none: &str| value.as_str().unwrap_or(none).to_owned();
    let cells = vec![
        text(&node["node"], ""),
        text(&vm["vm"], ""),
        text(&vm["state"], "").replace('_', " "),
        vm["applied_revision"].to_string(),
        vm["lag"].to_string(),
        text(&vm["last_contact_at"], ""),
        text(&vm["refuses_by"], "no limit"),
    ];
    (cells, (vm["state"] == "unreachable").then_some(AnsiColor::Yellow))
}
