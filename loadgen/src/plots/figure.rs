//! A picture of series over two axes, and how it is drawn.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use crate::units::escape_markup;

/// A picture.
pub(super) struct Figure {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// Drawn in order; later ones lie above.
    pub(super) series: Vec<Series>,
    /// Lines across the whole picture.
    pub(super) rules: Vec<Rule>,
    pub(super) height_px: u32,
}

/// Values that belong together.
pub(super) struct Series {
    pub(super) name: String,
    pub(super) shape: Shape,
    pub(super) colour: RGBColor,
    pub(super) points: Vec<Point>,
}

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Line(Dash),
    Marks(Marker),
    /// From the x axis.
    Bars,
    /// The space between the low and the high value of each point.
    Band,
    /// A dot for each point, whose bounds are of x.
    Dots,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dash {
    Solid,
    Long,
    Short,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    Circle,
    Square,
    Triangle,
}

/// A value, and where it may also lie.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) bounds: Option<(f64, f64)>,
    /// Drawn as an outline: not to be trusted.
    pub(super) is_hollow: bool,
}

/// A line at a value of an axis.
pub(super) struct Rule {
    pub(super) at: f64,
    pub(super) is_vertical: bool,
    pub(super) text: String,
    pub(super) dash: Dash,
}

impl Point {
    pub(super) fn new(x: f64, y: f64) -> Self {
        Self {
            x,
            y,
            ..Self::default()
        }
    }
}

impl Dash {
    /// Lengths of a stroke and of a gap.
    fn lengths_px(self) -> Option<(i32, i32)> {
        match self {
            Self::Solid => None,
            Self::Long => Some((10, 5)),
            Self::Short => Some((3, 4)),
        }
    }
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

impl Figure {
    /// The picture as SVG.
    pub(super) fn render(&self) -> String {
        let mut hovers = String::new();
        let svg = draw(&self.title, self.height_px, |area| {
            hovers = self.draw(area)?;
            Ok(())
        });
        with_hovers(svg, &hovers)
    }

    /// Draws it into an area, but for its title. Returns what the pointer is told, for [`with_hovers`].
    pub(super) fn draw(&self, area: &Area<'_>) -> Result<String, Fault> {
        let below_px = self.draw_legend(area)?;
        let names_px = self.y.names.iter().map(|name| text_px(name)).max();
        let mut chart = ChartBuilder::on(area)
            .margin_top(below_px)
            .margin_right(MARGIN_PX)
            .margin_bottom(8)
            .margin_left(6)
            .x_label_area_size(46)
            .y_label_area_size(names_px.map_or(74, |longest| longest + 12))
            .build_cartesian_2d(self.x.clone(), self.y.clone())?;
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .label_style(font(LABEL_SIZE))
            .axis_desc_style(font(LABEL_SIZE))
            .axis_style(GREY)
            .draw()?;
        for series in &self.series {
            draw_series(&mut chart, series)?;
        }
        let mut vertical = 0;
        for rule in &self.rules {
            self.draw_rule(&mut chart, rule, vertical)?;
            vertical += i32::from(rule.is_vertical);
        }
        let series = self.series.iter().filter(|series| !series.name.is_empty());
        let hovers = series.flat_map(|series| {
            let points = series.points.iter().take(HOVERS_MAX);
            points.map(|point| self.hover(&chart, series, point))
        });
        Ok(hovers.collect())
    }

    /// A place around a point that tells its values when the pointer is on it.
    fn hover(&self, chart: &Chart<'_, '_>, series: &Series, point: &Point) -> String {
        let (x_px, y_px) = chart.backend_coord(&(point.x, point.y));
        let axis = if series.shape == Shape::Dots {
            &self.x
        } else {
            &self.y
        };
        let bounds = point
            .bounds
            .map(|(low, high)| format!(" ({} to {})", axis.value_text(low), axis.value_text(high)));
        let text = format!(
            "{}: {} at {}{}",
            series.name,
            self.y.value_text(point.y),
            self.x.value_text(point.x),
            bounds.unwrap_or_default()
        );
        let text = escape_markup(&text);
        format!(
            "<circle cx=\"{x_px}\" cy=\"{y_px}\" r=\"8\" opacity=\"0\"><title>{text}</title></circle>\n"
        )
    }

    /// Texts of vertical rules stand below each other, `row` by `row`: the rules may be close.
    fn draw_rule(&self, chart: &mut Chart<'_, '_>, rule: &Rule, row: i32) -> Drawn {
        let (x, y) = (&self.x, &self.y);
        let (ends, text_at, pos) = if rule.is_vertical {
            // Towards the middle, where there is room.
            let is_left = rule.at < f64::midpoint(x.low, x.high);
            let side = if is_left { HPos::Left } else { HPos::Right };
            let ends = [(rule.at, y.low), (rule.at, y.high)];
            (ends, ends[1], Pos::new(side, VPos::Top))
        } else {
            let ends = [(x.low, rule.at), (x.high, rule.at)];
            (ends, ends[0], Pos::new(HPos::Left, VPos::Bottom))
        };
        draw_line(chart, ends.into_iter(), rule.dash, BLACK.stroke_width(1))?;
        let style = font(LABEL_SIZE)
            .into_text_style(chart.plotting_area())
            .pos(pos);
        let shift = match (rule.is_vertical, pos.h_pos) {
            (false, _) => (6, -3),
            (true, HPos::Left) => (5, 3 + row * LEGEND_ROW_PX),
            (true, _) => (-5, 3 + row * LEGEND_ROW_PX),
        };
        let text = Text::new(rule.text.clone(), shift, style);
        chart.draw_series([EmptyElement::at(text_at) + text])?;
        Ok(())
    }

