//! `keyward check`: reports what the filter would say about a configuration, before Envoy loads it.

use super::error::{CommandError, end_with};
use super::exit::Exit;
use super::input::{in_file, read_text};
use super::output;
use crate::plugin_config::report::{Report, check};
use clap::Args;
use keyward_policy::config::Problem;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Check a plugin configuration, alone or inside an Envoy, WasmPlugin or EnvoyExtensionPolicy file
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The file, YAML or JSON; `-` is standard input
    file: PathBuf,
    /// Treat warnings as errors
    #[arg(long)]
    strict: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &CheckArgs) -> Exit {
    let reports = read_text(&args.file)
        .and_then(|text| check(&text).map_err(|error| CommandError::invalid(in_file(&args.file, error))));
    end_with(match reports {
        Ok(reports) => show(args, &reports),
        Err(error) if args.json => output::json_line(&json!({"ok": false, "error": error.message}))
            .map_err(CommandError::from)
            .map(|()| error.exit),
        Err(error) => Err(error),
    })
}

fn show(args: &CheckArgs, reports: &[Report]) -> Result<Exit, CommandError> {
    let failed = reports.iter().any(|report| !report.errors.is_empty() || (args.strict && !report.warnings.is_empty()));
    if args.json {
        let reports: Vec<Value> = reports.iter().map(to_json).collect();
        output::json_line(&json!({"ok": !failed, "configurations": reports}))?;
    } else {
        for report in reports {
            output::line(&to_text(&args.file, report))?;
        }
    }
    Ok(if failed { Exit::Invalid } else { Exit::Ok })
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

fn to_text(file: &Path, report: &Report) -> String {
    let mut lines = vec![match report.place.as_str() {
        "" => file.display().to_string(),
        place => in_file(file, place),
    }];
    for (kind, problems) in [("error", &report.errors), ("warning", &report.warnings)] {
        for problem in problems {
            let at = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
            lines.push(format!("  {kind}: {at}{}\n    help: {}", problem.message, problem.help));
        }
    }
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    lines.push(if report.errors.is_empty() {
        let (rules, keys) = (count(report.rules, "rule"), count(report.keys, "key"));
        format!("  ok: {rules}, {keys}, {}", count(report.warnings.len(), "warning"))
    } else {
        format!("  invalid: {}; the filter refuses this configuration", count(report.errors.len(), "error"))
    });
    lines.join("\n")
}
