//! Reads the fields of forms and queries, with limits.

use super::failure::Failure;
use crate::app::body::{self, BodyError, MAX_STRANGERS_BODY_BYTES, Sender};
use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;

/// Longest body of a form. The form of Explain holds a whole configuration.
const MAX_BODY_BYTES: usize = 1 << 20;

/// The fields of a form or a query, in their order.
#[derive(Debug, Clone, Default)]
pub(super) struct FormFields(Vec<(String, String)>);

impl FormFields {
    /// Reads a query.
    pub fn of_query(query: Option<&str>) -> Self {
        Self(form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// Reads the body of a form that a signed-in user sends.
    ///
    /// # Errors
    /// Returns an error if the body is not a form, is too long, or arrives too slowly.
    pub async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Failure> {
        Self::read_from(headers, body, MAX_BODY_BYTES, Sender::Trusted).await
    }

    /// Reads the body of a form that anybody may send, which is short.
    ///
    /// # Errors
    /// Returns an error if the body is not a form, is too long, or arrives too slowly.
    pub async fn read_of_stranger(headers: &HeaderMap, body: Body) -> Result<Self, Failure> {
        Self::read_from(headers, body, MAX_STRANGERS_BODY_BYTES, Sender::Stranger).await
    }

    async fn read_from(headers: &HeaderMap, body: Body, limit: usize, sender: Sender) -> Result<Self, Failure> {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
            return Err(Failure::BadForm(
                "It was not sent as a form, and nothing was done. Open the page again and send its form.",
            ));
        }
        let read = body::read(body, limit, sender).await.map_err(|error| match error {
            BodyError::TooSlow => Failure::BadForm("It did not arrive in time, and nothing was done. Send it again."),
            BodyError::TooLarge | BodyError::Broken => Failure::BadForm(
                "It is too long, or was cut off on its way, and nothing was done. Make it shorter if it is long, and send \
                 it again.",
            ),
            BodyError::Busy => Failure::Unavailable,
        })?;
        Ok(Self(form_urlencoded::parse(read.bytes()).into_owned().collect()))
    }

    /// Returns the first field with this name. An absent field is an empty text.
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Returns whether there is a field with this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// Returns all fields with this name.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// Returns the fields that a person filled in, as a query that fills them in again.
    pub fn refill(&self) -> String {
        let filled = self.0.iter().filter(|(name, _)| ["name", "permissions", "expires_in"].contains(&name.as_str()));
        form_urlencoded::Serializer::new(String::new()).extend_pairs(filled).finish()
    }
}
