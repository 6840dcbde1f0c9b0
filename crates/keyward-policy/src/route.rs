//! Finding the rule of a request.
//!
//! The first rule that matches wins. Rules are compiled into a tree of path segments, with an index by host at its
//! nodes, so the cost of a look-up depends on the path and not on the number of rules.
//!
//! Every VM of a proxy holds the tree once for each configuration in use, so it consists of a few lists of numbers and
//! one of bytes: about 36 bytes for a node and the edge to it.

use crate::host::HostPattern;
use crate::media_type::ContentType;
use crate::path::{CanonicalPath, Segments};
use crate::pattern::Segment;
use crate::rule::{Access, Rule};
use std::cmp::Ordering;
use std::ops::Range;

/// The rules of a configuration, compiled.
#[derive(Debug, Clone)]
pub struct Routes {
    rules: Vec<Rule>,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    buckets: Vec<Bucket>,
    hosts: Vec<HostEdge>,
    /// Numbers of rules, in lists that buckets and hosts refer to. Each list is ascending.
    numbers: Vec<u32>,
    /// The texts of edges and hosts.
    texts: Vec<u8>,
    names_hosts: bool,
}

/// No node, no bucket, no rule.
const NONE: u32 = u32::MAX;

/// A place in the tree of segments.
#[derive(Debug, Clone)]
struct Node {
    /// Edges to the nodes below, by kind, length and text.
    edges: Span,
    /// The node behind `{name}`.
    any: u32,
    /// The bucket of rules whose path ends here.
    here: u32,
    /// The bucket of rules whose path goes on with `**`.
    rest: u32,
    /// The lowest number of a rule at or below this node. Nothing here can win against a lower one.
    first: u32,
}

/// A part of a list.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: u32,
    to: u32,
}

impl Span {
    #[inline]
    fn range(self) -> Range<usize> {
        self.from as usize..self.to as usize
    }
}

/// The kind of a text in the upper bits and its length in the lower ones: what texts are sorted by first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shape(u32);

impl Shape {
    const LITERAL: u32 = 0;
    const PREFIX: u32 = 1 << 30;
    const SUFFIX: u32 = 2 << 30;
    const ANY: u32 = 3 << 30;

    #[inline]
    fn new(kind: u32, text: &[u8]) -> Self {
        // A configuration of 8 MiB holds no text of a gigabyte.
        Self(kind | (text.len() as u32 & 0x3fff_ffff))
    }

    #[inline]
    fn kind(self) -> u32 {
        self.0 & Self::ANY
    }

    #[inline]
    fn len(self) -> usize {
        (self.0 & 0x3fff_ffff) as usize
    }
}

/// The way from a node to one below it.
#[derive(Debug, Clone, Copy)]
struct Edge {
    shape: Shape,
    /// Where the text begins in `texts`.
    text: u32,
    node: u32,
}

/// Rules with the same path.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Rules for every host, in `numbers`.
    any_host: Span,
    /// Hosts that rules name, in `hosts`.
    hosts: Span,
}

/// A host that rules of a bucket name.
#[derive(Debug, Clone, Copy)]
struct HostEdge {
    shape: Shape,
    text: u32,
    /// The rules, in `numbers`.
    numbers: Span,
}

/// What the rules look at in a request.
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
    /// The rule's place, counted from zero.
    pub number: usize,
    /// The rule.
    pub rule: &'a Rule,
}

impl Default for Routes {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

/// Two sets of rules are equal if their rules are: the tree follows from them.
impl PartialEq for Routes {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Routes {
    /// Compiles rules in their order of precedence, in time proportional to their size but for the sorting.
    pub fn new(rules: Vec<Rule>) -> Self {
        let names_hosts = rules.iter().any(|rule| rule.hosts.is_some());
        let mut routes = Self {
            rules: Vec::new(),
            nodes: Vec::new(),
            edges: Vec::new(),
            buckets: Vec::new(),
            hosts: Vec::new(),
            numbers: Vec::new(),
            texts: Vec::new(),
            names_hosts,
        };
        let mut order: Vec<Numbers> = (0..rules.len() as u32).map(|number| (number, 0)).collect();
        sort(&mut order, &|(a, _), (b, _)| by_path(&rules, *a, *b));
        routes.add_node(&rules, &order, 0);
        routes.numbers.shrink_to_fit();
        routes.nodes.shrink_to_fit();
        routes.edges.shrink_to_fit();
        routes.texts.shrink_to_fit();
        Self { rules, ..routes }
    }

