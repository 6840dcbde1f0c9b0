//! What a route asks for in its metadata, under `filter_metadata.keyward`.

use super::json::Json;
use super::protobuf::Struct;
use super::rules::{ACCESS_WORDS, AccessWord, is_permission};
use crate::rule::Access;
use prost::Message;
use std::fmt;

/// The namespace of Keyward in `filter_metadata`.
pub const NAMESPACE: &str = "keyward";

/// `envoy.config.core.v3.Metadata`, as far as it is read.
#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(message, repeated, tag = "1")]
    filter_metadata: Vec<Namespace>,
}

#[derive(Clone, PartialEq, Message)]
struct Namespace {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    fields: Option<Struct>,
}

/// Reads the metadata of a route, as Envoy serializes it. `None` means that the route says nothing to Keyward.
///
/// # Errors
/// Returns [`InvalidRouteMetadata`] where the metadata has no single meaning. Then the route is denied.
pub fn parse(bytes: &[u8]) -> Result<Option<Access>, InvalidRouteMetadata> {
    let metadata = Metadata::decode(bytes).map_err(|_| InvalidRouteMetadata::NotMetadata)?;
    let mut ours = metadata.filter_metadata.into_iter().filter(|namespace| namespace.name == NAMESPACE);
    let Some(namespace) = ours.next() else { return Ok(None) };
    if ours.next().is_some() {
        return Err(InvalidRouteMetadata::NotMetadata);
    }
    let Json::Object(fields) = namespace.fields.unwrap_or_default().into() else {
        return Err(InvalidRouteMetadata::NotMetadata);
    };
    match &fields[..] {
        [] => Err(InvalidRouteMetadata::Empty),
        [(name, Json::String(value))] => parse_field(name, value).map(Some),
        [_] => Err(InvalidRouteMetadata::NotAString),
        _ => Err(InvalidRouteMetadata::TwoFields),
    }
}

/// Reads the one field of `filter_metadata.keyward`: `require` with permission names joined by commas, or `access`.
///
/// # Errors
/// Returns [`InvalidRouteMetadata`] for another field, and for a value without a meaning.
pub fn parse_field(name: &str, value: &str) -> Result<Access, InvalidRouteMetadata> {
    match name {
        "require" => {
            let names: Vec<Box<str>> = value.split(',').map(|name| name.trim().into()).collect();
            let all_valid = names.iter().all(|name| is_permission(name));
            if all_valid { Ok(Access::Require(names.into())) } else { Err(InvalidRouteMetadata::Empty) }
        }
        "access" => {
            let word = ACCESS_WORDS.iter().find(|(word, _)| *word == value).map(|(_, access)| *access);
            word.map(AccessWord::access).ok_or(InvalidRouteMetadata::UnknownAccess)
        }
        _ => Err(InvalidRouteMetadata::UnknownField),
    }
}

/// Why a route's metadata has no single meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidRouteMetadata {
    /// The bytes are not a `Metadata` message, or Keyward's namespace is given twice.
    NotMetadata,
    /// A field is neither `require` nor `access`.
    UnknownField,
    /// There is more than one field.
    TwoFields,
    /// The value is not a string.
    NotAString,
    /// There is no field, or a permission name is empty or impossible.
    Empty,
    /// `access` is not `public`, `authenticated` or `deny`.
    UnknownAccess,
}

impl fmt::Display for InvalidRouteMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotMetadata => "the route's metadata cannot be read",
            Self::UnknownField => "filter_metadata.keyward has an unknown field: use `require` or `access`",
            Self::TwoFields => "filter_metadata.keyward has more than one field: use `require` or `access`",
            Self::NotAString => "filter_metadata.keyward has a value that is not a string",
            Self::Empty => "filter_metadata.keyward has an empty value: write permission names, joined by commas",
            Self::UnknownAccess => "filter_metadata.keyward.access is not `public`, `authenticated` or `deny`",
        })
    }
}

impl std::error::Error for InvalidRouteMetadata {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{json, protobuf};

    fn metadata(namespaces: &[(&str, &str)]) -> Vec<u8> {
        let namespace = |(name, text): &(&str, &str)| Namespace {
            name: (*name).to_owned(),
            fields: Some(Struct::decode(&*protobuf::encode(&json::parse(text.as_bytes()).unwrap())).unwrap()),
        };
        Metadata { filter_metadata: namespaces.iter().map(namespace).collect() }.encode_to_vec()
    }

    #[track_caller]
    fn check(text: &str, expect: Result<Option<Access>, InvalidRouteMetadata>) {
        assert_eq!(parse(&metadata(&[("other", r#"{"require":"x"}"#), (NAMESPACE, text)])), expect, "{text}");
    }

    #[test]
    fn one_field_has_one_meaning() {
        let require = |names: &[&str]| Ok(Some(Access::Require(names.iter().map(|name| (*name).into()).collect())));
        check(r#"{"require":"records:read"}"#, require(&["records:read"]));
        check(r#"{"require":"a, b"}"#, require(&["a", "b"]));
        check(r#"{"access":"public"}"#, Ok(Some(Access::Public)));
        check(r#"{"access":"deny"}"#, Ok(Some(Access::Deny)));
    }

    #[test]
    fn silence_leaves_it_to_the_rules() {
        assert_eq!(parse(&metadata(&[])), Ok(None));
        assert_eq!(parse(&metadata(&[("other", r#"{"access":"public"}"#)])), Ok(None));
        assert_eq!(parse(b""), Ok(None));
    }

    #[test]
    fn whatever_else_is_invalid() {
        use InvalidRouteMetadata::*;
        check("{}", Err(Empty));
        check(r#"{"require":""}"#, Err(Empty));
        check(r#"{"require":"a,,b"}"#, Err(Empty));
        check(r#"{"require":["a"]}"#, Err(NotAString));
        check(r#"{"require":null}"#, Err(NotAString));
        check(r#"{"access":true}"#, Err(NotAString));
        check(r#"{"access":"Public"}"#, Err(UnknownAccess));
        check(r#"{"access":"public","require":"a"}"#, Err(TwoFields));
        check(r#"{"requires":"a"}"#, Err(UnknownField));
        assert_eq!(parse(b"\xff\xff"), Err(NotMetadata));
    }
}
