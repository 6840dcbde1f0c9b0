//! The order of functions in the module that is shipped.
//!
//! Envoy has V8 compile a module at once and in the order of its functions, so functions that are next to each other in
//! the module are next to each other in memory. When a request arrives, the caches are full of the proxy's other work, so
//! its cost depends on the number of pages of machine code that it touches. The compiler's order is by size, which
//! spreads the functions of a request over 60 pages; in this order they take 23 (sampled with `perf` in Envoy 1.40 on
//! Linux, x86-64).

use anyhow::{Context as _, Result};
use std::collections::HashMap;
use std::convert::Infallible;
use wasm_encoder::reencode::{self, Reencode};
use wasmparser::{FunctionBody, KnownCustom, Name, Parser, Payload, TypeRef};

/// The functions that ordinary requests run, roughly in the order of their calls. Functions that the compiler has inlined
/// everywhere are skipped.
const REQUESTS: &[&str] = &[
    "keyward_on_context_create",
    "keyward_on_request_headers",
    "keyward_on_delete",
    "keyward_malloc",
    "keyward_edge::http::run",
    "keyward_edge::http::record",
    "keyward_edge::head::Headers::parse",
    "keyward_edge::head::Headers::head",
    "keyward_filter::host::clock",
    "keyward_filter::host::recycle",
    "keyward_edge::forward::set_identity",
    "<keyward_filter::source::Source as keyward_edge::host::Source>::record_use",
    "keyward_request::decide",
    "keyward_policy::path::CanonicalPath::parse_with",
    "<keyward_policy::path::Segments as core::iter::traits::iterator::Iterator>::next",
    "keyward_policy::route::Search<F>::visit",
    "keyward_policy::route::Search<F>::visit_bucket",
    "keyward_policy::route::Search<F>::visit_list",
    "keyward_policy::route::Search<F>::find",
    "keyward_policy::route::Routes::compare",
    "keyward_policy::rule::Rule::has_method",
    "memcmp",
    "keyward_policy::digest::Digest::of_key",
    "sha2::sha256::compress256",
    "keyward_policy::table::key_table::KeyTable::get",
    "keyward_policy::table::base::Base::get",
    "keyward_policy::table::base::Base::number_of_digest",
    "keyward_policy::table::base::Base::view",
    "keyward_policy::table::base::entry_id",
    "core::str::converts::from_utf8",
    "keyward_policy::permission::PermissionSet::contains",
    "keyward_policy::key::KeyId::as_str",
    "keyward_policy::header::encode_value",
    "keyward_policy::sync::ManifestSync::keys",
    "keyward_policy::usage::UsageLog::record",
];

/// The number of [`REQUESTS`] that a module has at least. With fewer the list is out of date.
const EXPECTED: usize = REQUESTS.len() * 2 / 3;

/// Moves the functions that requests run to the front, and removes all custom sections.
///
/// # Errors
/// Returns an error when the bytes are not a module with names, or most of [`REQUESTS`] are not in it.
pub fn requests_first(bytes: &[u8]) -> Result<Vec<u8>> {
    let module = Module::read(bytes)?;
    let place = |name: &str| REQUESTS.iter().position(|wanted| *wanted == name);
    let mut order: Vec<(usize, u32)> = (0..module.bodies.len() as u32)
        .map(|function| {
            let name = module.names.get(&(module.imported + function));
            (name.and_then(|name| place(name)).unwrap_or(REQUESTS.len()), function)
        })
        .collect();
    let found = order.iter().filter(|(place, _)| *place < REQUESTS.len()).count();
    anyhow::ensure!(
        found >= EXPECTED,
        "the module has only {found} of the {} functions in REQUESTS (xtask/src/order.rs): bring the list up to date",
        REQUESTS.len()
    );
    order.sort_unstable();
    module.write(bytes, order.into_iter().map(|(_, function)| function).collect())
}

/// The parts of a module that have to be read before it can be written.
struct Module<'a> {
    imported: u32,
    types: Vec<u32>,
    bodies: Vec<FunctionBody<'a>>,
    /// The names of the functions, demangled and without hashes.
    names: HashMap<u32, String>,
}

