//! `keyward check`: reports what the filter would say about a configuration, before Envoy loads it.

use super::error::{CommandError, end_with};
use super::exit::Exit;
use super::input::{in_file, read_text};
use super::output;
use crate::catalogue::Catalogue;
use crate::plugin_config::document::Source;
use crate::plugin_config::finding::Finding;
use crate::plugin_config::report::{Options, Report, check};
use crate::plugin_config::versions::{Version, Versions};
use clap::Args;
use keyward_policy::count::counted;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Check a plugin configuration, alone or inside Envoy, Istio or Envoy Gateway files
///
/// Files that belong together, such as a WasmPlugin and the EnvoyFilter with its backstop, are checked together.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The files, YAML or JSON; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Treat warnings as errors
    #[arg(long)]
    strict: bool,
    /// The permission catalogue, TOML or JSON; without it, the built-in one is used if the rules use it
    #[arg(long, value_name = "FILE", env = "KEYWARD_PERMISSIONS")]
    catalogue: Option<PathBuf>,
    /// The version of Istio that the files are for, such as 1.27 or 1.27.3
    #[arg(long, value_name = "VERSION")]
    istio: Option<Version>,
    /// The version of Envoy Gateway that the files are for, such as 1.8 or 1.8.2
    #[arg(long, value_name = "VERSION")]
    envoy_gateway: Option<Version>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &CheckArgs) -> Exit {
    end_with(match reports(args) {
        Ok(reports) => show(args, &reports),
        Err(error) if args.json => {
            let written = output::json_line(&json!({"ok": false, "error": error.message}));
            written.map_err(CommandError::from).map(|()| error.exit)
        }
        Err(error) => Err(error),
    })
}

fn reports(args: &CheckArgs) -> Result<Vec<Report>, CommandError> {
    let catalogue = args.catalogue.as_ref().map(|file| {
        let invalid = |error| CommandError::invalid(in_file(file, error));
        read_text(file).and_then(|text| Catalogue::parse(&text).map_err(invalid))
    });
    let options = Options {
        versions: Versions { istio: args.istio, envoy_gateway: args.envoy_gateway },
        catalogue: catalogue.transpose()?,
    };
    let mut texts = Vec::new();
    for file in &args.files {
        texts.push((file.display().to_string(), read_text(file)?));
    }
    let sources: Vec<Source<'_>> = texts.iter().map(|(name, text)| Source { name, text }).collect();
    check(&sources, &options).map_err(|(number, error)| {
        let name = texts.get(number).map_or("", |(name, _)| name);
        CommandError::invalid(format!("{name}: {error}"))
    })
}

fn show(args: &CheckArgs, reports: &[Report]) -> Result<Exit, CommandError> {
    let failed = reports.iter().any(|report| !report.errors.is_empty() || (args.strict && !report.warnings.is_empty()));
    if args.json {
        let reports: Vec<Value> = reports.iter().map(to_json).collect();
        output::json_line(&json!({"ok": !failed, "configurations": reports}))?;
    } else {
        for report in reports {
            output::line(&to_text(args, report))?;
        }
    }
    Ok(if failed { Exit::Invalid } else { Exit::Ok })
}

fn to_json(report: &Report) -> Value {
    let finding = |finding: &Finding| json!({"path": finding.path, "line": finding.line, "message": finding.message, "help": finding.help});
    json!({
        "place": report.place,
        "passes_without_key": report.lets_pass,
        "rules": report.rules,
        "keys": report.keys,
        "errors": report.errors.iter().map(finding).collect::<Vec<_>>(),
        "warnings": report.warnings.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn to_text(args: &CheckArgs, report: &Report) -> String {
    let mut lines = vec![match (&args.files[..], report.place.as_str()) {
        ([file], "") => file.display().to_string(),
        ([file], place) => in_file(file, place),
        (_, place) => place.to_owned(),
    }];
    for (kind, findings) in [("error", &report.errors), ("warning", &report.warnings)] {
        for finding in findings {
            let at = match (finding.path.as_str(), finding.line) {
                ("", _) => String::new(),
                (path, None) => format!("{path}: "),
                (path, Some(line)) => format!("{path} (line {line}): "),
            };
            lines.push(format!("  {kind}: {at}{}\n    help: {}", finding.message, finding.help));
        }
    }
    let count = |number: usize, noun| counted(number as u64, noun);
    let warnings = count(report.warnings.len(), "warning");
    let mut summary = match (report.errors.len(), report.refused) {
        (0, _) => format!("  ok: {}, {}, {warnings}", count(report.rules, "rule"), count(report.keys, "key")),
        (errors, true) => format!("  invalid: {}; the filter refuses this configuration", count(errors, "error")),
        (errors, false) => format!("  invalid: {}, {warnings}", count(errors, "error")),
    };
    if report.lets_pass {
        summary.push_str("; not safe as given: requests can pass without a key");
    }
    lines.push(summary);
    lines.join("\n")
}
