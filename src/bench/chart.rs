//! Curves as SVG, drawn by hand: no script, no font, nothing fetched.

use std::fmt::Write as _;

use super::shown;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 46.0;

/// Colours told apart by people who see fewer of them too (Okabe and Ito), and lines told apart without any.
const COLOURS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999",
];
const DASHES: [&str; 3] = ["", "6 3", "2 3"];

/// One line of a chart.
pub(super) struct Line {
    /// What it is.
    pub(super) name: String,
    /// Its points, from left to right.
    pub(super) points: Vec<(f64, f64)>,
}

/// How an axis runs.
#[derive(Clone, Copy)]
pub(super) enum Axis {
    /// Nanoseconds, each power of ten as far as the next.
    Time,
    /// Percentiles, each further nine as far as the one before.
    Nines,
    /// From nothing to the highest.
    Even(fn(f64) -> String),
}

impl Axis {
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Time => value.max(1.0).log10(),
            // The 100th percentile is where a hundred thousandth would be.
            Self::Nines => -(1.0 - (value / 100.0).min(0.999_99)).log10(),
            Self::Even(_) => value,
        }
    }

    /// Places with a word at them, between two values.
    fn ticks(self, from: f64, to: f64) -> Vec<(f64, String)> {
        match self {
            Self::Time => (0..13)
                .map(|power| 10f64.powi(power))
                .filter(|value| *value >= from * 0.99 && *value <= to * 1.01)
                .map(|value| (value, shown(value)))
                .collect(),
            Self::Nines => [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999]
                .iter()
                .filter(|value| **value <= to)
                .map(|value| (*value, format!("{value}%")))
                .collect(),
            Self::Even(word) => (0..=5u8)
                .map(|step| to * f64::from(step) / 5.0)
                .map(|value| (value, word(value)))
                .collect(),
        }
    }
}

/// The text of a picture's parts: nothing of it becomes markup.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter => out.push(letter),
        }
    }
    out
}

/// Draws lines. Nothing is drawn of nothing.
pub(super) fn draw(title: &str, across: (Axis, &str), up: (Axis, &str), lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| line.points.iter());
    let span = |axis: Axis, values: &mut dyn Iterator<Item = f64>| {
        let (mut low, mut high) = (f64::MAX, f64::MIN);
        for value in values {
            low = low.min(value);
            high = high.max(value);
        }
        match axis {
            Axis::Time => (
                10f64.powf(low.max(1.0).log10().floor()),
                10f64.powf(high.max(1.0).log10().ceil()),
            ),
            Axis::Nines => (0.0, high),
            Axis::Even(_) => (0.0, high),
        }
    };
    if all().next().is_none() {
        return String::new();
    }
    let (x_from, x_to) = span(across.0, &mut all().map(|point| point.0));
    let (y_from, y_to) = span(up.0, &mut all().map(|point| point.1));
    let scale = |axis: Axis, value: f64, from: f64, to: f64| {
        let (low, high) = (axis.place(from), axis.place(to));
        match high > low {
            true => (axis.place(value) - low) / (high - low),
            false => 0.5,
        }
    };
    let (wide, high) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let x = |value: f64| LEFT + wide * scale(across.0, value, x_from, x_to);
    let y = |value: f64| TOP + high * (1.0 - scale(up.0, value, y_from, y_to));

    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        plain(title)
    );
    for (value, word) in across.0.ticks(x_from, x_to) {
        let at = x(value);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            TOP + high,
            TOP + high + 16.0,
            plain(&word)
        );
    }
    for (value, word) in up.0.ticks(y_from, y_to) {
        let at = y(value);
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT + wide,
            LEFT - 6.0,
            at + 4.0,
            plain(&word)
        );
    }
    let _ = write!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        LEFT + wide / 2.0,
        HEIGHT - 8.0,
        plain(across.1),
        TOP + high / 2.0,
        plain(up.1)
    );
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS.get(number % COLOURS.len()).unwrap_or(&"#000000");
        let dash = DASHES
            .get(number / COLOURS.len() % DASHES.len())
            .unwrap_or(&"");
        let points: Vec<String> = line
            .points
            .iter()
            .map(|(across, up)| format!("{:.1},{:.1}", x(*across), y(*up)))
            .collect();
        let style = format!("stroke=\"{colour}\" stroke-dasharray=\"{dash}\"");
        let _ = write!(out, "<polyline {style} points=\"{}\"/>", points.join(" "));
        #[allow(clippy::cast_precision_loss)]
        let at = TOP + 8.0 + 17.0 * number as f64;
        let from = LEFT + wide + 12.0;
        let _ = write!(
            out,
            "<line {style} x1=\"{from:.1}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke-width=\"2\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            from + 22.0,
            from + 28.0,
            at + 4.0,
            plain(&line.name)
        );
    }
    out.push_str("</svg>");
    out
}
