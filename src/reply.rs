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

/// The replies of one configuration. Those that do not depend on the request are made once.
#[derive(Debug)]
pub struct Replies {
    challenges: Vec<String>,
    ready: Vec<(Code, Reply)>,
}

impl Replies {
    /// Makes the replies for a configuration.
    pub fn new(config: &Config) -> Self {
        let mut replies = Self { challenges: challenges(config), ready: Vec::new() };
        replies.ready = Code::ALL.into_iter().map(|code| (code, replies.problem(code, None))).collect();
        replies
    }

    /// Passes the reply for a decision to `send`.
    pub fn with<R>(&self, decision: &Decision<'_>, is_grpc: bool, send: impl FnOnce(&Reply) -> R) -> R {
        let code = decision.code;
        if is_grpc {
            return send(&Reply {
                status: code.status(),
                details: details(code),
                headers: serialize(&self.headers(code, None)),
                body: code.detail().into(),
                grpc_status: code.grpc_status(),
            });
        }
        match self.ready.iter().find(|(have, _)| *have == code) {
            Some((_, reply)) if code != Code::PermissionMissing => send(reply),
            _ => send(&self.problem(code, Some(decision))),
        }
    }

    /// Makes the problem details of a code (RFC 9457).
    fn problem(&self, code: Code, decision: Option<&Decision<'_>>) -> Reply {
        let problem = ProblemDetails::new(code);
        let problem = match decision {
            Some(decision) => problem.with_permissions(decision),
            None => problem,
        };
        // It holds strings and numbers alone, so this cannot fail.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        Reply {
            status: code.status(),
            details: details(code),
            headers: serialize(&self.headers(code, Some("application/problem+json"))),
            body,
            grpc_status: -1,
        }
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

fn details(code: Code) -> String {
    format!("keyward_{code}")
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
            replies.with(&deny(code), false, |reply| {
                let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
                assert_eq!(body["type"], format!("urn:keyward:{code}"));
                assert_eq!(body["code"], code.as_str());
                assert_eq!(body["status"], code.status());
                assert_eq!(body.get("missing").is_some(), code == Code::PermissionMissing);
                assert_eq!(reply.details, format!("keyward_{code}"));
                let headers = headers(reply);
                let has = |name: &str| headers.iter().any(|(have, _)| have == name);
                assert!(has("content-type") && has("cache-control"));
                assert_eq!(has("www-authenticate"), code.status() == 401, "{code}");
                assert_eq!(has("retry-after"), code.status() == 503, "{code}");
            });
        }
    }

    #[test]
    fn grpc_gets_the_plain_detail_and_its_own_status() {
        replies("").with(&deny(Code::KeyMissing), true, |reply| {
            assert_eq!((reply.grpc_status, &*reply.body), (16, Code::KeyMissing.detail().as_bytes()));
            assert!(!headers(reply).iter().any(|(name, _)| name == "content-type"));
        });
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
