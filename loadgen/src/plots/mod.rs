//! The pictures of a report, as SVG.
//!
//! Each picture is a function of plain numbers. Series differ by dash and marker as well as by
//! colour, so they can be told apart in greyscale.

mod axis;
mod dots;
mod figure;
mod heat;
mod load;
mod scaling;
mod spectrum;
mod timeline;

pub use self::dots::{Dot, DotPanel, dots};
pub use self::heat::{HeatColumn, heat_map};
pub use self::load::{
    AchievedPoint, CpuPoint, HockeyPoint, Objective, WaitPoint, achieved, cpu, hockey_stick, wait,
};
pub use self::scaling::{imbalance, residuals, scaling};
pub use self::spectrum::{SpectrumLine, spectrum};
pub use self::timeline::{TimelineLoad, TimelineOutcome, timeline};
