//! `keyward completions` and `keyward man`: what shells and `man` know of the command, made from its own definition.

use super::error::{CommandError, end};
use super::exit::Exit;
use super::output;
use clap::{Args, Command};
use clap_complete::Shell;
use std::path::{Path, PathBuf};

/// Print the completions of the command for a shell
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Write the manual pages of the command and its subcommands to a folder
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder, which is made if it is missing
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Runs `keyward completions`. `command` is the whole command.
pub fn complete(args: &CompletionsArgs, mut command: Command) -> Exit {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    let script = String::from_utf8_lossy(&script);
    end(output::line(script.trim_end()).map_err(CommandError::from))
}

/// Runs `keyward man`. `command` is the whole command.
pub fn man(args: &ManArgs, command: Command) -> Exit {
    end(write(&args.folder, command))
}

fn write(folder: &Path, command: Command) -> Result<(), CommandError> {
    let failed = |error: std::io::Error| CommandError::failed(format!("`{}`: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(command, folder).map_err(failed)
}