    /// Whether any rule names hosts. If none does, the host of a request plays no part.
    #[inline]
    pub fn names_hosts(&self) -> bool {
        self.names_hosts
    }

    /// The rules in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Returns the first rule that matches this request.
    #[inline]
    pub fn find(&self, query: &RouteQuery<'_>) -> Option<RouteMatch<'_>> {
        self.first(query.path, query.host, |rule| {
            rule.has_method(query.method) && rule.has_content_type(query.content_type)
        })
    }

    /// Returns the access of the first rule that a request with `method`, as a preflight announces it, could match. The
    /// type of the body is not known yet: a rule with a condition on it could match, but is no reason to refuse.
    pub fn announced(&self, path: &CanonicalPath<'_>, host: &str, method: &[u8]) -> Option<&Access> {
        let decisive =
            |rule: &Rule| rule.has_method(method) && (rule.content_type.is_none() || rule.access != Access::Deny);
        self.first(path, host, decisive).map(|found| &found.rule.access)
    }

    fn first(&self, path: &CanonicalPath<'_>, host: &str, is_for: impl Fn(&Rule) -> bool) -> Option<RouteMatch<'_>> {
        let mut search = Search { routes: self, host, is_for, best: NONE };
        search.visit(0, path.segments());
        let number = search.best as usize;
        self.rules.get(number).map(|rule| RouteMatch { number, rule })
    }

    /// Adds the node that these rules, sorted by path, have in common after `depth` segments.
    #[cold]
    #[inline(never)]
    fn add_node(&mut self, rules: &[Rule], order: &[Numbers], depth: usize) -> u32 {
        let number = self.nodes.len() as u32;
        let first = order.iter().map(|(number, _)| *number).min().unwrap_or(NONE);
        let from = self.edges.len() as u32;
        self.nodes.push(Node { edges: Span { from, to: from }, any: NONE, here: NONE, rest: NONE, first });
        let at = |number: u32| rules.get(number as usize).map_or(Step::End, |rule| step(rule, depth));
        let mut below: Vec<&[Numbers]> = Vec::new();
        let (mut any, mut here, mut rest): (&[Numbers], u32, u32) = (&[], NONE, NONE);
        for group in order.chunk_by(|(a, _), (b, _)| at(*a) == at(*b)) {
            match group.first().map_or(Step::End, |(number, _)| at(*number)) {
                Step::End => here = self.add_bucket(rules, group),
                Step::Rest => rest = self.add_bucket(rules, group),
                Step::Segment(shape, _) if shape.kind() == Shape::ANY => any = group,
                Step::Segment(shape, text) => {
                    let text = self.add_text(text);
                    self.edges.push(Edge { shape, text, node: NONE });
                    below.push(group);
                }
            }
        }
        let to = self.edges.len() as u32;
        for (edge, group) in (from..to).zip(below) {
            let node = self.add_node(rules, group, depth + 1);
            if let Some(edge) = self.edges.get_mut(edge as usize) {
                edge.node = node;
            }
        }
        let any = if any.is_empty() { NONE } else { self.add_node(rules, any, depth + 1) };
        if let Some(node) = self.nodes.get_mut(number as usize) {
            *node = Node { edges: Span { from, to }, any, here, rest, first };
        }
        number
    }

    /// Adds a bucket of rules with the same path, in ascending order.
    #[cold]
    #[inline(never)]
    fn add_bucket(&mut self, rules: &[Rule], group: &[Numbers]) -> u32 {
        let hosts_of = |number: u32| rules.get(number as usize).and_then(|rule| rule.hosts.as_deref());
        let host_of = |(number, host): Numbers| match hosts_of(number).and_then(|hosts| hosts.get(host as usize)) {
            Some(HostPattern::Suffix(text)) => (Shape::new(Shape::SUFFIX, text.as_bytes()), text.as_bytes()),
            Some(HostPattern::Exact(text)) => (Shape::new(Shape::LITERAL, text.as_bytes()), text.as_bytes()),
            None => (Shape(0), &[][..]),
        };
        let mut any = group.iter().map(|(number, _)| *number).filter(|number| hosts_of(*number).is_none());
        let any_host = self.add_numbers(&mut any);
        let mut named: Vec<Numbers> = Vec::new();
        for (number, _) in group {
            let count = hosts_of(*number).map_or(0, <[_]>::len) as u32;
            named.extend((0..count).map(|host| (*number, host)));
        }
        sort(&mut named, &|a, b| (host_of(*a), a.0).cmp(&(host_of(*b), b.0)));
        // A host that a rule lists twice counts once.
        named.dedup_by(|a, b| a.0 == b.0 && host_of(*a) == host_of(*b));
        let from = self.hosts.len() as u32;
        for group in named.chunk_by(|a, b| host_of(*a) == host_of(*b)) {
            let Some((shape, text)) = group.first().map(|first| host_of(*first)) else { continue };
            let text = self.add_text(text);
            let numbers = self.add_numbers(&mut group.iter().map(|(number, _)| *number));
            self.hosts.push(HostEdge { shape, text, numbers });
        }
        self.buckets.push(Bucket { any_host, hosts: Span { from, to: self.hosts.len() as u32 } });
        self.buckets.len() as u32 - 1
    }

    #[inline(never)]
    fn add_text(&mut self, text: &[u8]) -> u32 {
        let at = self.texts.len() as u32;
        self.texts.extend_from_slice(text);
        at
    }

    #[inline(never)]
    fn add_numbers(&mut self, numbers: &mut dyn Iterator<Item = u32>) -> Span {
        let from = self.numbers.len() as u32;
        self.numbers.extend(numbers);
        Span { from, to: self.numbers.len() as u32 }
    }

    /// The order of a text of the tree against another one.
    #[inline]
    fn compare(&self, shape: Shape, text: u32, to_shape: Shape, to_text: &[u8]) -> Ordering {
        shape.cmp(&to_shape).then_with(|| {
            let text = text as usize;
            self.texts.get(text..text + shape.len()).unwrap_or_default().cmp(to_text)
        })
    }
}

/// The number of a rule, and of a host in it where hosts are sorted.
type Numbers = (u32, u32);

/// Sorts in place (heapsort). The standard sorts are made for speed and would be 9 KB of the module, for what runs once a
/// configuration.
#[cold]
#[inline(never)]
fn sort(numbers: &mut [Numbers], order: &dyn Fn(&Numbers, &Numbers) -> Ordering) {
    let len = numbers.len();
    for start in (0..len / 2).rev() {
        sift_down(numbers, start, order);
    }
    for end in (1..len).rev() {
        numbers.swap(0, end);
        sift_down(numbers.get_mut(..end).unwrap_or_default(), 0, order);
    }
}

/// Moves the number at `at` down until none below it is greater.
#[inline(never)]
fn sift_down(heap: &mut [Numbers], mut at: usize, order: &dyn Fn(&Numbers, &Numbers) -> Ordering) {
    let greater = |heap: &[Numbers], a: usize, b: usize| match (heap.get(a), heap.get(b)) {
        (Some(a), Some(b)) => order(a, b) == Ordering::Greater,
        _ => false,
    };
    loop {
        let (left, right) = (2 * at + 1, 2 * at + 2);
        let below = if greater(heap, right, left) { right } else { left };
        if !greater(heap, below, at) {
            return;
        }
        heap.swap(at, below);
        at = below;
    }
}

/// What a rule has after some segments, in the order of the tree.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Step<'r> {
    End,
    Rest,
    Segment(Shape, &'r [u8]),
}

fn step(rule: &Rule, depth: usize) -> Step<'_> {
    let Some(segment) = rule.path.segments.get(depth) else {
        return if rule.path.any_rest { Step::Rest } else { Step::End };
    };
    let kind = match segment {
        Segment::Literal(_) => Shape::LITERAL,
        Segment::Prefix(_) => Shape::PREFIX,
        Segment::Suffix(_) => Shape::SUFFIX,
        Segment::Any => Shape::ANY,
    };
    let text = segment.text().as_bytes();
    Step::Segment(Shape::new(kind, text), text)
}

fn by_path(rules: &[Rule], a: u32, b: u32) -> Ordering {
    let (Some(one), Some(other)) = (rules.get(a as usize), rules.get(b as usize)) else { return a.cmp(&b) };
    for depth in 0.. {
        let step_of_one = step(one, depth);
        let is_last = !matches!(step_of_one, Step::Segment(..));
        match step_of_one.cmp(&step(other, depth)) {
            Ordering::Equal if is_last => break,
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
    a.cmp(&b)
}

struct Search<'r, F> {
    routes: &'r Routes,
    host: &'r str,
    is_for: F,
    best: u32,
}

impl<F: Fn(&Rule) -> bool> Search<'_, F> {
    fn visit(&mut self, node: u32, mut segments: Segments<'_>) {
        let Some(node) = self.routes.nodes.get(node as usize).filter(|node| node.first < self.best) else { return };
        self.visit_bucket(node.rest);
        let Some(segment) = segments.next() else {
            return self.visit_bucket(node.here);
        };
        let edges = self.routes.edges.get(node.edges.range()).unwrap_or_default();
        if let Some(next) = self.find(edges, Shape::new(Shape::LITERAL, segment), segment) {
            self.visit(next, segments);
        }
        if edges.last().is_some_and(|edge| edge.shape.kind() != Shape::LITERAL) {
            self.visit_parts(edges, segment, segments);
        }
        // A trailing slash is not a segment that a name stands for.
        if !segment.is_empty() {
            self.visit(node.any, segments);
        }
    }

    /// Follows the edges whose text is the start or the end of the segment: one search for each length that occurs.
    #[inline(never)]
    fn visit_parts(&mut self, edges: &[Edge], segment: &[u8], segments: Segments<'_>) {
        let mut from = edges.partition_point(|edge| edge.shape.kind() == Shape::LITERAL);
        while let Some((edge, rest)) = edges.get(from..).and_then(<[_]>::split_first) {
            let (shape, len) = (edge.shape, edge.shape.len());
            from += 1 + rest.partition_point(|edge| edge.shape == shape);
            // UTF-8 that starts or ends with the bytes of other UTF-8 does so with its characters.
            let part = if shape.kind() == Shape::PREFIX {
                segment.get(..len)
            } else {
                // What stands before the end is a name, which is not empty.
                segment.len().checked_sub(len).filter(|before| *before > 0).and_then(|before| segment.get(before..))
            };
            if let Some(next) = part.and_then(|part| self.find(edges, shape, part)) {
                self.visit(next, segments);
            }
        }
    }

    fn find(&self, edges: &[Edge], shape: Shape, text: &[u8]) -> Option<u32> {
        let at = edges.binary_search_by(|edge| self.routes.compare(edge.shape, edge.text, shape, text)).ok()?;
        edges.get(at).map(|edge| edge.node)
    }

    fn visit_bucket(&mut self, bucket: u32) {
        let Some(bucket) = self.routes.buckets.get(bucket as usize).copied() else { return };
        self.visit_list(bucket.any_host);
        if bucket.hosts.from < bucket.hosts.to {
            self.visit_hosts(bucket.hosts);
        }
    }

    #[inline(never)]
    fn visit_hosts(&mut self, hosts: Span) {
        let host = self.host.as_bytes();
        self.visit_host(hosts, Shape::LITERAL, host);
        let dots = host.iter().enumerate().filter(|(at, byte)| **byte == b'.' && *at > 0);
        for (at, _) in dots {
            self.visit_host(hosts, Shape::SUFFIX, host.get(at + 1..).unwrap_or_default());
        }
    }

    fn visit_host(&mut self, hosts: Span, kind: u32, text: &[u8]) {
        let hosts = self.routes.hosts.get(hosts.range()).unwrap_or_default();
        let shape = Shape::new(kind, text);
        let at = hosts.binary_search_by(|host| self.routes.compare(host.shape, host.text, shape, text));
        if let Some(host) = at.ok().and_then(|at| hosts.get(at)) {
            self.visit_list(host.numbers);
        }
    }

    fn visit_list(&mut self, numbers: Span) {
        let routes = self.routes;
        for number in routes.numbers.get(numbers.range()).unwrap_or_default() {
            if *number >= self.best {
                return;
            }
            if routes.rules.get(*number as usize).is_some_and(&self.is_for) {
                self.best = *number;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
