//! Reads the files that commands are given.

use super::error::CommandError;
use std::fmt::Display;
use std::io::Read as _;
use std::path::Path;

/// Reads the text of a file. `-` is standard input.
///
/// # Errors
/// Returns an error if the file cannot be read, or is not UTF-8.
pub(super) fn read_text(file: &Path) -> Result<String, CommandError> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).map(|_| ())
    } else {
        std::fs::read(file).map(|read| bytes = read)
    };
    read.map_err(|error| CommandError::failed(in_file(file, error)))?;
    String::from_utf8(bytes).map_err(|_| CommandError::invalid(in_file(file, "not UTF-8")))
}

/// Names the file that a message is about.
pub(super) fn in_file(file: &Path, message: impl Display) -> String {
    format!("{}: {message}", file.display())
}
