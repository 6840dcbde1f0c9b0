//! The versions of the control planes that a file is meant for.

use std::str::FromStr;

/// The stated versions. `None` means that the version is not stated, and nothing is checked against it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Versions {
    /// The version of Istio.
    pub istio: Option<Version>,
    /// The version of Envoy Gateway.
    pub envoy_gateway: Option<Version>,
}

/// A version without its patch level, such as `1.27`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.trim_start_matches('v').split('.');
        let mut number = || parts.next()?.parse().ok();
        number()
            .zip(number())
            .map(|(major, minor)| Self(major, minor))
            .ok_or_else(|| "expected a version like 1.27".into())
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}
