//! The pictures of a report, as SVG.
//!
//! Each picture is a function of plain numbers. Series differ by dash and marker as well as by
//! colour, so they can be told apart in greyscale.

mod axis;
mod dots;
mod figure;
mod heat;
mod load;
mod over_time;
mod overlay;
mod scaling;
mod spectrum;
mod timeline;

pub use self::dots::{Dot, DotPanel, dots};
pub use self::heat::{HeatColumn, heat_map};
pub use self::load::{
    AchievedPoint, CpuPoint, HockeyPoint, Objective, WaitPoint, achieved, cpu, hockey_stick, wait,
};
pub use self::over_time::{
    FailureLine, QuantilePoint, TimePoint, failures_over_time, percentiles_over_time,
    rates_over_time,
};
pub use self::overlay::{OverlayCurve, OverlaySide, overlay, sides};
pub use self::scaling::{imbalance, residuals, scaling};
pub use self::spectrum::{SpectrumLine, spectrum};
pub use self::timeline::{TimelineLoad, TimelineOutcome, timeline};
