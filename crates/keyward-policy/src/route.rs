//! Finding the rule of a request.
//!
//! The first rule that matches wins. Rules are indexed by path segment and by host, so what a look-up costs depends
//! on how many segments the path has, not on how many rules there are.

use crate::host::HostPattern;
use crate::media_type::ContentType;
use crate::path::{CanonicalPath, Segments};
use crate::pattern::Segment;
use crate::rule::{Access, Rule};

/// The rules of a policy, compiled.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    rules: Vec<Rule>,
    root: Node,
    names_hosts: bool,
}

/// A place in the tree of segments.
#[derive(Debug, Clone)]
struct Node {
    /// Rules whose path ends here.
    here: Bucket,
    /// Rules whose path goes on with `**`.
    rest: Bucket,
    literals: Sorted<Node>,
    prefixes: Sorted<Node>,
    /// The lengths that occur among `prefixes`, ascending.
    prefix_lengths: Vec<usize>,
    any: Option<Box<Node>>,
    /// The lowest rule number below this node: nothing here can win against a lower one.
    first: usize,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            here: Bucket::default(),
            rest: Bucket::default(),
            literals: Sorted::default(),
            prefixes: Sorted::default(),
            prefix_lengths: Vec::new(),
            any: None,
            first: usize::MAX,
        }
    }
}

/// Rules with the same path, by host; each list is in ascending order.
#[derive(Debug, Clone, Default)]
struct Bucket {
    any_host: Vec<usize>,
    exact: Sorted<Vec<usize>>,
    suffix: Sorted<Vec<usize>>,
}

/// A map from short texts, kept sorted.
#[derive(Debug, Clone)]
struct Sorted<V>(Vec<(Box<[u8]>, V)>);

impl<V> Default for Sorted<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V: Default> Sorted<V> {
    fn get(&self, key: &[u8]) -> Option<&V> {
        let at = self.0.binary_search_by(|(have, _)| (**have).cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    fn entry(&mut self, key: &str) -> Option<&mut V> {
        let key = key.as_bytes();
        let at = self.0.binary_search_by(|(have, _)| (**have).cmp(key)).unwrap_or_else(|at| {
            self.0.insert(at, (key.into(), V::default()));
            at
        });
        self.0.get_mut(at).map(|(_, value)| value)
    }
}

/// What of a request the rules look at.
#[derive(Debug, Clone, Copy)]
pub struct RouteQuery<'a> {
    /// The canonical path.
    pub path: &'a CanonicalPath<'a>,
    /// The method, as sent.
    pub method: &'a [u8],
    /// The host as [`crate::host::parse`] reads it; empty where no rule names hosts.
    pub host: &'a str,
    /// The type of the body.
    pub content_type: ContentType<'a>,
}

/// A rule that matched, and its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteMatch<'a> {
    /// Counted from zero.
    pub number: usize,
    /// The rule.
    pub rule: &'a Rule,
}

impl Routes {
    /// Compiles rules in their order of precedence.
    pub fn new(rules: Vec<Rule>) -> Self {
        let mut root = Node::default();
        for (number, rule) in rules.iter().enumerate() {
            root.insert(number, rule, &rule.path.segments);
        }
        let names_hosts = rules.iter().any(|rule| rule.hosts.is_some());
        Self { rules, root, names_hosts }
    }

    /// Whether any rule is for certain hosts alone. Where none is, the host of a request plays no part.
    pub fn names_hosts(&self) -> bool {
        self.names_hosts
    }

