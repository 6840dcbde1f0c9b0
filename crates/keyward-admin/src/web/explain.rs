//! Explain: what the filter decides for one request, computed by the function that runs in it.

use super::example;
use super::failure::Failure;
use super::form::Fields;
use super::page::{Chrome, Section, render};
use super::submission::Submission;
use super::user::User;
use crate::cli::check;
use crate::store::keys::KeyRecord;
use askama::Template;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::Response;
use keyward_policy::config::Config;
use keyward_policy::credential::KeySource;
use keyward_policy::decide::RequestHead;
use keyward_policy::digest::Digest;
use keyward_policy::explain::{Explanation, explain as decide};
use keyward_policy::manifest::LiveKey;
use keyward_policy::policy::{Keys, Policy, RouteMetadata};
use keyward_policy::table::KeyTable;
use keyward_policy::timestamp::Timestamp;

/// Stands in for the plaintext, which nobody has.
const STAND_IN: &str = "explain-stand-in";
/// Keys that are offered for the choice.
const OFFERED: u32 = 50;

#[derive(Template)]
#[template(path = "explain.html")]
struct Page {
    page: Chrome,
    nonce: String,
    form: Form,
    known: Vec<KnownKey>,
    result: Option<Explanation>,
}

struct KnownKey {
    id: String,
    name: String,
}

/// What is filled in.
#[derive(Default)]
struct Form {
    key: String,
    key_error: Option<String>,
    method: String,
    path: String,
    host: String,
    content_type: String,
    config: String,
    config_error: Option<String>,
}

