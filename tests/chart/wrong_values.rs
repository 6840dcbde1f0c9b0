//! Values that are wrong: whatever is set to a wrong type or to a value that the chart cannot use, or has a name that it does
//! not know, makes Helm fail with the value's name.

use crate::render::{chart, read, template};
use keyward_testbed::workspace;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The values that may hold anything. Helm gives `global` to charts that belong together, and no template reads it. Drivers
/// define what a volume is.
const FREE: &[&str] = &["/global", "/extraVolumes/0/example"];

/// A place in the values, as the schema describes it.
#[derive(Debug)]
struct Place {
    /// The JSON pointer of the value. The first item stands for all items of a list, and the name `example` for all names
    /// that people give themselves.
    pointer: String,
    /// The types that it may have.
    types: BTreeSet<String>,
    /// Whether names that the schema does not list are refused below it.
    is_closed: bool,
}

/// Returns all places of the schema.
fn places() -> Vec<Place> {
    let text = std::fs::read_to_string(chart().join("values.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let mut places = Vec::new();
    walk(&schema, &schema, String::new(), &mut places);
    places
}

fn walk(root: &Value, schema: &Value, pointer: String, places: &mut Vec<Place>) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
        None => schema,
    };
    let types: BTreeSet<String> = match &schema["type"] {
        Value::String(name) => BTreeSet::from([name.clone()]),
        Value::Array(names) => names.iter().map(|name| name.as_str().unwrap().to_owned()).collect(),
        _ => panic!("{pointer}: the schema says no type"),
    };
    if types.contains("object") && !FREE.contains(&pointer.as_str()) {
        let (named, others) = (&schema["properties"], &schema["additionalProperties"]);
        assert!(others == false || others.is_object(), "{pointer}: the schema takes any name below it");
        for (name, schema) in named.as_object().into_iter().flatten() {
            walk(root, schema, format!("{pointer}/{name}"), places);
        }
        if others.is_object() {
            walk(root, others, format!("{pointer}/example"), places);
        }
    }
    if types.contains("array") {
        walk(root, &schema["items"], format!("{pointer}/0"), places);
    }
    places.push(Place { is_closed: schema["additionalProperties"] == false, pointer, types });
}

/// Puts a value into the values, and makes the objects and lists around it.
fn put(values: &mut Value, pointer: &str, value: Value) {
    let mut at = values;
    for name in pointer.split('/').skip(1) {
        at = if name == "0" {
            if !at.is_array() {
                *at = json!([null]);
            }
            &mut at[0]
        } else {
            if !at.is_object() {
                *at = json!({});
            }
            &mut at[name]
        };
    }
    *at = value;
}

/// Returns a value of each type, by the type's name in messages.
fn examples() -> BTreeMap<&'static str, Value> {
    BTreeMap::from([
        ("boolean", json!(true)),
        ("number", json!(1.5)),
        ("string", json!("wrong")),
        ("array", json!(["wrong"])),
        ("object", json!({"wrong": "wrong"})),
    ])
}

/// Returns what Helm says against values that it must refuse although the rest is right.
fn refuse(values: &Value) -> String {
    refuse_over(&[&chart().join("ci/sqlite-values.yaml")], values)
}

/// Returns what Helm says against values that it must refuse.
fn refuse_over(basis: &[&Path], values: &Value) -> String {
    let folder = workspace::scratch("values");
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, values.to_string()).unwrap();
    template(&chart(), &[basis, &[&file]].concat()).expect_err(&format!("Helm takes {values}"))
}

/// Values of right types that are out of range, or do not fit together, each with the name that the message must hold.
#[test]
fn a_value_that_the_chart_cannot_use_is_named() {
    let sqlite = |values: Value| {
        let mut all = json!({"database": {"type": "sqlite"}, "replicas": 1});
        all.as_object_mut().unwrap().extend(values.as_object().unwrap().clone());
        all
    };
    for (values, named) in [
        (json!({}), "database.postgres.existingSecret"),
        (json!({"database": {"postgres": {"existingSecret": "db"}}}), "tokens.existingSecret"),
        (json!({"database": {"type": "sqlite"}}), "replicas"),
        (sqlite(json!({"replicas": 0})), "/replicas"),
        (sqlite(json!({"database": {"type": "mysql"}})), "/database/type"),
        (sqlite(json!({"service": {"port": 70000}})), "/service/port"),
        (sqlite(json!({"settings": {"purgeAfter": "soon"}})), "/settings/purgeAfter"),
        (sqlite(json!({"settings": {"logLevel": "loud"}})), "/settings/logLevel"),
        (sqlite(json!({"image": {"digest": "abc"}})), "/image/digest"),
        (sqlite(json!({"ingress": {"enabled": true}})), "ingress.host"),
        (sqlite(json!({"tls": {"certificate": {"create": true}}})), "tls.certificate.issuerRef.name"),
        (sqlite(json!({"tls": {"clientCaSecret": "ca"}})), "tls.clientCaSecret"),
        (sqlite(json!({"terminationGracePeriodSeconds": 5})), "terminationGracePeriodSeconds"),
    ] {
        let message = refuse_over(&[], &values);
        assert!(message.contains(named), "{values} is refused without {named}: {message}");
    }
}

