//! The edge token: what the filter shows to the admin service.

use crate::host;
use keyward_policy::config::{AdminConfig, is_token};

/// Returns the token of the configuration, or of the variable that it names. `None` means that the filter sends no token,
/// because the cluster adds it or because the variable holds none. Polls are then refused, and so are requests.
pub fn of(admin: &AdminConfig) -> Option<Box<str>> {
    let Some(name) = &admin.token_env else { return admin.token.clone() };
    let value = host::environment_variable(name).unwrap_or_default();
    let token = std::str::from_utf8(value.trim_ascii()).ok().filter(|token| is_token(token));
    if token.is_none() {
        // Not an error of the configuration: it would stay refused after the variable is there.
        log::error!(
            "keyward: admin.token_env: the VM's environment has no token in `{name}`; set environment_variables in vm_config"
        );
    }
    token.map(Into::into)
}
