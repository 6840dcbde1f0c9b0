//! The files of a gateway that the Kubernetes Gateway API describes, under traffic. It is a manual deployment: a Service, and a
//! pod that no kubelet runs, whose agent runs here.

use crate::deploy::File;
use crate::dump::backstops;
use crate::istio::NAMESPACE;
use crate::istio_checks::Istio;
use crate::process::{PATIENCE, free_port};
use crate::report::Part;
use crate::stage::{Door, HOST};
use keyward_testbed::{envoy, wait};
use serde_json::json;

/// The address of the Service's endpoint. An API server takes none on loopback, and nothing is sent to this one.
const ENDPOINT: &str = "198.51.100.1";
/// The name of the Gateway's pod.
const POD: &str = "gateway-api";

impl Istio {
    /// Gives Istio `gateway-api.yaml` and its backstop.
    pub fn check_gateway_api(&mut self, part: &mut Part<'_>) {
        let (first, second) = (Door::plain(free_port()), Door::plain(free_port()));
        let (service, gateway) = (service(first, second), gateway(first, second));
        let plugin = self.filter("istio/gateway-api.yaml");
        let backstop = File::read("istio/gateway-api-backstop.yaml");
        let Self { stage, cluster, istiod, first: of_another_kind, .. } = self;
        part.steps(|part| {
            cluster.apply(&service);
            let labels = json!({"gateway.networking.k8s.io/gateway-name": "databases"});
            let proxy = istiod.start_proxy(POD, "router", NAMESPACE, &labels, &envoy::binary());
            let (id, key) = stage.create_key("by Gateway API");
            // Releases older than 1.31 give a Gateway no listeners while they know no endpoint of its Service, and an
            // endpoint that comes later does not count as a change.
            wait::until("istiod knows the endpoint", PATIENCE, || {
                proxy.config_dump().to_string().contains(ENDPOINT).then_some(())
            });
            cluster.apply(&gateway);
            for door in [first, second] {
                stage.wait_for_status(door, None, 200);
            }
            cluster.apply(plugin.text());
            part.check("Gateway API: a keyless request gets 401 key_missing at every listener", || {
                stage.assert_keyless_is_refused(first);
                stage.assert_keyless_is_refused(second);
            });
            cluster.apply(backstop.text());
            part.check("Gateway API: a key passes, and the application is told whose it is", || {
                stage.assert_key_passes(first, &id, &key);
                stage.assert_key_passes(second, &id, &key);
            });
            part.check("Gateway API: every VM polls, the main thread's too", || {
                stage.assert_every_vm_of_node_polls("~gateway-api.");
            });
            part.check("Gateway API: the backstop is right before the router of each listener", || {
                wait::until("two chains with a backstop", PATIENCE, || {
                    (backstops(&proxy.config_dump()) == 2).then_some(())
                });
            });
            part.check("Gateway API: a gateway of another kind in the namespace is untouched", || {
                stage.wait_for_status(*of_another_kind, None, 200);
            });
            part.check("Gateway API: a deleted key is refused", || stage.assert_deletion_holds(first, &id, &key));
            cluster.delete(plugin.text());
            part.check("Gateway API: without the filter the backstop refuses", || {
                stage.wait_for_status(first, None, 403);
                stage.wait_for_status(second, None, 403);
            });
        });
        for resources in [backstop.text(), plugin.text(), &gateway, &service] {
            cluster.delete(resources);
        }
    }
}

/// The Service of the Gateway's pods with an endpoint, and the pod. Without the pod, istiod takes its labels from the agent, and
/// at a commit before 1.31 (b01690e6db7d, `computeProxyState` in pilot/pkg/xds/ads.go) it looks for the agent's Services
/// before it has read them: the Gateway then has no listeners until one of these Services changes.
fn service(first: Door, second: Door) -> String {
    let (first, second) = (first.port, second.port);
    format!(
        "apiVersion: v1
kind: ServiceAccount
metadata: {{name: default, namespace: {NAMESPACE}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {POD}, namespace: {NAMESPACE}, labels: {{gateway.networking.k8s.io/gateway-name: databases}}}}
spec: {{automountServiceAccountToken: false, containers: [{{name: istio-proxy, image: auto}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: databases-istio, namespace: {NAMESPACE}}}
spec:
  selector: {{gateway.networking.k8s.io/gateway-name: databases}}
  ports:
  - {{name: first, port: {first}}}
  - {{name: second, port: {second}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: databases-istio, namespace: {NAMESPACE}, labels: {{kubernetes.io/service-name: databases-istio}}}}
addressType: IPv4
endpoints: [{{addresses: [{ENDPOINT}]}}]
ports: [{{name: first, port: {first}}}, {{name: second, port: {second}}}]
"
    )
}

/// A Gateway with two listeners, and the protected host's route.
fn gateway(first: Door, second: Door) -> String {
    let (first, second) = (first.port, second.port);
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: istio}}
spec: {{controllerName: istio.io/gateway-controller}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: databases, namespace: {NAMESPACE}}}
spec:
  gatewayClassName: istio
  addresses: [{{type: Hostname, value: databases-istio.{NAMESPACE}.svc.cluster.local}}]
  listeners:
  - {{name: first, protocol: HTTP, port: {first}}}
  - {{name: second, protocol: HTTP, port: {second}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: records, namespace: {NAMESPACE}}}
spec:
  parentRefs: [{{name: databases}}]
  hostnames: [{HOST}]
  rules:
  - backendRefs: [{{group: networking.istio.io, kind: Hostname, name: records.default.svc.cluster.local, port: 8090}}]
"
    )
}
