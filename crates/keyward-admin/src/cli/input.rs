//! Reads the files that commands are given.

use super::error::CommandError;
use std::fmt::Display;
use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;

/// The limit of bytes that are read of a file: far more than a configuration with as many keys as the filter takes.
const MAX_TEXT_BYTES: u64 = 64 << 20;
/// Where a program finds what is already open in it, such as the pipe of a shell's `<(command)`.
const OPEN_FILES: [&str; 3] = ["/dev/fd/", "/dev/stdin", "/proc/self/fd/"];

/// Reads the text of a file. `-` is standard input.
///
/// # Errors
/// Returns an error if the file cannot be read or is too large, or is not UTF-8.
pub(super) fn read_text(file: &Path) -> Result<String, CommandError> {
    let bytes = read(file).map_err(|error| CommandError::failed(in_file(file, error)))?;
    String::from_utf8(bytes).map_err(|_| CommandError::invalid(in_file(file, "not UTF-8")))
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    if file == Path::new("-") {
        return read_all(std::io::stdin().lock());
    }
    // To open a named pipe that nobody writes to would take for ever, and some devices have no end.
    let is_open = OPEN_FILES.iter().any(|start| file.to_string_lossy().starts_with(start));
    let kind = std::fs::metadata(file)?.file_type();
    if !is_open && !kind.is_file() && !kind.is_dir() {
        return Err(Error::other("not a regular file; give what a pipe holds as standard input, with `-`"));
    }
    read_all(File::open(file)?)
}

fn read_all(from: impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    from.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        return Err(Error::new(ErrorKind::FileTooLarge, format!("more than {MAX_TEXT_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Names the file that a message is about.
pub(super) fn in_file(file: &Path, message: impl Display) -> String {
    format!("{}: {message}", file.display())
}
