//! `keyward explain`: what the filter would decide, and why.

use super::error::{CommandError, end_with};
use super::exit::Exit;
use super::input::{in_file, read_text};
use super::output;
use crate::clock::Clock;
use crate::explain::{Explainer, Request};
use crate::plugin_config::document::{parse, read_one};
use clap::Args;
use keyward_policy::config::{Config, route_metadata};
use keyward_policy::explain::Explanation;
use keyward_policy::manifest::{Change, Page};
use keyward_policy::rule::Access;
use keyward_policy::table::KeyTable;
use keyward_policy::timestamp::Timestamp;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Explain what the filter decides for one request: the rule, each check, the decision
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The plugin configuration, alone or inside an Envoy, WasmPlugin or EnvoyExtensionPolicy file; `-` is standard input
    #[arg(long, short)]
    config: PathBuf,
    /// The method
    #[arg(long, short = 'X', default_value = "GET")]
    method: String,
    /// The path, with its query
    // `-p` is the permission elsewhere. Here it still works, and is no longer shown.
    #[arg(long, short_alias = 'p')]
    path: String,
    /// The host
    #[arg(long, default_value = "localhost")]
    host: String,
    /// The key, sent in the first key source; `-` reads it from standard input
    #[arg(long, short, conflicts_with = "key_id")]
    key: Option<String>,
    /// Use the key with this id, without knowing the key itself
    #[arg(long)]
    key_id: Option<String>,
    /// The `content-type` header
    #[arg(long)]
    content_type: Option<String>,
    /// A header, `name: value`; repeatable
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Keys as the admin service would send them: a page of `GET /v1/manifest`, or what `keyward manifest` prints
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// What the route's metadata says: `require=a,b` or `access=public`
    #[arg(long, value_name = "FIELD=VALUE")]
    route_metadata: Option<String>,
    /// The moment of the request, RFC 3339; default is now
    #[arg(long)]
    now: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &ExplainArgs) -> Exit {
    end_with(decide(args).and_then(|explanation| {
        if args.json {
            output::line(&serde_json::to_string(&explanation).unwrap_or_default())?;
        } else {
            print(&explanation)?;
        }
        Ok(if explanation.allowed { Exit::Ok } else { Exit::Denied })
    }))
}

fn decide(args: &ExplainArgs) -> Result<Explanation, CommandError> {
    let text = read_text(&args.config)?;
    let config = read_one(&text).map_err(|error| CommandError::invalid(in_file(&args.config, error)))?;
    let now = match &args.now {
        Some(text) => {
            Timestamp::parse(text).map_err(|error| CommandError::invalid(format!("--now: `{text}` is {error}")))?
        }
        None => Clock::system().now(),
    };
    let mut explainer = Explainer::new(config);
    if let Some(file) = &args.manifest {
        explainer.load(read_manifest(file)?);
    }
    if let Some(text) = &args.route_metadata {
        explainer.set_route(read_route_metadata(text)?);
    }
    match (&args.key, &args.key_id) {
        (Some(dash), _) if dash == "-" => {
            let text = read_text(Path::new("-"))?;
            explainer.present(text.lines().next().unwrap_or_default());
        }
        (Some(key), _) => explainer.present(key),
        (None, Some(id)) if !explainer.choose_key(id) => {
            return Err(CommandError::invalid(format!(
                "--key-id: there is no key `{id}`\n  help: name one of `manifest.keys`, or give the fetched keys with \
                 --manifest"
            )));
        }
        (None, _) => {}
    }
    let mut headers = Vec::new();
    for header in &args.headers {
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| CommandError::invalid(format!("--header: `{header}` is not `name: value`")))?;
        // HTTP's white space (RFC 9110, 5.6.3), not Unicode's.
        let value = value.trim_matches([' ', '\t']);
        headers.push((name.trim().to_ascii_lowercase(), value.as_bytes().to_vec()));
    }
    headers.extend(args.content_type.iter().map(|value| ("content-type".to_owned(), value.clone().into_bytes())));
    let request = Request { method: args.method.clone(), path: args.path.clone(), host: args.host.clone(), headers };
    Ok(explainer.explain(&request, now))
}

/// Reads the fetched keys: a page of the manifest, or a `manifest:` block.
fn read_manifest(file: &Path) -> Result<KeyTable, CommandError> {
    let text = read_text(file)?;
    let invalid = |error: &dyn Display| CommandError::invalid(in_file(file, error));
    if let Ok(page) = serde_json::from_str::<Page<'_>>(&text) {
        let mut table = KeyTable::new();
        for change in &page.keys {
            if let Change::Live(key) = change {
                table.upsert(key).map_err(|error| invalid(&error))?;
            }
        }
        return Ok(table);
    }
    // A `manifest:` block is a configuration by itself.
    let document = parse(&text).map_err(|error| invalid(&error))?.into_iter().next().unwrap_or_default();
    let block = if document["manifest"].is_null() {
        serde_json::json!({"manifest": document})
    } else {
        serde_json::json!({"manifest": document["manifest"]})
    };
    let config = Config::parse(block.to_string().as_bytes())
        .map_err(|errors| invalid(&format!("neither a manifest page nor a `manifest:` block\n{errors}")))?;
    config.manifest.and_then(|manifest| Arc::into_inner(manifest.keys)).ok_or_else(|| invalid(&"no keys in it"))
}

fn read_route_metadata(text: &str) -> Result<Access, CommandError> {
    let invalid = |why: &dyn Display| CommandError::invalid(format!("--route-metadata: `{text}`: {why}"));
    let (name, value) =
        text.split_once('=').ok_or_else(|| invalid(&"expected `require=a,b` or `access=public|authenticated|deny`"))?;
    route_metadata::parse_field(name, value).map_err(|error| invalid(&error))
}

fn print(explanation: &Explanation) -> Result<(), CommandError> {
    for check in &explanation.checks {
        output::line(&format!("{} {:<12} {}", if check.passed { "✓" } else { "✗" }, check.name, check.finding))?;
    }
    let word = if explanation.allowed { "allowed" } else { "denied" };
    output::line(&format!("{word}: {} ({})", explanation.code, explanation.status))?;
    if !explanation.allowed {
        output::line(&format!("  {}", explanation.detail))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_filter_cannot_understand_is_refused_here_too() {
        let long = "a".repeat(101);
        for value in
            ["require=a b", "require=\u{e4}", "require=a,\u{7f}", "require=", "access=Public", "requires=a", "a"]
        {
            assert!(read_route_metadata(value).is_err(), "{value}");
        }
        assert!(read_route_metadata(&format!("require={long}")).is_err());
        let required = Access::Require(["a".into(), "b".into()].into());
        assert_eq!(read_route_metadata("require=a, b").ok(), Some(required));
        assert_eq!(read_route_metadata("access=deny").ok(), Some(Access::Deny));
    }
}
