//! Envoy configurations for tests: the shipped `envoy.yaml` with this run's addresses, or small ones made here.

use crate::artifacts::{self, Edition};
use crate::{envoy, workspace};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;

/// The shipped `envoy.yaml` as a value.
///
/// # Panics
/// Panics when it cannot be read.
pub fn shipped() -> Value {
    read("envoy.yaml")
}

/// The shipped `deploy/envoy/shadow.yaml` as a value.
///
/// # Panics
/// Panics when it cannot be read.
pub fn shipped_shadow() -> Value {
    read("deploy/envoy/shadow.yaml")
}

/// The shipped `deploy/envoy/native.yaml` as a value.
///
/// # Panics
/// Panics when it cannot be read.
pub fn shipped_native() -> Value {
    read("deploy/envoy/native.yaml")
}

fn read(name: &str) -> Value {
    let text = std::fs::read_to_string(workspace::root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    parse_yaml(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Reads YAML, or JSON, which is YAML too.
///
/// # Errors
/// Returns an error if it is not well-formed, and says where.
pub fn parse_yaml(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

/// The plugin configuration of the shipped `envoy.yaml`.
///
/// # Panics
/// Panics when it is not where it belongs.
pub fn shipped_plugin() -> Value {
    let config = shipped();
    let plugin = config.pointer(&format!("{HCM}/http_filters/0/typed_config/config/configuration/value"));
    plugin.cloned().unwrap_or_else(|| panic!("envoy.yaml: the first filter has no Struct configuration"))
}

/// The HTTP connection manager of the first listener.
const HCM: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";

/// What adds the edge token to requests, in the cluster of the admin service.
pub const INJECTOR: &str = "/typed_extension_protocol_options/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\
                        /http_filters/0/typed_config/credential/typed_config";

/// Returns whether Envoy itself can write `Bearer ` in front of the token: `header_value_prefix` came with 1.37.
fn knows_the_prefix() -> bool {
    envoy::version() >= (1, 37)
}

/// The shipped configuration for this run: free ports, the module under test, other clusters' addresses.
#[derive(Debug, Clone)]
pub struct Shipped {
    config: Value,
    edition: Edition,
}

impl Shipped {
    /// With the upstream at `upstream`, and keys from `plugin` in place of the admin service's where given.
    pub fn new(upstream: SocketAddr) -> Self {
        Self::of(Edition::of_this_run(), upstream)
    }

    /// The same with an edition that the run does not choose.
    pub fn of(edition: Edition, upstream: SocketAddr) -> Self {
        let config = match edition {
            Edition::Wasm => shipped(),
            Edition::Native => shipped_native(),
        };
        Self::from_config(edition, config, upstream)
    }

    /// The same of `deploy/envoy/native.yaml`.
    pub fn native(upstream: SocketAddr) -> Self {
        Self::of(Edition::Native, upstream)
    }

    /// The same of `deploy/envoy/shadow.yaml`.
    pub fn shadow(upstream: SocketAddr) -> Self {
        Self::from_config(Edition::Wasm, shipped_shadow(), upstream)
    }

    fn from_config(edition: Edition, config: Value, upstream: SocketAddr) -> Self {
        let mut shipped = Self { config, edition };
        if !knows_the_prefix() {
            // What the file tells users of an older Envoy to do.
            let injector = shipped.cluster("keyward_admin").pointer_mut(INJECTOR);
            injector.and_then(Value::as_object_mut).and_then(|injector| injector.remove("header_value_prefix"));
        }
        shipped.set("/admin/address/socket_address/port_value", json!(0));
        shipped.set("/static_resources/listeners/0/address/socket_address/port_value", json!(0));
        shipped.set_cluster_address("records_api", upstream);
        shipped.set_module(&match edition {
            Edition::Wasm => artifacts::module(),
            Edition::Native => artifacts::native(),
        });
        if edition == Edition::Native {
            keep_names_of_metrics(&mut shipped.config);
        }
        shipped
    }

    /// Takes the edge token from a file, which is made here. `folder` must live as long as Envoy.
    pub fn with_admin(mut self, admin: SocketAddr, token: &str, folder: &Path) -> Self {
        self.set_cluster_address("keyward_admin", admin);
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            std::fs::write(&file, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
            file
        };
        let token = write("edge-token", &if knows_the_prefix() { token.to_owned() } else { format!("Bearer {token}") });
        let secret = json!({"resources": [{
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            "name": "keyward_edge_token",
            "generic_secret": {"secret": {"filename": token, "watched_directory": {"path": folder}}},
        }]});
        let secret = write("edge-token.json", &secret.to_string());
        let injector = self.cluster("keyward_admin").pointer_mut(INJECTOR);
        let path = injector.and_then(|injector| injector.pointer_mut("/credential/sds_config/path_config_source/path"));
        *path.unwrap_or_else(|| panic!("envoy.yaml: the admin cluster has no credential injector")) = json!(secret);
        self
    }

    /// Keys from the plugin configuration in place of an admin service.
    pub fn with_manifest(mut self, manifest: Value) -> Self {
        let plugin = self.plugin();
        let fields = plugin.as_object_mut().unwrap_or_else(|| panic!("the plugin's configuration is no object"));
        fields.remove("admin");
        fields.insert("manifest".to_owned(), manifest);
        self
    }

    /// Another module, or another library.
    pub fn set_module(&mut self, module: &Path) {
        let filter = format!("{HCM}/http_filters/0/typed_config");
        let code = match self.edition {
            Edition::Wasm => self.at(&format!("{filter}/config/vm_config/code")),
            Edition::Native => self.at(&format!("{filter}/dynamic_module_config/module")),
        };
        *code = json!({"local": {"filename": module}});
    }

    /// The place of the plugin's configuration in the filter's `typed_config`.
    pub fn plugin_place(&self) -> &'static str {
        match self.edition {
            Edition::Wasm => "/config/configuration/value",
            Edition::Native => "/filter_config/value",
        }
    }

    /// The plugin's configuration, to change.
    pub fn plugin(&mut self) -> &mut Value {
        self.at(&format!("{HCM}/http_filters/0/typed_config{}", self.plugin_place()))
    }

    /// The HTTP connection manager, to change.
    pub fn connection_manager(&mut self) -> &mut Value {
        self.at(HCM)
    }

    /// A cluster, to change.
    ///
    /// # Panics
    /// Panics when there is none of that name.
    pub fn cluster(&mut self, name: &str) -> &mut Value {
        let clusters = self.at("/static_resources/clusters").as_array_mut();
        let mut clusters = clusters.into_iter().flatten();
        let cluster = clusters.find(|cluster| cluster.get("name").and_then(Value::as_str) == Some(name));
        cluster.unwrap_or_else(|| panic!("envoy.yaml: no cluster {name}"))
    }

    /// The whole, for [`crate::envoy::Envoy::start`]. The listener's name is `databases_api`.
    pub fn build(&self) -> Value {
        self.config.clone()
    }

    fn set_cluster_address(&mut self, name: &str, address: SocketAddr) {
        let socket = json!({"address": address.ip().to_string(), "port_value": address.port()});
        let place = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
        let cluster = self.cluster(name);
        *cluster.pointer_mut(place).unwrap_or_else(|| panic!("envoy.yaml: cluster {name} has no endpoint")) = socket;
    }

    fn set(&mut self, place: &str, value: Value) {
        *self.at(place) = value;
    }

    fn at(&mut self, place: &str) -> &mut Value {
        self.config.pointer_mut(place).unwrap_or_else(|| panic!("envoy.yaml: nothing at {place}"))
    }
}

/// How a plugin configuration is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// JSON text, what Istio and Envoy Gateway send.
    StringValue,
    /// What people write in Envoy's YAML.
    Struct,
}

/// One listener with the filter and its backstop in front of one upstream, and no path normalisation: the
/// filter sees the path as it came.
#[derive(Debug, Clone)]
pub struct Listener {
    name: String,
    upstream: SocketAddr,
    connection_manager: Value,
}

impl Listener {
    /// With `plugin` as the filter's configuration. Each listener has a VM of its own, in the WebAssembly edition.
    pub fn new(name: &str, plugin: &Value, encoding: Encoding, upstream: SocketAddr) -> Self {
        Self::of(Edition::of_this_run(), name, plugin, encoding, upstream)
    }

    /// The same in one edition.
    pub fn of(edition: Edition, name: &str, plugin: &Value, encoding: Encoding, upstream: SocketAddr) -> Self {
        let configuration = match encoding {
            Encoding::StringValue => {
                json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": plugin.to_string()})
            }
            Encoding::Struct => json!({"@type": "type.googleapis.com/google.protobuf.Struct", "value": plugin}),
        };
        let filter = match edition {
            Edition::Wasm => wasm_filter(name, &artifacts::module(), &configuration),
            Edition::Native => native_filter(&artifacts::native(), &configuration),
        };
        let connection_manager = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": name,
            "http_filters": [filter, backstop(), router()],
            "access_log": [access_log()],
            "route_config": {"name": name, "virtual_hosts": [{"name": name, "domains": ["*"], "routes": [
                {"name": "all", "match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "30s"}},
                {"name": "connect", "match": {"connect_matcher": {}}, "route": {"cluster": name, "timeout": "30s"}},
            ]}]},
        });
        Self { name: name.to_owned(), upstream, connection_manager }
    }

    /// The connection manager, to change: `/http_filters/0` is the filter, `/http_filters/1` the backstop.
    pub fn connection_manager(&mut self) -> &mut Value {
        &mut self.connection_manager
    }

    /// The `vm_config` of the filter, to change.
    ///
    /// # Panics
    /// Panics when a test took the filter out before.
    pub fn vm_config(&mut self) -> &mut Value {
        let place = "/http_filters/0/typed_config/config/vm_config";
        self.connection_manager.pointer_mut(place).unwrap_or_else(|| panic!("no filter"))
    }

    /// Takes the filter's configuration from a file (ECDS), as Istio delivers it. [`Self::write_ecds`] writes it.
    pub fn discover_filter(&mut self, file: &Path) {
        let filter = self.connection_manager.pointer_mut("/http_filters/0").unwrap_or_else(|| panic!("no filter"));
        let kind = filter.pointer("/typed_config/@type").cloned().unwrap_or_default();
        *filter = json!({"name": "keyward", "config_discovery": {
            "config_source": {"resource_api_version": "V3", "path_config_source": {"path": file}},
            "type_urls": [kind],
        }});
    }

    /// Writes the filter of this listener for one that [discovers](Self::discover_filter) it.
    ///
    /// # Panics
    /// Panics when the file cannot be written.
    pub fn write_ecds(&self, file: &Path, version: &str) {
        let filter = self.connection_manager.pointer("/http_filters/0/typed_config");
        let filter = filter.unwrap_or_else(|| panic!("the filter is discovered itself"));
        let resource = json!({
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": "keyward", "typed_config": filter,
        });
        workspace::replace(file, &json!({"version_info": version, "resources": [resource]}).to_string());
    }

    /// Takes the filter out, as a mistake in a rollout would: the backstop stays.
    pub fn remove_filter(&mut self) {
        let filters = self.connection_manager.get_mut("http_filters").and_then(Value::as_array_mut);
        filters.unwrap_or_else(|| panic!("no filters")).remove(0);
    }

    /// The listener alone, as a resource for a file that Envoy watches.
    pub fn resource(&self) -> Value {
        json!({
            "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
            "name": self.name,
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": self.connection_manager,
            }]}],
        })
    }

    fn cluster(&self) -> Value {
        cluster(&self.name, self.upstream)
    }
}

