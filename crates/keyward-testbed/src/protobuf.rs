//! The protobuf messages that Envoy hands to a filter: `google.protobuf.Struct`, and the metadata of a route.

pub use prost::Message;

use serde_json::Value;
use std::collections::BTreeMap;

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, Message)]
pub struct Struct {
    /// The fields by their names.
    #[prost(btree_map = "string, message", tag = "1")]
    pub fields: BTreeMap<String, StructValue>,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
pub struct StructValue {
    /// The value. `None` is not well-formed.
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    pub kind: Option<Kind>,
}

/// The kinds of values.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Kind {
    /// `NullValue`, whose only number is 0.
    #[prost(int32, tag = "1")]
    Null(i32),
    /// A number.
    #[prost(double, tag = "2")]
    Number(f64),
    /// A string.
    #[prost(string, tag = "3")]
    String(String),
    /// True or false.
    #[prost(bool, tag = "4")]
    Bool(bool),
    /// An object.
    #[prost(message, tag = "5")]
    Struct(Struct),
    /// A list.
    #[prost(message, tag = "6")]
    List(ListValue),
}

/// `google.protobuf.ListValue`.
#[derive(Clone, PartialEq, Message)]
pub struct ListValue {
    /// The items in their order.
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<StructValue>,
}

/// `envoy.config.core.v3.Metadata`.
#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(btree_map = "string, message", tag = "1")]
    filter_metadata: BTreeMap<String, Struct>,
}

/// An object as a `Struct`.
///
/// # Panics
/// Panics when `value` is no object.
pub fn to_struct(value: &Value) -> Struct {
    let fields = value.as_object().unwrap_or_else(|| panic!("{value} is no object"));
    Struct { fields: fields.iter().map(|(name, value)| (name.clone(), to_value(value))).collect() }
}

fn to_value(value: &Value) -> StructValue {
    let kind = match value {
        Value::Null => Kind::Null(0),
        Value::Bool(value) => Kind::Bool(*value),
        Value::Number(number) => Kind::Number(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::String(text.clone()),
        Value::Array(items) => Kind::List(ListValue { values: items.iter().map(to_value).collect() }),
        Value::Object(_) => Kind::Struct(to_struct(value)),
    };
    StructValue { kind: Some(kind) }
}

/// The metadata of a route whose namespace `keyward` has these fields, as Envoy serializes it for the filter.
///
/// # Panics
/// Panics when `fields` is no object.
pub fn encode_route_metadata(fields: &Value) -> Vec<u8> {
    Metadata { filter_metadata: [("keyward".to_owned(), to_struct(fields))].into() }.encode_to_vec()
}
