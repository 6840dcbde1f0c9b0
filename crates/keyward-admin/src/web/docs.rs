//! `/docs`: the description of the API as a view, made from the same document as `/openapi.json`.

use super::assets::{ASSETS, Assets};
use super::markup::{escaped, marked};
use askama::Template;
use serde_json::Value;

/// The longest pattern that is shown. Longer ones say less than the description beside them.
const MAX_PATTERN_BYTES: usize = 60;
/// How many values a type names.
const MAX_VALUES: usize = 12;
const METHODS: [&str; 4] = ["get", "post", "patch", "delete"];

#[derive(Template)]
#[template(path = "docs.html")]
struct DocsView {
    assets: &'static Assets,
    about: String,
    groups: Vec<Group>,
    shapes: Vec<Shape>,
}

/// The calls with one tag.
struct Group {
    name: String,
    about: String,
    calls: Vec<Call>,
}

struct Call {
    id: String,
    method: String,
    path: String,
    summary: String,
    about: String,
    /// Which role the token needs, as markup. It is empty where no token is needed.
    token: String,
    parameters: Vec<Field>,
    /// The body that is sent, as markup. It is empty where there is none.
    body: String,
    answers: Vec<Answer>,
}

/// A parameter of a call, or a field of an object. All but the names are markup.
struct Field {
    name: String,
    place: String,
    required: bool,
    kind: String,
    about: String,
}

struct Answer {
    status: String,
    about: String,
    kind: String,
}

/// An object that calls take or return.
struct Shape {
    name: String,
    about: String,
    fields: Vec<Field>,
    /// What it is, where it is no object, as markup.
    kind: String,
}

/// Renders the view. Without the document's parts it is empty.
pub(super) fn render(document: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let groups = document["tags"].as_array().into_iter().flatten().map(|tag| Group {
        calls: calls(document, tag["name"].as_str().unwrap_or_default()),
        name: text(&tag["name"]),
        about: described(&tag["description"]),
    });
    let schemas = document["components"]["schemas"].as_object().into_iter().flatten();
    let view = DocsView {
        assets: &ASSETS,
        about: described(&document["info"]["description"]),
        groups: groups.collect(),
        shapes: schemas.map(|(name, schema)| Shape::new(name, schema)).collect(),
    };
    view.render().unwrap_or_default()
}

fn calls(document: &Value, tag: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for method in METHODS {
            let call = &item[method];
            if call["tags"].as_array().is_some_and(|tags| tags.iter().any(|name| name == tag)) {
                calls.push(Call::new(method, path, call));
            }
        }
    }
    calls
}

impl Call {
    fn new(method: &str, path: &str, call: &Value) -> Self {
        let roles =
            call["security"].as_array().into_iter().flatten().flat_map(|role| role.as_object().into_iter().flatten());
        let roles: Vec<String> = roles.map(|(role, _)| format!("<code>{}</code>", escaped(role))).collect();
        let parameter = |parameter: &Value| Field {
            name: parameter["name"].as_str().unwrap_or_default().to_owned(),
            place: parameter["in"].as_str().unwrap_or_default().to_owned(),
            required: parameter["required"] == true,
            kind: kind(&parameter["schema"]),
            about: described(&parameter["description"]),
        };
        let answer = |(status, answer): (&String, &Value)| Answer {
            status: status.clone(),
            about: described(&answer["description"]),
            kind: content(answer),
        };
        let id: String = path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        Self {
            id: format!("{method}{id}"),
            method: method.to_uppercase(),
            path: path.to_owned(),
            summary: call["summary"].as_str().unwrap_or(path).to_owned(),
            about: described(&call["description"]),
            token: roles.join(" or "),
            parameters: call["parameters"].as_array().into_iter().flatten().map(parameter).collect(),
            body: content(&call["requestBody"]),
            answers: call["responses"].as_object().into_iter().flatten().map(answer).collect(),
        }
    }
}

impl Shape {
    fn new(name: &str, schema: &Value) -> Self {
        let mut fields = Vec::new();
        let mut kinds = Vec::new();
        for part in schema["allOf"].as_array().map_or(std::slice::from_ref(schema), Vec::as_slice) {
            if part.get("$ref").is_some() {
                kinds.push(format!("The fields of {} and these:", kind(part)));
            }
            let required = part["required"].as_array().map(Vec::as_slice).unwrap_or_default();
            fields.extend(part["properties"].as_object().into_iter().flatten().map(|(name, schema)| Field {
                name: name.clone(),
                place: String::new(),
                required: required.iter().any(|field| field == name),
                kind: kind(schema),
                about: described(&schema["description"]),
            }));
        }
        if fields.is_empty() {
            kinds.push(kind(schema));
        }
        Self { name: name.to_owned(), about: described(&schema["description"]), fields, kind: kinds.join(" ") }
    }
}

