//! `keyward hash`: the digest of a key, for a `manifest:` block.

use super::error::{CommandError, end};
use super::exit::Exit;
use super::output;
use clap::Args;
use keyward_policy::credential::MAX_KEY_BYTES;
use keyward_policy::digest::Digest;
use keyward_policy::header::is_visible_ascii;
use std::io::Read as _;

/// Print the SHA-256 digest of a key, for `manifest.keys` of the filter's configuration
#[derive(Debug, Args)]
pub struct HashArgs {
    /// The key. Without it, the first line of standard input is read, which keeps the key out of the shell's history
    key: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &HashArgs) -> Exit {
    end(hash(args))
}

fn hash(args: &HashArgs) -> Result<(), CommandError> {
    let key = match &args.key {
        Some(key) => key.clone().into_bytes(),
        None => first_line().map_err(|error| CommandError::failed(format!("standard input: {error}")))?,
    };
    if key.is_empty() || key.len() > MAX_KEY_BYTES || !is_visible_ascii(&key) || key.contains(&b',') {
        return Err(CommandError::invalid(format!(
            "not a key: 1 to {MAX_KEY_BYTES} visible ASCII characters without commas\n  help: give it as an argument, or \
             on standard input: printf %s \"$KEY\" | keyward hash"
        )));
    }
    let hex = Digest::of_key(&key).to_hex();
    if args.json {
        output::json_line(&serde_json::json!({ "sha256": hex }))?;
    } else {
        output::line(&hex)?;
    }
    Ok(())
}

fn first_line() -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than the longest key and its line ending shows that a key is too long.
    std::io::stdin().lock().take(MAX_KEY_BYTES as u64 + 3).read_to_end(&mut bytes)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
}