/// A cluster with one endpoint.
pub fn cluster(name: &str, address: SocketAddr) -> Value {
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address":
            {"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}}}}]}]},
    })
}

/// A whole configuration of listeners, and clusters besides those they bring.
pub fn bootstrap(listeners: &[Listener], clusters: Vec<Value>) -> Value {
    let resources: Vec<Value> = listeners
        .iter()
        .map(|listener| {
            let mut resource = listener.resource();
            resource.as_object_mut().and_then(|fields| fields.remove("@type"));
            resource
        })
        .collect();
    of_resources(resources, listeners.iter().map(Listener::cluster).chain(clusters).collect())
}

/// A whole configuration with these listeners and clusters.
pub fn of_resources(listeners: Vec<Value>, clusters: Vec<Value>) -> Value {
    let mut config = base();
    config["static_resources"] = json!({"listeners": listeners, "clusters": clusters});
    config
}

/// A configuration that takes its listeners from a file (LDS), for tests of updates.
pub fn bootstrap_with_lds(file: &Path, clusters: &[Listener]) -> Value {
    let clusters: Vec<Value> = clusters.iter().map(Listener::cluster).collect();
    let mut config = base();
    config["static_resources"] = json!({"clusters": clusters});
    config["dynamic_resources"] =
        json!({"lds_config": {"resource_api_version": "V3", "path_config_source": {"path": file}}});
    config
}

