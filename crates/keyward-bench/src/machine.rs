//! The machine that the figures were measured on.

use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// Returns the processor, cores, kernel, versions, and the load that the machine had from other work.
pub fn describe() -> Value {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let memory = read("/proc/meminfo");
    json!({
        "processor": model.trim_start_matches(['\t', ' ', ':']),
        "cores": cores,
        "memory": memory.lines().next().unwrap_or_default().trim_start_matches("MemTotal:").trim(),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_average": read("/proc/loadavg").split(' ').next().unwrap_or_default(),
        "envoy": said(Command::new(keyward_testbed::envoy::binary()).arg("--version")),
        "rustc": said(Command::new("rustc").arg("--version")),
    })
}

fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    // Envoy prints its own path before its version.
    line.split_once("version: ").map_or(line, |(_, version)| version).trim().to_owned()
}
