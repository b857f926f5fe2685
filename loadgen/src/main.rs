//! The command `loadgen`; all of it is in the library of the same name.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match loadgen::cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("loadgen: {failure}");
            failure.exit_code()
        }
    }
}
