//! Envoy's log as the destination of the `log` crate.

use crate::abi;
use crate::host;
use log::{Level, LevelFilter, Log, Metadata, Record};

struct EnvoyLog;

static LOGGER: EnvoyLog = EnvoyLog;

/// Sends what is logged to Envoy's log, under the id `dynamic_modules`.
pub fn install() {
    // It fails where the library was loaded before and has stayed in memory: then the logger is there already.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(LevelFilter::Info);
}

impl Log for EnvoyLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            Level::Error => abi::LOG_ERROR,
            Level::Warn => abi::LOG_WARN,
            Level::Info => abi::LOG_INFO,
            Level::Debug | Level::Trace => abi::LOG_DEBUG,
        };
        host::log(level, &record.args().to_string());
    }

    fn flush(&self) {}
}
