//! The body of a request that creates or updates a record: JSON, a form, or multipart data with files.

use crate::error;
use crate::store::{File, Upload};
use axum::body::Bytes;
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use serde_json::{Map, Value};

/// The fields and files of a request.
pub struct Input {
    pub fields: Map<String, Value>,
    pub uploads: Vec<Upload>,
}

impl<S: Send + Sync> FromRequest<S> for Input {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let content_type =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if content_type.starts_with("multipart/form-data") {
            let body = Multipart::from_request(request, state).await;
            return multipart(body.map_err(|error| error::bad_request(&error.body_text()))?).await;
        }
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|error| error::response(error.status(), &error.body_text()))?;
        let fields = if bytes.is_empty() { Ok(Map::new()) } else { serde_json::from_slice(&bytes) };
        let fields = fields.map_err(|error| error::bad_request(&format!("The body is no JSON object: {error}.")))?;
        Ok(Self { fields, uploads: Vec::new() })
    }
}

async fn multipart(mut body: Multipart) -> Result<Input, Response> {
    let mut input = Input { fields: Map::new(), uploads: Vec::new() };
    let bad = |error: axum::extract::multipart::MultipartError| error::bad_request(&error.body_text());
    while let Some(part) = body.next_field().await.map_err(bad)? {
        let field = part.name().unwrap_or_default().to_owned();
        let name = part.file_name().map(str::to_owned);
        let content_type = part.content_type().unwrap_or("application/octet-stream").to_owned();
        let bytes = part.bytes().await.map_err(bad)?;
        match name {
            Some(name) => input.uploads.push(Upload { field, name, file: File { content_type, bytes } }),
            None => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if field == "@jsonPayload" {
                    let fields: Map<String, Value> = serde_json::from_str(&text)
                        .map_err(|error| error::bad_request(&format!("@jsonPayload is no JSON object: {error}.")))?;
                    input.fields.extend(fields);
                } else {
                    input.fields.insert(field, Value::String(text));
                }
            }
        }
    }
    Ok(input)
}
