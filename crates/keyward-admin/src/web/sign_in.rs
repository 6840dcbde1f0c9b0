//! Signing in with an admin token, and signing out.

use super::assets::{ASSETS, Assets};
use super::chrome::render;
use super::failure::Failure;
use super::form::FormFields;
use super::state::Web;
use super::submission::{Submission, is_foreign};
use super::user::{User, cookie, cookie_name};
use crate::app::{Peer, Trust};
use crate::random;
use crate::store::tokens::Role;
use askama::Template;
use axum::extract::{RawQuery, Request, State};
use axum::http::header::{HeaderName, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, Html, IntoResponse, Response};
use keyward_policy::digest::Digest;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInView {
    assets: &'static Assets,
    nonce: String,
    next: String,
    notice: Option<Banner>,
    error: Option<String>,
    autofocus: bool,
}

/// A sentence above the form.
struct Banner {
    kind: &'static str,
    text: &'static str,
}

impl Banner {
    fn role(&self) -> &'static str {
        if self.kind == "bad" { "alert" } else { "status" }
    }
}

const HOME: &str = "/settings/keys";

/// Returns the path to show after signing in. A path outside of this page, which an attacker's link could name, is replaced.
fn next_page(text: &str) -> &str {
    let ours = text.starts_with("/settings/") && text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if ours && text.len() <= 4_000 { text } else { HOME }
}

