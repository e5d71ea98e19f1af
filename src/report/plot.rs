//! Line charts as SVG.
//!
//! The library draws on linear axes only: where an axis is logarithmic its values are converted here, and the marks on
//! the axis are chosen here for both kinds.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::{CoordTranslate, Shift};
use plotters::prelude::*;

use crate::report::number;

/// A line chart.
#[derive(Clone, PartialEq, Debug)]
pub struct Chart {
    /// What stands above it.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines, in the order of the legend. A single one has no legend.
    pub lines: Vec<Line>,
}

/// An axis of a chart. It covers the points of all lines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Axis {
    /// What it shows, with the unit.
    pub label: String,
    /// Whether it is logarithmic; points that are not above zero are left out then.
    pub log: bool,
}

/// A line of a chart.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    /// What it is called in the legend.
    pub name: String,
    /// Its points, in the order in which they are joined. One that is not finite is left out.
    pub points: Vec<(f64, f64)>,
}

/// The size of a chart, in pixels.
const SIZE: (u32, u32) = (800, 500);

/// Font sizes, in pixels.
const TITLE_SIZE: i32 = 22;
const TEXT_SIZE: i32 = 16;

/// About how wide a character of the text is, in pixels. Where a chart is drawn nobody knows the reader's fonts.
const CHARACTER: f64 = 7.3;

/// Distance of the lines of the legend, in pixels.
const LEGEND_STEP: i32 = 22;

/// The colours of Okabe and Ito, which people with colour blindness can tell apart as well, without the yellow.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

impl Chart {
    /// The chart as an SVG document. Equal charts give equal documents.
    pub fn to_svg(&self) -> String {
        let mut svg = String::new();
        // What is drawn into memory cannot fail to be written, and no font is looked for.
        self.draw(&mut svg).expect("a chart can be drawn");
        svg
    }

    fn draw(&self, svg: &mut String) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (area, legend) = root.split_horizontally(SIZE.0.cast_signed() - self.legend_width());
        let lines: Vec<Vec<(f64, f64)>> = self.lines.iter().map(|line| self.place(line)).collect();
        let points = || lines.iter().flatten();
        let x =
            Scale::new(points().map(|&(x, _)| x), self.x.log).at_values(points().map(|&(x, _)| x));
        let y = Scale::new(points().map(|&(_, y)| y), self.y.log);
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", TITLE_SIZE))
            .margin(12)
            .x_label_area_size(48)
            .y_label_area_size(76)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .bold_line_style(RGBColor(220, 220, 220))
            .light_line_style(RGBColor(244, 244, 244))
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .label_style(("sans-serif", TEXT_SIZE))
            .axis_desc_style(("sans-serif", TEXT_SIZE))
            .draw()?;
        for (number, line) in lines.iter().enumerate() {
            let colour = colour(number);
            chart.draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(2)))?;
            let area = chart.plotting_area();
            line.iter().try_for_each(|&point| draw_marker(area, number, point))?;
        }
        self.draw_legend(&legend)?;
        root.present()
    }

    /// The points of a line that can be shown, as they lie on the axes.
    fn place(&self, line: &Line) -> Vec<(f64, f64)> {
        let onto = |axis: &Axis, value: f64| if axis.log { value.log10() } else { value };
        let points = line.points.iter().map(|&(x, y)| (onto(&self.x, x), onto(&self.y, y)));
        points.filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
    }

    fn legend_width(&self) -> i32 {
        if self.lines.len() < 2 {
            return 0;
        }
        let longest = self.lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
        (50.0 + longest as f64 * CHARACTER).min(f64::from(SIZE.0) / 2.0) as i32
    }

    fn draw_legend<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
    ) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
        if self.lines.len() < 2 {
            return Ok(());
        }
        let style = ("sans-serif", TEXT_SIZE).into_text_style(area);
        for (number, (line, y)) in
            self.lines.iter().zip((60..).step_by(LEGEND_STEP as usize)).enumerate()
        {
            let stroke = colour(number).stroke_width(2);
            area.draw(&PathElement::new(vec![(4, y), (32, y)], stroke))?;
            draw_marker(area, number, (18, y))?;
            area.draw_text(&line.name, &style, (38, y - TEXT_SIZE / 2 + 1))?;
        }
        Ok(())
    }
}