    /// Draws the names of all series under the title; returns how much room that took.
    fn draw_legend(&self, area: &Area<'_>) -> Result<i32, Fault> {
        let (mut x, mut y) = (LEGEND_LEFT_PX, TITLE_PX + 14);
        for (at, series) in self.series.iter().enumerate() {
            if series.name.is_empty() {
                continue;
            }
            let width = 40 + text_px(&series.name);
            if x + width > WIDTH_PX as i32 - MARGIN_PX && x > LEGEND_LEFT_PX {
                (x, y) = (LEGEND_LEFT_PX, y + LEGEND_ROW_PX);
            }
            // A line without a name leads through the marks after it.
            let line = at.checked_sub(1).map(|before| &self.series[before]);
            if let Some(line) = line.filter(|line| line.name.is_empty()) {
                draw_sample(area, line, x, y)?;
            }
            draw_sample(area, series, x, y)?;
            draw_text(area, &series.name, (x + 34, y))?;
            x += width + 14;
        }
        Ok(y + LEGEND_ROW_PX)
    }
}

/// A picture that tells values where the pointer is.
pub(super) fn with_hovers(svg: String, hovers: &str) -> String {
    match svg.rsplit_once("</svg>") {
        Some((picture, rest)) => format!("{picture}{hovers}</svg>{rest}"),
        None => svg,
    }
}

fn draw_series(chart: &mut Chart<'_, '_>, series: &Series) -> Drawn {
    let colour = series.colour;
    match series.shape {
        Shape::Line(dash) => {
            let points = series.points.iter().map(|point| (point.x, point.y));
            draw_line(chart, points, dash, colour.stroke_width(2))?;
        }
        Shape::Marks(marker) => {
            for point in &series.points {
                let ends = point
                    .bounds
                    .map(|(low, high)| [(point.x, low), (point.x, high)]);
                chart.draw_series(ends.map(|ends| PathElement::new(ends, colour)))?;
                let (area, outline) = mark(marker, colour, point.is_hollow);
                let at = (point.x, point.y);
                chart.draw_series([EmptyElement::at(at) + area + outline])?;
            }
        }
        Shape::Dots => {
            for point in &series.points {
                let ends = point
                    .bounds
                    .map(|(low, high)| [(low, point.y), (high, point.y)]);
                let style = colour.stroke_width(2);
                chart.draw_series(ends.map(|ends| PathElement::new(ends, style)))?;
                let (area, outline) = mark(Marker::Circle, colour, false);
                chart.draw_series([EmptyElement::at((point.x, point.y)) + area + outline])?;
            }
        }
        Shape::Bars => {
            let bars = series.points.iter().map(|point| {
                let foot = (point.x - BAR_WIDTH / 2.0, 0.0);
                let head = (point.x + BAR_WIDTH / 2.0, point.y);
                Rectangle::new([foot, head], colour.mix(0.75).filled())
            });
            chart.draw_series(bars)?;
        }
        Shape::Band => {
            let bounds = series.points.iter();
            let bounds = bounds.filter_map(|point| Some((point.x, point.bounds?)));
            let lower = bounds.clone().map(|(x, (low, _))| (x, low));
            let upper = bounds.rev().map(|(x, (_, high))| (x, high));
            let outline: Vec<_> = lower.chain(upper).collect();
            chart.draw_series([Polygon::new(outline, colour.mix(0.2))])?;
        }
    }
    Ok(())
}

fn draw_line(
    chart: &mut Chart<'_, '_>,
    points: impl Iterator<Item = (f64, f64)>,
    dash: Dash,
    style: ShapeStyle,
) -> Drawn {
    let points: Vec<_> = points.collect();
    match dash.lengths_px() {
        None => chart.draw_series(LineSeries::new(points, style))?,
        Some((stroke, gap)) => {
            chart.draw_series(DashedLineSeries::new(points, stroke, gap, style))?
        }
    };
    Ok(())
}

/// A marker around the origin: its area, white if hollow, and its outline.
fn mark(marker: Marker, colour: RGBColor, is_hollow: bool) -> (Pixels, PathElement<(i32, i32)>) {
    let mut corners: Vec<(i32, i32)> = match marker {
        Marker::Circle => (0..12)
            .map(|at| {
                let (sine, cosine) = (f64::from(at) * std::f64::consts::TAU / 12.0).sin_cos();
                ((sine * 5.0).round() as i32, (cosine * 5.0).round() as i32)
            })
            .collect(),
        Marker::Square => vec![(-4, -4), (4, -4), (4, 4), (-4, 4)],
        Marker::Triangle => vec![(0, -6), (5, 4), (-5, 4)],
    };
    let fill = if is_hollow { WHITE } else { colour };
    let area = Polygon::new(corners.clone(), fill);
    corners.push(corners[0]);
    (area, PathElement::new(corners, colour))
}

type Pixels = Polygon<(i32, i32)>;

/// What a series looks like, in the legend.
fn draw_sample(area: &Area<'_>, series: &Series, x: i32, y: i32) -> Drawn {
    match series.shape {
        Shape::Line(dash) => {
            let (stroke, gap) = dash.lengths_px().unwrap_or((28, 0));
            let mut from = x;
            while from < x + 28 {
                let to = (from + stroke).min(x + 28);
                let style = series.colour.stroke_width(2);
                area.draw(&PathElement::new([(from, y), (to, y)], style))?;
                from = to + gap;
            }
        }
        Shape::Marks(_) | Shape::Dots => {
            let marker = match series.shape {
                Shape::Marks(marker) => marker,
                _ => Marker::Circle,
            };
            let is_dot = series.shape == Shape::Dots;
            let is_hollow = !is_dot && series.points.iter().all(|point| point.is_hollow);
            let (inside, outline) = mark(marker, series.colour, is_hollow);
            area.draw(&(EmptyElement::at((x + 14, y)) + inside + outline))?;
        }
        Shape::Bars | Shape::Band => {
            let opacity = if series.shape == Shape::Bars {
                0.75
            } else {
                0.2
            };
            let corners = [(x + 4, y - 6), (x + 24, y + 6)];
            area.draw(&Rectangle::new(
                corners,
                series.colour.mix(opacity).filled(),
            ))?;
        }
    }
    Ok(())
}

/// Draws a picture of the usual width into a string.
pub(super) fn draw(
    title: &str,
    height_px: u32,
    content: impl FnOnce(&Area<'_>) -> Drawn,
) -> String {
    draw_sized(title, (WIDTH_PX, height_px), content)
}

/// Draws a picture of any size into a string. The only fault that writing to memory can have is one of
/// the program.
pub(super) fn draw_sized(
    title: &str,
    size_px: (u32, u32),
    content: impl FnOnce(&Area<'_>) -> Drawn,
) -> String {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size_px).into_drawing_area();
        let all = || -> Drawn {
            area.fill(&WHITE)?;
            draw_title(&area, title)
        };
        all()
            .and_then(|()| content(&area))
            .and_then(|()| Ok(area.present()?))
            .expect("drawing into memory works");
    }
    svg
}

pub(super) fn draw_title(area: &Area<'_>, title: &str) -> Drawn {
    let style = font(20).style(FontStyle::Bold).into_text_style(area);
    Ok(area.draw(&Text::new(title.to_owned(), (LEGEND_LEFT_PX, 10), style))?)
}

/// Writes a text to the right of a place.
pub(super) fn draw_text(area: &Area<'_>, text: &str, at: (i32, i32)) -> Drawn {
    let style = font(LABEL_SIZE).into_text_style(area).pos(MIDDLE_LEFT);
    Ok(area.draw(&Text::new(text.to_owned(), at, style))?)
}

/// About how wide a label is.
fn text_px(text: &str) -> i32 {
    (text.chars().count() as f64 * CHAR_PX) as i32
}

pub(super) fn font(size: u32) -> FontDesc<'static> {
    FontDesc::new(FontFamily::SansSerif, f64::from(size), FontStyle::Normal)
}

