//! `keyward manifest`: prints the live keys as a `manifest:` block.

use super::client::Client;
use super::error::{CommandError, end};
use super::exit::Exit;
use super::output;
use clap::Args;
use keyward_policy::checksum::{Checksum, contribution};
use keyward_policy::manifest::{Change, LiveKey, Page};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Print the live keys, as digests, as the `manifest:` block of a plugin configuration
#[derive(Debug, Args)]
pub struct ManifestArgs {
    /// Print JSON instead of YAML
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &ManifestArgs) -> Exit {
    end(print(args.json))
}

fn print(as_json: bool) -> Result<(), CommandError> {
    let mut keys: Vec<Map<String, Value>> = fetch(&Client::edge_or_admin()?)?.into_values().collect();
    // Sorted by name, so that two versions of the block differ only where the keys do.
    keys.sort_by(|a, b| {
        a["name"].as_str().cmp(&b["name"].as_str()).then_with(|| a["id"].as_str().cmp(&b["id"].as_str()))
    });
    if as_json {
        output::json(&json!({ "manifest": { "keys": keys } }))?;
        return Ok(());
    }
    if keys.is_empty() {
        output::line("manifest:\n  keys: []")?;
        return Ok(());
    }
    output::line("manifest:\n  keys:")?;
    for key in keys {
        // JSON is YAML too, and quotes every name.
        let fields: Vec<String> = ["id", "name", "sha256", "permissions", "expires_at", "disabled"]
            .iter()
            .filter_map(|name| Some(format!("{name}: {}", key.get(*name)?)))
            .collect();
        output::line(&format!("    - {{{}}}", fields.join(", ")))?;
    }
    Ok(())
}

/// Fetches the live keys by id, and verifies them by the service's count and checksum.
fn fetch(client: &Client) -> Result<BTreeMap<String, Map<String, Value>>, CommandError> {
    let path = if client.edge { "/v1/manifest" } else { "/v1/export" };
    let mut keys = BTreeMap::new();
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    let (mut since, mut base) = (0, 0);
    loop {
        let bytes = client.get_bytes(&format!("{path}?since={since}&base={base}&limit=2000"))?;
        let page: Page<'_> = serde_json::from_slice(&bytes)
            .map_err(|error| CommandError::failed(format!("the service sent a page that cannot be read: {error}")))?;
        for change in &page.keys {
            match change {
                Change::Deleted { id, .. } => {
                    keys.remove(&**id);
                    sums.remove(&**id);
                }
                Change::Live(key) => {
                    sums.insert(key.id.to_string(), contribution(key));
                    keys.insert(key.id.to_string(), block(key));
                }
            }
        }
        if base == 0 {
            base = page.head;
        }
        since = page.revision;
        if !page.more {
            let mut sum = Checksum::default();
            sums.values().for_each(|one| sum.add(*one));
            if page.live.checksum.as_deref() != Some(&*sum.to_string()) || page.live.count != keys.len() as u64 {
                return Err(CommandError::failed(
                    "the keys that the service sent do not match its own count and checksum",
                ));
            }
            return Ok(keys);
        }
        base = base.max(since);
    }
}

fn block(key: &LiveKey<'_>) -> Map<String, Value> {
    let mut block = Map::new();
    block.insert("id".into(), json!(key.id));
    block.insert("name".into(), json!(key.name));
    block.insert("sha256".into(), json!(key.sha256));
    block.insert("permissions".into(), json!(key.permissions));
    if let Some(at) = &key.expires_at {
        block.insert("expires_at".into(), json!(at));
    }
    if key.disabled {
        block.insert("disabled".into(), json!(true));
    }
    block
}
