//! The key in a file, which has to be refused.

use crate::cli::error::CommandError;
use crate::cli::input::in_file;
use crate::secret::checksum;
use keyward_policy::config::Config;
use std::path::Path;

/// The only key in a text.
#[derive(Debug)]
pub(super) struct Revoked<'t> {
    /// The key.
    pub key: &'t str,
    /// Whether it has the form and the checksum of the keys that the service makes.
    pub is_of_service: bool,
}

impl<'t> Revoked<'t> {
    /// Reads the text of a file. A configuration that takes keys only from the service takes no others.
    pub(super) fn read(text: &'t str, file: &Path, config: Option<&Config>) -> Result<Self, CommandError> {
        let key = text.trim();
        let random = key.rsplit_once('_').filter(|(prefix, _)| !prefix.is_empty()).map(|(_, random)| random);
        let has_form =
            random.is_some_and(|random| !random.is_empty() && random.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        if !has_form || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
            let message = "it does not hold exactly one key of the form `kw_…`: a prefix, an underscore, and letters and \
                           digits\n  help: put the key alone into the file, as it was shown when it was made";
            return Err(CommandError::invalid(in_file(file, message)));
        }
        let is_of_service =
            random.and_then(|random| random.split_at_checked(36)).is_some_and(|(start, end)| end == checksum(start));
        let is_only_source = config.is_some_and(|config| config.admin.is_some() && config.manifest.is_none());
        if is_only_source && !is_of_service {
            let message = "this is not a key as the service makes it: its checksum does not fit, so it was cut or \
                           mistyped\n  help: put the whole key into the file, as it was shown when it was made";
            return Err(CommandError::invalid(in_file(file, message)));
        }
        Ok(Self { key, is_of_service })
    }
}
