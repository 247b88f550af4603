//! The table, the file of results and the plot.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::machine::machine;

use crate::{BySeverity, QUIET, SEVERITIES, TIMELINE, TIMES};

/// Samples that make one point of the plot.
const IN_A_POINT: usize = 4;
const COLOURS: [&str; 4] = ["#9bb", "#48a", "#d92", "#c22"];
/// Top, width and height of a plot.
const AREA: [f64; 3] = [70.0, 310.0, 200.0];
/// The left edges of the plots.
const LEFT: [f64; 2] = [60.0, 440.0];

pub struct Report {
    runs: [Run; 2],
}

/// The flood with one policy.
pub struct Run {
    pub policy: &'static str,
    pub samples: Vec<Sample>,
    /// The records of all senders, and those of them that were lost.
    pub sent: BySeverity,
    pub lost: BySeverity,
    /// The records of the senders that do not flood, and those of them that were lost.
    pub quiet: u64,
    pub quiet_lost: u64,
}

/// The state at a moment.
pub struct Sample {
    /// Since the start of the load.
    pub second: f64,
    /// The free part of the buffer.
    pub free: f64,
    pub sent: BySeverity,
    pub lost: BySeverity,
}

impl Report {
    pub fn new(runs: [Run; 2]) -> Self {
        Self { runs }
    }

    pub fn text(&self) -> String {
        let [stop, start, end] = TIMELINE;
        let mut text = format!(
            "{} records/s of one sender and {} of each of {QUIET} others, for {end} s; PostgreSQL away from {stop} to {start} s\n\n",
            10 * TIMES,
            10
        );
        let runs = self.runs.each_ref();
        let mut line = |title: &str, cells: [String; 2]| {
            let _ = writeln!(text, "{title:<42}{:>24}{:>24}", cells[0], cells[1]);
        };
        line("", runs.map(|run| run.policy.to_owned()));
        for (index, (name, ..)) in SEVERITIES.iter().enumerate().rev() {
            line(
                &format!("{name} lost, of those sent"),
                runs.map(|run| part(run.lost[index], run.sent[index])),
            );
        }
        line("of the ten others, lost of those sent", runs.map(|run| part(run.quiet_lost, run.quiet)));
        for (index, (name, ..)) in SEVERITIES.iter().enumerate().rev() {
            let after = |run: &Run| {
                run.first_lost(index).map_or("none".to_owned(), |second| format!("{second:.1} s"))
            };
            line(&format!("first {name} lost, PostgreSQL away for"), runs.map(after));
        }
        text
    }

    /// Writes `overload.txt`, `.json` and `.svg` to `dir`.
    pub fn write(&self, dir: &str) {
        let dir = Path::new(dir);
        fs::create_dir_all(dir).expect("a directory for the results");
        let text = format!("{}\n\n{}", machine().join("\n"), self.text());
        let json = serde_json::to_string_pretty(&self.json()).expect("JSON") + "\n";
        for (name, content) in [("txt", text), ("json", json), ("svg", self.svg())] {
            fs::write(dir.join(format!("overload.{name}")), content).expect("a file of results");
        }
    }

    fn json(&self) -> Value {
        let named = |numbers: &BySeverity| -> Value {
            SEVERITIES
                .iter()
                .zip(numbers)
                .map(|((name, ..), number)| (name.to_string(), json!(number)))
                .collect()
        };
        let run = |run: &Run| {
            // One a second.
            let points = run.samples.iter().step_by(IN_A_POINT).map(|Sample { second, free, sent, lost }| {
                json!({ "second": second.round(), "free": (free * 1e3).round() / 1e3, "sent": sent, "lost": lost })
            });
            json!({
                "sent": named(&run.sent), "lost": named(&run.lost), "others sent": run.quiet, "others lost": run.quiet_lost,
                "over time": points.collect::<Vec<_>>(),
            })
        };
        let runs = self.runs.iter().map(|one| (one.policy.to_owned(), run(one)));
        json!({ "machine": machine(), "timeline": TIMELINE, "policies": runs.collect::<Value>() })
    }

