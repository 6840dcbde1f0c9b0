//! The ways that a route configuration of Envoy offers to requests, and the settings of filters on each.

use super::finding::{list, text};
use serde_json::Value;

/// Where a way leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To<'v> {
    /// The proxy answers itself.
    Proxy,
    /// This cluster.
    Cluster(&'v str),
    /// A cluster that is chosen for each request.
    Unknown,
}

/// One way of a request: a route, and one of its clusters.
#[derive(Debug)]
pub(super) struct Way<'v> {
    /// The place of the route.
    pub place: String,
    /// Where it leads.
    pub to: To<'v>,
    /// The hosts that it is for.
    pub domains: &'v [Value],
    route: &'v Value,
    /// What can change filters for the way, the most particular first: their places, and what is there.
    levels: Vec<(String, &'v Value)>,
}

impl<'v> Way<'v> {
    /// Returns what a filter of this name is given on this way, and the place of it. `None` means that nothing changes it.
    pub fn setting(&self, name: &str) -> Option<(&str, &'v Value)> {
        self.levels.iter().find_map(|(place, level)| {
            let config = level["typed_per_filter_config"].get(name)?;
            Some((place.as_str(), config))
        })
    }

    /// Whether the proxy answers with a content of the route.
    pub fn answers(&self) -> bool {
        self.route["direct_response"].is_object()
    }

    /// Whether requests on this way have only paths below this one where they arrive.
    pub fn is_below(&self, path: &str) -> bool {
        let (found, action) = (&self.route["match"], &self.route["route"]);
        if ["regex_rewrite", "path_rewrite", "path_rewrite_policy"].iter().any(|field| !action[*field].is_null()) {
            return false;
        }
        let rewritten = text(&action["prefix_rewrite"]);
        if !rewritten.is_empty() {
            return rewritten.starts_with(path);
        }
        [&found["path"], &found["prefix"], &found["path_separated_prefix"]]
            .iter()
            .any(|have| text(have).starts_with(path))
    }

    /// The clusters that get a copy of each request.
    pub fn mirrors(&self) -> impl Iterator<Item = &'v str> {
        let places = self.levels.iter().map(|(_, level)| *level).chain([&self.route["route"]]);
        places
            .flat_map(|place| list(&place["request_mirror_policies"]))
            .map(|policy| text(&policy["cluster"]))
            .filter(|name| !name.is_empty())
    }
}

/// Collects the ways of a route configuration.
pub(super) fn ways<'v>(routes: &'v Value, place: &str, ways: &mut Vec<Way<'v>>) {
    for (index, host) in list(&routes["virtual_hosts"]).iter().enumerate() {
        let host_place = format!("{place}.virtual_hosts[{index}]");
        let outer = vec![(host_place.clone(), host), (place.to_owned(), routes)];
        for field in ["routes", "matcher"] {
            collect(&host[field], &format!("{host_place}.{field}"), &outer, list(&host["domains"]), ways);
        }
    }
}

/// Collects the routes in a value, however deep: a matcher has them in its actions.
fn collect<'v>(
    value: &'v Value,
    place: &str,
    outer: &[(String, &'v Value)],
    domains: &'v [Value],
    ways: &mut Vec<Way<'v>>,
) {
    const ACTIONS: [&str; 5] = ["route", "direct_response", "redirect", "non_forwarding_action", "filter_action"];
    match value {
        Value::Object(_) if ACTIONS.iter().any(|action| value[*action].is_object()) => {
            of_route(value, place, outer, domains, ways);
        }
        Value::Object(fields) => {
            for (name, inner) in fields {
                collect(inner, &format!("{place}.{name}"), outer, domains, ways);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                collect(inner, &format!("{place}[{index}]"), outer, domains, ways);
            }
        }
        _ => {}
    }
}

fn of_route<'v>(
    route: &'v Value,
    place: &str,
    outer: &[(String, &'v Value)],
    domains: &'v [Value],
    ways: &mut Vec<Way<'v>>,
) {
    let levels = |part: Option<(String, &'v Value)>| -> Vec<(String, &'v Value)> {
        part.into_iter().chain([(place.to_owned(), route)]).chain(outer.iter().cloned()).collect()
    };
    let mut add = |to, levels| ways.push(Way { place: place.to_owned(), to, domains, route, levels });
    let action = &route["route"];
    let parts = list(&action["weighted_clusters"]["clusters"]);
    for (index, part) in parts.iter().enumerate() {
        let to = part["name"].as_str().filter(|name| !name.is_empty()).map_or(To::Unknown, To::Cluster);
        add(to, levels(Some((format!("{place}.route.weighted_clusters.clusters[{index}]"), part))));
    }
    let to = match action["cluster"].as_str() {
        Some(name) => To::Cluster(name),
        None if action.is_object() || route["filter_action"].is_object() => To::Unknown,
        None => To::Proxy,
    };
    if parts.is_empty() {
        add(to, levels(None));
    }
}
