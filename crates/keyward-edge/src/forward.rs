//! The changes to the headers of an allowed request.

use crate::head::{Headers, is_read_as};
use crate::host::Host;
use keyward_policy::config::Config;
use keyward_policy::credential::{self, KeySource};
use keyward_policy::header::encode_value;
use keyward_policy::key::KeyRef;

/// Removes the identity headers that the client sent, and returns whether there was one. Only the filter states the identity.
pub fn remove_client_identity<H: Host>(host: H, config: &Config, headers: &Headers<'_>) -> bool {
    let mut changed = false;
    for name in [&config.identity_headers.id, &config.identity_headers.name] {
        changed |= name.as_ref().is_some_and(|name| remove_all_read_as(host, name, headers));
    }
    changed
}

/// Removes from the trailers of a request the fields that would speak for a key: identity headers, and headers that may
/// carry a key. An upstream may read trailers as headers, and neither the filter nor the routes look at them otherwise.
///
/// Where the routes set the identity headers, the configuration does not name them: the default names are meant.
#[cold]
#[inline(never)]
pub fn clean_trailers<H: Host>(host: H, config: &Config) {
    let map = host.request_trailers();
    let identity = &config.identity_headers;
    for (name, _) in Headers::parse(&map).as_slice() {
        let is_identity = [(&identity.id, "x-api-key-id"), (&identity.name, "x-api-key-name")]
            .iter()
            .any(|(configured, default)| is_read_as(name, configured.as_deref().unwrap_or(default)));
        let may_carry_key = config.key_sources.iter().any(|source| match source {
            KeySource::Header { name: header, .. } => is_read_as(name, header),
            KeySource::Cookie { .. } => is_read_as(name, "cookie"),
            KeySource::Query { .. } => false,
        });
        if is_identity || may_carry_key {
            host.remove_request_trailer(name);
        }
    }
}

#[inline(never)]
fn remove_all_read_as<H: Host>(host: H, name: &str, headers: &Headers<'_>) -> bool {
    let mut changed = false;
    for (spelling, _) in headers.as_slice().iter().filter(|(have, _)| is_read_as(have, name)) {
        host.remove_request_header(spelling);
        changed = true;
    }
    changed
}

/// Removes the credential from every place where the configuration looks for one. Returns whether anything was removed.
#[inline(never)]
pub fn remove_credential<H: Host>(host: H, config: &Config, headers: &Headers<'_>) -> bool {
    let mut changed = false;
    for source in &config.key_sources {
        let KeySource::Header { name, scheme } = source else { continue };
        // A header with another scheme carries no key.
        let carries = |(have, value): &(&[u8], &[u8])| {
            have.eq_ignore_ascii_case(name.as_bytes())
                && scheme.as_ref().is_none_or(|scheme| credential::after_scheme(value, scheme).is_some())
        };
        if headers.as_slice().iter().any(carries) {
            host.remove_request_header(name.as_bytes());
            changed = true;
        }
    }
    if let Some(path) = credential::remove_from_path(&config.key_sources, headers.head().path) {
        host.set_request_header(":path", &path);
        changed = true;
    }
    remove_cookies(host, config, headers) || changed
}

fn remove_cookies<H: Host>(host: H, config: &Config, headers: &Headers<'_>) -> bool {
    let cookies = || headers.as_slice().iter().filter(|(name, _)| *name == b"cookie").map(|(_, value)| *value);
    if !cookies().any(|value| credential::remove_from_cookies(&config.key_sources, value).is_some()) {
        return false;
    }
    let kept = cookies()
        .map(|value| credential::remove_from_cookies(&config.key_sources, value).unwrap_or_else(|| value.to_vec()));
    // Several cookie headers mean the same as one (RFC 6265, 5.4).
    let kept = kept.filter(|value| !value.is_empty()).collect::<Vec<_>>().join(&b"; "[..]);
    if kept.is_empty() {
        host.remove_request_header(b"cookie")
    } else {
        host.set_request_header("cookie", &kept)
    }
    true
}

/// Sets the identity headers.
#[inline(never)]
pub fn set_identity<H: Host>(host: H, config: &Config, key: &KeyRef<'_>) {
    if let Some(name) = &config.identity_headers.id {
        host.set_request_header(name, encode_value(key.id.as_str(&mut [0; 20])).as_bytes());
    }
    if let Some(name) = &config.identity_headers.name {
        host.set_request_header(name, encode_value(key.name).as_bytes());
    }
}
