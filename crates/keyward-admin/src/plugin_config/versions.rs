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

/// The first and the last version of each control plane that the files were tested with.
const TESTED: [(&str, Version, Version); 2] =
    [("Istio", Version::new(1, 26), Version::new(1, 31)), ("Envoy Gateway", Version::new(1, 7), Version::new(1, 9))];

/// Returns the stated versions that are outside of what was tested: the control plane, the version, and the first and the last
/// that were tested.
pub fn untested(versions: &Versions) -> Vec<(&'static str, Version, Version, Version)> {
    let stated = [versions.istio, versions.envoy_gateway];
    let given = TESTED.iter().zip(stated).filter_map(|((plane, first, last), stated)| {
        let stated = stated?;
        let minor = (stated.major, stated.minor);
        let is_tested = (first.major, first.minor) <= minor && minor <= (last.major, last.minor);
        (!is_tested).then_some((*plane, stated, *first, *last))
    });
    given.collect()
}

/// A version such as `1.27`, or `1.27.3`.
///
/// Versions are ordered as releases are. A version without a patch level comes before all of its patch releases, so one that
/// marks where a feature begins is not later than any release that has the feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number. `None` means that it is not stated.
    pub patch: Option<u32>,
}

impl Version {
    /// Returns the version of these two numbers, without a patch level.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor, patch: None }
    }

    /// Returns a patch release.
    pub const fn patch(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch: Some(patch) }
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // What follows a hyphen or a plus sign names a release candidate or a build.
        let numbers = text.trim_start_matches('v').split(['-', '+']).next().unwrap_or_default();
        let numbers: Option<Vec<u32>> = numbers.split('.').map(|number| number.parse().ok()).collect();
        match numbers.as_deref() {
            Some([major, minor]) => Ok(Self::new(*major, *minor)),
            Some([major, minor, patch]) => Ok(Self::patch(*major, *minor, *patch)),
            _ => Err("expected a version like 1.27 or 1.27.3".into()),
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        self.patch.map_or(Ok(()), |patch| write!(f, ".{patch}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_with_and_without_its_patch_level() {
        for (text, version, shown) in [
            ("1.27", Version::new(1, 27), "1.27"),
            ("v1.8.0", Version::patch(1, 8, 0), "1.8.0"),
            ("1.31.0-rc.0", Version::patch(1, 31, 0), "1.31.0"),
        ] {
            assert_eq!(text.parse(), Ok(version), "{text}");
            assert_eq!(version.to_string(), shown);
        }
        for text in ["", "1", "1.x", "1.27.", "1.27.x", "1.2.3.4", "latest"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    #[test]
    fn patch_releases_follow_the_version_that_they_belong_to() {
        let since = Version::new(1, 8);
        assert!(Version::patch(1, 7, 9) < since && since < Version::patch(1, 8, 0));
        assert!(Version::patch(1, 8, 9) < Version::patch(1, 8, 10) && Version::patch(1, 8, 10) < Version::new(1, 9));
    }
}