/// Helm lists all mistakes of the values, so one call tries all places at one depth: below a wrong value there is no other.
#[test]
fn a_value_of_a_wrong_type_is_named() {
    let places = places();
    assert!(places.len() > 200, "only {} places", places.len());
    let depths: BTreeSet<usize> = places.iter().map(|place| place.pointer.matches('/').count()).collect();
    let mut wrong = Vec::new();
    for (kind, example) in examples() {
        for depth in depths.iter().filter(|depth| **depth > 0) {
            let at_depth = places.iter().filter(|place| place.pointer.matches('/').count() == *depth);
            let tried: Vec<&Place> = at_depth.filter(|place| !place.types.contains(kind)).collect();
            let mut values = json!({});
            for place in &tried {
                put(&mut values, &place.pointer, example.clone());
            }
            if tried.is_empty() {
                continue;
            }
            let message = refuse(&values);
            let is_named = |place: &&Place| message.contains(&format!("at '{}': got {kind}, want", place.pointer));
            wrong.extend(
                tried.iter().filter(|place| !is_named(place)).map(|place| format!("{} as {kind}", place.pointer)),
            );
        }
    }
    assert!(wrong.is_empty(), "Helm takes these, or refuses them without their names:\n{}", wrong.join("\n"));
}

/// Alone, too: no mistake is found only because another one is there.
#[test]
fn one_value_of_a_wrong_type_is_enough() {
    for place in places().iter().filter(|place| place.pointer.matches('/').count() == 1) {
        let (kind, example) = examples().into_iter().find(|(kind, _)| !place.types.contains(*kind)).unwrap();
        let mut values = json!({});
        put(&mut values, &place.pointer, example);
        let message = refuse(&values);
        assert!(message.contains(&format!("at '{}': got {kind}, want", place.pointer)), "{}: {message}", place.pointer);
    }
}

#[test]
fn a_name_that_the_chart_does_not_know_is_named() {
    let (mut values, mut tried) = (json!({}), Vec::new());
    for place in places().into_iter().filter(|place| place.is_closed) {
        put(&mut values, &format!("{}/mistyped", place.pointer), json!(1));
        tried.push(place.pointer);
    }
    assert!(tried.len() > 40, "only {tried:?}");
    let message = refuse(&values);
    let is_named =
        |pointer: &&String| message.contains(&format!("at '{pointer}': additional properties 'mistyped' not allowed"));
    let missing: Vec<&String> = tried.iter().filter(|pointer| !is_named(pointer)).collect();
    assert!(missing.is_empty(), "unknown names pass below {missing:?}:\n{message}");
}

/// `null` removes a default. Helm then has no value to check, and the template would write nothing in its place.
#[test]
fn a_default_that_is_removed_is_named() {
    let (mut values, mut removed) = (json!({}), Vec::new());
    for (pointer, _) in defaults(&read("values.yaml"), String::new()) {
        if !IN_KUBERNETES.iter().any(|part| pointer.starts_with(part)) {
            put(&mut values, &pointer, Value::Null);
            removed.push(pointer);
        }
    }
    let message = refuse(&values);
    let missing: Vec<&String> = removed
        .iter()
        .filter(|pointer| {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let mut lines = message.lines().filter(|line| line.contains(&format!("at '{parent}': missing propert")));
            !lines.any(|line| line.contains(&format!("'{name}'")))
        })
        .collect();
    assert!(missing.is_empty(), "these can be removed: {missing:?}\n{message}");
}

/// Parts of a pod's description, of which any field may be left to Kubernetes.
const IN_KUBERNETES: &[&str] =
    &["/resources/", "/podSecurityContext/", "/securityContext/", "/monitoring/dashboard/labels/"];

/// The values that are listed and those that are described are the same.
#[test]
fn the_schema_describes_every_value() {
    let described: BTreeSet<String> = places().into_iter().map(|place| place.pointer).collect();
    for (pointer, _) in defaults(&read("values.yaml"), String::new()) {
        let labels = "/monitoring/dashboard/labels/";
        if !pointer.starts_with(labels) && !pointer.starts_with("/resources/") {
            assert!(described.contains(&pointer), "{pointer} is not in the schema");
        }
    }
    let values = read("values.yaml");
    for name in described.iter().filter(|pointer| pointer.matches('/').count() == 1) {
        assert!(values.pointer(name).is_some() || FREE.contains(&name.as_str()), "{name} is not in values.yaml");
    }
}

/// Returns the defaults that are no objects or lists, with their pointers.
fn defaults(value: &Value, pointer: String) -> Vec<(String, Value)> {
    let below = |fields: &Map<String, Value>| {
        fields.iter().flat_map(|(name, value)| defaults(value, format!("{pointer}/{name}"))).collect()
    };
    match value {
        Value::Object(fields) => below(fields),
        Value::Array(_) => Vec::new(),
        value => vec![(pointer, value.clone())],
    }
}
