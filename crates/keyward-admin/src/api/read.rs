//! Reads bodies and queries strictly: every mistake is reported at once, and unknown or repeated names are mistakes.

use super::problem::Problem;
use crate::app::body::{self, BodyError, ReadBody, Sender};
use crate::service::FieldError;
use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequestParts, Path};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use keyward_policy::duration;
use keyward_policy::timeline::Mark;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Reads a JSON object from a body of at most `limit` bytes.
///
/// # Errors
/// 400, 408, 413, 415, or 422 if the body is not an object or holds a field twice.
pub async fn json_object(headers: &HeaderMap, body: Body, limit: usize) -> Result<JsonFields, Problem> {
    object(read_json(headers, body, limit).await?.bytes())
}

/// Reads a body of at most `limit` bytes that is declared as JSON.
///
/// # Errors
/// 400, 408, 413, 415, 503.
pub async fn read_json(headers: &HeaderMap, body: Body, limit: usize) -> Result<ReadBody, Problem> {
    let kinds: Vec<_> = headers.get_all(CONTENT_TYPE).iter().collect();
    let is_json = |kind: &str| {
        let essence = kind.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    };
    if kinds.len() != 1 || !kinds.iter().all(|kind| kind.to_str().is_ok_and(is_json)) {
        return Err(Problem::not_json());
    }
    read(body, limit).await
}

/// Reads the fields of an object in which none is given twice.
fn object(bytes: &[u8]) -> Result<JsonFields, Problem> {
    // serde_json's own message may quote the body, which can hold a secret: only the place is reported.
    let malformed = |error: serde_json::Error| format!("line {}, column {}", error.line(), error.column());
    let (value, errors) = strict_value(bytes).map_err(|error| Problem::malformed_json(malformed(error)))?;
    match value {
        _ if !errors.is_empty() => Err(Problem::invalid(errors)),
        Value::Object(fields) => Ok(JsonFields { fields, errors: Vec::new() }),
        _ => Err(Problem::invalid(vec![FieldError::new("", "the body must be a JSON object")])),
    }
}

/// Reads a JSON value, and the fields that an object in it holds twice.
///
/// # Errors
/// Returns an error when it is not JSON.
pub fn strict_value(bytes: &[u8]) -> serde_json::Result<(Value, Vec<FieldError>)> {
    let twice = RefCell::new(Vec::new());
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { path: String::new(), twice: &twice }.deserialize(&mut json)?;
    json.end()?;
    Ok((value, twice.into_inner()))
}

/// Reads the body of a call that takes no fields: an empty body or an empty object. A field would be a misunderstanding,
/// so it is an error instead of being ignored.
///
/// # Errors
/// Returns the errors of [`json_object`], and 422 if there is a field.
pub async fn no_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<(), Problem> {
    if body.is_end_stream() {
        return Ok(());
    }
    // Without a word about its kind an empty body is as good as none.
    let read = read(body, limit).await?;
    if read.bytes().is_empty() {
        return Ok(());
    }
    let bytes = Body::from(read.bytes().to_vec());
    json_object(headers, bytes, limit).await?.finish()
}

/// Reads a body. The caller has shown a token: handlers authenticate before they read.
async fn read(body: Body, limit: usize) -> Result<ReadBody, Problem> {
    body::read(body, limit, Sender::Trusted).await.map_err(|error| match error {
        BodyError::TooLarge => Problem::body_too_large(limit),
        BodyError::TooSlow => Problem::body_timeout(),
        BodyError::Broken => Problem::malformed_json("the body ended early"),
        BodyError::Busy => Problem::busy("too many bodies are being read; try again later"),
    })
}

/// The id of a key in the path. An id that is not UTF-8 becomes the empty text, which names no key: refusing it here,
/// before the body is read, would cost the client its connection.
pub struct KeyId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for KeyId {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let id = Path::<String>::from_request_parts(parts, state).await;
        Ok(Self(id.map(|Path(id)| id).unwrap_or_default()))
    }
}

/// Shortens a name that the client chose for use in a message: it may be very long, or a secret in the wrong place.
fn shown(name: &str) -> String {
    const MAX_CHARACTERS: usize = 32;
    if name.chars().count() <= MAX_CHARACTERS {
        return name.to_owned();
    }
    let start: String = name.chars().take(8).collect();
    format!("{start}…")
}

/// The fields of a JSON object. Fields are taken one by one, and mistakes are collected.
#[derive(Debug)]
pub struct JsonFields {
    fields: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl JsonFields {
    /// Returns the fields of an object.
    pub fn of(fields: Map<String, Value>) -> Self {
        Self { fields, errors: Vec::new() }
    }

    /// Takes a field without checking it. `None` means that it is absent.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name)
    }

    /// Notes a mistake in a field.
    pub fn wrong(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.errors.push(FieldError::new(field, message));
    }

