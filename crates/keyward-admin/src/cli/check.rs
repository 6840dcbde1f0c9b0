//! `keyward check`: what the filter would say to a configuration, before Envoy does.

mod around;
mod find;
mod lint;
#[cfg(test)]
mod tests;

pub use find::{Found, find, is_plugin_config};

use super::document;
use super::exit::Exit;
use clap::Args;
use keyward_policy::config::{Config, Problem};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Check a plugin configuration, alone or inside an Envoy, WasmPlugin or EnvoyExtensionPolicy file
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The file, YAML or JSON; `-` is standard input
    file: PathBuf,
    /// Warnings are errors
    #[arg(long)]
    strict: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// What is to be said of one configuration.
#[derive(Debug, Default)]
pub struct Report {
    /// Where the configuration stands in the file.
    pub place: String,
    /// Why the filter would refuse it.
    pub errors: Vec<Problem>,
    /// What is worth a look.
    pub warnings: Vec<Problem>,
    /// How many rules it has.
    pub rules: usize,
    /// How many keys it carries.
    pub keys: usize,
}

/// Runs the command.
pub fn run(args: &CheckArgs) -> Exit {
    let reports = match check_file(&args.file) {
        Ok(reports) => reports,
        Err((exit, message)) => {
            if args.json {
                println!("{}", json!({"ok": false, "error": message}));
            } else {
                eprintln!("error: {message}");
            }
            return exit;
        }
    };
    let failed = reports.iter().any(|report| !report.errors.is_empty() || (args.strict && !report.warnings.is_empty()));
    if args.json {
        println!("{}", json!({"ok": !failed, "configurations": reports.iter().map(to_json).collect::<Vec<_>>()}));
    } else {
        for report in &reports {
            print(&args.file, report);
        }
    }
    if failed { Exit::Invalid } else { Exit::Ok }
}

/// Checks every configuration in a file.
///
/// # Errors
/// Where the file cannot be read, or has no configuration of ours.
pub fn check_file(file: &Path) -> Result<Vec<Report>, (Exit, String)> {
    check_text(file, &document::read_text(file)?)
}

fn check_text(file: &Path, text: &str) -> Result<Vec<Report>, (Exit, String)> {
    // JSON goes to the filter's own reader as it stands: it sees repeated fields, which a YAML value no longer shows.
    if serde_json::from_str::<Value>(text).is_ok_and(|value| is_plugin_config(&value)) {
        return Ok(vec![report(String::new(), text.as_bytes(), &[])]);
    }
    let documents = document::parse(file, text)?;
    let mut reports = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        for found in find(document) {
            let alone = found.place.is_empty() && documents.len() == 1;
            let place = in_document(&documents, index, &found.place);
            reports.push(report(place, &found.bytes, if alone { &[] } else { &documents }));
        }
    }
    if reports.is_empty() {
        // Said by the filter's own reader where the file is nothing else either.
        let message = "no Keyward configuration in it";
        let help = "expected a plugin configuration, or an Envoy, WasmPlugin or EnvoyExtensionPolicy file with one";
        return Err((Exit::Invalid, format!("{}: {message}\n  help: {help}", file.display())));
    }
    Ok(reports)
}

/// Where something stands in a file.
fn in_document(documents: &[Value], index: usize, place: &str) -> String {
    match (documents.len(), place) {
        (1, place) => place.to_owned(),
        (_, "") => format!("document {}", index + 1),
        (_, place) => format!("document {}: {place}", index + 1),
    }
}

/// Checks one configuration, and what is around it in its file.
fn report(place: String, bytes: &[u8], around: &[Value]) -> Report {
    match Config::parse(bytes) {
        Err(errors) => Report { place, errors: errors.problems().to_vec(), ..Report::default() },
        Ok(config) => {
            let mut warnings = lint::lint_config(&config);
            warnings.extend(around::lint_file(around, &config));
            for (index, document) in around.iter().enumerate() {
                let found = around::lint_document(document, &config).into_iter();
                warnings.extend(
                    found.map(|problem| Problem { path: in_document(around, index, &problem.path), ..problem }),
                );
            }
            let keys = config.manifest.as_ref().map_or(0, |manifest| manifest.keys.len());
            Report { place, errors: Vec::new(), warnings, rules: config.routes.rules().len(), keys }
        }
    }
}

fn to_json(report: &Report) -> Value {
    let problem = |problem: &Problem| json!({"path": problem.path, "message": problem.message, "help": problem.help});
    json!({
        "place": report.place,
        "rules": report.rules,
        "keys": report.keys,
        "errors": report.errors.iter().map(problem).collect::<Vec<_>>(),
        "warnings": report.warnings.iter().map(problem).collect::<Vec<_>>(),
    })
}

fn print(file: &Path, report: &Report) {
    let name = if report.place.is_empty() {
        file.display().to_string()
    } else {
        format!("{}: {}", file.display(), report.place)
    };
    println!("{name}");
    for (kind, problems) in [("error", &report.errors), ("warning", &report.warnings)] {
        for problem in problems {
            let at = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
            println!("  {kind}: {at}{}\n    help: {}", problem.message, problem.help);
        }
    }
    if report.errors.is_empty() {
        println!("  ok: {} rules, {} keys, {} warnings", report.rules, report.keys, report.warnings.len());
    } else {
        println!("  invalid: {} errors; the filter refuses this configuration", report.errors.len());
    }
}
