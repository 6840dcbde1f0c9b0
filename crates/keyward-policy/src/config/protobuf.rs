//! `google.protobuf.Struct`, as Envoy serializes it for a plugin.
//!
//! Envoy hands a plugin the protobuf bytes and not JSON (measured on 1.40). The messages are
//! `google/protobuf/struct.proto`'s, with the map written as the entries that it is on the wire.

use super::json::Json;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Struct {
    #[prost(message, repeated, tag = "1")]
    fields: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(int32, tag = "1")]
    Null(i32),
    #[prost(double, tag = "2")]
    Number(f64),
    #[prost(string, tag = "3")]
    String(String),
    #[prost(bool, tag = "4")]
    Bool(bool),
    #[prost(message, tag = "5")]
    Struct(Struct),
    #[prost(message, tag = "6")]
    List(List),
}

#[derive(Clone, PartialEq, Message)]
struct List {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

/// Reads a serialized Struct. Returns `None` if the bytes are not one.
pub(crate) fn parse(bytes: &[u8]) -> Option<Json> {
    Struct::decode(bytes).ok().map(Json::from)
}

impl From<Struct> for Json {
    fn from(message: Struct) -> Self {
        Json::Object(
            message.fields.into_iter().map(|entry| (entry.key, entry.value.map_or(Json::Null, Json::from))).collect(),
        )
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        match value.kind {
            None | Some(Kind::Null(_)) => Json::Null,
            Some(Kind::Number(_)) => Json::Number,
            Some(Kind::String(text)) => Json::String(text),
            Some(Kind::Bool(value)) => Json::Bool(value),
            Some(Kind::Struct(message)) => message.into(),
            Some(Kind::List(list)) => Json::Array(list.values.into_iter().map(Json::from).collect()),
        }
    }
}

/// Writes JSON as a serialized Struct, for tests that compare the two encodings.
#[cfg(test)]
pub(crate) fn encode(json: &Json) -> Vec<u8> {
    fn value(json: &Json) -> Value {
        let kind = match json {
            Json::Null => Kind::Null(0),
            Json::Number => Kind::Number(1.0),
            Json::String(text) => Kind::String(text.clone()),
            Json::Bool(value) => Kind::Bool(*value),
            Json::Object(_) => Kind::Struct(message(json)),
            Json::Array(items) => Kind::List(List { values: items.iter().map(value).collect() }),
        };
        Value { kind: Some(kind) }
    }
    fn message(json: &Json) -> Struct {
        let Json::Object(fields) = json else { panic!("not an object") };
        Struct {
            fields: fields.iter().map(|(key, json)| Entry { key: key.clone(), value: Some(value(json)) }).collect(),
        }
    }
    message(json).encode_to_vec()
}
