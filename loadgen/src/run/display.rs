//! How a load is shown while it runs.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use super::progress::Progress;
use super::screen::Screen;
use crate::failure::Failure;
use crate::load::generator::Interval;
use crate::results::Spread;

/// A bar or lines, or the whole terminal.
pub(super) enum ProgressDisplay {
    Progress(Progress),
    Screen(Box<Screen>),
}

impl ProgressDisplay {
    /// `is_part`: the load is one of a study, whose lines say what comes and what came out.
    ///
    /// # Errors
    /// When the whole terminal was asked for, and there is none.
    pub(super) fn new(
        is_screen: bool,
        label: &str,
        is_part: bool,
        warmup: Duration,
        duration: Duration,
    ) -> Result<Self, Failure> {
        if !is_screen {
            return Ok(Self::Progress(Progress::new(
                label, is_part, warmup, duration,
            )));
        }
        let screen = Screen::open(label, warmup, duration)?;
        Ok(Self::Screen(Box::new(screen)))
    }

    /// Says what is wrong with `--tui` here, before anything is started.
    pub(super) fn check(is_screen: bool) -> Result<(), Failure> {
        if is_screen && !stderr().is_terminal() {
            let why = "--tui needs a terminal on standard error; leave it out for plain lines";
            return Err(Failure::Usage(why.into()));
        }
        Ok(())
    }

    pub(super) fn begin(&mut self) {
        match self {
            Self::Progress(progress) => progress.begin(),
            Self::Screen(screen) => screen.begin(),
        }
    }

    pub(super) fn tick(&mut self) {
        match self {
            Self::Progress(progress) => progress.tick(),
            Self::Screen(screen) => screen.draw(),
        }
    }

    pub(super) fn interval(&mut self, interval: &Interval, response: &Spread) {
        match self {
            Self::Progress(progress) => progress.interval(interval, response),
            Self::Screen(screen) => screen.interval(interval),
        }
    }
}
