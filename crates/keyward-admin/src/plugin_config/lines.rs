//! The lines on which the fields of a YAML document are.

use super::yaml::from_yaml;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::collections::HashMap;
use std::fmt;

/// The line of every field of a document, by its path.
#[derive(Debug, Default)]
pub struct Lines(HashMap<String, u32>);

impl Lines {
    /// Reads the lines of every document that is not empty. A text that cannot be read has none.
    pub fn read(text: &str) -> Vec<Self> {
        let documents: Vec<Node> = from_yaml(text).unwrap_or_default();
        documents
            .into_iter()
            .filter(|node| !matches!(node, Node::Null))
            .map(|node| {
                let mut lines = Self::default();
                lines.collect("", &node);
                lines
            })
            .collect()
    }

    /// Returns the line of a field, or of the innermost field around it that is in the text; and how many bytes of the
    /// path that is.
    pub fn find(&self, path: &str) -> Option<(u32, usize)> {
        let mut path = path;
        while !path.is_empty() {
            if let Some(line) = self.0.get(path) {
                return Some((*line, path.len()));
            }
            path = path.get(..path.rfind(['.', '['])?)?;
        }
        None
    }

    fn collect(&mut self, path: &str, node: &Node) {
        let add = |lines: &mut Self, path: String, child: &Spanned<Node>| {
            lines.0.insert(path.clone(), u32::try_from(child.referenced.line()).unwrap_or(u32::MAX));
            lines.collect(&path, &child.value);
        };
        match node {
            Node::Object(fields) => {
                for (name, child) in fields {
                    add(self, if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, child);
                }
            }
            Node::Array(items) => {
                for (index, child) in items.iter().enumerate() {
                    add(self, format!("{path}[{index}]"), child);
                }
            }
            Node::Null | Node::Scalar => {}
        }
    }
}

enum Node {
    Null,
    Scalar,
    Array(Vec<Spanned<Node>>),
    Object(Vec<(String, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Node::Scalar)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Node::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            fields.push(entry);
        }
        Ok(Node::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_with_their_lines() {
        let text = "a: 1\nb:\n  c: [x,\n    y]\n  d:\n  - e: 2\n---\n---\n# comment\nf: {g: 3}\n";
        let lines = Lines::read(text);
        assert_eq!(lines.len(), 2);
        let line = |document: usize, path: &str| lines[document].find(path).map(|(line, _)| line);
        for (path, number) in [("a", 1), ("b.c[0]", 3), ("b.c[1]", 4), ("b.d[0].e", 6), ("b.d[0].missing", 6)] {
            assert_eq!(line(0, path), Some(number), "{path}");
        }
        assert_eq!(line(1, "f.g"), Some(10));
        assert_eq!(line(1, "nothing"), None);
        assert!(Lines::read("a: [").is_empty());
    }
}
