//! Explains what the filter decides for one request: for `keyward explain` and for the page.
//!
//! Nobody has the secret of an existing key. A key that is chosen by its id or name therefore gets a stand-in secret, in a
//! table that holds this key alone.

use crate::plugin_config::normalise::{Normalisation, Normalised};
use keyward_policy::config::Config;
use keyward_policy::credential::KeySource;
use keyward_policy::decide::RequestHead;
use keyward_policy::decision::Code;
use keyward_policy::digest::Digest;
use keyward_policy::explain::{Check, Explanation, explain};
use keyward_policy::manifest::LiveKey;
use keyward_policy::policy::{Keys, Policy, RouteMetadata, Unavailable};
use keyward_policy::rule::Access;
use keyward_policy::table::KeyTable;
use keyward_policy::timestamp::Timestamp;
use std::borrow::Cow;
use std::sync::Arc;

/// The secret of a key that was chosen by its id or name.
const STAND_IN: &str = "explain-stand-in";

/// A request as a client sends it, without the key.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path and the query.
    pub path: String,
    /// The host.
    pub host: String,
    /// Names and values of the headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// A filter that is asked what it would decide.
#[derive(Debug)]
pub struct Explainer {
    config: Config,
    /// The keys of the admin service. `None` means that none were loaded yet.
    fetched: Option<KeyTable>,
    /// What the route's metadata asks for. `None` means that the route has none.
    route: Option<Access>,
    /// The secret that the request carries.
    secret: Option<String>,
    /// How the proxy normalises paths. `None` means that this is not known.
    normalisation: Option<Normalisation>,
}

impl Explainer {
    /// Returns a filter with this configuration, which has not loaded keys yet, behind a proxy that normalises paths.
    pub fn new((config, normalisation): (Config, Option<Normalisation>)) -> Self {
        Self { config, fetched: None, route: None, secret: None, normalisation }
    }

    /// Sets the keys that the filter has loaded from the admin service.
    pub fn load(&mut self, keys: KeyTable) {
        self.fetched = Some(keys);
    }

    /// Sets what the route's metadata asks for.
    pub fn set_route(&mut self, access: Access) {
        self.route = Some(access);
    }

    /// Lets the request carry this secret.
    pub fn present(&mut self, secret: impl Into<String>) {
        self.secret = Some(secret.into());
    }

    /// Loads this one key and lets the request carry it, with the stand-in secret.
    ///
    /// # Errors
    /// Returns an error if the record is not one that a filter accepts.
    pub fn load_and_present(&mut self, mut key: LiveKey<'_>) -> Result<(), String> {
        key.sha256 = Digest::of_key(STAND_IN.as_bytes()).to_hex().into();
        let mut table = KeyTable::new();
        table.upsert(&key).map_err(|error| error.to_string())?;
        self.load(table);
        self.present(STAND_IN);
        Ok(())
    }

    /// Lets the request carry a loaded or an inline key with this id, or with this name, with the stand-in secret. Returns
    /// whether there is one.
    pub fn choose_key(&mut self, id_or_name: &str) -> bool {
        let fetched = self.fetched.as_ref().and_then(|keys| only(keys, id_or_name));
        let found = match (fetched, &mut self.config.manifest) {
            (Some(one), _) => {
                self.fetched = Some(one);
                true
            }
            (None, Some(inline)) => only(&inline.keys, id_or_name).map(|one| inline.keys = Arc::new(one)).is_some(),
            (None, None) => false,
        };
        if found {
            self.present(STAND_IN);
        }
        found
    }