async fn page(user: &User, form: Form, result: Option<Explanation>) -> Result<Response, Failure> {
    let keys = user.web.service().list_keys("", None, OFFERED).await?;
    let known = keys.keys.into_iter().map(|key| KnownKey { id: key.id, name: key.name }).collect();
    let status = match (&form.key_error, &form.config_error) {
        (None, None) => StatusCode::OK,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let page = Page { page: user.chrome(Section::Explain, None), nonce: user.nonce("explain"), form, known, result };
    render(status, &page)
}

pub(super) async fn show(user: User, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let fields = Fields::of_query(query.as_deref());
    let (method, path) = example::request();
    let form = Form {
        key: fields.text("key").to_owned(),
        method,
        path,
        host: "localhost".to_owned(),
        config: example::config().to_owned(),
        ..Form::default()
    };
    page(&user, form, None).await
}

pub(super) async fn explain(submission: Submission) -> Result<Response, Failure> {
    submission.check("explain")?;
    let Submission { user, fields } = submission;
    let text = |name: &str| fields.text(name).trim().to_owned();
    let mut form = Form {
        key: text("key"),
        method: text("method"),
        path: text("path"),
        host: text("host"),
        content_type: text("content_type"),
        // Browsers send line ends as CR LF.
        config: fields.text("config").replace("\r\n", "\n"),
        ..Form::default()
    };
    if form.config.trim().is_empty() {
        example::config().clone_into(&mut form.config);
    }
    let config = read_config(&form.config).map_err(|error| form.config_error = Some(error)).ok();
    let stored = find_key(&user, &form.key).await?;
    let table = match &config {
        Some(config) => table(config, &form.key, stored.as_ref()).map_err(|error| form.key_error = Some(error)).ok(),
        None => None,
    };
    let result = match (config, table) {
        (Some(config), Some(table)) => Some(answer(&config, &table, &form, user.web.service().clock().now())),
        _ => None,
    };
    page(&user, form, result).await
}

/// The service's key with this id or name.
async fn find_key(user: &User, key: &str) -> Result<Option<KeyRecord>, Failure> {
    let service = user.web.service();
    match service.key(key).await {
        Ok(key) => return Ok(Some(key)),
        Err(crate::service::Error::NotFound) => {}
        Err(error) => return Err(error.into()),
    }
    if key.is_empty() {
        return Ok(None);
    }
    let found = service.list_keys(key, None, 200).await?;
    Ok(found.keys.into_iter().find(|found| found.name == key))
}

/// The keys that the filter has, as far as this request is concerned: the chosen one, with our own plaintext.
fn table(config: &Config, wanted: &str, stored: Option<&KeyRecord>) -> Result<KeyTable, String> {
    let mut table = KeyTable::new();
    let digest = Digest::of_key(STAND_IN.as_bytes());
    let put = |table: &mut KeyTable, record: &LiveKey<'_>| table.upsert(record).map_err(|error| error.to_string());
    if let Some(key) = stored {
        let mut record = key.wire();
        record.sha256 = digest.to_hex().into();
        put(&mut table, &record)?;
        return Ok(table);
    }
    if wanted.is_empty() {
        return Ok(table);
    }
    let inline = config.manifest.as_ref().into_iter().flat_map(|manifest| manifest.keys.iter());
    let mut inline = inline.filter(|key| key.id.to_string() == wanted || key.name == wanted);
    let key = inline.next().ok_or("There is no key of this name or id.")?;
    let record = LiveKey {
        revision: 0,
        id: key.id.to_string().into(),
        name: key.name.into(),
        sha256: digest.to_hex().into(),
        permissions: key.permissions.iter().map(Into::into).collect(),
        expires_at: key.expires_at.map(|at| at.to_string().into()),
        disabled: key.disabled,
        must: if key.unsupported { vec!["unsupported".into()] } else { Vec::new() },
    };
    put(&mut table, &record)?;
    Ok(table)
}

fn answer(config: &Config, table: &KeyTable, form: &Form, now: Timestamp) -> Explanation {
    let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
    let mut path = form.path.clone();
    if !form.content_type.is_empty() {
        headers.push(("content-type".to_owned(), form.content_type.clone().into_bytes()));
    }
    if !table.is_empty() {
        match config.key_sources.first() {
            Some(KeySource::Header { name, scheme }) => {
                let value = scheme.as_ref().map_or(STAND_IN.to_owned(), |scheme| format!("{scheme} {STAND_IN}"));
                headers.push((name.to_string(), value.into_bytes()));
            }
            Some(KeySource::Cookie { name }) => {
                headers.push(("cookie".to_owned(), format!("{name}={STAND_IN}").into_bytes()));
            }
            Some(KeySource::Query { name }) => {
                let pair = form_urlencoded::Serializer::new(String::new()).append_pair(name, STAND_IN).finish();
                path = format!("{path}{}{pair}", if path.contains('?') { '&' } else { '?' });
            }
            None => {}
        }
    }
    let headers: Vec<(&[u8], &[u8])> = headers.iter().map(|(name, value)| (name.as_bytes(), &value[..])).collect();
    let head = RequestHead {
        method: form.method.as_bytes(),
        path: path.as_bytes(),
        host: form.host.as_bytes(),
        headers: &headers,
    };
    let policy = Policy { config, keys: Keys::Table(table), route: RouteMetadata::Absent };
    decide(&policy, &head, now)
}

fn read_config(text: &str) -> Result<Config, String> {
    let documents: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(text).map_err(|error| format!("This is neither YAML nor JSON: {error}"))?;
    let mut found: Vec<Vec<u8>> = Vec::new();
    for document in documents.iter().filter(|document| !document.is_null()) {
        if check::is_plugin_config(document) {
            found.push(document.to_string().into_bytes());
        } else {
            found.extend(check::find(document).into_iter().map(|found| found.bytes));
        }
    }
    let bytes = match &found[..] {
        [one] => one,
        [] => return Err("There is no Keyward configuration in it.".to_owned()),
        _ => {
            return Err("There is more than one Keyward configuration in it. Paste one of them alone.".to_owned());
        }
    };
    Config::parse(bytes).map_err(|errors| {
        let lines: Vec<String> = errors.problems().iter().map(ToString::to_string).collect();
        lines.join("\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(method: &str, path: &str) -> Form {
        Form { method: method.to_owned(), path: path.to_owned(), host: "localhost".to_owned(), ..Form::default() }
    }

    #[test]
    fn a_whole_envoy_file_is_as_good_as_the_configuration_alone() {
        let config = read_config(include_str!("../../../../envoy.yaml")).unwrap();
        let alone = read_config(example::config()).unwrap();
        assert_eq!(config.routes.rules().len(), alone.routes.rules().len());
        let now = Timestamp::from_unix_ms(0);
        for (method, path, code) in [
            ("GET", "/api/health", "public"),
            ("GET", "/api/collections/posts/records", "key_missing"),
            ("GET", "/api//health", "path_ambiguous"),
        ] {
            let answer = answer(&config, &KeyTable::new(), &form(method, path), now);
            assert_eq!(answer.code, code, "{method} {path}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("rules: [", "neither YAML nor JSON"),
            ("a: 1", "no Keyward configuration"),
            ("manifest: {keys: []}\nrules: [{path: x, access: deny}]\n", "rules"),
            ("manifest: {keys: []}\nrules: []\n---\nmanifest: {keys: []}\nrules: []\n", "more than one"),
        ] {
            let error = read_config(text).map(|_| ()).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_key_of_the_configuration_itself_can_be_chosen() {
        let sha256 = Digest::of_key(b"secret").to_hex();
        let config = read_config(&format!(
            "manifest: {{keys: [{{id: key_01, name: CI Bot, sha256: {sha256}, permissions: [a]}}]}}\n\
             key_sources: [{{query: api_key}}]\nrules: [{{path: /a, require: [a]}}, {{path: /b, require: [b]}}]\n"
        ))
        .unwrap();
        let now = Timestamp::from_unix_ms(0);
        for wanted in ["key_01", "CI Bot"] {
            let table = table(&config, wanted, None).unwrap();
            assert_eq!(answer(&config, &table, &form("GET", "/a?x=1"), now).code, "allowed");
            let denied = answer(&config, &table, &form("GET", "/b"), now);
            assert_eq!((denied.code, &denied.missing[..]), ("permission_missing", &["b".to_owned()][..]));
        }
        assert!(table(&config, "another", None).is_err());
    }
}
