//! Everything below a path: the page and the API behind a proxy that serves them at `https://ops.example/keyward/`.
//!
//! The proxy may take the path away or leave it. Views are written as if they were at the root. Each answer goes through
//! here, so that no view can forget the path.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;

/// Where paths stand in markup. Text that somebody chose cannot hold them: its quotation marks are escaped.
const PLACES: [&str; 5] = ["href=\"/", "src=\"/", "action=\"/", "formaction=\"/", "data-src=\"/"];

/// Puts a router below a path, which has no slash at its end. An empty path changes nothing.
pub fn below(base: &str, router: Router) -> Router {
    if base.is_empty() {
        return router;
    }
    let home = format!("{base}/");
    let to = home.clone();
    let path = base.to_owned();
    Router::new()
        .nest(base, router.clone())
        .route(&home, get(|| async move { Redirect::to(&format!("{to}settings/keys")) }))
        .merge(router)
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            let base = path.clone();
            async move { put_below(&base, next.run(request).await).await }
        }))
}

async fn put_below(base: &str, mut response: Response) -> Response {
    for name in [LOCATION, HeaderName::from_static("refresh")] {
        let Some(text) = response.headers().get(&name).and_then(|value| value.to_str().ok()) else { continue };
        let moved = match text.split_once("url=") {
            Some((before, path)) => format!("{before}url={}", absolute(base, path)),
            None => absolute(base, text),
        };
        if let Ok(value) = HeaderValue::from_str(&moved) {
            response.headers_mut().insert(name, value);
        }
    }
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("text/html") {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // A view is text that this process has rendered: it is whole in memory already.
    let Ok(bytes) = to_bytes(body, usize::MAX).await else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    for place in PLACES {
        // `data-src` ends like `src`: an attribute's name begins after white space.
        let (from, to) = (format!(" {place}"), format!(" {}{base}/", place.trim_end_matches('/')));
        text = text.replace(&from, &to);
    }
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(text))
}

fn absolute(base: &str, path: &str) -> String {
    let is_below = path.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'));
    if path.starts_with('/') && !is_below { format!("{base}{path}") } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::Html;
    use tower::ServiceExt as _;

    async fn ask(router: &Router, path: &str) -> (StatusCode, String, String) {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let location = response.headers().get(LOCATION).map(|to| to.to_str().unwrap().to_owned()).unwrap_or_default();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, location, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn links_lead_below_the_path_whether_the_proxy_keeps_it_or_not() {
        let view = "<a href=\"/settings/keys\">href=&quot;/x</a> <form action=\"/a\" data-src=\"/b\"></form>";
        let inner = Router::new()
            .route("/", get(|| async { Redirect::to("/settings/keys") }))
            .route("/settings/keys", get(move || async move { Html(view) }))
            .route("/plain", get(|| async { "href=\"/x\"" }));
        let router = below("/ops/keyward", inner.clone());
        let moved = "<a href=\"/ops/keyward/settings/keys\">href=&quot;/x</a> \
                     <form action=\"/ops/keyward/a\" data-src=\"/ops/keyward/b\"></form>";
        for path in ["/settings/keys", "/ops/keyward/settings/keys"] {
            assert_eq!(ask(&router, path).await.2, moved, "{path}");
        }
        for path in ["/", "/ops/keyward", "/ops/keyward/"] {
            let (status, location, _) = ask(&router, path).await;
            assert!(status.is_redirection() && location == "/ops/keyward/settings/keys", "{path}: {status} {location}");
        }
        assert_eq!(ask(&router, "/plain").await.2, "href=\"/x\"");
        assert_eq!(ask(&router, "/ops/keywardx/plain").await.0, StatusCode::NOT_FOUND);
        assert_eq!(ask(&below("", inner), "/settings/keys").await.2, view);
    }
}
