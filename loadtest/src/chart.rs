//! Line charts as inline SVG. Colours and fonts are the page's: a line has a class, not a colour.

use std::fmt::Write;

use crate::report::thousands;

/// More points than this on a line are drawn together.
const POINTS_MAX: usize = 300;
/// Up to so many points each has a dot.
const DOTS_MAX: usize = 40;
const HEIGHT: f64 = 280.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 46.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 18.0;
/// A chart on a screen and one on a telephone: a single one would have letters too large or too small.
const WIDTHS: [(&str, f64); 2] = [("wide", 620.0), ("narrow", 360.0)];
/// Room that a label on the x axis needs.
const LABEL_WIDTH: f64 = 52.0;

/// One line of a chart.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    /// The CSS class: `a`, `b`, `c` or `before`.
    pub(crate) class: &'static str,
    /// By x; a gap where there is no y.
    pub(crate) points: Vec<(f64, Option<f64>)>,
}

/// How numbers lie on an axis.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Scale {
    /// Evenly, from the first to the second.
    Linear(f64, f64),
    /// Each power of ten as long as the next.
    Log(f64, f64),
    /// Quantiles: 0.9, 0.99 and 0.999 as far from each other as 0 from 0.9; up to so many nines.
    Nines(f64),
}

impl Scale {
    /// From 0 to a round number above all of `values`.
    pub(crate) fn up_to(values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(0.0, f64::max);
        let step = round_step(most, 4.0);
        Self::Linear(0.0, (most / step).ceil().max(1.0) * step)
    }

    /// Whole and half powers of ten around all of `values` that are above 0.
    pub(crate) fn around(values: impl Iterator<Item = f64>) -> Self {
        let (least, most) = values
            .filter(|value| *value > 0.0)
            .fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
        if most == 0.0 {
            return Self::Log(0.1, 10.0);
        }
        let round = |value: f64, up: bool| {
            let power = 10_f64.powf(value.log10().floor());
            let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
            let mut fitting = steps.into_iter().filter(|step| if up { *step >= value } else { *step <= value });
            if up { fitting.next() } else { fitting.next_back() }.unwrap_or(value)
        };
        let (from, to) = (round(least, false), round(most, true));
        Self::Log(from, if to > from { to } else { from * 2.0 })
    }

    /// Where a value lies, from 0 to 1.
    fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Linear(from, to) => (value - from) / (to - from),
            Self::Log(from, to) => (value / from).log10() / (to / from).log10(),
            Self::Nines(nines) => -(1.0 - value).max(f64::MIN_POSITIVE).log10() / nines,
        };
        place.clamp(0.0, 1.0)
    }

    /// Marks, `most` of them at most.
    fn ticks(self, most: f64) -> Vec<(f64, String)> {
        match self {
            Self::Linear(from, to) => {
                let step = round_step(to - from, most);
                let count = ((to - from) / step + 1e-9).floor() as u32;
                (0..=count).map(|number| from + f64::from(number) * step).map(|it| (it, number_text(it))).collect()
            }
            Self::Log(from, to) => {
                let powers = (from.log10().floor() as i32)..=(to.log10().ceil() as i32);
                let of = |steps: &[f64]| -> Vec<f64> {
                    let all = powers.clone().flat_map(|power| steps.iter().map(move |it| it * 10_f64.powi(power)));
                    all.filter(|it| *it >= from * 0.999 && *it <= to * 1.001).collect()
                };
                let fine = of(&[1.0, 2.0, 5.0]);
                let ticks = if fine.len() as f64 <= most { fine } else { of(&[1.0]) };
                ticks.into_iter().map(|it| (it, number_text(it))).collect()
            }
            Self::Nines(nines) => {
                let mut ticks = vec![(0.0, "0".to_owned()), (0.5, "50".to_owned())];
                for nine in 1..=nines.floor() as usize {
                    let text = match nine {
                        1 => "90".to_owned(),
                        2 => "99".to_owned(),
                        _ => format!("99.{}", "9".repeat(nine - 2)),
                    };
                    ticks.push((1.0 - 10_f64.powi(-i32::try_from(nine).unwrap_or(i32::MAX)), text));
                }
                ticks
            }
        }
    }
}