impl<'a> Module<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut module = Self { imported: 0, types: Vec::new(), bodies: Vec::new(), names: HashMap::new() };
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        module.imported += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                    }
                }
                Payload::FunctionSection(types) => module.types = types.into_iter().collect::<Result<_, _>>()?,
                Payload::CodeSectionEntry(body) => module.bodies.push(body),
                Payload::CustomSection(section) => {
                    let KnownCustom::Name(subsections) = section.as_known() else { continue };
                    for subsection in subsections {
                        let Name::Function(names) = subsection? else { continue };
                        for name in names {
                            let name = name?;
                            module.names.insert(name.index, format!("{:#}", rustc_demangle::demangle(name.name)));
                        }
                    }
                }
                _ => {}
            }
        }
        anyhow::ensure!(!module.names.is_empty(), "the module has no names");
        Ok(module)
    }

    fn write(&self, bytes: &[u8], order: Vec<u32>) -> Result<Vec<u8>> {
        let mut moved = vec![0; order.len()];
        for (new, old) in (0..).zip(&order) {
            if let Some(place) = moved.get_mut(*old as usize) {
                *place = new;
            }
        }
        let mut writer = Writer { module: self, order, moved };
        let mut out = wasm_encoder::Module::new();
        let mut has_code = false;
        for payload in Parser::new(0).parse_all(bytes) {
            macro_rules! copy {
                ($section:ident, $kind:ident, $parse:ident) => {{
                    let mut section = wasm_encoder::$kind::new();
                    writer.$parse(&mut section, $section)?;
                    out.section(&section);
                }};
            }
            match payload? {
                Payload::TypeSection(types) => copy!(types, TypeSection, parse_type_section),
                Payload::ImportSection(imports) => copy!(imports, ImportSection, parse_import_section),
                Payload::FunctionSection(functions) => copy!(functions, FunctionSection, parse_function_section),
                Payload::TableSection(tables) => copy!(tables, TableSection, parse_table_section),
                Payload::MemorySection(memories) => copy!(memories, MemorySection, parse_memory_section),
                Payload::GlobalSection(globals) => copy!(globals, GlobalSection, parse_global_section),
                Payload::ExportSection(exports) => copy!(exports, ExportSection, parse_export_section),
                Payload::ElementSection(elements) => copy!(elements, ElementSection, parse_element_section),
                Payload::DataSection(data) => copy!(data, DataSection, parse_data_section),
                Payload::DataCountSection { count, .. } => {
                    out.section(&wasm_encoder::DataCountSection { count });
                }
                Payload::StartSection { func, .. } => {
                    let function_index = writer.function_index(func)?;
                    out.section(&wasm_encoder::StartSection { function_index });
                }
                Payload::CodeSectionEntry(_) if !has_code => {
                    has_code = true;
                    let mut section = wasm_encoder::CodeSection::new();
                    for function in writer.order.clone() {
                        let body = self.bodies.get(function as usize).context("a function has no body")?;
                        writer.parse_function_body(&mut section, body.clone())?;
                    }
                    out.section(&section);
                }
                _ => {}
            }
        }
        Ok(out.finish())
    }
}

/// Copies sections with the new numbers of functions.
struct Writer<'m, 'a> {
    module: &'m Module<'a>,
    order: Vec<u32>,
    /// The new number of each function. Imported functions do not count.
    moved: Vec<u32>,
}

impl Reencode for Writer<'_, '_> {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error> {
        let imported = self.module.imported;
        let moved = function.checked_sub(imported).and_then(|own| self.moved.get(own as usize));
        Ok(moved.map_or(function, |own| imported + own))
    }

    fn parse_function_section(
        &mut self,
        section: &mut wasm_encoder::FunctionSection,
        _: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), reencode::Error> {
        for function in &self.order {
            let kind = self.module.types.get(*function as usize).copied();
            section.function(kind.ok_or(reencode::Error::InvalidCodeSectionSize)?);
        }
        Ok(())
    }
}