    /// Returns whether a mistake in this field was noted.
    pub fn is_wrong(&self, name: &str) -> bool {
        self.errors.iter().any(|error| error.field == name)
    }

    /// Takes a required text. If it is missing, that is noted and the text is empty.
    pub fn text(&mut self, name: &str) -> String {
        let text = self.optional_text(name);
        if text.is_none() && !self.is_wrong(name) {
            self.wrong(name, "is missing");
        }
        text.unwrap_or_default()
    }

    /// Takes an optional text.
    pub fn optional_text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            other => {
                self.wrong(name, format!("must be a text, not {}", kind(&other)));
                None
            }
        }
    }

    /// Takes an optional list of texts.
    pub fn optional_texts(&mut self, name: &str) -> Option<Vec<String>> {
        let items = match self.take(name)? {
            Value::Array(items) => items,
            other => {
                self.wrong(name, format!("must be a list of texts, not {}", kind(&other)));
                return None;
            }
        };
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Value::String(text) => texts.push(text),
                other => self.wrong(format!("{name}[{index}]"), format!("must be a text, not {}", kind(&other))),
            }
        }
        Some(texts)
    }

    /// Takes an optional boolean.
    pub fn optional_flag(&mut self, name: &str) -> Option<bool> {
        match self.take(name)? {
            Value::Bool(flag) => Some(flag),
            other => {
                self.wrong(name, format!("must be true or false, not {}", kind(&other)));
                None
            }
        }
    }

    /// Takes a required whole number up to `max`. If it is missing or wrong, that is noted and the number is zero.
    pub fn number(&mut self, name: &str, max: u64) -> u64 {
        let value = self.take(name);
        match value.as_ref().map(whole) {
            Some(Some(number)) if number <= max => return number,
            Some(_) => self.wrong(name, format!("must be a whole number from 0 to {max}")),
            None => self.wrong(name, "is missing"),
        }
        0
    }

    /// Returns all mistakes. Fields that were not taken are unknown, and count as mistakes.
    pub fn errors(mut self) -> Vec<FieldError> {
        for name in self.fields.keys() {
            self.errors.push(FieldError::new(shown(name), "is not a field of this call"));
        }
        self.errors
    }

    /// Succeeds if there was no mistake.
    ///
    /// # Errors
    /// Returns 422 with all mistakes.
    pub fn finish(self) -> Result<(), Problem> {
        let errors = self.errors();
        if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
    }
}

/// Reads a whole number of zero or more. In JSON `5` and `5.0` are the same number.
pub fn whole(value: &Value) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let from_fraction = |number: f64| {
        // In this range every whole number has exactly one f64.
        (number.fract() == 0.0 && (0.0..=EXACT).contains(&number)).then_some(number as u64)
    };
    value.as_u64().or_else(|| value.as_f64().and_then(from_fraction))
}

/// Names the type of a value, for messages.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The parameters of a query. Parameters are taken one by one, and mistakes are collected.
#[derive(Debug)]
pub struct Query {
    parameters: BTreeMap<String, String>,
    errors: Vec<FieldError>,
}

