//! `keyward explain`: what the filter would decide, and why.

use super::check;
use super::document;
use super::exit::Exit;
use clap::Args;
use keyward_policy::config::{Config, route_metadata};
use keyward_policy::credential::KeySource;
use keyward_policy::decide::RequestHead;
use keyward_policy::digest::Digest;
use keyward_policy::explain::{Explanation, explain};
use keyward_policy::manifest::{Change, LiveKey, Page};
use keyward_policy::policy::{Keys, Policy, RouteMetadata, Unavailable};
use keyward_policy::rule::Access;
use keyward_policy::table::KeyTable;
use keyward_policy::timestamp::Timestamp;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

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
    #[arg(long, short)]
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
    match decide(args) {
        Ok(explanation) => {
            if args.json {
                println!("{}", serde_json::to_string(&explanation).unwrap_or_default());
            } else {
                print(&explanation);
            }
            if explanation.allowed { Exit::Ok } else { Exit::Denied }
        }
        Err((exit, message)) => {
            eprintln!("error: {message}");
            exit
        }
    }
}

fn decide(args: &ExplainArgs) -> Result<Explanation, (Exit, String)> {
    let mut config = read_config(&args.config)?;
    let now = match &args.now {
        Some(text) => Timestamp::parse(text).map_err(|error| (Exit::Invalid, format!("--now: `{text}` is {error}")))?,
        None => {
            Timestamp::from_unix_ms(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64))
        }
    };
    let mut fetched = args.manifest.as_deref().map(read_manifest).transpose()?;
    let key = match (&args.key, &args.key_id) {
        (Some(dash), _) if dash == "-" => {
            let text = document::read_text(Path::new("-"))?;
            Some(text.lines().next().unwrap_or_default().to_owned())
        }
        (Some(key), _) => Some(key.clone()),
        (None, Some(id)) => Some(stand_in(&mut config, &mut fetched, id)?),
        (None, None) => None,
    };
    let route = args.route_metadata.as_deref().map(read_route_metadata).transpose()?;

    let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
    let mut path = args.path.clone();
    for header in &args.headers {
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| (Exit::Invalid, format!("--header: `{header}` is not `name: value`")))?;
        // The white space of HTTP (RFC 9110, 5.6.3), not that of Unicode.
        let value = value.trim_matches([' ', '\t']);
        headers.push((name.trim().to_ascii_lowercase(), value.as_bytes().to_vec()));
    }
    headers.extend(args.content_type.iter().map(|value| ("content-type".to_owned(), value.clone().into_bytes())));
    if let Some(key) = key {
        match config.key_sources.first() {
            Some(KeySource::Header { name, scheme: Some(scheme) }) => {
                headers.push((name.to_string(), format!("{scheme} {key}").into_bytes()))
            }
            Some(KeySource::Cookie { name }) => {
                headers.push(("cookie".to_owned(), format!("{name}={key}").into_bytes()))
            }
            Some(KeySource::Query { name }) => {
                let pair = form_urlencoded::Serializer::new(String::new()).append_pair(name, &key).finish();
                path = format!("{path}{}{pair}", if path.contains('?') { '&' } else { '?' });
            }
            Some(KeySource::Header { name, scheme: None }) => headers.push((name.to_string(), key.into_bytes())),
            None => {}
        }
    }
    let headers: Vec<(&[u8], &[u8])> = headers.iter().map(|(name, value)| (name.as_bytes(), &value[..])).collect();
    let head = RequestHead {
        method: args.method.as_bytes(),
        path: path.as_bytes(),
        host: args.host.as_bytes(),
        headers: &headers,
    };
    // Without `--manifest` the filter has not heard from the admin service yet.
    let nothing = config.admin.as_ref().map(|_| Err(Unavailable::NotYetLoaded));
    let policy = Policy {
        config: &config,
        keys: Keys::choose(&config, fetched.as_ref().map(Ok).or(nothing)),
        route: route.as_ref().map_or(RouteMetadata::Absent, RouteMetadata::Access),
    };
    Ok(explain(&policy, &head, now))
}

