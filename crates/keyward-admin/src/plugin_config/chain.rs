//! The filter chains of a running proxy's listeners, read from its configuration dump: whether Keyward and its backstop are
//! in each, and what a chain without them leads to.

use super::around::any;
use super::backstop::{self, Fault};
use super::beside::beside;
use super::dump::{Dump, InUse, Kind};
use super::envoy::any_state_of_ours;
use super::find::{dynamic_module, is_plugin_config, unwrap_any, wasm_plugin};
use super::finding::{join, list, text};
use super::labels::{address, labels};
use super::open::{Asked, Open, is_for_host, without_port};
use super::past;
use super::ways::{To, Way, ways};
use keyward_policy::config::{Config, Mode, Unmatched};
use keyward_policy::host::HostPattern;
use keyward_policy::rule::Access;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The limit of faults of one chain that are named.
const MAX_FAULTS: usize = 10;

/// One filter chain of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// The listener, its address, and the chain if the listener has several.
    pub name: String,
    /// Every name by which a user may mean this chain.
    pub names: Vec<String>,
    /// What is known of the chain.
    pub cover: Cover,
    /// By what requests get past Keyward or the backstop although they are there, or why they are not in effect.
    pub faults: Vec<Fault>,
    /// What the dump does not show. Empty: everything was looked at.
    pub unseen: Vec<String>,
    /// Why the proxy refused the last change of the listener. Empty: it has not refused one.
    pub refused: String,
    /// By what Keyward lets the asked request pass here without a key. `None` means that it does not.
    pub open: Option<Open>,
    /// The filters beside Keyward that can do more than refuse a request: each with what it can do.
    pub beside: Vec<String>,
}

/// What a chain has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cover {
    /// Keyward, and behind it a backstop that lets only requests pass that Keyward has allowed.
    Both,
    /// Keyward without such a backstop.
    KeywardAlone,
    /// A backstop without Keyward.
    BackstopAlone,
    /// Neither, and the chain leads to something that Keyward protects elsewhere.
    Around {
        /// What both lead to.
        target: String,
        /// Whether the chain understands HTTP.
        is_http: bool,
    },
    /// Neither, and the chain leads to other applications, or to what is not known.
    Neither {
        /// Whether the chain understands HTTP.
        is_http: bool,
        /// Why it is not known where the chain leads. Empty: it leads to nothing that Keyward protects elsewhere.
        unknown: &'static str,
    },
    /// Neither, and the chain leads to no application: only to the health and the statistics of the proxy, or nowhere.
    OwnUse,
    /// Neither, and the chain is for what the application behind a sidecar itself asks.
    Outbound,
}

/// The chains of a proxy.
#[derive(Debug, Default)]
pub struct Chains {
    /// Every chain of the listeners in use.
    pub chains: Vec<Chain>,
    /// The listeners that are not in use yet.
    pub waiting: Vec<String>,
}

/// Reads the chains of every listener in the answer of Envoy's `/config_dump`. `None` means that it is not one.
pub fn chains(dump: &Value, asked: &Asked<'_>) -> Option<Chains> {
    let dump = Dump::new(dump);
    if !dump.is_one() {
        return None;
    }
    let (listeners, waiting) = dump.listeners();
    let mut read: Vec<Read> = Vec::new();
    for listener in listeners {
        let mut chains = read_listener(&dump, listener, asked);
        // A connection to a port that has a chain of its own takes no other chain.
        let has_own = chains.iter().any(|read| read.chain.cover == Cover::Both && read.is_for_port);
        for read in chains.iter_mut().filter(|read| has_own && read.unknown == ORIGINAL) {
            read.unknown = "";
        }
        read.extend(chains);
    }
    let mut protected: BTreeSet<String> = BTreeSet::new();
    for cluster in read.iter().flat_map(|read| &read.protects) {
        protected.extend(dump.targets(cluster));
    }
    let closed = read.iter().filter(|read| read.chain.open.is_none()).flat_map(|read| &read.protects);
    let closed: BTreeSet<String> = closed.flat_map(|cluster| dump.targets(cluster)).collect();
    for read in &mut read {
        if let Some(open) = &mut read.chain.open {
            open.target = read.leads.iter().flat_map(|cluster| dump.targets(cluster)).find(|to| closed.contains(to));
            open.is_known = read.unknown.is_empty() && read.chain.unseen.is_empty();
        }
        if let Cover::Neither { is_http, .. } = read.chain.cover {
            let mut leads = read.leads.iter().flat_map(|cluster| dump.targets(cluster));
            read.chain.cover = if read.is_outbound {
                Cover::Outbound
            } else if let Some(target) = leads.find(|target| protected.contains(target)) {
                Cover::Around { target, is_http }
            } else if !read.chain.unseen.is_empty() {
                Cover::Neither { is_http, unknown: "not everything of it is shown" }
            } else if read.is_own {
                Cover::OwnUse
            } else {
                Cover::Neither { is_http, unknown: read.unknown }
            };
        }
    }
    let chains = read.into_iter().map(|read| read.chain).collect();
    Some(Chains { chains, waiting: waiting.into_iter().map(str::to_owned).collect() })
}

