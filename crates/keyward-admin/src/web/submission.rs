//! A form that someone who is signed in sends.

use super::Web;
use super::failure::Failure;
use super::form::Fields;
use super::nonce::Claim;
use super::sign_in;
use super::user::User;
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};
use std::sync::Arc;

/// The sender and the fields.
pub(super) struct Submission {
    /// Who sends it.
    pub user: User,
    /// What is filled in.
    pub fields: Fields,
}

impl Submission {
    /// The right to do the form's work, once.
    ///
    /// # Errors
    /// Where it must not be done, or not again.
    pub fn claim(&self, purpose: &str) -> Result<Claim, Failure> {
        let claim = self.user.web.nonces.claim(&self.user.session, purpose, self.fields.text("nonce"));
        claim.map_err(|refused| Failure::refused(&self.user, refused))
    }

    /// That the form is one of this session's; it may be sent again, for it changes nothing.
    ///
    /// # Errors
    /// Where it is not.
    pub fn check(&self, purpose: &str) -> Result<(), Failure> {
        let known = self.user.web.nonces.check(&self.user.session.id, purpose, self.fields.text("nonce"));
        known.map(|_| ()).ok_or(Failure::Forged)
    }

    /// The revision at which the sender saw the key.
    pub fn revision(&self) -> Option<u64> {
        self.fields.text("revision").parse().ok()
    }
}

/// Whether a browser says that another site made it send this.
pub(super) fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site != "same-origin";
    }
    match (text(ORIGIN.as_str()), text(HOST.as_str())) {
        (Some(origin), Some(host)) => {
            origin.split_once("://").is_none_or(|(_, authority)| !authority.eq_ignore_ascii_case(host))
        }
        // HTTP/2 has no `host`; whoever speaks it sends `sec-fetch-site`, or is no browser.
        _ => false,
    }
}

impl FromRequest<Arc<Web>> for Submission {
    type Rejection = Failure;

    async fn from_request(request: Request, web: &Arc<Web>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        if is_foreign(&parts.headers) {
            return Err(Failure::Forged);
        }
        let fields = Fields::read(&parts.headers, body).await?;
        match User::find(web, &parts.headers) {
            Some(user) => Ok(Self { user, fields }),
            None => {
                // What was filled in is waiting after the sign-in.
                let path = match parts.uri.path() {
                    "/settings/keys" => "/settings/keys/new",
                    path => path.trim_end_matches("/drop").trim_end_matches("/disable").trim_end_matches("/enable"),
                };
                let refill = fields.refill();
                let next = if refill.is_empty() { path.to_owned() } else { format!("{path}?{refill}") };
                Err(Failure::Response(Box::new(sign_in::ended(web, &next, true))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    #[test]
    fn another_site_is_told_by_what_browsers_send() {
        let foreign = |headers: &[(&'static str, &'static str)]| {
            is_foreign(
                &headers
                    .iter()
                    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                    .collect(),
            )
        };
        let host = ("host", "keys.example:8081");
        assert!(!foreign(&[host, ("sec-fetch-site", "same-origin")]));
        for site in ["cross-site", "same-site", "none"] {
            assert!(foreign(&[host, ("sec-fetch-site", site), ("origin", "https://keys.example:8081")]), "{site}");
        }
        assert!(!foreign(&[host, ("origin", "https://keys.example:8081")]));
        for origin in ["https://evil.example", "https://keys.example", "null", "https://keys.example:8081.evil"] {
            assert!(foreign(&[host, ("origin", origin)]), "{origin}");
        }
        assert!(!foreign(&[host]));
    }
}
