//! The edge token: what the filter shows to the admin service.

use keyward_policy::config::{AdminConfig, is_token};

/// Returns the token of the configuration, or of the variable that it names, which `read` reads. `None` means that the
/// filter sends no token, because the cluster adds it or because the variable holds none. Polls are then refused, and so
/// are requests.
///
/// `environment` says whose variable it is, and `mend` how to set it.
pub fn of(
    admin: &AdminConfig,
    read: impl FnOnce(&str) -> Option<Vec<u8>>,
    environment: &str,
    mend: &str,
) -> Option<Box<str>> {
    let Some(name) = &admin.token_env else { return admin.token.clone() };
    let token = read(name).and_then(|value| parse(&value));
    if token.is_none() {
        // Not an error of the configuration: it would stay refused after the variable is there.
        log::error!("keyward: admin.token_env: {environment} has no token in `{name}`; {mend}");
    }
    token
}

/// Returns the token in the value of a variable or of a secret, without the white space around it.
pub fn parse(value: &[u8]) -> Option<Box<str>> {
    std::str::from_utf8(value.trim_ascii()).ok().filter(|token| is_token(token)).map(Into::into)
}
