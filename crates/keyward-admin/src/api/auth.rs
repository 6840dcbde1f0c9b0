//! Authenticates the caller of an API request by its token.

use super::problem::Problem;
use crate::app::{App, Peer, Trust};
use crate::service::tokens::Principal;
use crate::store::tokens::Role;
use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use std::sync::Arc;

/// A caller with a token of the role `admin`.
pub struct Admin(pub Arc<Principal>);

/// A caller with a token of the role `edge`.
pub struct Edge(pub Arc<Principal>);

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        authenticate(parts, app, Role::Admin).await.map(Self)
    }
}

impl FromRequestParts<Arc<App>> for Edge {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        authenticate(parts, app, Role::Edge).await.map(Self)
    }
}

async fn authenticate(parts: &Parts, app: &App, role: Role) -> Result<Arc<Principal>, Problem> {
    let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
    let (Some(header), None) = (headers.next(), headers.next()) else {
        return Err(Problem::token_missing());
    };
    let token = header
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .and_then(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()));
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return Err(Problem::token_missing());
    };
    match app.service.tokens.authenticate(token) {
        Some(principal) if principal.role == role => {
            Trust::give_to(&parts.extensions);
            Ok(principal)
        }
        Some(_) => Err(Problem::role_forbidden(role.as_str())),
        None => {
            let peer = parts.extensions.get::<Peer>().map(|peer| peer.0);
            // The route is logged and not the path, which may hold a key by mistake.
            let route = parts.extensions.get::<MatchedPath>().map_or("other", MatchedPath::as_str);
            app.slowdown.log(|| tracing::warn!(?peer, route, "a request carried a token that is not valid"));
            // Only wrong tokens are delayed: a valid one from the same address is answered at once.
            app.slowdown.wrong(peer).await.map_err(|_| Problem::slow_down())?;
            Err(Problem::token_invalid())
        }
    }
}