const ORIGINAL: &str = "it leads wherever a connection was going before";
const CHOSEN: &str = "each request chooses where it leads, or the dump does not have its cluster";

/// A chain, and where it leads.
struct Read {
    chain: Chain,
    /// The clusters that the chain leads to.
    leads: BTreeSet<String>,
    /// Those among them that Keyward protects in this chain.
    protects: BTreeSet<String>,
    /// Whether the chain leads to no application.
    is_own: bool,
    /// Why it is not known where the chain leads. Empty: it is known.
    unknown: &'static str,
    /// Whether the chain is for one port.
    is_for_port: bool,
    /// Whether the chain is for what the application behind a sidecar itself asks.
    is_outbound: bool,
}

impl Read {
    /// Notes that the chain leads to a cluster. Returns what kind it is of.
    fn add(&mut self, dump: &Dump<'_>, name: &str) -> Kind {
        self.leads.insert(name.to_owned());
        let kind = dump.kind(name);
        match kind {
            Kind::OriginalDestination if self.unknown.is_empty() => self.unknown = ORIGINAL,
            Kind::Unknown => self.unknown = CHOSEN,
            _ => {}
        }
        kind
    }
}

fn read_listener(dump: &Dump<'_>, in_use: InUse<'_>, asked: &Asked<'_>) -> Vec<Read> {
    let listener = in_use.listener;
    let address = address(listener);
    let own_name = text(&listener["name"]);
    let api = &listener["api_listener"]["api_listener"];
    let mut chains: Vec<(Value, bool)> =
        list(&listener["filter_chains"]).iter().map(|chain| (chain.clone(), false)).collect();
    if listener["default_filter_chain"].is_object() {
        chains.push((listener["default_filter_chain"].clone(), true));
    }
    if api.is_object() {
        chains.push((serde_json::json!({"filters": [{"typed_config": api}]}), false));
    }
    if chains.is_empty() {
        // A proxy for UDP is a filter of the listener.
        chains.push((serde_json::json!({"filters": listener["listener_filters"]}), false));
    }
    let labels = labels(&chains);
    let name_of = |label: &str| match (own_name, label) {
        ("", "") => address.clone(),
        ("", label) => format!("{address}, {label}"),
        (name, "") => format!("{name} ({address})"),
        (name, label) => format!("{name} ({address}), {label}"),
    };
    let port = listener["address"]["socket_address"]["port_value"].to_string();
    chains
        .iter()
        .zip(labels)
        .map(|((chain, _), label)| {
            let names = [own_name, &address, &port, text(&chain["name"])];
            let mut read = read_chain(dump, chain, asked);
            read.chain.name = name_of(&label);
            read.chain.names = names.into_iter().filter(|name| !name.is_empty()).map(str::to_owned).collect();
            read.chain.refused = in_use.refused.to_owned();
            read.is_outbound = dump.is_sidecar() && listener["traffic_direction"] == "OUTBOUND";
            read
        })
        .collect()
}