    /// The rules in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The first rule for this request.
    pub fn find(&self, query: &RouteQuery<'_>) -> Option<RouteMatch<'_>> {
        self.first(query.path, query.host, |rule| {
            rule.has_method(query.method) && rule.has_content_type(query.content_type)
        })
    }

    /// What a request with `method`, as a preflight announces it, could meet first. The body's type is not known yet: a
    /// rule with a condition on it is one that it could meet, but not one to refuse it by.
    pub fn announced(&self, path: &CanonicalPath<'_>, host: &str, method: &[u8]) -> Option<&Access> {
        let decisive =
            |rule: &Rule| rule.has_method(method) && (rule.content_type.is_none() || rule.access != Access::Deny);
        self.first(path, host, decisive).map(|found| &found.rule.access)
    }

    fn first(&self, path: &CanonicalPath<'_>, host: &str, is_for: impl Fn(&Rule) -> bool) -> Option<RouteMatch<'_>> {
        let mut search = Search { rules: &self.rules, host, is_for, best: usize::MAX };
        search.visit(&self.root, path.segments());
        let number = search.best;
        self.rules.get(number).map(|rule| RouteMatch { number, rule })
    }
}

impl Node {
    fn insert(&mut self, number: usize, rule: &Rule, segments: &[Segment]) {
        self.first = self.first.min(number);
        let Some((segment, rest)) = segments.split_first() else {
            let bucket = if rule.path.any_rest { &mut self.rest } else { &mut self.here };
            return bucket.insert(number, rule);
        };
        let next = match segment {
            Segment::Literal(text) => self.literals.entry(text),
            Segment::Prefix(text) => {
                if let Err(at) = self.prefix_lengths.binary_search(&text.len()) {
                    self.prefix_lengths.insert(at, text.len());
                }
                self.prefixes.entry(text)
            }
            Segment::Any => Some(&mut **self.any.get_or_insert_with(Box::default)),
        };
        if let Some(next) = next {
            next.insert(number, rule, rest);
        }
    }
}

impl Bucket {
    fn insert(&mut self, number: usize, rule: &Rule) {
        let Some(hosts) = &rule.hosts else { return self.any_host.push(number) };
        for host in hosts {
            let list = match host {
                HostPattern::Exact(host) => self.exact.entry(host),
                HostPattern::Suffix(host) => self.suffix.entry(host),
            };
            // A host listed twice is one entry.
            if let Some(list) = list.filter(|list| list.last() != Some(&number)) {
                list.push(number);
            }
        }
    }
}

struct Search<'r, F> {
    rules: &'r [Rule],
    host: &'r str,
    is_for: F,
    best: usize,
}

impl<F: Fn(&Rule) -> bool> Search<'_, F> {
    fn visit(&mut self, node: &Node, mut segments: Segments<'_>) {
        if node.first >= self.best {
            return;
        }
        self.visit_bucket(&node.rest);
        let Some(segment) = segments.next() else {
            return self.visit_bucket(&node.here);
        };
        if let Some(next) = node.literals.get(segment) {
            self.visit(next, segments);
        }
        for length in &node.prefix_lengths {
            // UTF-8 that starts with the bytes of other UTF-8 starts with its characters.
            let Some(start) = segment.get(..*length) else { continue };
            if let Some(next) = node.prefixes.get(start) {
                self.visit(next, segments);
            }
        }
        // A trailing slash is no segment that a name stands for.
        if let Some(next) = node.any.as_ref().filter(|_| !segment.is_empty()) {
            self.visit(next, segments);
        }
    }

    fn visit_bucket(&mut self, bucket: &Bucket) {
        self.visit_list(&bucket.any_host);
        if !bucket.exact.0.is_empty() || !bucket.suffix.0.is_empty() {
            self.visit_hosts(bucket);
        }
    }

    #[inline(never)]
    fn visit_hosts(&mut self, bucket: &Bucket) {
        if !bucket.exact.0.is_empty() {
            self.visit_list(bucket.exact.get(self.host.as_bytes()).map_or(&[], Vec::as_slice));
        }
        if !bucket.suffix.0.is_empty() {
            let dots = self.host.bytes().enumerate().filter(|(at, byte)| *byte == b'.' && *at > 0);
            for (at, _) in dots {
                let suffix = self.host.get(at + 1..).unwrap_or_default();
                self.visit_list(bucket.suffix.get(suffix.as_bytes()).map_or(&[], Vec::as_slice));
            }
        }
    }

    fn visit_list(&mut self, numbers: &[usize]) {
        for number in numbers {
            if *number >= self.best {
                return;
            }
            if self.rules.get(*number).is_some_and(&self.is_for) {
                self.best = *number;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
