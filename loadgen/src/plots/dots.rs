//! Several things side by side: a dot for each, with its interval, on logarithmic axes.
//!
//! Dots instead of bars: on a logarithmic axis the length of a bar means nothing, and on a linear one
//! things that differ by a factor of fifty could not be told apart.

use super::axis::{Axis, Quantity};
use super::figure::{
    BLUE, Drawn, Figure, GREY, LEGEND_LEFT_PX, ORANGE, Point, Series, Shape, TITLE_PX, draw_sized,
    draw_text, draw_title,
};

/// What is drawn of one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Dot {
    /// Whose it is, with the figure in words.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Where it may also lie.
    pub interval: Option<(f64, f64)>,
    /// Which of the legend's groups it belongs to.
    pub group: usize,
}

/// One figure of several things.
#[derive(Clone, Debug, PartialEq)]
pub struct DotPanel {
    /// What the figure is.
    pub title: String,
    /// From the top.
    pub dots: Vec<Dot>,
}

/// Rows of two panels each, under a line that says what is seen. There are at most three groups.
pub fn dots(title: &str, about: &str, groups: &[&str], rows: &[[DotPanel; 2]]) -> String {
    let figures = rows
        .iter()
        .map(|row| row.each_ref().map(|panel| panel.figure(groups)));
    let figures: Vec<_> = figures.collect();
    let all_px = HEADER_PX + figures.iter().map(|row| row[0].height_px).sum::<u32>();
    draw_sized(title, (2 * PANEL_PX, all_px), |area| {
        draw_text(area, about, (LEGEND_LEFT_PX, TITLE_PX + 6))?;
        let (_, mut rest) = area.split_vertically(HEADER_PX);
        for row in &figures {
            let (strip, below) = rest.split_vertically(row[0].height_px);
            rest = below;
            for (figure, part) in row.iter().zip(strip.split_evenly((1, 2))) {
                draw_title(&part, &figure.title)?;
                figure.draw(&part)?;
            }
        }
        Drawn::Ok(())
    })
}

impl DotPanel {
    fn figure(&self, groups: &[&str]) -> Figure {
        let spans = self
            .dots
            .iter()
            .map(|dot| dot.interval.unwrap_or((dot.value, dot.value)));
        let x = Axis::log(
            "",
            Quantity::Rate,
            spans.flat_map(|(low, high)| [low, high]),
        );
        // Heights count from the bottom.
        let upwards = self.dots.iter().rev();
        let y = Axis::named(upwards.clone().map(|dot| dot.name.clone()).collect());
        let series = groups.iter().zip([BLUE, ORANGE, GREY]).enumerate();
        let series = series.map(|(group, (name, colour))| {
            let of_group = upwards
                .clone()
                .enumerate()
                .filter(|(_, dot)| dot.group == group);
            let points = of_group.map(|(height, dot)| Point {
                bounds: dot.interval,
                ..Point::new(dot.value, height as f64)
            });
            Series {
                name: (*name).to_owned(),
                shape: Shape::Dots,
                colour,
                points: points.collect(),
            }
        });
        Figure {
            title: self.title.clone(),
            x,
            y,
            series: series.collect(),
            rules: Vec::new(),
            height_px: FRAME_PX + LINE_PX * self.dots.len() as u32,
        }
    }
}

const PANEL_PX: u32 = 560;
const HEADER_PX: u32 = 56;
/// Title, legend and axis of a panel.
const FRAME_PX: u32 = 120;
const LINE_PX: u32 = 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_has_a_dot_and_a_name() {
        let dot = |name: &str, value, interval, group| Dot {
            name: name.into(),
            value,
            interval,
            group,
        };
        let panel = |title: &str| DotPanel {
            title: title.into(),
            dots: vec![
                dot("the first", 1.5e6, Some((1e6, 2e6)), 0),
                dot("the second", 2e4, None, 1),
            ],
        };
        let rows = [[panel("left"), panel("right")]];
        let svg = dots("Title", "of today", &["ours", "others"], &rows);
        for text in [
            "Title", "of today", "ours", "others", "left", "right", "100k",
        ] {
            assert!(svg.contains(text), "{text} is missing");
        }
        assert_eq!(svg.matches("the first").count(), 2);
        // In each panel a dot for each thing, and one for each group in the legend.
        assert_eq!(svg.matches("<polygon").count(), 2 * (2 + 2));
    }
}
