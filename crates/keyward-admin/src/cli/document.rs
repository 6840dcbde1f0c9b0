//! Reading the YAML and JSON files that commands are given.

use super::exit::Exit;
use serde_json::Value;
use std::io::Read as _;
use std::path::Path;

/// The text of a file; `-` is standard input.
///
/// # Errors
/// A message that names the file, and how the command should end.
pub fn read_text(file: &Path) -> Result<String, (Exit, String)> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).map(|_| ())
    } else {
        std::fs::read(file).map(|read| bytes = read)
    };
    read.map_err(|error| (Exit::Failure, format!("{}: {error}", file.display())))?;
    String::from_utf8(bytes).map_err(|_| (Exit::Invalid, format!("{}: not UTF-8", file.display())))
}

/// The documents of a YAML file, or the one of a JSON file.
///
/// # Errors
/// A message that names the file and the place in it.
pub fn parse(file: &Path, text: &str) -> Result<Vec<Value>, (Exit, String)> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| (Exit::Invalid, format!("{}: not YAML or JSON: {error}", file.display())))?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}