/// 1, 2 or 5 times a power of ten, so that `most` of them reach over `span`.
fn round_step(span: f64, most: f64) -> f64 {
    let least = if span > 0.0 { span / most } else { 0.25 };
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|step| step * power).find(|step| *step >= least * 0.999_999).unwrap_or(10.0 * power)
}

/// As few digits as tell it.
pub(crate) fn number_text(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => thousands(value.round() as u64),
        size if size >= 0.000_5 => {
            let text = format!("{value:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => "0".to_owned(),
    }
}

/// A chart: its title, what x and y are, and what lies on them.
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) x: (&'static str, Scale),
    pub(crate) y: (&'static str, Scale),
    pub(crate) lines: Vec<Line>,
    /// What stands below it.
    pub(crate) note: String,
}

impl Chart {
    /// A `figure` element.
    pub(crate) fn html(&self) -> String {
        let mut out = format!("<figure>\n<h3>{}</h3>\n", self.title);
        if self.lines.len() > 1 {
            out.push_str("<p class=\"legend\">");
            for Line { name, class, .. } in &self.lines {
                let _ = write!(out, "<span><i class=\"{class}\"></i>{name}</span> ");
            }
            out.push_str("</p>\n");
        }
        for (class, width) in WIDTHS {
            self.svg(&mut out, class, width);
        }
        if !self.note.is_empty() {
            let _ = writeln!(out, "<figcaption>{}</figcaption>", self.note);
        }
        out.push_str("</figure>\n");
        out
    }

    fn svg(&self, out: &mut String, class: &str, width: f64) {
        let (x_label, x_scale) = self.x;
        let (y_label, y_scale) = self.y;
        let (right, bottom) = (width - RIGHT, HEIGHT - BOTTOM);
        let x = |value: f64| LEFT + x_scale.place(value) * (right - LEFT);
        let y = |value: f64| bottom - y_scale.place(value) * (bottom - TOP);
        let _ = writeln!(
            out,
            "<svg class=\"{class}\" viewBox=\"0 0 {width} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            self.title
        );
        // The marks of a logarithmic axis are worth more: between them nobody can guess.
        let most = if matches!(y_scale, Scale::Log(..)) { 10.0 } else { 7.0 };
        for (value, text) in y_scale.ticks(most) {
            let y = y(value);
            let _ = writeln!(out, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
            let _ = writeln!(out, "<text class=\"right\" x=\"{}\" y=\"{:.1}\">{text}</text>", LEFT - 8.0, y + 4.0);
        }
        for (value, text) in x_scale.ticks((right - LEFT) / LABEL_WIDTH) {
            let x = x(value);
            let _ = writeln!(out, "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
            let _ = writeln!(out, "<text class=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{text}</text>", bottom + 18.0);
        }
        let _ = writeln!(out, "<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>");
        let (middle_x, middle_y) = ((LEFT + right) / 2.0, (TOP + bottom) / 2.0);
        let _ = writeln!(
            out,
            "<text class=\"middle label\" x=\"{middle_x:.1}\" y=\"{:.1}\">{x_label}</text>",
            HEIGHT - 8.0
        );
        let _ = writeln!(
            out,
            "<text class=\"middle label\" transform=\"translate(14 {middle_y:.1}) rotate(-90)\">{y_label}</text>"
        );
        for line in &self.lines {
            let points: Vec<_> = line.points.iter().map(|(at, value)| (x(*at), value.map(y))).collect();
            draw(out, line.class, &points);
        }
        self.tips(out, &x);
        out.push_str("</svg>\n");
    }

    /// What a mouse is told that rests on the chart: the values below it.
    fn tips(&self, out: &mut String, x: &impl Fn(f64) -> f64) {
        let Some(first) = self.lines.first() else { return };
        let places: Vec<f64> = first.points.iter().map(|(at, _)| x(*at)).collect();
        for (number, (at, _)) in first.points.iter().enumerate() {
            let here = places[number];
            let before = number.checked_sub(1).map_or(here, |before| places[before]);
            let after = places.get(number + 1).copied().unwrap_or(here);
            let (from, to) = (f64::midpoint(before, here), f64::midpoint(here, after));
            let mut text = match self.x.1 {
                Scale::Nines(_) => format!("{} %", quantile_text(*at)),
                _ => format!("{} s", number_text(*at)),
            };
            for line in &self.lines {
                if let Some((_, Some(value))) = line.points.get(number) {
                    let _ = write!(text, ", {}: {}", line.name, number_text(*value));
                }
            }
            let _ = writeln!(
                out,
                "<rect class=\"tip\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\"><title>{text}</title></rect>",
                (to - from).max(2.0),
                HEIGHT - BOTTOM - TOP
            );
        }
    }
}

/// A quantile in percent, with as many nines as it has.
fn quantile_text(quantile: f64) -> String {
    let text = format!("{:.5}", quantile * 100.0);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn draw(out: &mut String, class: &str, points: &[(f64, Option<f64>)]) {
    let mut path = String::new();
    let mut is_down = false;
    for (x, y) in points {
        match y {
            Some(y) => {
                let _ = write!(path, "{}{x:.1} {y:.1}", if is_down { 'L' } else { 'M' });
                is_down = true;
            }
            None => is_down = false,
        }
    }
    let _ = writeln!(out, "<path class=\"line {class}\" d=\"{path}\"/>");
    if points.len() <= DOTS_MAX {
        for (x, y) in points.iter().filter_map(|(x, y)| Some((x, (*y)?))) {
            let _ = writeln!(out, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.4\"/>");
        }
    }
}

/// How many seconds are drawn together if there are so many of them.
pub(crate) fn seconds_a_point(seconds: usize) -> usize {
    seconds.div_ceil(POINTS_MAX).max(1)
}

/// Draws points together: the x in their middle, and of the y what `fold` makes of them.
pub(crate) fn thinned(points: &[(f64, Option<f64>)], by: usize, fold: fn(&[f64]) -> f64) -> Vec<(f64, Option<f64>)> {
    points
        .chunks(by)
        .map(|chunk| {
            let x = chunk.iter().map(|(x, _)| x).sum::<f64>() / chunk.len() as f64;
            let values: Vec<f64> = chunk.iter().filter_map(|(_, y)| *y).collect();
            (x, (!values.is_empty()).then(|| fold(&values)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(scale: Scale, most: f64) -> Vec<String> {
        scale.ticks(most).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn axes_have_round_marks_with_room() {
        assert_eq!(Scale::up_to([7_300.0, 120.0].into_iter()), Scale::Linear(0.0, 8_000.0));
        assert_eq!(Scale::up_to(std::iter::empty()), Scale::Linear(0.0, 0.5));
        assert_eq!(marks(Scale::Linear(0.0, 8_000.0), 7.0), ["0", "2,000", "4,000", "6,000", "8,000"]);
        assert_eq!(marks(Scale::Linear(0.0, 0.5), 7.0), ["0", "0.1", "0.2", "0.3", "0.4", "0.5"]);
        assert_eq!(Scale::around([0.13, 7.5].into_iter()), Scale::Log(0.1, 10.0));
        assert_eq!(Scale::around([3.0].into_iter()), Scale::Log(2.0, 5.0));
        assert_eq!(marks(Scale::Log(0.1, 10.0), 7.0), ["0.1", "0.2", "0.5", "1", "2", "5", "10"]);
        assert_eq!(marks(Scale::Log(0.1, 1_000.0), 7.0), ["0.1", "1", "10", "100", "1,000"]);
        assert_eq!(marks(Scale::Nines(4.3), 7.0), ["0", "50", "90", "99", "99.9", "99.99"]);
    }

    #[test]
    fn places_follow_the_scale() {
        let near = |place: f64, wanted: f64| assert!((place - wanted).abs() < 1e-9, "{place} {wanted}");
        near(Scale::Linear(0.0, 4.0).place(1.0), 0.25);
        near(Scale::Log(0.1, 1_000.0).place(1.0), 0.25);
        near(Scale::Nines(4.0).place(0.99), 0.5);
        near(Scale::Nines(4.0).place(1.0), 1.0);
    }

    #[test]
    fn a_gap_breaks_the_line() {
        let mut out = String::new();
        draw(&mut out, "a", &[(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(3.0))]);
        assert!(out.contains("M0.0 1.0L1.0 2.0M3.0 3.0"), "{out}");
    }

    #[test]
    fn many_points_are_drawn_together() {
        assert_eq!((seconds_a_point(0), seconds_a_point(300), seconds_a_point(301)), (1, 1, 2));
        let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        let points = [(0.5, Some(1.0)), (1.5, Some(3.0)), (2.5, None)];
        assert_eq!(thinned(&points, 2, most), [(1.0, Some(3.0)), (2.5, None)]);
    }
}
