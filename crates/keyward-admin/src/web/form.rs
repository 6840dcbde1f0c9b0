//! Forms as they are sent: read with limits, fields in their order.

use super::failure::Failure;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, Limited};
use std::time::Duration;

/// Longest body of a form; Explain holds a whole configuration.
const LONGEST: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// The fields of a form or a query.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// From a query.
    pub fn of_query(query: Option<&str>) -> Self {
        Self(form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// From a request's body.
    ///
    /// # Errors
    /// For what is no form, too long or too slow.
    pub async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Failure> {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
            return Err(Failure::BadForm("It was not sent as a form."));
        }
        let read = tokio::time::timeout(PATIENCE, Limited::new(body, LONGEST).collect()).await;
        let bytes = read
            .map_err(|_| Failure::BadForm("It did not arrive in time."))?
            .map_err(|_| Failure::BadForm("It is too long, or was cut off on its way."))?
            .to_bytes();
        Ok(Self(form_urlencoded::parse(&bytes).into_owned().collect()))
    }

    /// The first field of that name; empty where there is none.
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Whether there is a field of that name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// All fields of that name.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// The fields that a person filled in, as a query that fills them in again.
    pub fn refill(&self) -> String {
        let filled = self.0.iter().filter(|(name, _)| ["name", "permissions", "expires_in"].contains(&name.as_str()));
        form_urlencoded::Serializer::new(String::new()).extend_pairs(filled).finish()
    }
}