/// Redirects to the sign-in form, which leads back to `next`.
pub(super) fn redirect(next: &str) -> Response {
    let mut to = String::from("/sign-in");
    if next_page(next) == next && next != HOME {
        to.push_str("?next=");
        to.extend(form_urlencoded::byte_serialize(next.as_bytes()));
    }
    (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response()
}

/// Answers with a page that loads `next` again, now as a request from this site.
pub(super) fn ask_again(next: &str) -> Response {
    let next = next_page(next);
    let page = "<!doctype html><html lang=\"en\"><title>Keyward</title><p>One moment…</p></html>";
    ([(HeaderName::from_static("refresh"), format!("0; url={next}"))], Html(page)).into_response()
}

/// Says that the session has ended, and shows the sign-in form. `sent` says that a form arrived too late.
pub(super) fn ended(web: &Web, next: &str, sent: bool) -> Response {
    let text = if sent {
        "Your session had ended before the form arrived, and nothing was changed. Sign in and send it again."
    } else {
        "Your session has ended. Sign in to continue."
    };
    form(web, StatusCode::UNAUTHORIZED, next, Some(Banner { kind: "warn", text }), None)
}

fn form(web: &Web, status: StatusCode, next: &str, notice: Option<Banner>, error: Option<String>) -> Response {
    // The nonce of the form is bound to this cookie, so that only the same browser can send the form.
    let visit = random::base62(22);
    let nonce = web.nonces.make(&Digest::of_key(visit.as_bytes()), "sign-in");
    let view = SignInView { assets: &ASSETS, nonce, next: next_page(next).to_owned(), notice, error, autofocus: true };
    let cookies = AppendHeaders([(SET_COOKIE, set_cookie(web.secure, false, &visit))]);
    (cookies, render(status, &view)).into_response()
}

fn set_cookie(secure: bool, session: bool, value: &str) -> String {
    let name = cookie_name(secure, session);
    let secure = if secure { "; Secure" } else { "" };
    let ends = if value.is_empty() { "; Max-Age=0" } else { "" };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{ends}")
}

pub(super) async fn show(State(web): State<Arc<Web>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let fields = FormFields::of_query(query.as_deref());
    let next = next_page(fields.text("next"));
    if User::find(&web, &headers).is_some() {
        return (StatusCode::SEE_OTHER, [(LOCATION, next.to_owned())]).into_response();
    }
    let banner = fields.has("out").then_some(Banner { kind: "good", text: "You have signed out." });
    form(&web, StatusCode::OK, next, banner, None)
}

pub(super) async fn sign_in(State(web): State<Arc<Web>>, request: Request) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    if is_foreign(&parts.headers, web.service().settings.public_url.as_ref()) {
        return Err(Failure::Forged);
    }
    let fields = FormFields::read_of_stranger(&parts.headers, body).await?;
    // The script fills in the address as the browser shows it, which may be below a path.
    let base = web.service().settings.public_url.as_ref().map_or("", |url| &url.base);
    let next = fields.text("next");
    let next = next_page(next.strip_prefix(base).unwrap_or(next)).to_owned();
    let visit = cookie(&parts.headers, cookie_name(web.secure, false)).unwrap_or_default();
    let owner = Digest::of_key(visit.as_bytes());
    let too_old = |web: &Web| {
        let text = "This page had been open for too long, or the browser does not accept cookies. Try again.";
        form(web, StatusCode::FORBIDDEN, &next, Some(Banner { kind: "bad", text }), None)
    };
    let Some(salt) = web.nonces.check(&owner, "sign-in", fields.text("nonce")) else { return Ok(too_old(&web)) };
    let token = fields.text("token").trim();
    let principal = web.service().tokens.authenticate(token);
    let (status, error) = match principal {
        Some(principal) if principal.role == Role::Admin => {
            if !web.nonces.use_up_sign_in(salt) {
                return Ok(too_old(&web));
            }
            // The session that this browser had before ends.
            if let Some(user) = User::find(&web, &parts.headers) {
                web.sessions.end(&user.session.id);
            }
            Trust::give_to(&parts.extensions);
            tracing::info!(token = principal.name, "signed in");
            let secret = web.sessions.begin(principal);
            let cookies =
                [(SET_COOKIE, set_cookie(web.secure, true, &secret)), (SET_COOKIE, set_cookie(web.secure, false, ""))];
            return Ok((StatusCode::SEE_OTHER, AppendHeaders(cookies), [(LOCATION, next)]).into_response());
        }
        Some(_) => (
            StatusCode::FORBIDDEN,
            "This is an edge token, which is for filters. Sign in with a token that has the role admin.".to_owned(),
        ),
        None if token.is_empty() => (StatusCode::UNPROCESSABLE_ENTITY, "Enter an admin token.".to_owned()),
        None => {
            let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
            web.app.slowdown.log(|| tracing::warn!(?peer, "a sign-in was refused: the token is not valid"));
            if web.app.slowdown.wrong(peer).await.is_err() {
                let text = "Too many wrong tokens came from your address. Wait a minute and try again.";
                (StatusCode::TOO_MANY_REQUESTS, text.to_owned())
            } else {
                let text = "This token is not valid. It may be mistyped, revoked or expired.";
                (StatusCode::UNPROCESSABLE_ENTITY, text.to_owned())
            }
        }
    };
    Ok(form(&web, status, &next, None, Some(error)))
}

pub(super) async fn sign_out(submission: Submission) -> Result<Response, Failure> {
    submission.check("sign-out")?;
    let web = &submission.user.web;
    web.sessions.end(&submission.user.session.id);
    tracing::info!(token = submission.user.actor(), "signed out");
    let headers = [
        (SET_COOKIE, set_cookie(web.secure, true, "")),
        // The back button must not bring back a view of this session.
        (HeaderName::from_static("clear-site-data"), "\"cache\"".to_owned()),
        (LOCATION, "/sign-in?out".to_owned()),
    ];
    Ok((StatusCode::SEE_OTHER, AppendHeaders(headers)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_signing_in_one_stays_on_this_site() {
        for ours in ["/settings/keys", "/settings/keys/new?name=CI+Bot", "/settings/explain?key=key_1"] {
            assert_eq!(next_page(ours), ours);
        }
        for theirs in ["", "//evil.example", "https://evil.example", "/settings/\\evil", "/settings/\r\nx: y", "/other"]
        {
            assert_eq!(next_page(theirs), HOME, "{theirs}");
        }
    }
}
