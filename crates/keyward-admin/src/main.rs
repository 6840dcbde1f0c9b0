//! The `keyward` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    keyward_admin::cli::run()
}