fn read_chain(dump: &Dump<'_>, chain: &Value, asked: &Asked<'_>) -> Read {
    /// Filters that end no connection and lead nowhere.
    const PASSING: [&str; 8] = [
        "network.rbac.v3.RBAC",
        "network.ext_authz.v3.ExtAuthz",
        "network.local_ratelimit.v3.LocalRateLimit",
        "network.ratelimit.v3.RateLimit",
        "network.connection_limit.v3.ConnectionLimit",
        "network.set_filter_state.v3.Config",
        "network.sni_cluster.v3.SniCluster",
        "network.direct_response.v3.Config",
    ];
    let new = |name: String| Chain {
        name,
        names: Vec::new(),
        cover: Cover::Neither { is_http: false, unknown: "" },
        faults: Vec::new(),
        unseen: Vec::new(),
        refused: String::new(),
        open: None,
        beside: Vec::new(),
    };
    let mut read = Read {
        chain: new(String::new()),
        leads: BTreeSet::new(),
        protects: BTreeSet::new(),
        is_own: true,
        unknown: "",
        is_for_port: !chain["filter_chain_match"]["destination_port"].is_null(),
        is_outbound: false,
    };
    // Whether there is a filter of which it is not known whether it ends the chain.
    let mut strange = false;
    for filter in list(&chain["filters"]) {
        let Some(filter) = dump.resolved(filter) else {
            read.chain.unseen.push(format!("the filter `{}`, which the proxy has not got yet", text(&filter["name"])));
            continue;
        };
        let config = unwrapped(&filter["typed_config"]);
        let kind = text(&filter["typed_config"]["@type"]);
        if config.get("http_filters").is_some() || kind.ends_with("HttpConnectionManager") {
            read_manager(dump, config, asked, &mut read);
            continue;
        }
        let mut clusters = BTreeSet::new();
        named_clusters(config, &mut clusters);
        if clusters.is_empty() && !PASSING.iter().any(|end| kind.ends_with(end)) {
            read.is_own = false;
            strange = true;
        }
        for cluster in clusters {
            read.is_own &= read.add(dump, &cluster) == Kind::Nowhere;
        }
    }
    if strange && read.leads.is_empty() {
        read.unknown = CHOSEN;
    }
    read
}

/// Returns the fields of a typed config, which may be wrapped in a TypedStruct.
fn unwrapped(typed_config: &Value) -> &Value {
    if text(&typed_config["@type"]).ends_with("TypedStruct") { &typed_config["value"] } else { typed_config }
}

/// Collects the clusters that a network filter without HTTP names.
fn named_clusters(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (field, inner) in fields {
                match (field.as_str(), inner) {
                    ("cluster" | "cluster_name", Value::String(name)) => {
                        names.insert(name.clone());
                    }
                    ("clusters", Value::Array(clusters)) => {
                        names.extend(clusters.iter().filter_map(|cluster| cluster["name"].as_str()).map(str::to_owned));
                    }
                    // Logs and the like go to clusters, too.
                    ("access_log" | "access_log_options" | "grpc_service", _) => {}
                    _ => named_clusters(inner, names),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|inner| named_clusters(inner, names)),
        _ => {}
    }
}

/// A filter that is Keyward.
struct Keyward {
    /// Its place among the filters.
    at: usize,
    /// The configuration that it was given, or why it cannot be read.
    config: Result<Config, String>,
}

