//! `keyward hash`: the digest of a key, for a `manifest:` block.

use super::exit::Exit;
use clap::Args;
use keyward_policy::credential::MAX_KEY_BYTES;
use keyward_policy::digest::Digest;
use keyward_policy::header::is_visible_ascii;
use std::io::Read as _;

/// Print the SHA-256 of a key, as the filter's configuration wants it
#[derive(Debug, Args)]
pub struct HashArgs {
    /// The key; without it, the first line of standard input, which keeps it out of the shell's history
    key: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &HashArgs) -> Exit {
    let key = match &args.key {
        Some(key) => key.clone().into_bytes(),
        None => match first_line() {
            Ok(line) => line,
            Err(error) => {
                eprintln!("error: standard input: {error}");
                return Exit::Failure;
            }
        },
    };
    if key.is_empty() || key.len() > MAX_KEY_BYTES || !is_visible_ascii(&key) || key.contains(&b',') {
        eprintln!("error: not a key: 1 to {MAX_KEY_BYTES} visible ASCII characters without commas");
        eprintln!("  help: give it as an argument, or on standard input: printf %s \"$KEY\" | keyward hash");
        return Exit::Invalid;
    }
    let hex = Digest::of_key(&key).to_hex();
    if args.json {
        println!("{}", serde_json::json!({ "sha256": hex }));
    } else {
        println!("{hex}");
    }
    Exit::Ok
}

fn first_line() -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than a key, its line ending included, is enough to see that it is too long.
    std::io::stdin().lock().take(MAX_KEY_BYTES as u64 + 3).read_to_end(&mut bytes)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(line.strip_suffix(b"\r").unwrap_or(line).to_vec())
}