    /// For each policy the lost part of what arrived, by severity and time, over the free part of the buffer.
    fn svg(&self) -> String {
        let mut svg = "<svg xmlns='http://www.w3.org/2000/svg' width='800' height='340' font-family='sans-serif' font-size='13'>\n\
                       <rect width='800' height='340' fill='white'/>\n\
                       <text x='60' y='24'>lost part of what arrives, by time in s; grey: free part of the buffer; \
                       PostgreSQL is away between the lines</text>\n"
            .to_owned();
        for (run, left) in self.runs.iter().zip(LEFT) {
            run.plot(&mut svg, left);
        }
        for (index, ((name, ..), colour)) in SEVERITIES.iter().zip(COLOURS).enumerate() {
            let x = LEFT[0] + 110.0 * index as f64;
            let _ = writeln!(
                svg,
                "<path d='M{x} 322 h28' stroke='{colour}' stroke-width='3'/><text x='{}' y='326'>{name}</text>",
                x + 34.0
            );
        }
        svg + "</svg>\n"
    }
}

/// `lost` records, of those that were sent.
fn part(lost: u64, sent: u64) -> String {
    format!("{lost} of {sent} ({:.1} %)", 100.0 * lost as f64 / sent.max(1) as f64)
}

impl Run {
    /// The seconds from the end of PostgreSQL to the first sample in which a record of this severity was lost.
    fn first_lost(&self, severity: usize) -> Option<f64> {
        let first = self.samples.iter().find(|sample| sample.lost[severity] > 0)?;
        Some(first.second - TIMELINE[0] as f64)
    }

    fn plot(&self, svg: &mut String, left: f64) {
        let [top, width, height] = AREA;
        let x = |second: f64| left + width * second / TIMELINE[2] as f64;
        let y = |part: f64| top + height * (1.0 - part);
        let bottom = y(0.0);
        let _ = writeln!(svg, "<text x='{left}' y='{}'>overflow: {}</text>", top - 14.0, self.policy);
        let free: String = self
            .samples
            .iter()
            .map(|sample| format!("L{:.0} {:.0}", x(sample.second), y(sample.free)))
            .collect();
        let last = self.samples.last().map_or(left, |sample| x(sample.second));
        let _ = writeln!(svg, "<path d='M{left} {bottom}{free}L{last:.0} {bottom}Z' fill='#eee'/>");
        for second in &TIMELINE[..2] {
            let x = x(*second as f64);
            let _ =
                writeln!(svg, "<path d='M{x:.0} {top} V{bottom}' stroke='black' stroke-dasharray='1 4'/>");
        }
        let _ = writeln!(svg, "<path d='M{left} {top} v{height} h{width}' fill='none' stroke='black'/>");
        for percent in [0, 50, 100] {
            let (x, y) = (left - 6.0, y(f64::from(percent) / 100.0) + 4.0);
            let _ = writeln!(svg, "<text x='{x}' y='{y:.0}' text-anchor='end'>{percent} %</text>");
        }
        for second in (0..=TIMELINE[2]).step_by(5) {
            let (x, y) = (x(second as f64), bottom + 18.0);
            let _ = writeln!(svg, "<text x='{x:.0}' y='{y}' text-anchor='middle'>{second}</text>");
        }
        for (severity, colour) in COLOURS.into_iter().enumerate() {
            let point = |(from, to): (&Sample, &Sample)| {
                let more = |of: fn(&Sample) -> &BySeverity| (of(to)[severity] - of(from)[severity]) as f64;
                let part = (more(|sample| &sample.lost) / more(|sample| &sample.sent).max(1.0)).min(1.0);
                format!("{:.0},{:.0}", x((from.second + to.second) / 2.0), y(part))
            };
            let later = self.samples.iter().skip(IN_A_POINT);
            let points = self.samples.iter().zip(later).step_by(2).map(point).collect::<Vec<_>>().join(" ");
            let _ = writeln!(
                svg,
                "<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='2.5'/>"
            );
        }
    }
}
