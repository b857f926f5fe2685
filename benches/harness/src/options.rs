//! Options that every bench takes. `cargo bench` gives the same arguments to all of them.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;

/// Options that every bench takes.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Short runs of the most telling points
    #[arg(long, conflicts_with = "full")]
    pub quick: bool,
    /// Everything, in two hours or so
    #[arg(long)]
    pub full: bool,
    /// How to print the result on standard output
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
    /// Also writes the result into files of this folder
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Given by `cargo bench`. Without it, as under `cargo test --benches`, runs are quick
    #[arg(long, hide = true)]
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

impl Common {
    /// How much to measure.
    pub fn effort(&self) -> Effort {
        match (self.quick || !self.bench, self.full) {
            (_, true) => Effort::Full,
            (true, false) => Effort::Quick,
            (false, false) => Effort::Usual,
        }
    }

    /// Prints a result, and writes `name`.md and `name`.json where that was asked for.
    pub fn publish(&self, name: &str, table: &str, result: &impl Serialize) -> io::Result<()> {
        let json = serde_json::to_string_pretty(result)?;
        let text = match self.format {
            Format::Table => table,
            Format::Json => &json,
        };
        writeln!(io::stdout(), "{}", text.trim_end())?;
        if let Some(folder) = &self.out {
            write(folder, &format!("{name}.md"), table)?;
            write(folder, &format!("{name}.json"), &(json + "\n"))?;
        }
        Ok(())
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
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(name), text)
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