/// Returns the configuration of an HTTP filter that is Keyward, or why it cannot be read. `None` means that the filter is
/// not Keyward.
///
/// The names of filters and policies are the user's, so they say nothing. What says it is the configuration, and where
/// that cannot be read, the root id and the module.
fn keyward(filter: &Value) -> Option<Result<Config, String>> {
    let config = &filter["typed_config"];
    let (any, plugin) = match (wasm_plugin(config), dynamic_module(config)) {
        (Some(plugin), _) => (&plugin["configuration"], plugin),
        (None, Some((_, module))) => (&module["filter_config"], module),
        (None, None) => return None,
    };
    let bytes = unwrap_any(any);
    let error = match Config::parse(&bytes) {
        Ok(config) => return Some(Ok(config)),
        Err(errors) => errors.problems().first().map(ToString::to_string).unwrap_or_default(),
    };
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let has_fields = is_plugin_config(&value) && !(value["manifest"].is_null() && value["admin"].is_null());
    let modules = [&plugin["vm_config"]["code"], &plugin["dynamic_module_config"]];
    let is_module = modules.iter().any(|module| names_keyward(module));
    (has_fields || plugin["root_id"] == "keyward" || is_module).then_some(Err(error))
}

fn names_keyward(module: &Value) -> bool {
    any(module, &|value| value.as_str().is_some_and(|text| text.contains("keyward")))
}

/// Judges one HTTP connection manager.
fn read_manager(dump: &Dump<'_>, manager: &Value, asked: &Asked<'_>, read: &mut Read) {
    let resolve = |filters: &Value, unseen: &mut Vec<String>| -> Vec<Value> {
        let resolve = |filter: &Value| {
            dump.resolved(filter).unwrap_or_else(|| {
                unseen.push(format!("the filter `{}`, which the proxy has not got yet", text(&filter["name"])));
                filter.clone()
            })
        };
        list(filters).iter().map(resolve).collect()
    };
    let (configs, unseen) = dump.routes(manager);
    read.chain.unseen.extend(unseen);
    let mut ways_of_all = Vec::new();
    for (place, routes) in &configs {
        ways(routes, place, &mut ways_of_all);
    }
    let filters = resolve(&manager["http_filters"], &mut read.chain.unseen);
    let mut faults = Faults::default();
    let (ours, has_backstop) = judge(&filters, "http_filters", &ways_of_all, &mut faults);
    if let Some(ours) = &ours {
        read.chain.beside.extend(beside(&filters, ours.at));
    }
    let is_asked = ways_of_all.iter().any(|way| way.to != To::Proxy && is_for_host(way.domains, asked.host));
    let passes = |ours: &Keyward| (asked.passes)(ours.config.as_ref().ok().filter(|_| is_asked)?);
    let mut why = ours.as_ref().and_then(passes);
    for (index, upgrade) in list(&manager["upgrade_configs"]).iter().enumerate() {
        if list(&upgrade["filters"]).is_empty() || (ours.is_none() && !has_backstop) {
            continue;
        }
        let place = format!("upgrade_configs[{index}].filters");
        let kind = text(&upgrade["upgrade_type"]);
        let filters = resolve(&upgrade["filters"], &mut read.chain.unseen);
        let (theirs, backstop) = judge(&filters, &place, &ways_of_all, &mut faults);
        why = why.or_else(|| passes(theirs.as_ref()?));
        let missing = match (theirs.is_some(), backstop) {
            (true, true) => continue,
            (true, false) => "the backstop is",
            (false, true) => "Keyward is",
            (false, false) => "Keyward and its backstop are",
        };
        faults.add(Fault {
            path: place,
            message: format!("requests that upgrade to `{kind}` take these filters, and {missing} not among them"),
            help: "remove `filters`, or put Keyward and its backstop into them",
        });
    }
    read.chain.faults.extend(faults.finish());
    if let Some(why) = why {
        read.chain.open = Some(Open { why, target: None, is_known: false });
    }
    read.chain.cover = match (&ours, has_backstop) {
        (Some(_), true) => Cover::Both,
        (Some(_), false) => Cover::KeywardAlone,
        (None, true) => Cover::BackstopAlone,
        (None, false) => Cover::Neither { is_http: true, unknown: "" },
    };
    for way in &ways_of_all {
        for name in way.mirrors() {
            read.is_own &= read.add(dump, name) == Kind::Nowhere;
        }
        match &way.to {
            To::Proxy => {}
            To::Unknown => {
                read.is_own = false;
                read.unknown = CHOSEN;
            }
            To::Cluster(name) => {
                read.is_own &= match read.add(dump, name) {
                    Kind::Nowhere | Kind::Agent => true,
                    // Everything else of the admin interface is not for everybody.
                    Kind::Admin => way.is_below("/stats") || way.is_below("/ready"),
                    Kind::OriginalDestination | Kind::Unknown | Kind::Other => false,
                };
                if ours.as_ref().is_some_and(|ours| is_protected(&ours.config, way.domains)) {
                    read.protects.insert((*name).to_owned());
                }
            }
        }
    }
}

