//! The arguments of `keyward verify`.

use clap::Args;
use std::path::PathBuf;

/// Ask a running gateway whether Keyward and its backstop are in place
///
/// Sends a request without a key, one with a key that does not exist, and asks for readiness if the configuration has a path for it. The
/// backstop is looked at only with --envoy-admin. Nothing is changed. Lines begin with ✓ for what is as it should be, ✗ for what is not,
/// ? for what could not be looked at, and - for what need not be.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The gateway, such as <https://api.example.com>
    #[arg(value_name = "URL")]
    pub url: String,
    /// The plugin configuration, alone or inside an Envoy, Istio or Envoy Gateway file: it says which request needs a key
    #[arg(long, short, value_name = "FILE", visible_alias = "gateway")]
    pub config: Option<PathBuf>,
    /// The method of a request that needs a key; by default that of a rule that asks for a key
    #[arg(long, short = 'X')]
    pub method: Option<String>,
    /// The path of a request that needs a key; by default one that such a rule matches
    #[arg(long)]
    pub path: Option<String>,
    /// The host to ask for, if it is not that of the URL, nor one that the rule names
    #[arg(long)]
    pub host: Option<String>,
    /// A file with nothing but a key that was deleted, regenerated or disabled, and must be refused; `-` is standard
    /// input. A text without the form of the service's keys shows nothing
    #[arg(long, value_name = "FILE")]
    pub revoked_key_file: Option<PathBuf>,
    /// The admin address of the proxy, such as http://127.0.0.1:9901: the filters of each listener are checked too
    #[arg(long, value_name = "URL")]
    pub envoy_admin: Option<String>,
    /// A listener, or a chain of one, that must be covered: its name, its address or its port. It may be given several times;
    /// without it, every listener must be covered that leads to an application
    #[arg(long, value_name = "NAME", requires = "envoy_admin")]
    pub listener: Vec<String>,
    /// A file with the certificates of the authorities to trust, PEM
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}