    /// Decides a request and says why.
    pub fn explain(&self, request: &Request, now: Timestamp) -> Explanation {
        let mut headers = request.headers.clone();
        let (mut path, step) = self.normalise(&request.path);
        if let Some(secret) = &self.secret {
            self.put(secret, &mut headers, &mut path);
        }
        let headers: Vec<(&[u8], &[u8])> = headers.iter().map(|(name, value)| (name.as_bytes(), &value[..])).collect();
        let head = RequestHead {
            method: request.method.as_bytes(),
            path: path.as_bytes(),
            host: request.host.as_bytes(),
            headers: &headers,
        };
        let policy = Policy {
            config: &self.config,
            keys: self.keys(),
            route: self.route.as_ref().map_or(RouteMetadata::Absent, RouteMetadata::Access),
        };
        let mut explanation = explain(&policy, &head, now);
        let step = step.or_else(|| {
            let is_unsure = self.normalisation.is_none() && explanation.code == Code::PathAmbiguous.as_str();
            is_unsure.then(|| unknown_normalisation(&request.path)).flatten()
        });
        explanation.checks.splice(0..0, step);
        explanation
    }

    /// Normalises a path as the proxy does. Returns the path that the filter gets, and the step if the proxy changed it.
    fn normalise(&self, path: &str) -> (String, Option<Check>) {
        let step = |passed, finding| Some(Check { name: "envoy", passed, finding });
        match self.normalisation.map(|normalisation| normalisation.apply(path)) {
            Some(Normalised::Path(to)) if to != path => {
                let finding = format!("normalises the path to `{to}`");
                (to, step(true, finding))
            }
            Some(Normalised::Redirect(to)) => {
                let finding = format!("redirects the client with 307 to `{to}`, which is decided here");
                (to, step(true, finding))
            }
            // The filter refuses such a path too, with the same status.
            Some(Normalised::Refused) => (path.to_owned(), step(false, "refuses this path with 400".to_owned())),
            Some(Normalised::Path(_)) | None => (path.to_owned(), None),
        }
    }

    /// Puts the secret where the first key source reads it.
    fn put(&self, secret: &str, headers: &mut Vec<(String, Vec<u8>)>, path: &mut String) {
        match self.config.key_sources.first() {
            Some(KeySource::Header { name, scheme: Some(scheme) }) => {
                headers.push((name.to_string(), format!("{scheme} {secret}").into_bytes()));
            }
            Some(KeySource::Header { name, scheme: None }) => {
                headers.push((name.to_string(), secret.as_bytes().to_vec()));
            }
            Some(KeySource::Cookie { name }) => {
                headers.push(("cookie".to_owned(), format!("{name}={secret}").into_bytes()));
            }
            Some(KeySource::Query { name }) => {
                let pair = form_urlencoded::Serializer::new(String::new()).append_pair(name, secret).finish();
                path.push(if path.contains('?') { '&' } else { '?' });
                path.push_str(&pair);
            }
            None => {}
        }
    }

    fn keys(&self) -> Keys<'_> {
        let loaded = self.fetched.as_ref().ok_or(Unavailable::NotYetLoaded);
        // Keys that were given are used even if the configuration names no admin service to fetch them from.
        let fetched = (self.config.admin.is_some() || self.fetched.is_some()).then_some(loaded);
        Keys::choose(&self.config, fetched, None)
    }
}

/// Returns the step that says what Envoy may do to an ambiguous path, where the configuration does not say it. `None` means
/// that Envoy would not change the path.
fn unknown_normalisation(path: &str) -> Option<Check> {
    let (Normalised::Path(to) | Normalised::Redirect(to)) = Normalisation::WHOLE.apply(path) else { return None };
    let finding = format!(
        "is not part of this configuration. If it normalises paths, as the shipped `envoy.yaml` tells it to, the filter \
         decides about `{to}`: explain the whole file to see that"
    );
    (to != path).then_some(Check { name: "envoy", passed: true, finding })
}