/// Whether a configuration asks for a key, or refuses requests, for any of these hosts.
fn is_protected(config: &Result<Config, String>, domains: &[Value]) -> bool {
    let Ok(config) = config else { return true };
    if config.unmatched != Unmatched::Public || domains.is_empty() {
        return true;
    }
    let domains: Vec<Option<HostPattern>> =
        domains.iter().map(|domain| HostPattern::parse(without_port(text(domain))).ok()).collect();
    let meet = |one: &HostPattern, other: &HostPattern| one.covers(other) || other.covers(one);
    let is_for = |hosts: &[HostPattern]| {
        // What is no such pattern, such as `*`, may be any host.
        domains.iter().any(|domain| domain.as_ref().is_none_or(|domain| hosts.iter().any(|host| meet(host, domain))))
    };
    let mut rules = config.routes.rules().iter().filter(|rule| rule.access != Access::Public);
    rules.any(|rule| rule.hosts.as_ref().is_none_or(|hosts| is_for(hosts)))
}

/// The faults of one connection manager, each once.
#[derive(Default)]
struct Faults {
    found: Vec<Fault>,
    /// The routes that leave a filter off, by its place: one of them, and how many there are.
    left_off: BTreeMap<(String, &'static str), (String, usize)>,
}

impl Faults {
    fn add(&mut self, fault: Fault) {
        if !self.found.contains(&fault) {
            self.found.push(fault);
        }
    }

    fn extend_off(&mut self, off: Option<Off>) {
        match off {
            None => {}
            Some(Off::Here(fault)) => self.add(fault),
            Some(Off::ByDefault(fault, what, route)) => {
                self.left_off.entry((fault.path, what)).or_insert_with(|| (route, 0)).1 += 1;
            }
        }
    }

