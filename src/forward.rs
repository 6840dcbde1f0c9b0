//! What an allowed request looks like to the upstream.

use crate::head::{Headers, is_read_as};
use crate::host;
use keyward_policy::config::Config;
use keyward_policy::credential::{self, KeySource};
use keyward_policy::header::encode_value;
use keyward_policy::key::KeyView;

/// Removes the identity headers that the client sent. Nobody but the filter says who called.
pub fn remove_client_identity(config: &Config, headers: &Headers<'_>) {
    let names = [&config.identity_headers.id, &config.identity_headers.name];
    for name in names.into_iter().flatten() {
        for (spelling, _) in headers.as_slice().iter().filter(|(have, _)| is_read_as(have, name)) {
            host::remove_request_header(spelling);
        }
    }
}

/// Removes the credential, wherever the configuration looks for one.
pub fn remove_credential(config: &Config, headers: &Headers<'_>) {
    for source in &config.key_sources {
        match source {
            KeySource::Header { name, scheme: None } if headers.has(name) => {
                host::remove_request_header(name.as_bytes())
            }
            KeySource::Header { name, scheme: Some(scheme) } => {
                let carries = |(have, value): &(&[u8], &[u8])| {
                    have.eq_ignore_ascii_case(name.as_bytes()) && credential::after_scheme(value, scheme).is_some()
                };
                // With another scheme the header is not ours.
                if headers.as_slice().iter().any(carries) {
                    host::remove_request_header(name.as_bytes());
                }
            }
            _ => {}
        }
    }
    if let Some(path) = credential::remove_from_path(&config.key_sources, headers.head().path) {
        host::set_request_header(":path", &path);
    }
    remove_cookies(config, headers);
}

fn remove_cookies(config: &Config, headers: &Headers<'_>) {
    let cookies = || headers.as_slice().iter().filter(|(name, _)| *name == b"cookie").map(|(_, value)| *value);
    if !cookies().any(|value| credential::remove_from_cookies(&config.key_sources, value).is_some()) {
        return;
    }
    let kept = cookies()
        .map(|value| credential::remove_from_cookies(&config.key_sources, value).unwrap_or_else(|| value.to_vec()));
    // Several cookie headers mean the same as one (RFC 6265, 5.4).
    let kept = kept.filter(|value| !value.is_empty()).collect::<Vec<_>>().join(&b"; "[..]);
    if kept.is_empty() { host::remove_request_header(b"cookie") } else { host::set_request_header("cookie", &kept) }
}

/// Tells the upstream who called.
pub fn set_identity(config: &Config, key: &KeyView<'_>) {
    if let Some(name) = &config.identity_headers.id {
        host::set_request_header(name, encode_value(key.id.as_str(&mut [0; 20])).as_bytes());
    }
    if let Some(name) = &config.identity_headers.name {
        host::set_request_header(name, encode_value(key.name).as_bytes());
    }
}
