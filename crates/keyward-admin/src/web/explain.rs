//! The Explain view: what the filter decides for one request, computed by the function that runs in the filter.

use super::chrome::{Chrome, Section, render};
use super::example;
use super::failure::Failure;
use super::form::FormFields;
use super::markup;
use super::submission::Submission;
use super::user::User;
use crate::explain::{Explainer, Request};
use crate::plugin_config::document::read_one;
use crate::plugin_config::normalise::Normalisation;
use crate::store::keys::KeyRecord;
use askama::Template;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::Response;
use keyward_policy::config::Config;
use keyward_policy::explain::Explanation;
use keyward_policy::table::KeyTable;

/// Keys that the form offers.
const OFFERED: u32 = 50;

#[derive(Template)]
#[template(path = "explain.html")]
struct ExplainView {
    page: Chrome,
    nonce: String,
    form: Form,
    /// Whether the service was given the configuration that the form starts from.
    configured: bool,
    known: Vec<KnownKey>,
    result: Option<Explanation>,
}

impl ExplainView {
    /// Returns a finding or an error as markup. The command shows the same texts. What the configuration and the list of
    /// keys call something is code, wherever it is mentioned.
    fn marked(&self, text: impl AsRef<str>) -> String {
        let mut text = text.as_ref().to_owned();
        if let Some(result) = &self.result {
            let matches = result.rule.iter().map(|rule| &rule.matches);
            let id = result.key.iter().map(|key| &key.id);
            for name in matches.chain(id).chain(&result.required) {
                text = quoted(&text, name);
            }
        }
        markup::marked(&text)
    }
}

/// Puts backticks around each mention of a name.
fn quoted(text: &str, name: &str) -> String {
    let is_part = |character: char| character.is_alphanumeric() || matches!(character, '_' | '-' | ':' | '.' | '`');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(place) = rest.find(name).filter(|_| !name.is_empty()) {
        let (before, after) = (&rest[..place], &rest[place + name.len()..]);
        out.push_str(before);
        // A longer name is another one.
        let is_whole = !out.ends_with(is_part) && !after.starts_with(is_part);
        let mark = if is_whole { "`" } else { "" };
        out.extend([mark, name, mark]);
        rest = after;
    }
    out + rest
}

struct KnownKey {
    id: String,
    name: String,
}

/// The form, as it was filled in.
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

impl Form {
    fn request(&self) -> Request {
        let content_type = Some(&self.content_type).filter(|text| !text.is_empty());
        Request {
            method: self.method.clone(),
            path: self.path.clone(),
            host: self.host.clone(),
            headers: content_type
                .map(|text| ("content-type".to_owned(), text.clone().into_bytes()))
                .into_iter()
                .collect(),
        }
    }
}

async fn respond(user: &User, form: Form, result: Option<Explanation>) -> Result<Response, Failure> {
    let keys = user.web.service().find_keys("", OFFERED).await?;
    let known = keys.into_iter().map(|key| KnownKey { id: key.id, name: key.name }).collect();
    let status = match (&form.key_error, &form.config_error) {
        (None, None) => StatusCode::OK,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let view = ExplainView {
        page: user.chrome(Section::Explain, None),
        nonce: user.nonce("explain"),
        form,
        configured: user.web.service().settings.explain_config.is_some(),
        known,
        result,
    };
    render(status, &view)
}

pub(super) async fn show(user: User, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let fields = FormFields::of_query(query.as_deref());
    let (method, path) = example::request();
    let form = Form {
        key: fields.text("key").to_owned(),
        method,
        path,
        host: "localhost".to_owned(),
        config: starting_config(&user).to_owned(),
        ..Form::default()
    };
    respond(&user, form, None).await
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
        starting_config(&user).clone_into(&mut form.config);
    }
    let config = read_one(&form.config).map_err(|error| form.config_error = Some(error.to_string())).ok();
    // The example stands for the file that it is a part of.
    let is_example = form.config.trim() == example::config().trim();
    let config = config.map(|(config, around)| (config, if is_example { example::normalisation() } else { around }));
    let stored = find_key(&user, &form.key).await?;
    let explainer = config.and_then(|config| {
        explainer(config, &form.key, stored.as_ref()).map_err(|error| form.key_error = Some(error)).ok()
    });
    let now = user.web.service().clock().now();
    let result = explainer.map(|explainer| explainer.explain(&form.request(), now));
    respond(&user, form, result).await
}

/// Returns the configuration that the service was given, or else the example.
fn starting_config(user: &User) -> &str {
    user.web.service().settings.explain_config.as_deref().unwrap_or(example::config())
}

/// Finds the service's key with this id or name.
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
    let found = service.find_keys(key, 200).await?;
    Ok(found.into_iter().find(|found| found.name == key))
}

/// Returns a filter that has the chosen key: the service's, or else one of the configuration.
fn explainer(
    config: (Config, Option<Normalisation>),
    wanted: &str,
    stored: Option<&KeyRecord>,
) -> Result<Explainer, String> {
    let mut explainer = Explainer::new(config);
    match stored {
        Some(key) => explainer.load_and_present(key.wire())?,
        None if wanted.is_empty() => explainer.load(KeyTable::new()),
        None if explainer.choose_key(wanted) => {}
        None => return Err("There is no key of this name or id.".to_owned()),
    }
    Ok(explainer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_policy::timestamp::Timestamp;

    #[test]
    fn a_whole_envoy_file_is_as_good_as_the_configuration_alone() {
        let config = read_one(include_str!("../../../../envoy.yaml")).unwrap();
        let alone = read_one(example::config()).unwrap();
        assert_eq!(config.0.routes.rules().len(), alone.0.routes.rules().len());
        let explainer = explainer(config, "", None).unwrap();
        for (method, path, code) in [
            ("GET", "/api/health", "public"),
            ("GET", "/api/collections/posts/records", "key_missing"),
            ("GET", "/api//health", "public"),
        ] {
            let form = Form { method: method.into(), path: path.into(), host: "localhost".into(), ..Form::default() };
            let answer = explainer.explain(&form.request(), Timestamp::from_unix_ms(0));
            assert_eq!(answer.code, code, "{method} {path}");
        }
    }

    #[test]
    fn a_name_is_quoted_wherever_it_is_mentioned_as_a_whole() {
        for (text, quoted_text) in [
            ("require a:read (by that rule)", "require `a:read` (by that rule)"),
            ("granted aa:read, a:read:all, a:read", "granted aa:read, a:read:all, `a:read`"),
            ("missing `a:read`", "missing `a:read`"),
            ("a:reada:read", "a:reada:read"),
        ] {
            assert_eq!(quoted(text, "a:read"), quoted_text);
        }
        assert_eq!(quoted("nothing", ""), "nothing");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("rules: [", "neither YAML nor JSON"),
            ("a: 1", "no Keyward configuration"),
            ("manifest: {keys: []}\nrules: [{path: x, access: deny}]\n", "rules"),
            ("manifest: {keys: []}\nrules: []\n---\nmanifest: {keys: []}\nrules: []\n", "more than one"),
        ] {
            let error = read_one(text).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        let config = read_one("manifest: {keys: []}\nrules: []\n").unwrap();
        assert!(explainer(config, "another", None).is_err());
    }
}
