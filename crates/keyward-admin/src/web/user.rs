//! Finds out who is signed in, by the cookie of a request.

use super::assets::ASSETS;
use super::chrome::{Chrome, Section};
use super::failure::Failure;
use super::session::Session;
use super::state::Web;
use crate::app::Trust;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use std::sync::Arc;

/// Returns the name of the session's cookie, or of the sign-in form's. With TLS it has the prefix `__Host-`, for which
/// browsers refuse cookies that another host or an unencrypted connection sets.
pub(super) const fn cookie_name(secure: bool, session: bool) -> &'static str {
    match (secure, session) {
        (true, true) => "__Host-keyward_session",
        (true, false) => "__Host-keyward_visit",
        (false, true) => "keyward_session",
        (false, false) => "keyward_visit",
    }
}

/// Returns the value of a cookie.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(axum::http::header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
}

/// A signed-in user, with the state of the page.
pub(super) struct User {
    /// The state of the page.
    pub web: Arc<Web>,
    /// The user's session.
    pub session: Arc<Session>,
    /// The revision before the request was worked on. A view holds at least the changes up to it.
    revision: u64,
    /// Whether the script sent the request to update a view.
    live: bool,
}

impl User {
    /// Finds the user by the headers of a request. `None` means that nobody is signed in, or no longer.
    pub fn find(web: &Arc<Web>, headers: &HeaderMap) -> Option<Self> {
        let live = headers.contains_key("keyward-live");
        let secret = cookie(headers, cookie_name(web.secure, true))?;
        let session = web.sessions.find(secret, !live)?;
        // A revoked or expired token ends its session.
        if !web.service().tokens.is_valid(&session.principal) {
            web.sessions.end(&session.id);
            return None;
        }
        let revision = web.service().feed.state().head.revision;
        Some(Self { web: Arc::clone(web), session, revision, live })
    }

    /// Returns the frame of a view.
    pub fn chrome(&self, section: Section, live: Option<&'static str>) -> Chrome {
        // The script replaces parts of a view only, and the notices would not be in them.
        let notices = if self.live { Vec::new() } else { std::mem::take(&mut *self.session.notices.lock()) };
        Chrome {
            assets: &ASSETS,
            section,
            who: self.session.principal.name.clone(),
            sign_out_nonce: self.nonce("sign-out"),
            vms_may_be_missing: self.web.service().proxies.may_miss_tables(),
            notices,
            live,
            revision: self.revision,
        }
    }

    /// Returns the frame of a view of a key that may be shown as a dialog.
    pub fn dialog_chrome(&self) -> Chrome {
        self.chrome(Section::Keys, Some("receipts"))
    }

    /// Makes a nonce for a form.
    pub fn nonce(&self, purpose: &str) -> String {
        self.web.nonces.make(&self.session.id, purpose)
    }

    /// Returns the name of the token, for the audit log.
    pub fn actor(&self) -> &str {
        &self.session.principal.name
    }
}

impl FromRequestParts<Arc<Web>> for User {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, web: &Arc<Web>) -> Result<Self, Failure> {
        if let Some(user) = Self::find(web, &parts.headers) {
            Trust::give_to(&parts.extensions);
            return Ok(user);
        }
        let next = parts.uri.path_and_query().map_or("/settings/keys", |path| path.as_str()).to_owned();
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        // A link on another site comes without the cookie, which is `SameSite=Strict`. Asking again from a page of this
        // site brings it.
        if parts.method == Method::GET
            && header("sec-fetch-site") == Some("cross-site")
            && header("sec-fetch-mode") == Some("navigate")
        {
            return Err(Failure::AskAgain { next });
        }
        if parts.method == Method::GET && !parts.headers.contains_key("keyward-script") {
            return Err(Failure::SignIn { next });
        }
        Err(Failure::SessionEnded { next, sent: false })
    }
}