fn read_config(file: &Path) -> Result<Config, (Exit, String)> {
    let text = document::read_text(file)?;
    let name = file.display();
    let mut found = Vec::new();
    if serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|value| check::is_plugin_config(&value)) {
        found.push(check::Found { place: String::new(), bytes: text.into_bytes() });
    } else {
        for document in document::parse(file, &text)? {
            found.extend(check::find(&document));
        }
    }
    let [one] = &found[..] else {
        let message = if found.is_empty() {
            "no Keyward configuration in it"
        } else {
            "more than one Keyward configuration in it"
        };
        return Err((
            Exit::Invalid,
            format!("{name}: {message}\n  help: give a file with exactly one, like the plugin configuration alone"),
        ));
    };
    Config::parse(&one.bytes).map_err(|errors| {
        let lines: Vec<String> = errors.problems().iter().map(|problem| format!("  {problem}")).collect();
        (Exit::Invalid, format!("{name}: invalid configuration\n{}", lines.join("\n")))
    })
}

fn read_manifest(file: &Path) -> Result<KeyTable, (Exit, String)> {
    let text = document::read_text(file)?;
    let invalid = |error: String| (Exit::Invalid, format!("{}: {error}", file.display()));
    if let Ok(page) = serde_json::from_str::<Page<'_>>(&text) {
        let mut table = KeyTable::new();
        for change in &page.keys {
            if let Change::Live(key) = change {
                table.upsert(key).map_err(|error| invalid(error.to_string()))?;
            }
        }
        return Ok(table);
    }
    // A `manifest:` block is a configuration of its own.
    let document = document::parse(file, &text)?.into_iter().next().unwrap_or_default();
    let block = if document["manifest"].is_null() {
        serde_json::json!({"manifest": document})
    } else {
        serde_json::json!({"manifest": document["manifest"]})
    };
    let config = Config::parse(block.to_string().as_bytes())
        .map_err(|errors| invalid(format!("neither a manifest page nor a `manifest:` block\n{errors}")))?;
    config.manifest.and_then(|manifest| Arc::into_inner(manifest.keys)).ok_or_else(|| invalid("no keys in it".into()))
}

/// Puts a key of our own making in the place of the one with this id, so that its decision can be seen without it.
fn stand_in(config: &mut Config, fetched: &mut Option<KeyTable>, id: &str) -> Result<String, (Exit, String)> {
    const KEY: &str = "explain-stand-in";
    let replace = |table: &KeyTable| -> Option<KeyTable> {
        let mut copy = KeyTable::new();
        let mut buffer = [0; 20];
        let key = table.iter().find(|key| key.id.as_str(&mut buffer) == id)?;
        let record = LiveKey {
            revision: 0,
            id: Cow::Borrowed(id),
            name: Cow::Borrowed(key.name),
            sha256: Digest::of_key(KEY.as_bytes()).to_hex().into(),
            permissions: key.permissions.iter().map(Cow::Borrowed).collect(),
            expires_at: key.expires_at.map(|at| at.to_string().into()),
            disabled: key.disabled,
            must: if key.unsupported { vec!["unsupported".into()] } else { Vec::new() },
        };
        copy.upsert(&record).ok().map(|()| copy)
    };
    if let Some(copy) = fetched.as_ref().and_then(replace) {
        *fetched = Some(copy);
        return Ok(KEY.to_owned());
    }
    if let Some(manifest) = &mut config.manifest
        && let Some(copy) = replace(&manifest.keys)
    {
        manifest.keys = Arc::new(copy);
        return Ok(KEY.to_owned());
    }
    Err((
        Exit::Invalid,
        format!(
            "--key-id: there is no key `{id}`\n  help: name one of `manifest.keys`, or give the fetched keys with --manifest"
        ),
    ))
}

fn read_route_metadata(text: &str) -> Result<Access, (Exit, String)> {
    let invalid = |why: String| (Exit::Invalid, format!("--route-metadata: `{text}`: {why}"));
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| invalid("not `require=a,b` or `access=public|authenticated|deny`".to_owned()))?;
    route_metadata::parse_field(name, value).map_err(|why| invalid(why.to_string()))
}

fn print(explanation: &Explanation) {
    for check in &explanation.checks {
        println!("{} {:<12} {}", if check.passed { "✓" } else { "✗" }, check.name, check.finding);
    }
    let word = if explanation.allowed { "allowed" } else { "denied" };
    println!("{word}: {} ({})", explanation.code, explanation.status);
    if !explanation.allowed {
        println!("  {}", explanation.detail);
    }
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
