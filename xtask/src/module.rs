//! What is done to the compiled module before it is shipped.

use anyhow::{Context as _, Result};

/// The callbacks that the filter acts on. The SDK exports all there are, and Envoy calls each that is
/// exported for every request: those that would do nothing cost time for nothing.
const CALLBACKS: &[&str] = &[
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_tick",
    "proxy_on_request_headers",
    // These two keep a paused request paused where the plugin is set to see bodies all the same; a request
    // without a body costs nothing.
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_http_call_response",
    "proxy_on_delete",
];

/// Removes the exports of callbacks that are not used, and then whatever code nothing reaches any more.
///
/// # Errors
/// When the bytes are no module, or it lacks a callback that the filter is made of.
pub fn trim(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut module = walrus::ModuleConfig::new()
        .generate_name_section(false)
        .generate_producers_section(false)
        .parse(bytes)
        .context("the compiled module cannot be read")?;
    let unused: Vec<_> = module
        .exports
        .iter()
        .filter(|export| export.name.starts_with("proxy_on_") && !kept(&export.name))
        .map(|export| export.id())
        .collect();
    for export in unused {
        module.exports.delete(export);
    }
    for callback in CALLBACKS {
        let exported = module.exports.iter().any(|export| export.name == *callback);
        anyhow::ensure!(exported, "the compiled module has no {callback}");
    }
    walrus::passes::gc::run(&mut module);
    Ok(module.emit_wasm())
}

fn kept(name: &str) -> bool {
    // Envoy allocates in the module's memory through this one.
    name == "proxy_on_memory_allocate" || CALLBACKS.contains(&name)
}
