//! Changes to the compiled module before it is shipped.

use anyhow::{Context as _, Result};

/// The callbacks that the filter implements. The SDK exports all callbacks, and Envoy calls each exported one for every
/// request, so unused ones would only cost time.
const CALLBACKS: &[&str] = &[
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_tick",
    "proxy_on_request_headers",
    // These two keep a paused request paused where the plugin receives bodies, and the second one cleans trailers. They
    // cost nothing for a request without a body or trailers.
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_http_call_response",
    "proxy_on_delete",
];

/// Removes the exports of unused callbacks, and the code that becomes unreachable by that.
///
/// # Errors
/// Returns an error when the bytes are not a module, or the module lacks a callback that the filter implements.
pub fn trim(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut module = walrus::ModuleConfig::new()
        .generate_name_section(true)
        .generate_producers_section(false)
        .parse(bytes)
        .context("the compiled module cannot be read")?;
    replace_entry_points(&mut module);
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
    empty_unused_methods(&mut module);
    silence_quotes(&mut module);
    walrus::passes::gc::run(&mut module);
    Ok(module.emit_wasm())
}

/// Exports the filter's own callbacks of requests (`src/entry.rs`) and its `malloc` (`src/host.rs`) in place of the
/// SDK's. They are named `keyward_…` in the code because the SDK defines the exported names.
fn replace_entry_points(module: &mut walrus::Module) {
    let own: Vec<_> = module
        .exports
        .iter()
        .filter_map(|export| {
            let own = export.name.strip_prefix("keyward_")?;
            Some((export.id(), if own.starts_with("on_") { format!("proxy_{own}") } else { own.to_owned() }))
        })
        .collect();
    for (id, name) in own {
        let sdk = module.exports.iter().find(|export| export.name == name).map(|export| export.id());
        if let Some(sdk) = sdk {
            module.exports.delete(sdk);
        }
        module.exports.get_mut(id).name = name;
    }
}

/// Replaces the bodies of the SDK's unused methods by a trap.
///
/// The SDK's context traits have a method for each function of the proxy, and a trait object refers to all of them. The
/// filter calls the proxy itself (`src/host.rs`), so these methods are never called, which the linker cannot know. A
/// method is emptied if it has the trait's own body, is not a callback, and is referred to only by a table; if one were
/// called, the tests would see the trap. This made the module 30 KB smaller when it had 377 KB.
fn empty_unused_methods(module: &mut walrus::Module) {
    let called = called_functions(module);
    let is_unused = |id: &walrus::FunctionId, name: &str| !called.contains(id) && is_unused_method(name);
    replace_bodies(module, is_unused, |body| {
        body.unreachable();
    });
}

/// Takes out words that nobody may read, and the code that writes them.
///
/// A panic's message shows values with `Debug`, and a value may be of a request; nothing else in the module prints with
/// `Debug`. A panic still says where it was, and ends the VM as before. The JSON parser quotes a value of a wrong type, and
/// a page's values are digests: the filter says only where the value is (`place` in
/// `crates/keyward-policy/src/sync/page.rs`), and a configuration's values may have any type.
fn silence_quotes(module: &mut walrus::Module) {
    let prints = |_: &walrus::FunctionId, name: &str| {
        name.contains(" as core::fmt::Debug>::fmt")
            || name.contains("<serde_json::error::JsonUnexpected as core::fmt::Display>::fmt")
    };
    replace_bodies(module, prints, |body| {
        // `Ok(())`: nothing was printed, and nothing went wrong.
        body.i32_const(0);
    });
    let quotes = |_: &walrus::FunctionId, name: &str| name.starts_with("core::str::slice_error_fail");
    replace_bodies(module, quotes, |body| {
        body.unreachable();
    });
}

/// Gives other bodies to the functions that `which` chooses, by their numbers and demangled names.
fn replace_bodies(
    module: &mut walrus::Module,
    which: impl Fn(&walrus::FunctionId, &str) -> bool,
    write: impl Fn(&mut walrus::InstrSeqBuilder<'_>),
) {
    let chosen: Vec<_> = module
        .funcs
        .iter_local()
        .map(|(id, _)| id)
        .filter(|id| module.funcs.get(*id).name.as_deref().is_some_and(|name| which(id, &demangled(name))))
        .collect();
    for id in chosen {
        let function = module.funcs.get(id);
        let (parameters, results) = {
            let kind = module.types.get(function.ty());
            (kind.params().to_vec(), kind.results().to_vec())
        };
        let mut empty = walrus::FunctionBuilder::new(&mut module.types, &parameters, &results);
        write(&mut empty.func_body());
        let arguments = parameters.iter().map(|kind| module.locals.add(*kind)).collect();
        module.funcs.get_mut(id).kind = walrus::FunctionKind::Local(empty.local_func(arguments));
    }
}

fn demangled(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}

/// Returns the functions that another function calls directly.
fn called_functions(module: &walrus::Module) -> std::collections::HashSet<walrus::FunctionId> {
    struct Calls(std::collections::HashSet<walrus::FunctionId>);
    impl<'i> walrus::ir::Visitor<'i> for Calls {
        fn visit_function_id(&mut self, function: &walrus::FunctionId) {
            self.0.insert(*function);
        }
    }
    let mut calls = Calls(Default::default());
    for (_, function) in module.funcs.iter_local() {
        walrus::ir::dfs_in_order(&mut calls, function, function.entry_block());
    }
    calls.0
}

/// Returns whether a function is a method of the SDK's traits with the traits' own body, other than a callback.
fn is_unused_method(name: &str) -> bool {
    let traits = ["Context", "RootContext", "HttpContext", "StreamContext"];
    let method = traits.iter().find_map(|kind| name.strip_prefix(&format!("proxy_wasm::traits::{kind}::")));
    let callbacks = ["on_", "create_", "get_type", "exec"];
    method.is_some_and(|method| !callbacks.iter().any(|start| method.starts_with(start)))
}

fn kept(name: &str) -> bool {
    // Envoy allocates memory of the module through this one.
    name == "proxy_on_memory_allocate" || CALLBACKS.contains(&name)
}
