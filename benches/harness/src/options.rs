//! Options that every bench takes. `cargo bench` gives the same arguments to all of them.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, ValueEnum};
use serde::Serialize;

use crate::descriptors;

/// Options that every bench takes.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Short runs of the most telling points
    #[arg(long, conflicts_with = "full")]
    pub quick: bool,
    /// Everything, in more and longer runs: `vs_peers` takes up to two hours then, each other bench
    /// some minutes
    #[arg(long)]
    pub full: bool,
    /// How to print the result on standard output
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
    /// Also writes the result into files of this folder, which is made where it is missing. Cargo
    /// runs benches in the folder `benches`, so it is best absolute
    #[arg(long, value_name = "FOLDER", value_parser = writable_folder)]
    pub out: Option<PathBuf>,
    /// Whether `cargo bench` runs this. Elsewhere, as under `cargo test --benches`, runs are quick.
    #[arg(skip = is_cargo_bench())]
    pub bench: bool,
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A markdown table, which reads well in a terminal too.
    Table,
    /// One JSON object.
    Json,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// A minute or two: shows that all works, and rough figures.
    Quick,
    /// A few minutes.
    Usual,
    /// The whole grid.
    Full,
}

/// The options that this bench was given, or the end of the process with a message or a help text.
/// The limit of descriptors is raised, so that neither this process nor a server runs out of them.
pub fn begin<Options: Parser>(bench: &str) -> Options {
    if let Err(error) = descriptors::raise_limit() {
        say(format_args!(
            "the limit of descriptors (`ulimit -n`) stays at {}: {error}",
            descriptors::permitted()
        ));
    }
    // Usage is told as one calls it, not by the program's own name, which ends in a hash.
    let command = Options::command().bin_name(format!("cargo bench --bench {bench} --"));
    // No option of ours, so that nothing suggests it.
    let arguments = std::env::args_os().filter(|argument| argument != CARGO_BENCH);
    let matches = command.get_matches_from(arguments);
    Options::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn is_cargo_bench() -> bool {
    std::env::args_os().any(|argument| argument == CARGO_BENCH)
}

/// What `cargo bench` adds to the arguments of every bench.
pub const CARGO_BENCH: &str = "--bench";

/// Tried before anything is measured: a measurement of minutes must not end at a wrong path.
fn writable_folder(text: &str) -> Result<PathBuf, String> {
    std::fs::create_dir_all(text).map_err(|error| format!("can't make this folder: {error}"))?;
    tempfile::tempfile_in(text).map_err(|error| format!("can't write into it: {error}"))?;
    Ok(text.into())
}

/// The name of a file without any folder.
pub fn bare_file_name(text: &str) -> Result<String, String> {
    if Path::new(text).file_name().is_some_and(|name| name == text) {
        return Ok(text.to_owned());
    }
    Err("must be a bare file name; the folder is told by --out".to_owned())
}

impl Common {
    /// How much to measure.
    pub fn effort(&self) -> Effort {
        match (self.quick || !self.bench, self.full) {
            (_, true) => Effort::Full,
            (true, false) => Effort::Quick,
            (false, false) => Effort::Usual,
        }
    }

    /// Writes `name`.md and `name`.json where that was asked for, and prints a result. Files come
    /// first: nothing is lost when whoever reads the output has gone.
    pub fn publish(&self, name: &str, table: &str, result: &impl Serialize) -> io::Result<()> {
        let json = serde_json::to_string_pretty(result)?;
        let text = match self.format {
            Format::Table => table,
            Format::Json => &json,
        };
        if let Some(folder) = &self.out {
            write(folder, &format!("{name}.md"), table)?;
            write(folder, &format!("{name}.json"), &format!("{json}\n"))?;
        }
        writeln!(io::stdout(), "{}", text.trim_end())
    }

    /// Says how to get more out of a bench, after what was usual.
    pub fn say_how_to_get_more(&self, bench: &str) {
        if self.effort() == Effort::Usual {
            say(format_args!(
                "`cargo bench --bench {bench} -- --full` measures more; `-- --help` lists what else"
            ));
        }
    }
}

/// Writes a file of results.
pub fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, text).map_err(|error| at(&path, &error))
}

/// An error that names the file it is about.
pub fn at(path: &Path, error: &impl Display) -> io::Error {
    io::Error::other(format!("writing {}: {error}", path.display()))
}

/// The end of a bench that has failed or not.
pub fn end(bench: &str, result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("{bench}: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Tells the user something beside the result. On a terminal it ends a line of progress.
pub fn say(text: impl Display) {
    let clear = if io::stderr().is_terminal() {
        "\r\x1b[K"
    } else {
        ""
    };
    eprintln!("{clear}{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_folder() {
        assert_eq!(bare_file_name("vs_raw").as_deref(), Ok("vs_raw"));
        for text in ["../x", "a/b", "/x", "x/", "..", ".", ""] {
            assert!(bare_file_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_folder_is_made_and_tried_before_it_is_needed() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/b");
        let text = folder.to_str().unwrap();
        assert_eq!(writable_folder(text), Ok(folder.clone()));
        write(&folder, "x.md", "text").unwrap();
        let inside_a_file = folder.join("x.md/c");
        let error = writable_folder(inside_a_file.to_str().unwrap()).unwrap_err();
        assert!(error.contains("can't make this folder"), "{error}");
        let error = write(&inside_a_file, "y", "text").unwrap_err().to_string();
        assert!(error.contains("x.md/c/y"), "{error}");
    }
}