fn colour(line: usize) -> RGBColor {
    COLOURS[line % COLOURS.len()]
}

/// The points of a line are marked by a shape of its own as well: four shapes and seven colours make 28 lines.
fn draw_marker<DB: DrawingBackend, C: CoordTranslate>(
    area: &DrawingArea<DB, C>,
    line: usize,
    at: C::From,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>>
where
    C::From: Clone,
{
    const SIZE: i32 = 4;
    let style = colour(line).filled();
    match line % 4 {
        0 => area.draw(&Circle::new(at, SIZE, style)),
        1 => area.draw(&TriangleMarker::new(at, SIZE + 2, style)),
        2 => {
            let square = Rectangle::new([(-SIZE, -SIZE), (SIZE, SIZE)], style);
            area.draw(&(EmptyElement::at(at) + square))
        }
        _ => area.draw(&Cross::new(at, SIZE, colour(line).stroke_width(2))),
    }
}

/// What an axis covers and where its marks are; decadic logarithms if it is logarithmic.
#[derive(Clone, PartialEq, Debug)]
struct Scale {
    start: f64,
    end: f64,
    marks: Vec<f64>,
    /// Decimals of a label, for a linear axis.
    decimals: usize,
    log: bool,
}

/// About how many marks an axis has.
const MARKS: f64 = 6.0;

impl Scale {
    /// Covers these values, which are logarithms already if `log`.
    fn new(values: impl Iterator<Item = f64>, log: bool) -> Scale {
        let limits = values.fold(None, |limits: Option<(f64, f64)>, value| {
            let (low, high) = limits.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        });
        let (low, high) = limits.unwrap_or((0.0, 1.0));
        if log { Scale::logarithmic(low, high) } else { Scale::linear(low, high) }
    }

    /// With a mark at every value and nowhere else, if it is logarithmic and they are few: threads, sizes, latencies.
    fn at_values(mut self, values: impl Iterator<Item = f64>) -> Scale {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        if self.log && (2..=8).contains(&values.len()) {
            (self.start, self.end) = (values[0], values[values.len() - 1]);
            self.marks = values;
        }
        self
    }

    /// From one mark to another; zero is one of them if it is not far away.
    fn linear(low: f64, high: f64) -> Scale {
        let low = if low > 0.0 && low < high / 2.0 { 0.0 } else { low };
        let span = if high > low { high - low } else { low.abs().max(1.0) };
        let step = round_step(span / MARKS);
        let (first, mut last) = ((low / step).floor(), (high / step).ceil());
        if last <= first {
            last = first + 1.0;
        }
        // Whole multiples, so that no error adds up.
        let marks = (0..=(last - first) as u32).map(|mark| (first + f64::from(mark)) * step);
        let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
        Scale {
            start: first * step,
            end: last * step,
            marks: marks.collect(),
            decimals,
            log: false,
        }
    }

    /// From 1, 2 or 5 times a power of ten to another; over many decades the powers only.
    fn logarithmic(low: f64, high: f64) -> Scale {
        // What is a power of ten but for a rounding error does not need another mark around it.
        const ROUNDING: f64 = 1e-9;
        let factors: &[f64] = if high - low > 4.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let decades = low.floor() as i32 - 1..=high.ceil() as i32 + 1;
        let marks: Vec<f64> = decades
            .flat_map(|decade| factors.iter().map(move |factor| f64::from(decade) + factor.log10()))
            .collect();
        let before = |mark: &&f64| **mark <= low + ROUNDING;
        let after = |mark: &&f64| **mark >= high - ROUNDING && **mark > low + ROUNDING;
        let start = *marks.iter().rev().find(before).expect("a decade more on either side");
        let end = *marks.iter().find(after).expect("a decade more on either side");
        let marks = marks.into_iter().filter(|mark| (start..=end).contains(mark)).collect();
        Scale { start, end, marks, decimals: 0, log: true }
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.start) / (self.end - self.start);
        limit.0 + (f64::from(limit.1 - limit.0) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Light marks have no label: there are none.
        if hint.weight().allow_light_points() { Vec::new() } else { self.marks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.start..self.end
    }
}

impl ValueFormatter<f64> for Scale {
    fn format(mark: &f64) -> String {
        mark.to_string()
    }

    fn format_ext(&self, mark: &f64) -> String {
        if !self.log {
            return number::fixed(*mark, self.decimals);
        }
        // Three digits, without zeros at the end.
        let decimals = (2.0 - (mark + 1e-9).floor()).clamp(0.0, 12.0) as usize;
        let text = number::fixed(10_f64.powf(*mark), decimals);
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    }
}

/// The next number up that is 1, 2 or 5 times a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * 0.999_999);
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(label: &str, log: bool) -> Axis {
        Axis { label: label.to_owned(), log }
    }

    fn labels(values: &[f64], log: bool) -> Vec<String> {
        let onto = |&value: &f64| if log { value.log10() } else { value };
        let scale = Scale::new(values.iter().map(onto), log);
        assert!(values.iter().map(onto).all(|v| scale.start <= v && v <= scale.end + 1e-9));
        scale.marks.iter().map(|&mark| scale.format_ext(&mark)).collect()
    }

    #[test]
    fn marks_are_round_numbers() {
        assert_eq!(labels(&[0.0, 100.0], false), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels(&[3.0, 0.4], false), ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5", "3.0"]);
        assert_eq!(labels(&[1.01, 1.02], false).first().unwrap(), "1.010");
        assert_eq!(labels(&[-5.0, 5.0], false), ["-6", "-4", "-2", "0", "2", "4", "6"]);
        assert_eq!(labels(&[7.0], false), ["6", "8"]);
        assert_eq!(labels(&[], false), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&[1.0, 1000.0], true).len(), 10);
        assert_eq!(labels(&[0.03, 0.4], true), ["0.02", "0.05", "0.1", "0.2", "0.5"]);
        assert_eq!(
            labels(&[1.0, 4e5], true),
            ["1", "10", "100", "1,000", "10,000", "100,000", "1,000,000"]
        );
        assert_eq!(labels(&[8.0], true), ["5", "10"]);
        let threads = [1.0, 2.0, 4.0, 8.0, 16.0, 2.0].map(f64::log10);
        let scale = Scale::new(threads.into_iter(), true).at_values(threads.into_iter());
        let marks: Vec<String> = scale.marks.iter().map(|mark| scale.format_ext(mark)).collect();
        assert_eq!(marks, ["1", "2", "4", "8", "16"]);
    }

    #[test]
    fn charts_show_what_they_are_given() {
        let line = |name: &str, points: &[(f64, f64)]| Line {
            name: name.to_owned(),
            points: points.to_vec(),
        };
        let mut chart = Chart {
            title: "Speed & <load>".to_owned(),
            x: axis("threads", true),
            y: axis("speed-up", false),
            lines: vec![
                line("first", &[(1.0, 1.0), (2.0, 1.9), (f64::NAN, 1.0), (0.0, 3.0)]),
                line("second", &[(1.0, 1.0), (4.0, 3.1)]),
            ],
        };
        let svg = chart.to_svg();
        assert_eq!(svg, chart.to_svg());
        for text in
            ["Speed &amp; &lt;load&gt;", "threads", "speed-up", "first", "second", ">\n3\n<"]
        {
            assert!(svg.contains(text), "{text} is missing in {svg}");
        }
        assert!(svg.starts_with("<svg width=\"800\" height=\"500\"") && svg.ends_with("</svg>\n"));
        // Two lines and their two entries in the legend; two circles and one; two triangles and one.
        let count = |what: &str| svg.matches(what).count();
        assert_eq!((count("stroke-width=\"2\""), count("<circle"), count("<polygon")), (4, 3, 3));
        chart.lines.truncate(1);
        let svg = chart.to_svg();
        assert!(!svg.contains("first"), "a single line needs no name");
        chart.lines.clear();
        assert!(chart.to_svg().contains("threads"), "nothing to show");
    }
}
