//! From a request to whoever is signed in: the one place that reads the cookie.

use super::Web;
use super::assets::ASSETS;
use super::page::{Chrome, Section};
use super::session::Session;
use super::sign_in;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// The cookie of a session, and that of the sign-in form: with a prefix that browsers enforce where there is TLS.
pub(super) const fn cookie_name(secure: bool, session: bool) -> &'static str {
    match (secure, session) {
        (true, true) => "__Host-keyward_session",
        (true, false) => "__Host-keyward_visit",
        (false, true) => "keyward_session",
        (false, false) => "keyward_visit",
    }
}

/// A cookie's value.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(axum::http::header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
}

/// Someone who is signed in, and how they ask.
pub(super) struct User {
    /// What handlers reach.
    pub web: Arc<Web>,
    /// Theirs.
    pub session: Arc<Session>,
    /// The script asks, to look whether something changed.
    live: bool,
}

impl User {
    /// Who it is, from the headers of a request. None: nobody, or no longer.
    pub fn find(web: &Arc<Web>, headers: &HeaderMap) -> Option<Self> {
        let live = headers.contains_key("keyward-live");
        let secret = cookie(headers, cookie_name(web.secure, true))?;
        let session = web.sessions.find(secret, !live)?;
        // The session ends with its token.
        if !web.service().tokens.is_valid(&session.principal) {
            web.sessions.end(&session.id);
            return None;
        }
        Some(Self { web: Arc::clone(web), session, live })
    }

    /// What stands around a page.
    pub fn chrome(&self, section: Section, live: Option<&'static str>) -> Chrome {
        // What the script fetches for a region would swallow them.
        let notices = if self.live { Vec::new() } else { std::mem::take(&mut *self.session.notices.lock()) };
        Chrome {
            assets: &ASSETS,
            section,
            who: self.session.principal.name.clone(),
            sign_out_nonce: self.nonce("sign-out"),
            notices,
            live,
        }
    }

    /// What stands around a page that may become a dialog.
    pub fn dialog_chrome(&self) -> Chrome {
        self.chrome(Section::Keys, Some("receipts"))
    }

    /// A nonce for a form.
    pub fn nonce(&self, purpose: &str) -> String {
        self.web.nonces.make(&self.session.id, purpose)
    }

    /// Who does it, for the audit log.
    pub fn actor(&self) -> &str {
        &self.session.principal.name
    }
}

impl FromRequestParts<Arc<Web>> for User {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, web: &Arc<Web>) -> Result<Self, Response> {
        if let Some(user) = Self::find(web, &parts.headers) {
            return Ok(user);
        }
        let next = parts.uri.path_and_query().map_or("/settings/keys", |path| path.as_str());
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        // A link from another site comes without our cookie, which is for this site alone. Asking once more from a
        // page of our own brings it.
        if parts.method == Method::GET
            && header("sec-fetch-site") == Some("cross-site")
            && header("sec-fetch-mode") == Some("navigate")
        {
            return Err(sign_in::once_more(next).into_response());
        }
        if parts.method == Method::GET && !parts.headers.contains_key("keyward-script") {
            return Err(sign_in::redirect(next));
        }
        Err(sign_in::ended(web, next, false))
    }
}