pub(super) type Fault = Box<dyn std::error::Error>;
pub(super) type Drawn = Result<(), Fault>;

// Colours that people with any kind of colour vision tell apart (Okabe and Ito).
pub(super) const BLUE: RGBColor = RGBColor(0, 114, 178);
pub(super) const ORANGE: RGBColor = RGBColor(213, 94, 0);
pub(super) const GREEN: RGBColor = RGBColor(0, 158, 115);
pub(super) const PURPLE: RGBColor = RGBColor(120, 60, 130);
pub(super) const GREY: RGBColor = RGBColor(110, 110, 110);
const GRID: RGBColor = RGBColor(225, 225, 225);

/// plotters draws letters at four fifths of what it is told.
pub(super) const LABEL_SIZE: u32 = 16;
pub(super) const WIDTH_PX: u32 = 760;
pub(super) const HEIGHT_PX: u32 = 430;
pub(super) const MARGIN_PX: i32 = 26;
pub(super) const TITLE_PX: i32 = 34;
const MIDDLE_LEFT: Pos = Pos {
    h_pos: HPos::Left,
    v_pos: VPos::Center,
};
pub(super) const LEGEND_LEFT_PX: i32 = 16;
const LEGEND_ROW_PX: i32 = 20;
/// Width of a letter of the legend, with some to spare.
const CHAR_PX: f64 = 7.2;
const BAR_WIDTH: f64 = 0.6;
/// Points of a series that tell their values: more are closer to each other than a pointer can tell.
const HOVERS_MAX: usize = 300;