impl Query {
    /// Reads a query. A parameter that is given twice is a mistake.
    pub fn parse(query: Option<&str>) -> Self {
        let mut read = Self { parameters: BTreeMap::new(), errors: Vec::new() };
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if read.parameters.insert(name.to_string(), value.into_owned()).is_some() {
                read.wrong(&name, "is given twice");
            }
        }
        read
    }

    fn wrong(&mut self, name: &str, message: impl Into<String>) {
        self.errors.push(FieldError::new(shown(name), message));
    }

    /// Takes a text of at most `max` characters.
    pub fn text(&mut self, name: &str, max: usize) -> Option<String> {
        let text = self.parameters.remove(name)?;
        if text.chars().count() > max {
            self.wrong(name, format!("must not have more than {max} characters"));
            return None;
        }
        if text.chars().any(char::is_control) {
            self.wrong(name, "must not hold control characters");
            return None;
        }
        Some(text)
    }

    /// Takes a whole number from `min` to `max`.
    pub fn number(&mut self, name: &str, min: u64, max: u64) -> Option<u64> {
        let text = self.parameters.remove(name)?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(number) if digits && (min..=max).contains(&number) => Some(number),
            _ => {
                self.wrong(name, format!("must be a whole number from {min} to {max}"));
                None
            }
        }
    }

    /// Takes the mark of a revision.
    pub fn mark(&mut self, name: &str) -> Option<Mark> {
        let text = self.parameters.remove(name)?;
        match text.parse() {
            Ok(mark) => Some(mark),
            Err(error) => {
                self.wrong(name, error.to_string());
                None
            }
        }
    }

    /// Takes a duration of at most `max`.
    pub fn duration(&mut self, name: &str, max: Duration) -> Option<Duration> {
        let text = self.parameters.remove(name)?;
        match duration::parse(&text) {
            Ok(duration) if duration <= max => Some(duration),
            _ => {
                self.wrong(name, format!("must be a duration like `500ms` or `2s`, up to {}", duration::format(max)));
                None
            }
        }
    }

    /// Takes a flag, `true` or `false`.
    pub fn flag(&mut self, name: &str) -> Option<bool> {
        self.parsed(name, "must be `true` or `false`")
    }

    /// Takes a parameter that is read from its text. `must` is what is said of one that cannot be read.
    pub fn parsed<T: FromStr>(&mut self, name: &str, must: &str) -> Option<T> {
        let text = self.parameters.remove(name)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.wrong(name, must);
        }
        value
    }

    /// Takes a cursor, as `next_cursor` of an earlier response held it.
    pub fn cursor(&mut self, name: &str) -> Option<i64> {
        let text = self.parameters.remove(name)?;
        let cursor = parse_cursor(&text);
        if cursor.is_none() {
            self.wrong(name, "must be the `next_cursor` of an earlier response");
        }
        cursor
    }

    /// Succeeds if there was no mistake. Parameters that were not taken are unknown, and count as mistakes.
    ///
    /// # Errors
    /// Returns 422 with all mistakes.
    pub fn finish(mut self) -> Result<(), Problem> {
        for name in std::mem::take(&mut self.parameters).into_keys() {
            self.wrong(&name, "is not a parameter of this call");
        }
        self.finish_open()
    }

    /// Like [`Query::finish`], but ignores unknown parameters, which a newer filter may send.
    ///
    /// # Errors
    /// Returns 422 with all mistakes.
    pub fn finish_open(self) -> Result<(), Problem> {
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }
}

/// Formats a position in a list as a cursor.
pub fn format_cursor(place: i64) -> String {
    format!("c{place:x}")
}

fn parse_cursor(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('c')?;
    let place = i64::from_str_radix(digits, 16).ok()?;
    (format_cursor(place) == text && place > 0).then_some(place)
}

/// Deserializes any JSON value and collects the paths of fields that an object holds twice.
struct Strict<'a> {
    path: String,
    twice: &'a RefCell<Vec<FieldError>>,
}

impl Strict<'_> {
    fn inner(&self, path: String) -> Strict<'_> {
        Strict { path, twice: self.twice }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner(format!("{}[{}]", self.path, list.len())))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let dot = if self.path.is_empty() { "" } else { "." };
            let path = format!("{}{dot}{}", self.path, shown(&name));
            let value = entries.next_value_seed(self.inner(path.clone()))?;
            if object.insert(name, value).is_some() {
                let mut twice = self.twice.borrow_mut();
                if twice.len() >= 100 {
                    return Err(A::Error::custom("too many fields are given twice"));
                }
                twice.push(FieldError::new(path.chars().take(128).collect::<String>(), "is given twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn fields_that_stand_there_twice_are_found_at_any_depth() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "Application/JSON; charset=utf-8".parse().unwrap());
        let body = r#"{"a":1,"keys":[{"id":"x"},{"id":"y","id":"z"}],"a":2}"#;
        let problem = json_object(&headers, Body::from(body), 1000).await.unwrap_err();
        let text = serde_json::to_string(&problem).unwrap();
        assert!(text.contains(r#""field":"keys[1].id""#) && text.contains(r#""field":"a""#), "{text}");
        assert_eq!(json_object(&headers, Body::from("{}"), 1).await.unwrap_err().code(), "body_too_large");
        assert_eq!(json_object(&headers, Body::from("{} x"), 9).await.unwrap_err().code(), "malformed_json");
        assert_eq!(
            json_object(&HeaderMap::new(), Body::from("{}"), 9).await.unwrap_err().code(),
            "unsupported_media_type"
        );
    }

    #[test]
    fn a_query_tells_all_that_is_wrong() {
        let mut query = Query::parse(Some("limit=0&limit=5&wait=2&odd=1"));
        assert_eq!(query.number("limit", 1, 3), None);
        assert_eq!(query.duration("wait", Duration::from_secs(9)), None);
        let text = serde_json::to_string(&query.finish().unwrap_err()).unwrap();
        for field in ["limit", "wait", "odd"] {
            assert!(text.contains(&format!(r#""field":"{field}""#)), "{text}");
        }
    }

    #[test]
    fn cursors_come_back() {
        for place in [1, 31, 1_000_000, i64::MAX] {
            assert_eq!(parse_cursor(&format_cursor(place)), Some(place));
        }
        for text in ["", "c", "c0", "5", "c-1", "c01", "cFF", "c8000000000000000"] {
            assert_eq!(parse_cursor(text), None, "{text}");
        }
    }
}
