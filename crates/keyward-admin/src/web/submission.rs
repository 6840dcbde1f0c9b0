//! A form that a signed-in user sends.

use super::failure::Failure;
use super::form::FormFields;
use super::state::Web;
use super::user::User;
use crate::address::PublicUrl;
use crate::app::Trust;
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};
use std::sync::Arc;

/// A form, with its sender.
pub(super) struct Submission {
    /// The user who sends the form.
    pub user: User,
    /// The fields of the form.
    pub fields: FormFields,
}

impl Submission {
    /// Checks that the form came from a view of this session. For forms that change nothing and may be sent again.
    ///
    /// # Errors
    /// Returns [`Failure::Forged`].
    pub fn check(&self, purpose: &str) -> Result<(), Failure> {
        let known = self.user.web.nonces.check(&self.user.session.id, purpose, self.fields.text("nonce"));
        known.map(|_| ()).ok_or(Failure::Forged)
    }

    /// The revision at which the sender saw the key. `None` means that the form does not say.
    pub fn revision(&self) -> Option<u64> {
        self.fields.text("revision").parse().ok()
    }
}

/// Returns whether the browser says that another site made it send this request. `public` is where browsers find the page,
/// if that is not where the service listens: a proxy in front may send another host.
pub(super) fn is_foreign(headers: &HeaderMap, public: Option<&PublicUrl>) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site != "same-origin";
    }
    match (text(ORIGIN.as_str()), text(HOST.as_str())) {
        (Some(origin), Some(host)) => {
            let host = public.map_or(host, |url| &url.authority);
            origin.split_once("://").is_none_or(|(_, authority)| !authority.eq_ignore_ascii_case(host))
        }
        // HTTP/2 requests have no `host`. Browsers that use it send `sec-fetch-site`.
        _ => false,
    }
}

impl FromRequest<Arc<Web>> for Submission {
    type Rejection = Failure;

    async fn from_request(request: Request, web: &Arc<Web>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        if is_foreign(&parts.headers, web.service().settings.public_url.as_ref()) {
            return Err(Failure::Forged);
        }
        // The session comes first: of a stranger no more is read than fits into a filled-in form.
        match User::find(web, &parts.headers) {
            Some(user) => {
                Trust::give_to(&parts.extensions);
                Ok(Self { user, fields: FormFields::read(&parts.headers, body).await? })
            }
            None => {
                let fields = FormFields::read_of_stranger(&parts.headers, body).await.unwrap_or_default();
                // After the sign-in, the form is shown again as it was filled in.
                let path = match parts.uri.path() {
                    "/settings/keys" => "/settings/keys/new",
                    path => path.trim_end_matches("/drop").trim_end_matches("/disable").trim_end_matches("/enable"),
                };
                let refill = fields.refill();
                let next = if refill.is_empty() { path.to_owned() } else { format!("{path}?{refill}") };
                Err(Failure::SessionEnded { next, sent: true })
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
                None,
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
        let public: PublicUrl = "https://ops.example/keyward".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("10.0.0.7:8081"));
        headers.insert("origin", HeaderValue::from_static("https://ops.example"));
        assert!(!is_foreign(&headers, Some(&public)) && is_foreign(&headers, None));
    }
}
