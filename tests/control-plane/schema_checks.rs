//! The shipped files, given to an API server with the CRDs of a release. No control plane runs, so this takes no Go build of
//! one: it is what `cargo xtask control-planes --changed` does with a release between the oldest and the newest.

use crate::cluster::Cluster;
use crate::programs::Module;
use crate::report::Report;
use crate::{deploy, envoy_gateway, istio, record};
use keyward_testbed::workspace;

#[test]
#[ignore = "needs the control planes: cargo xtask control-planes"]
fn the_istio_files_fit_the_crds() {
    check("KEYWARD_ISTIO", "istio", istio::install_crds);
}

#[test]
#[ignore = "needs the control planes: cargo xtask control-planes"]
fn the_envoy_gateway_files_fit_the_crds() {
    check("KEYWARD_ENVOY_GATEWAY", "envoy-gateway", envoy_gateway::install_crds);
}

fn check(variable: &str, files: &str, install_crds: impl FnOnce(&Module, &Cluster)) {
    let module = Module::from_environment(variable);
    let mut report = Report::of_release(&module);
    let folder = workspace::scratch("schemas");
    let cluster = Cluster::start(folder.path());
    install_crds(&module, &cluster);
    report.part("schemas", |part| deploy::check_schemas(part, &cluster, &module, files));
    report.finish();
    record::keep_inputs(&module, &[files]);
}
