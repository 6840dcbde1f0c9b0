//! The replies that the filter sends instead of the upstream.

use crate::head::serialize;
use keyward_policy::config::Config;
use keyward_policy::credential::KeySource;
use keyward_policy::decision::{Code, Decision, ProblemDetails};

/// One local reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: String,
    /// The headers, serialized.
    pub headers: Vec<u8>,
    /// The body: problem+json, or for gRPC plain text, which Envoy sends as `grpc-message`.
    pub body: Vec<u8>,
    /// The gRPC status. -1 means that the proxy chooses it.
    pub grpc_status: i32,
}

/// What makes the replies of one configuration.
#[derive(Debug)]
pub struct Replies {
    challenges: Vec<String>,
    sources: Vec<KeySource>,
}

impl Replies {
    /// Makes them for a configuration.
    pub fn new(config: &Config) -> Self {
        Self { challenges: challenges(config), sources: config.key_sources.clone() }
    }

    /// Returns the reply to a denied request: problem details (RFC 9457), or for gRPC the code and the sentence.
    pub fn denial(&self, decision: &Decision<'_>, is_grpc: bool, request_id: Option<&str>) -> Reply {
        let code = decision.code;
        let (content_type, body, grpc_status) = if is_grpc {
            (None, format!("{code}: {}", decision.detail(&self.sources)).into_bytes(), code.grpc_status())
        } else {
            let problem = ProblemDetails::of(decision, &self.sources);
            let problem = match request_id {
                Some(id) => problem.with_instance(id),
                None => problem,
            };
            // It holds strings and numbers alone, so this cannot fail.
            (Some("application/problem+json"), serde_json::to_vec(&problem).unwrap_or_default(), -1)
        };
        let headers = serialize(&self.headers(code, content_type));
        Reply { status: code.status(), details: format!("keyward_{code}"), headers, body, grpc_status }
    }

    fn headers(&self, code: Code, content_type: Option<&'static str>) -> Vec<(&str, &str)> {
        let mut headers = vec![("cache-control", "no-store")];
        headers.extend(content_type.map(|value| ("content-type", value)));
        match code.status() {
            401 => headers.extend(self.challenges.iter().map(|challenge| ("www-authenticate", &**challenge))),
            503 => headers.push(("retry-after", "1")),
            _ => {}
        }
        headers
    }
}

/// Returns the reply on the readiness path.
pub fn readiness(ready: bool) -> Reply {
    let (status, word) = if ready { (200, "ready") } else { (503, "manifest_unavailable") };
    Reply {
        status,
        details: "keyward_readiness".into(),
        headers: serialize(&[("cache-control", "no-store"), ("content-type", "application/json")]),
        body: format!("{{\"status\":\"{word}\"}}").into_bytes(),
        grpc_status: -1,
    }
}

/// Returns one challenge for each way to send a key that HTTP has a scheme for (RFC 9110, 11.6.1). `ApiKey` is not a
/// registered scheme, but no registered scheme fits a header with a name that is configured.
fn challenges(config: &Config) -> Vec<String> {
    let realm = &config.realm;
    let mut challenges: Vec<String> = Vec::new();
    for source in &config.key_sources {
        let challenge = match source {
            KeySource::Header { name, scheme: None } => {
                format!("ApiKey realm=\"{realm}\", header=\"{}\"", title_case(name))
            }
            KeySource::Header { scheme: Some(scheme), .. } => format!("{scheme} realm=\"{realm}\""),
            KeySource::Query { .. } | KeySource::Cookie { .. } => continue,
        };
        if !challenges.contains(&challenge) {
            challenges.push(challenge);
        }
    }
    if challenges.is_empty() {
        // A 401 has to carry a challenge (RFC 9110, 15.5.2).
        challenges.push(format!("ApiKey realm=\"{realm}\""));
    }
    challenges
}

/// Returns a header name as people write it: `X-Api-Key` for `x-api-key`.
fn title_case(name: &str) -> String {
    let mut start = true;
    name.chars()
        .map(|c| {
            let out = if start { c.to_ascii_uppercase() } else { c };
            start = c == '-';
            out
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Headers;

    fn replies(extra: &str) -> Replies {
        Replies::new(&Config::parse(format!(r#"{{"manifest":{{"keys":[]}}{extra}}}"#).as_bytes()).unwrap())
    }

    fn deny(code: Code) -> Decision<'static> {
        Decision { code, key: None, required: &[], rule: None, is_unmatched: false }
    }

    fn headers(reply: &Reply) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Headers::parse(&reply.headers).as_slice().iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn every_denial_is_a_problem_that_names_itself() {
        let replies = replies("");
        for code in Code::ALL.into_iter().filter(|code| !code.allows()) {
            let reply = replies.denial(&deny(code), false, None);
            let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!(body["type"], format!("urn:keyward:{code}"));
            assert_eq!(body["code"], code.as_str());
            assert_eq!(body["status"], code.status());
            assert_eq!(body.get("missing").is_some(), code == Code::PermissionMissing);
            assert_eq!(body.get("instance"), None);
            assert_eq!(reply.details, format!("keyward_{code}"));
            let headers = headers(&reply);
            let has = |name: &str| headers.iter().any(|(have, _)| have == name);
            assert!(has("content-type") && has("cache-control"));
            assert_eq!(has("www-authenticate"), code.status() == 401, "{code}");
            assert_eq!(has("retry-after"), code.status() == 503, "{code}");
        }
    }

    #[test]
    fn a_denial_names_the_request_and_where_a_key_belongs() {
        let reply = replies("").denial(&deny(Code::KeyMissing), false, Some("r-1"));
        let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["instance"], "r-1");
        assert!(body["detail"].as_str().unwrap().contains("`x-api-key`"), "{body}");
    }

    #[test]
    fn grpc_gets_the_code_with_the_sentence_and_its_own_status() {
        let reply = replies("").denial(&deny(Code::KeyMissing), true, Some("r-1"));
        let message = String::from_utf8(reply.body.clone()).unwrap();
        assert!(reply.grpc_status == 16 && message.starts_with("key_missing: Send an API key"), "{message}");
        assert!(!headers(&reply).iter().any(|(name, _)| name == "content-type"));
    }

    #[test]
    fn there_is_one_challenge_for_each_kind_of_source() {
        let challenge = |extra: &str| replies(extra).challenges;
        assert_eq!(challenge(r#","realm":"db""#), [r#"ApiKey realm="db", header="X-Api-Key""#]);
        let both =
            r#","key_sources":[{"header":"x-api-key"},{"header":"authorization","scheme":"Bearer"},{"query":"k"}]"#;
        assert_eq!(challenge(both), [r#"ApiKey realm="default", header="X-Api-Key""#, r#"Bearer realm="default""#]);
        assert_eq!(challenge(r#","key_sources":[{"query":"k"}]"#), [r#"ApiKey realm="default""#]);
    }
}
