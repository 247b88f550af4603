//! The plot: requests served over time, and what a log call takes.

use std::fmt::Write as _;

use crate::load::Phase;
use crate::scenario::Way;

pub struct Plot {
    pub phases: [Phase; 3],
    /// Seconds of one point.
    pub point: f64,
    pub curves: Vec<Curve>,
    pub calls: Vec<Span>,
}

/// Requests served a second, point by point.
pub struct Curve {
    pub way: Way,
    pub served: Vec<f64>,
}

/// What a log call takes, in seconds.
pub struct Span {
    pub way: Way,
    pub p50: f64,
    pub p99: f64,
}

/// Left, top, width and height of the curves.
const AREA: [f64; 4] = [60.0, 40.0, 480.0, 220.0];
/// The decades of the log calls' axis, in seconds, and their names.
const DECADES: [(f64, &str); 7] = [
    (1e-7, "0.1 us"),
    (1e-6, "1 us"),
    (1e-5, "10 us"),
    (1e-4, "0.1 ms"),
    (1e-3, "1 ms"),
    (1e-2, "10 ms"),
    (1e-1, "0.1 s"),
];
const CALLS_TOP: f64 = 340.0;

fn colour(way: Way) -> &'static str {
    match way {
        Way::Nowhere => "#bbb",
        Way::Pool => "#c22",
        Way::Forebay => "#186",
        Way::ForebayStopped => "#136",
    }
}

/// Curves lie on each other, so that they go from the widest to the narrowest and the last has gaps.
fn stroke(way: Way) -> String {
    let shape = match way {
        Way::Nowhere => "stroke-width='7'",
        Way::Pool | Way::Forebay => "stroke-width='2.5'",
        Way::ForebayStopped => "stroke-width='2.5' stroke-dasharray='5 5'",
    };
    format!("stroke='{}' {shape}", colour(way))
}

impl Plot {
    pub fn svg(&self) -> String {
        let mut svg = "<svg xmlns='http://www.w3.org/2000/svg' width='800' height='480' font-family='sans-serif' font-size='13'>\n\
                       <rect width='800' height='480' fill='white'/>\n"
            .to_owned();
        self.axes(&mut svg);
        self.curves(&mut svg);
        self.calls(&mut svg);
        svg + "</svg>\n"
    }

    fn length(&self) -> f64 {
        self.phases.iter().map(|phase| phase.length).sum()
    }

    fn x(&self, time: f64) -> f64 {
        AREA[0] + AREA[2] * time / self.length()
    }

    fn y(&self, rate: f64) -> f64 {
        let most = self.phases.iter().map(|phase| phase.rate).fold(1.0, f64::max) * 1.05;
        AREA[1] + AREA[3] * (1.0 - rate / most)
    }

    /// The axes, and what arrives as a dotted line.
    fn axes(&self, svg: &mut String) {
        let [left, top, width, height] = AREA;
        let _ = writeln!(
            svg,
            "<text x='{left}' y='24'>requests served/s, by time of arrival in s (dotted: arriving)</text>\n\
             <path d='M{left} {top} v{height} h{width}' fill='none' stroke='black'/>"
        );
        let most = self.phases.iter().map(|phase| phase.rate).fold(0.0, f64::max);
        for quarter in 0..=4 {
            let rate = most * f64::from(quarter) / 4.0;
            let (x, y) = (left - 6.0, self.y(rate) + 4.0);
            let _ = writeln!(svg, "<text x='{x}' y='{y:.0}' text-anchor='end'>{rate:.0}</text>");
        }
        for second in 0..=self.length() as u32 {
            let (x, y) = (self.x(second.into()), top + height + 18.0);
            let _ = writeln!(svg, "<text x='{x:.0}' y='{y:.0}' text-anchor='middle'>{second}</text>");
        }
        let (mut time, mut path) = (0.0, String::new());
        for phase in self.phases {
            for end in [time, time + phase.length] {
                let command = if path.is_empty() { 'M' } else { 'L' };
                let _ = write!(path, "{command}{:.0} {:.0}", self.x(end), self.y(phase.rate));
            }
            time += phase.length;
        }
        let _ = writeln!(svg, "<path d='{path}' fill='none' stroke='black' stroke-dasharray='1 4'/>");
    }

    fn curves(&self, svg: &mut String) {
        let legend = AREA[0] + AREA[2] + 20.0;
        for (index, Curve { way, served }) in self.curves.iter().enumerate() {
            let point = |(index, rate): (usize, &f64)| {
                format!("{:.0},{:.0}", self.x((index as f64 + 0.5) * self.point), self.y(*rate))
            };
            let points = served.iter().enumerate().map(point).collect::<Vec<_>>().join(" ");
            let _ = writeln!(svg, "<polyline points='{points}' fill='none' {}/>", stroke(*way));
            let y = AREA[1] + 20.0 + 24.0 * index as f64;
            let _ = writeln!(
                svg,
                "<path d='M{legend} {y} h28' {}/><text x='{}' y='{}'>{}</text>",
                stroke(*way),
                legend + 34.0,
                y + 4.0,
                way.name()
            );
        }
    }

    /// A bar from the median to the 99th percentile of each way's calls, on a logarithmic axis.
    fn calls(&self, svg: &mut String) {
        let (first, last) = (DECADES[0].0.log10(), DECADES[DECADES.len() - 1].0.log10() + 1.0);
        let x = |seconds: f64| 230.0 + 520.0 * (seconds.log10() - first) / (last - first);
        let _ = writeln!(svg, "<text x='{}' y='{}'>a log call, p50 to p99</text>", AREA[0], CALLS_TOP - 22.0);
        let bottom = CALLS_TOP + 34.0 * self.calls.len() as f64;
        for (seconds, name) in DECADES {
            let x = x(seconds);
            let _ = writeln!(
                svg,
                "<path d='M{x:.0} {CALLS_TOP} V{bottom}' stroke='#ccc'/>\
                 <text x='{x:.0}' y='{}' text-anchor='middle'>{name}</text>",
                bottom + 18.0
            );
        }
        for (index, Span { way, p50, p99 }) in self.calls.iter().enumerate() {
            let y = CALLS_TOP + 17.0 + 34.0 * index as f64;
            let (from, to) = (x(*p50), x(*p99).max(x(*p50) + 3.0));
            let _ = writeln!(
                svg,
                "<text x='220' y='{}' text-anchor='end'>{}</text>\
                 <path d='M{from:.0} {y} H{to:.0}' {}/><circle cx='{from:.0}' cy='{y}' r='5' fill='{}'/>",
                y + 4.0,
                way.name(),
                stroke(*way),
                colour(*way)
            );
        }
    }
}