/// Returns a table with the key of this id, or of this name, alone, with the stand-in secret.
fn only(keys: &KeyTable, id_or_name: &str) -> Option<KeyTable> {
    let by_id = keys.iter().find(|key| key.id.to_string() == id_or_name);
    let key = by_id.or_else(|| keys.iter().find(|key| key.name == id_or_name))?;
    let record = LiveKey {
        revision: 0,
        id: key.id.to_string().into(),
        name: Cow::Borrowed(key.name),
        sha256: Digest::of_key(STAND_IN.as_bytes()).to_hex().into(),
        permissions: key.permissions.iter().map(Cow::Borrowed).collect(),
        expires_at: key.expires_at.map(|at| at.to_string().into()),
        disabled: key.disabled,
        must: if key.unsupported { vec!["unsupported".into()] } else { Vec::new() },
    };
    let mut one = KeyTable::new();
    one.upsert(&record).ok().map(|()| one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin_config::document::read_one;

    fn code(explainer: &Explainer, method: &str, path: &str) -> &'static str {
        let request =
            Request { method: method.into(), path: path.into(), host: "localhost".into(), headers: Vec::new() };
        explainer.explain(&request, Timestamp::from_unix_ms(0)).code
    }

    #[test]
    fn an_inline_key_is_chosen_by_its_id_or_its_name() {
        let sha256 = Digest::of_key(b"secret").to_hex();
        for source in
            ["header: x-api-key", "{header: authorization, scheme: Bearer}", "query: api_key", "cookie: api_key"]
        {
            let source = if source.starts_with('{') { source.to_owned() } else { format!("{{{source}}}") };
            let text = format!(
                "manifest: {{keys: [{{id: key_01, name: CI Bot, sha256: {sha256}, permissions: [a]}}]}}\n\
                 key_sources: [{source}]\nrules: [{{path: /a, require: [a]}}, {{path: /b, require: [b]}}]\n"
            );
            for wanted in ["key_01", "CI Bot"] {
                let mut explainer = Explainer::new(read_one(&text).unwrap());
                assert!(explainer.choose_key(wanted));
                assert_eq!(code(&explainer, "GET", "/a?x=1"), "allowed", "{source}");
                assert_eq!(code(&explainer, "GET", "/b"), "permission_missing", "{source}");
            }
            assert!(!Explainer::new(read_one(&text).unwrap()).choose_key("another"));
        }
    }

    #[test]
    fn paths_are_normalised_as_the_file_says() {
        let shipped = Explainer::new(read_one(include_str!("../../../envoy.yaml")).unwrap());
        for path in [
            "/api/collections/x/../posts/records",
            "//api/collections/posts/records",
            "/api/collections%2Fposts/records",
        ] {
            let request =
                Request { method: "GET".into(), path: path.into(), host: "localhost".into(), headers: Vec::new() };
            let explanation = shipped.explain(&request, Timestamp::from_unix_ms(0));
            assert_eq!(explanation.code, "key_missing", "{path}");
            assert_eq!(explanation.checks[0].name, "envoy");
            assert!(explanation.checks[0].finding.contains("`/api/collections/posts/records`"), "{path}");
        }
        // The configuration alone does not say what is in front of it.
        let alone = Explainer::new(read_one("manifest: {keys: []}\nrules: [{path: /a, require: [a]}]\n").unwrap());
        for (path, to) in [("//a", "`/a`"), ("/b/../a?x=1", "`/a?x=1`"), ("/b%2fa", "`/b/a`")] {
            let request = Request { method: "GET".into(), path: path.into(), ..Request::default() };
            let explanation = alone.explain(&request, Timestamp::from_unix_ms(0));
            assert_eq!(explanation.code, "path_ambiguous");
            assert!(explanation.checks[0].name == "envoy" && explanation.checks[0].finding.contains(to), "{path}");
        }
        for path in ["/a", "/a;b"] {
            let request = Request { method: "GET".into(), path: path.into(), ..Request::default() };
            assert_ne!(alone.explain(&request, Timestamp::from_unix_ms(0)).checks[0].name, "envoy", "{path}");
        }
    }

    #[test]
    fn keys_that_are_not_loaded_are_told_from_unknown_ones() {
        let text = "admin: {cluster: c}\nrules: [{path: /a, require: [a]}]\n";
        let mut explainer = Explainer::new(read_one(text).unwrap());
        explainer.present("kw_x");
        assert_eq!(code(&explainer, "GET", "/a"), "manifest_unavailable");
        explainer.load(KeyTable::new());
        assert_eq!(code(&explainer, "GET", "/a"), "key_unknown");
    }
}