/// Writes the listeners for [`bootstrap_with_lds`]. Replaces the file in one step, which is what Envoy watches for.
///
/// # Panics
/// Panics when the file cannot be written.
pub fn write_lds(file: &Path, version: &str, listeners: &[Listener]) {
    let resources: Vec<Value> = listeners.iter().map(Listener::resource).collect();
    workspace::replace(file, &json!({"version_info": version, "resources": resources}).to_string());
}

fn base() -> Value {
    let stats = shipped().get("stats_config").cloned().unwrap_or_default();
    let mut config = json!({
        "node": {"id": "testbed", "cluster": "testbed"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "stats_config": stats,
    });
    if Edition::of_this_run() == Edition::Native {
        keep_names_of_metrics(&mut config);
    }
    config
}

/// Switches on what `docs/native.md` says: without it, Envoy puts its own prefix in front of the metrics' names in Prometheus.
fn keep_names_of_metrics(config: &mut Value) {
    const FLAG: &str = "envoy.reloadable_features.dynamic_modules_strip_custom_stat_prefix";
    if envoy::version() >= (1, 40) {
        config["layered_runtime"] = json!({"layers": [{"name": "static", "static_layer": {FLAG: true}}]});
    }
}

/// The filter of the native edition.
pub fn native_filter(module: &Path, configuration: &Value) -> Value {
    json!({
        "name": "keyward",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
            "dynamic_module_config": {
                "module": {"local": {"filename": module}}, "metrics_namespace": "wasmcustom",
            },
            "filter_name": "keyward",
            "filter_config": configuration,
        },
    })
}

fn wasm_filter(vm_id: &str, module: &Path, configuration: &Value) -> Value {
    json!({
        "name": "keyward",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "keyward", "root_id": "keyward", "failure_policy": "FAIL_RELOAD",
                "reload_config": {"backoff": {"base_interval": "0.1s"}},
                "vm_config": {
                    "vm_id": vm_id, "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": module}},
                },
                "configuration": configuration,
            },
        },
    })
}

/// The backstop and the access log are the shipped ones: a test of others would prove nothing.
fn backstop() -> Value {
    shipped().pointer(&format!("{HCM}/http_filters/1")).cloned().unwrap_or_default()
}

fn access_log() -> Value {
    shipped().pointer(&format!("{HCM}/access_log/0")).cloned().unwrap_or_default()
}

fn router() -> Value {
    json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    })
}