    fn finish(mut self) -> Vec<Fault> {
        for ((path, what), (place, count)) in std::mem::take(&mut self.left_off) {
            let routes = match count {
                1 => format!("`{place}` does not"),
                _ => format!("{count} routes do not, such as `{place}`"),
            };
            self.add(Fault {
                path,
                message: format!("the {what} is off unless a route switches it on, and {routes}"),
                help: "remove `disabled`, or switch the filter on for these routes",
            });
        }
        let more = self.found.len().saturating_sub(MAX_FAULTS);
        self.found.truncate(MAX_FAULTS);
        if more > 0 {
            self.found.push(Fault {
                path: "and".to_owned(),
                message: format!("{more} more"),
                help: "mend these, and look again",
            });
        }
        self.found
    }
}

/// Judges one list of HTTP filters. Returns Keyward's filter, and whether there is a sound backstop: behind Keyward, if
/// Keyward is there.
fn judge(filters: &[Value], place: &str, ways: &[Way<'_>], faults: &mut Faults) -> (Option<Keyward>, bool) {
    let at = |index: usize| format!("{place}[{index}]");
    let placed = |index: usize, fault: Fault| Fault { path: join(&at(index), &fault.path), ..fault };
    let ours = filters.iter().enumerate().find_map(|(at, filter)| Some(Keyward { at, config: keyward(filter)? }));
    let sound = |(_, filter): &(usize, &Value)| backstop::is_sound(filter);
    let from = ours.as_ref().map_or(0, |ours| ours.at + 1);
    let behind: Vec<(usize, &Value)> = filters.iter().enumerate().skip(from).filter(sound).collect();
    let in_force = || filters.iter().enumerate().filter(|(_, filter)| backstop::is_in_force(filter));
    if let Some(ours) = &ours {
        let filter = &filters[ours.at];
        past::fails_open(filter).into_iter().for_each(|fault| faults.add(placed(ours.at, fault)));
        let fault = |path: &str, message: String, help| Fault { path: join(&at(ours.at), path), message, help };
        match &ours.config {
            Ok(config) if config.mode == Mode::Shadow => faults.add(fault(
                "mode",
                match in_force().next() {
                    Some(_) => "the mode is `shadow`, and the backstop refuses what shadow mode lets pass".to_owned(),
                    None => "the mode is `shadow`: no request is refused".to_owned(),
                },
                "use `mode: enforce`; while the mode is `shadow`, the backstop needs `shadow_rules` in place of `rules`",
            )),
            Ok(_) => {}
            Err(why) => faults.add(fault(
                "configuration",
                format!("this version of Keyward does not take the configuration: {why}"),
                "look through it with `keyward check`; use the command of the same version as the filter",
            )),
        }
        if behind.is_empty() {
            let is_shadow = matches!(&ours.config, Ok(config) if config.mode == Mode::Shadow);
            let is_idle =
                |filter: &Value| !is_shadow && backstop::is_backstop(filter) && !backstop::is_in_force(filter);
            for (index, _) in filters.iter().enumerate().filter(|(_, filter)| is_idle(filter)) {
                faults.add(Fault {
                    path: join(&at(index), "typed_config"),
                    message: "there are no `rules`, so it refuses nothing".to_owned(),
                    help: "use `rules`: `shadow_rules` only count what they would refuse",
                });
            }
            for (index, filter) in in_force() {
                if index < ours.at {
                    let message = "it is in front of Keyward, where no decision exists yet: it refuses every request";
                    let help = "move it behind Keyward, right before the router";
                    faults.add(Fault { path: at(index), message: message.to_owned(), help });
                }
                backstop::faults(filter).into_iter().for_each(|fault| faults.add(placed(index, fault)));
            }
        }
    }
    for (index, filter) in filters.iter().enumerate().filter(|(_, filter)| any_state_of_ours(filter)) {
        let message =
            format!("`{}` sets the filter state by which the backstop lets requests pass", text(&filter["name"]));
        faults.add(Fault { path: at(index), message, help: "let it set another name" });
    }
    // What the proxy answers itself may be worth a key, too. Where a filter is off by default, a control plane leaves it off for
    // the errors that it answers.
    let matters = |way: &&Way<'_>, off: &Off| match off {
        Off::Here(_) => way.to != To::Proxy || way.answers(),
        Off::ByDefault(..) => way.to != To::Proxy,
    };
    for way in ways {
        let off = |filter: &Value, place: &str, what| off(filter, place, what, way).filter(|off| matters(&way, off));
        if let Some(ours) = &ours {
            faults.extend_off(off(&filters[ours.at], &at(ours.at), "filter"));
        }
        let backstops: Vec<_> = behind.iter().map(|(index, filter)| off(filter, &at(*index), "backstop")).collect();
        // One backstop that is on is enough.
        if backstops.iter().all(Option::is_some) {
            backstops.into_iter().for_each(|off| faults.extend_off(off));
        }
    }
    (ours, !behind.is_empty())
}

/// A filter that is off, or changed, for requests that take one way.
enum Off {
    /// By a setting of the route or of what is around it.
    Here(Fault),
    /// By default: the fault, what the filter is, and the place of the route that does not switch it on.
    ByDefault(Fault, &'static str, String),
}

/// Returns whether a filter is off, or changed, for requests that take this way.
fn off(filter: &Value, place: &str, what: &'static str, way: &Way<'_>) -> Option<Off> {
    let name = text(&filter["name"]);
    let placed = |place: &str, fault: Fault| Fault { path: join(place, &fault.path), ..fault };
    match way.setting(name) {
        Some((level, config)) => Some(Off::Here(placed(level, past::changed_here(name, config, true)?))),
        None => Some(Off::ByDefault(placed(place, past::off(filter, what)?), what, way.place.clone())),
    }
}