/// Returns what a body holds, as markup.
fn content(value: &Value) -> String {
    let kinds = value["content"].as_object().into_iter().flatten();
    let kinds: Vec<String> = kinds
        .map(|(media, content)| match content.get("schema") {
            Some(schema) if media.ends_with("json") => kind(schema),
            _ => format!("<code>{}</code>", escaped(media)),
        })
        .collect();
    kinds.join(" or ")
}

/// Returns what values a schema takes, in words, as markup.
fn kind(schema: &Value) -> String {
    if let Some(target) = schema["$ref"].as_str() {
        let name = escaped(target.rsplit('/').next().unwrap_or_default());
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    for of in ["oneOf", "anyOf", "allOf"] {
        if let Some(parts) = schema[of].as_array() {
            let parts: Vec<String> = parts.iter().map(kind).collect();
            return parts.join(if of == "allOf" { " and " } else { " or " });
        }
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let names: Vec<String> = types
        .iter()
        .map(|name| match *name {
            "array" if schema["items"].is_object() => format!("list of {}", kind(&schema["items"])),
            "object" if schema["additionalProperties"].is_object() => {
                format!("object of {}", kind(&schema["additionalProperties"]))
            }
            name => escaped(name),
        })
        .collect();
    let mut text = if names.is_empty() { "any value".to_owned() } else { names.join(" or ") };
    text.push_str(&limits(schema));
    text
}

fn limits(schema: &Value) -> String {
    let code = |value: &Value| match value {
        Value::String(text) => format!("<code>{}</code>", escaped(text)),
        other => escaped(&other.to_string()),
    };
    let mut parts = Vec::new();
    if let Some(values) = schema["enum"].as_array() {
        let more = if values.len() > MAX_VALUES { ", …" } else { "" };
        let values: Vec<String> = values.iter().take(MAX_VALUES).map(code).collect();
        parts.push(format!("{}{more}", values.join(", ")));
    }
    if let Some(format) = schema["format"].as_str().filter(|format| !format.starts_with("int")) {
        parts.push(escaped(format));
    }
    let ranges = [
        ("minimum", "at least", ""),
        ("maximum", "at most", ""),
        ("minLength", "at least", " characters"),
        ("maxLength", "at most", " characters"),
        ("minItems", "at least", " items"),
        ("maxItems", "at most", " items"),
    ];
    let given = ranges.iter().filter(|(name, ..)| schema[name].is_number());
    parts.extend(given.map(|(name, words, unit)| {
        let unit = if schema[name] == 1 { unit.trim_end_matches('s') } else { unit };
        format!("{words} {}{unit}", schema[name])
    }));
    if let Some(pattern) = schema["pattern"].as_str().filter(|pattern| pattern.len() <= MAX_PATTERN_BYTES) {
        parts.push(format!("<code>{}</code>", escaped(pattern)));
    }
    if let Some(default) = schema.get("default") {
        parts.push(format!("default {}", code(default)));
    }
    if parts.is_empty() { String::new() } else { format!(" <span class=\"muted\">({})</span>", parts.join("; ")) }
}

/// Returns a description as markup.
fn described(text: &Value) -> String {
    marked(text.as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_the_description_is_text() {
        let document = serde_json::json!({
            "info": {"title": "<b>", "description": "`<i>` & <u>"},
            "tags": [{"name": "keys", "description": "<s>"}],
            "paths": {"/v1/<p>": {"get": {"tags": ["keys"], "summary": "<q>", "description": "<a>",
                "parameters": [{"name": "<n>", "in": "query", "description": "<d>", "schema": {"type": "string", "enum": ["<e>"]}}],
                "responses": {"200": {"description": "<r>"}}}}},
            "components": {"schemas": {"Shape": {"type": "object", "properties": {"<f>": {"pattern": "<p>"}}}}},
        });
        let page = render(&document);
        for tag in ["<i>", "<u>", "<s>", "<q>", "<a>", "<n>", "<d>", "<e>", "<r>", "<f>"] {
            assert!(!page.contains(tag), "{tag}");
        }
        assert!(page.contains("<code>&lt;i&gt;</code> &amp; &lt;u&gt;"), "{page}");
    }
}
