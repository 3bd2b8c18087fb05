//! One chart: a grid with labels, lines, and a legend.

use std::fmt::Write;

use super::axis::Axis;

/// The size of a chart, and of the frame within it, in SVG's pixels.
pub(super) const WIDTH: f64 = 960.0;
pub(super) const HEIGHT: f64 = 330.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 44.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 46.0;
/// A line with at most so many points has them marked.
const MARKED_MAX: usize = 40;

/// Colours that people with colour blindness can tell apart (after Okabe and Ito), darkened for
/// thin lines on white.
pub(super) const COLORS: [&str; 8] = [
    "#0072b2", "#d55e00", "#009e73", "#b5489a", "#c98a00", "#4aa3dd", "#7a4fd0", "#5f6672",
];

/// A line.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) color: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// A chart to be drawn.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(super) title: String,
    /// What stands below the horizontal axis, and above the vertical one.
    pub(super) x_name: &'static str,
    pub(super) y_name: &'static str,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Series>,
    /// From here on to the right the ground is shaded, and named.
    pub(super) shaded: Option<(f64, &'static str)>,
}

impl Chart {
    /// Draws it with its upper edge at `top`.
    pub(super) fn draw(&self, out: &mut String, top: f64) {
        let _ = write!(out, r#"<g transform="translate(0 {top:.0})">"#);
        text(out, (LEFT, 18.0), "start", "head", &self.title);
        text(out, (LEFT - 10.0, TOP - 12.0), "end", "name", self.y_name);
        self.draw_legend(out);
        self.draw_shade(out);
        self.draw_grid(out);
        if let Some((_, name)) = self.shaded {
            // Below, because latencies are high there.
            let place = (WIDTH - RIGHT - 8.0, HEIGHT - BOTTOM - 10.0);
            text(out, place, "end", "shade", name);
        }
        for series in &self.series {
            self.draw_series(out, series);
        }
        out.push_str("</g>\n");
    }

    fn x_at(&self, value: f64) -> f64 {
        LEFT + self.x.position(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y_at(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.position(value) * (HEIGHT - TOP - BOTTOM)
    }

    /// To the right of the title.
    fn draw_legend(&self, out: &mut String) {
        let width = |series: &Series| 24.0 + text_width(&series.name) + 18.0;
        let all: f64 = self.series.iter().map(width).sum();
        let mut left = WIDTH - RIGHT - all + 18.0;
        for series in &self.series {
            let _ = write!(
                out,
                r#"<path d="M{left:.1} 14h17" stroke="{}" stroke-width="3"/>"#,
                series.color
            );
            text(out, (left + 24.0, 18.0), "start", "legend", &series.name);
            left += width(series);
        }
    }

    fn draw_shade(&self, out: &mut String) {
        let Some((from, _)) = self.shaded else {
            return;
        };
        let (left, width) = (self.x_at(from), WIDTH - RIGHT - self.x_at(from));
        let height = HEIGHT - TOP - BOTTOM;
        let _ = write!(
            out,
            r##"<rect x="{left:.1}" y="{TOP}" width="{width:.1}" height="{height:.1}" fill="#fbe9e0"/>"##
        );
    }

    fn draw_grid(&self, out: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let mut lines = |class: &str, path: &str| {
            let _ = write!(out, r#"<path class="{class}" d="{path}"/>"#);
        };
        let across = |y: f64| format!("M{LEFT} {y:.1}H{right}");
        let down = |x: f64| format!("M{x:.1} {TOP}V{bottom}");
        let minor_y = self
            .y
            .minor_ticks()
            .into_iter()
            .map(|y| across(self.y_at(y)));
        let minor_x = self.x.minor_ticks().into_iter().map(|x| down(self.x_at(x)));
        lines("minor", &minor_y.chain(minor_x).collect::<String>());
        let major_y = self.y.ticks().into_iter().map(|y| across(self.y_at(y)));
        let major_x = self.x.ticks().into_iter().map(|x| down(self.x_at(x)));
        lines("grid", &major_y.chain(major_x).collect::<String>());
        lines("axis", &format!("M{LEFT} {bottom}H{right}"));
        for tick in self.y.ticks() {
            let place = (LEFT - 10.0, self.y_at(tick) + 4.0);
            text(out, place, "end", "tick", &self.y.label(tick));
        }
        for tick in self.x.ticks() {
            let place = (self.x_at(tick), bottom + 18.0);
            text(out, place, "middle", "tick", &self.x.label(tick));
        }
        text(out, (right, HEIGHT - 8.0), "end", "name", self.x_name);
    }

    fn draw_series(&self, out: &mut String, series: &Series) {
        let mut path = String::new();
        for (index, &(x, y)) in series.points.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", self.x_at(x), self.y_at(y));
        }
        let _ = write!(
            out,
            r#"<path class="line" d="{path}" stroke="{}"/>"#,
            series.color
        );
        if series.points.len() > MARKED_MAX {
            return;
        }
        for &(x, y) in &series.points {
            let _ = write!(
                out,
                r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{}"><title>{}: {} at {}</title></circle>"#,
                self.x_at(x),
                self.y_at(y),
                series.color,
                escaped(&series.name),
                self.y.label(y),
                self.x.label(x)
            );
        }
    }
}

/// An estimate in pixels, on the safe side: an SVG can't know how wide the reader's font is.
fn text_width(text: &str) -> f64 {
    let width = |c: char| match c {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | ' ' | '.' | '/' => 5.0,
        'm' | 'w' | 'M' | 'W' => 12.0,
        _ => 7.8,
    };
    text.chars().map(width).sum()
}

/// Text at a place; `class` is one of the page's styles.
pub(super) fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, class: &str, text: &str) {
    let _ = write!(
        out,
        r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#,
        escaped(text)
    );
}

/// As XML wants it.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
