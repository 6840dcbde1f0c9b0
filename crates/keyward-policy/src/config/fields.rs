//! Taking the fields of an object one by one, collecting what is wrong instead of stopping at it.
//!
//! The small functions are kept out of line: copied into each reader, they made the largest function of the filter.

use super::json::Json;
use super::problem::{ConfigErrors, Problem};
use crate::duration;
use std::time::Duration;

/// Collects problems.
#[derive(Debug, Default)]
pub(super) struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    #[inline(never)]
    fn problem(&mut self, path: String, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Problem { path, message: message.into(), help: help.into() });
    }

    /// The value, if nothing was wrong.
    #[inline(never)]
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(ConfigErrors::all(self.problems)),
        }
    }
}

/// The fields of one object. Each is asked for by name; [`finish`](Fields::finish) reports those that nobody asked for.
pub(super) struct Fields<'r, 'j> {
    reader: &'r mut Reader,
    path: String,
    fields: &'j [(String, Json)],
    known: Vec<&'static str>,
}

impl<'r, 'j> Fields<'r, 'j> {
    /// The fields of `json`, which has to be an object.
    #[inline(never)]
    pub(super) fn of(reader: &'r mut Reader, path: &str, json: &'j Json) -> Option<Self> {
        let Json::Object(fields) = json else {
            reader.problem(
                path.to_owned(),
                format!("expected an object, found {}", json.kind()),
                "write `name: value` pairs",
            );
            return None;
        };
        let fields = Self { reader, path: path.to_owned(), fields, known: Vec::new() };
        for (index, (name, _)) in fields.fields.iter().enumerate() {
            if fields.fields.iter().take(index).any(|(earlier, _)| earlier == name) {
                fields.reader.problem(join(path, name), "the field is there twice", "keep one of them");
            }
        }
        Some(fields)
    }

    /// The value of a field, if it is there.
    #[inline(never)]
    pub(super) fn get(&mut self, name: &'static str) -> Option<&'j Json> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.fields.iter().find(|(have, _)| have == name).map(|(_, json)| json)
    }

    /// Whether a field is there and not null.
    #[inline(never)]
    pub(super) fn has(&mut self, name: &'static str) -> bool {
        self.get(name).is_some_and(|json| *json != Json::Null)
    }

    /// Whether a field is there and null.
    #[inline(never)]
    pub(super) fn is_null(&mut self, name: &'static str) -> bool {
        self.get(name) == Some(&Json::Null)
    }

    /// Where a field is, for messages.
    #[inline(never)]
    pub(super) fn path_of(&self, name: &str) -> String {
        if name.is_empty() { self.path.clone() } else { join(&self.path, name) }
    }

    /// Reports a problem with a field, or with `field[2]`, or with the object itself (empty name).
    #[inline(never)]
    pub(super) fn problem(&mut self, name: &str, message: impl Into<String>, help: impl Into<String>) {
        let path = self.path_of(name);
        self.reader.problem(path, message, help);
    }

    #[inline(never)]
    fn wrong_type(&mut self, name: &str, expected: &str, found: &Json, help: &str) {
        self.problem(name, format!("expected {expected}, found {}", found.kind()), help);
    }

    /// A text.
    #[inline(never)]
    pub(super) fn string(&mut self, name: &'static str) -> Option<&'j str> {
        match self.get(name)? {
            Json::String(text) => Some(text),
            other => {
                self.wrong_type(name, "a string", other, "put the value in quotes");
                None
            }
        }
    }

    /// A text that may be null.
    #[inline(never)]
    pub(super) fn optional_string(&mut self, name: &'static str) -> Option<&'j str> {
        if self.is_null(name) { None } else { self.string(name) }
    }

    /// True or false.
    #[inline(never)]
    pub(super) fn bool(&mut self, name: &'static str) -> Option<bool> {
        match self.get(name)? {
            Json::Bool(value) => Some(*value),
            other => {
                self.wrong_type(name, "true or false", other, "write `true` or `false`, without quotes");
                None
            }
        }
    }

    /// A duration.
    #[inline(never)]
    pub(super) fn duration(&mut self, name: &'static str) -> Option<Duration> {
        let text = self.string(name)?;
        let read = duration::parse(text);
        if read.is_err() {
            self.problem(
                name,
                format!("`{text}` is no duration"),
                "write a whole number and one of ms, s, m, h, d, like `15m`",
            );
        }
        read.ok()
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.string(name)?;
        let found = choices.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
            let help = format!("use {}", words.join(" or "));
            self.problem(name, format!("unknown value `{text}`"), help);
        }
        found.map(|(_, value)| *value)
    }

    /// A list of texts with their places, like `methods[2]`. A list that is there but empty is a problem.
    #[inline(never)]
    pub(super) fn strings(&mut self, name: &'static str, empty_help: &str) -> Option<Vec<(String, &'j str)>> {
        let items = self.list(name)?;
        if items.is_empty() {
            self.problem(name, "the list is empty", empty_help);
            return None;
        }
        let mut strings = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let place = format!("{name}[{index}]");
            match item {
                Json::String(text) => strings.push((place, &**text)),
                other => self.wrong_type(&place, "a string", other, "put the value in quotes"),
            }
        }
        Some(strings)
    }

    /// A list.
    #[inline(never)]
    pub(super) fn list(&mut self, name: &'static str) -> Option<&'j [Json]> {
        match self.get(name)? {
            Json::Array(items) => Some(items),
            other => {
                self.wrong_type(name, "a list", other, "write a list, also for one item");
                None
            }
        }
    }

    /// An object, read by `read`. Null is like absent.
    pub(super) fn object<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Fields<'_, 'j>) -> T) -> Option<T> {
        let json = self.get(name).filter(|json| **json != Json::Null)?;
        let path = self.path_of(name);
        let mut inner = Fields::of(self.reader, &path, json)?;
        let value = read(&mut inner);
        inner.finish();
        Some(value)
    }

    /// A list of objects, each read by `read`; those that could not be read are left out.
    pub(super) fn objects<T>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(&mut Fields<'_, 'j>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = self.list(name)?;
        let mut values = Vec::with_capacity(items.len());
        for (index, json) in items.iter().enumerate() {
            let path = self.path_of(&format!("{name}[{index}]"));
            let Some(mut inner) = Fields::of(self.reader, &path, json) else { continue };
            values.extend(read(&mut inner));
            inner.finish();
        }
        Some(values)
    }

    /// Reports a field that has to be there and is not.
    #[inline(never)]
    pub(super) fn missing(&mut self, name: &'static str, help: &str) {
        if self.get(name).is_none() {
            self.problem("", format!("field `{name}` is missing"), help);
        }
    }

    /// Reports the fields that nobody asked for.
    #[inline(never)]
    pub(super) fn finish(self) {
        let Self { reader, path, fields, known } = self;
        for (name, _) in fields.iter().filter(|(name, _)| !known.contains(&&**name)) {
            let near = known.iter().map(|word| (strsim::osa_distance(word, name), *word)).min();
            let help = match near {
                Some((distance, word)) if distance <= 2 => format!("did you mean `{word}`?"),
                _ => format!("known here: {}", known.join(", ")),
            };
            reader.problem(join(&path, name), "unknown field", help);
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
