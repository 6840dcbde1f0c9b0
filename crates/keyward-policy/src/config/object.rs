//! Reading the fields of a JSON object one by one, collecting what is wrong instead of stopping at it.
//!
//! The small functions are kept out of line: copied into each reader, they made the largest function of the filter.

use super::json::Json;
use super::problem::Problems;
use crate::duration;
use std::time::Duration;

/// The limit of fields in one object. No object of the configuration has half as many.
pub const MAX_FIELDS: usize = 64;

/// The fields of one object. Each is asked for by name; [`finish`](ObjectReader::finish) reports the others as unknown.
pub(super) struct ObjectReader<'r, 'j> {
    problems: &'r mut Problems,
    path: String,
    fields: &'j [(String, Json)],
    known: Vec<&'static str>,
}

impl<'r, 'j> ObjectReader<'r, 'j> {
    /// Starts to read `json`. Returns `None`, and says so, if it is not an object of at most [`MAX_FIELDS`].
    #[inline(never)]
    pub(super) fn of(problems: &'r mut Problems, path: &str, json: &'j Json) -> Option<Self> {
        let Json::Object(fields) = json else {
            problems.add(
                path.to_owned(),
                format!("expected an object, found {}", json.kind()),
                "write `name: value` pairs",
            );
            return None;
        };
        if fields.len() > MAX_FIELDS {
            let message = format!("{} fields, and at most {MAX_FIELDS} are read", fields.len());
            problems.add(path.to_owned(), message, "keep the documented fields alone");
            return None;
        }
        for (index, (name, _)) in fields.iter().enumerate() {
            if fields.iter().take(index).any(|(earlier, _)| earlier == name) {
                problems.add(join(path, name), "the field is given twice", "keep one of them");
            }
        }
        Some(Self { problems, path: path.to_owned(), fields, known: Vec::new() })
    }

    /// Returns the value of a field, if it is there.
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

    /// Returns the place of a field, for messages.
    #[inline(never)]
    pub(super) fn path_of(&self, name: &str) -> String {
        if name.is_empty() { self.path.clone() } else { join(&self.path, name) }
    }

    /// Reports a problem with a field, or with `field[2]`, or with the object itself (empty name).
    #[inline(never)]
    pub(super) fn problem(&mut self, name: &str, message: impl Into<String>, help: impl Into<String>) {
        let path = self.path_of(name);
        self.problems.add(path, message, help);
    }

    /// Reports a field of another type than `expected`.
    #[inline(never)]
    pub(super) fn wrong_type(&mut self, name: &str, expected: &str, found: &Json, help: &str) {
        self.problem(name, format!("expected {expected}, found {}", found.kind()), help);
    }

    /// Reads a text.
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

    /// Reads a text that may be null.
    #[inline(never)]
    pub(super) fn optional_string(&mut self, name: &'static str) -> Option<&'j str> {
        if self.is_null(name) { None } else { self.string(name) }
    }

    /// Reads true or false.
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

    /// Reads a duration.
    #[inline(never)]
    pub(super) fn duration(&mut self, name: &'static str) -> Option<Duration> {
        let text = self.string(name)?;
        let read = duration::parse(text);
        if read.is_err() {
            self.problem(
                name,
                format!("`{text}` is not a duration"),
                "write a whole number and one of ms, s, m, h, d, like `15m`",
            );
        }
        read.ok()
    }

    /// Reads one of a few words.
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

    /// Reads a list of texts with their places, like `methods[2]`. A list that is there must not be empty.
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

    /// Reads a list.
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

    /// Returns the length of a list, if the field is one.
    #[inline(never)]
    pub(super) fn list_len(&mut self, name: &'static str) -> Option<usize> {
        match self.get(name)? {
            Json::Array(items) => Some(items.len()),
            _ => None,
        }
    }

    /// Reads an object with `read`. Null is like absent.
    pub(super) fn object<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut ObjectReader<'_, 'j>) -> T,
    ) -> Option<T> {
        let json = self.get(name).filter(|json| **json != Json::Null)?;
        let path = self.path_of(name);
        let mut inner = ObjectReader::of(self.problems, &path, json)?;
        let value = read(&mut inner);
        inner.finish();
        Some(value)
    }

    /// Reads a list of objects, each with `read`. Those that could not be read are left out.
    pub(super) fn objects<T>(
        &mut self,
        name: &'static str,
        mut read: impl FnMut(&mut ObjectReader<'_, 'j>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = self.list(name)?;
        let mut values = Vec::with_capacity(items.len());
        for (index, json) in items.iter().enumerate() {
            let path = self.path_of(&format!("{name}[{index}]"));
            let Some(mut inner) = ObjectReader::of(self.problems, &path, json) else { continue };
            values.extend(read(&mut inner));
            inner.finish();
        }
        Some(values)
    }

    /// Reports a required field that is missing.
    #[inline(never)]
    pub(super) fn missing(&mut self, name: &'static str, help: &str) {
        if self.get(name).is_none() {
            self.problem("", format!("field `{name}` is missing"), help);
        }
    }

    /// Reports the fields that were not asked for.
    #[inline(never)]
    pub(super) fn finish(self) {
        let Self { problems, path, fields, known } = self;
        for (name, _) in fields.iter().filter(|(name, _)| !known.contains(&&**name)) {
            // A name much longer than any field is near to none.
            let near =
                known.iter().filter(|_| name.len() <= 64).map(|word| (strsim::osa_distance(word, name), *word)).min();
            let help = match near {
                Some((distance, word)) if distance <= 2 => format!("did you mean `{word}`?"),
                _ => format!("known here: {}", known.join(", ")),
            };
            problems.add(join(&path, name), "unknown field", help);
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
