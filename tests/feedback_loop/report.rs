//! The table, the file of results, and the judgement.
//!
//! The figures of a way are those of one run, so that its books add up: of the rounds, the run that served the median
//! number of requests.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};
use support::machine::machine;

use crate::application::{PATIENCE, POOL};
use crate::load::Phase;
use crate::plot::{Curve, Plot, Span};
use crate::scenario::{FOREBAY_POOL, Run, Way};

/// The most that logging by way of forebay may change the application.
const TOLERANCE: f64 = 0.05;
/// The most that a log call may take at the median.
const CALL: Duration = Duration::from_micros(1);
/// Seconds of one point of the plot.
const POINT: f64 = 0.25;

pub struct Report {
    phases: [Phase; 3],
    /// A run of each way, in the order of [`Way::ALL`].
    rounds: Vec<[Run; 4]>,
    /// What log calls take by way of forebay with nothing between them, shortest first.
    in_a_row: Vec<Duration>,
}

/// A line of the table: its title and what it shows of a run.
type Figure = (&'static str, fn(&[Phase; 3], &Run) -> f64);

const SERVED: Figure = ("requests served/s, all the time", |phases, run| served(run, 0.0, ends(phases)[2]));
const SERVED_IN_BURST: Figure =
    ("requests served/s, in the burst", |phases, run| served(run, ends(phases)[0], ends(phases)[1]));
const REQUEST_P50: Figure = ("request p50 ms", |_, run| share(&run.latencies(), 0.5) * 1e3);

/// The table.
const FIGURES: &[Figure] = &[
    SERVED,
    SERVED_IN_BURST,
    ("requests failed", |_, run| run.failed() as f64),
    ("requests failed after the burst", |phases, run| failed_after(run, ends(phases)[1])),
    REQUEST_P50,
    ("request p99 ms", |_, run| share(&run.latencies(), 0.99) * 1e3),
    ("log call p50 us", |_, run| share(&run.calls, 0.5) * 1e6),
    ("log call p99 us", |_, run| share(&run.calls, 0.99) * 1e6),
    ("application's connections logging, most", |_, run| run.connections.application as f64),
    ("forebay's connections there, most", |_, run| run.connections.forebay as f64),
    ("entries made", |_, run| run.entries.made as f64),
    ("entries held when the load ended", |_, run| run.entries.held as f64),
    ("entries stored in the end", |_, run| run.entries.stored as f64),
    ("entries lost, all counted", |_, run| run.entries.lost as f64),
    ("entries taken/s", |phases, run| (run.entries.made - run.entries.lost) as f64 / ends(phases)[2]),
];

/// What is compared with the application that does not log.
const COMPARED: [Figure; 3] = [SERVED, SERVED_IN_BURST, REQUEST_P50];

impl Report {
    pub fn new(phases: &[Phase; 3], rounds: Vec<[Run; 4]>, in_a_row: Vec<Duration>) -> Self {
        Self { phases: *phases, rounds, in_a_row }
    }

    pub fn text(&self) -> String {
        let [calm, burst, _] = self.phases;
        let mut text = format!(
            "{:.0} requests/s, for {} s {:.0}, then {:.0} for {} s; {POOL} connections, patience {} ms; rounds: {}\n\n{:<42}",
            calm.rate,
            burst.length,
            burst.rate,
            calm.rate,
            self.phases[2].length,
            PATIENCE.as_millis(),
            self.rounds.len(),
            "",
        );
        for way in Way::ALL {
            let _ = write!(text, "{:>31}", way.name());
        }
        text.push('\n');
        for figure in FIGURES {
            let _ = write!(text, "{:<42}", figure.0);
            for way in Way::ALL {
                let value = figure.1(&self.phases, self.typical(way));
                let digits = if value.fract() == 0.0 || value >= 1000.0 { 0 } else { 2 };
                let _ = match value.is_nan() {
                    true => write!(text, "{:>31}", "-"),
                    false => write!(text, "{value:>31.digits$}"),
                };
            }
            text.push('\n');
        }
        text.push('\n');
        if !self.in_a_row.is_empty() {
            let [p50, p99] = [0.5, 0.99].map(|at| share(&self.in_a_row, at) * 1e6);
            let calls = self.in_a_row.len();
            let _ = writeln!(text, "{calls} log calls to forebay in a row: p50 {p50:.2} us, p99 {p99:.2} us");
        }
        for (way, figure, ratio) in self.ratios() {
            let _ = writeln!(text, "{}: {figure} is {ratio:.3} of what it is without logging", way.name());
        }
        text
    }

    /// Writes `feedback_loop.txt`, `.json` and `.svg` to `dir`.
    pub fn write(&self, dir: &str) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir);
        fs::create_dir_all(&dir).expect("a directory for the results");
        let text = format!("{}\n\n{}", machine().join("\n"), self.text());
        let json = serde_json::to_string_pretty(&self.json()).expect("JSON") + "\n";
        for (name, content) in [("txt", text), ("json", json), ("svg", self.plot().svg())] {
            fs::write(dir.join(format!("feedback_loop.{name}")), content).expect("a file of results");
        }
    }

    /// What is asked for and does not hold.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for (way, figure, ratio) in self.ratios() {
            if (ratio - 1.0).abs() > TOLERANCE {
                broken.push(format!("{}: {figure} is {ratio:.3} of what it is without logging", way.name()));
            }
        }
        let most = self.rounds.iter().map(|round| round[Way::Forebay as usize].connections.forebay).max();
        if most > Some(FOREBAY_POOL) {
            broken.push(format!("forebay had {most:?} connections"));
        }
        let call = share(&self.in_a_row, 0.5);
        if call >= CALL.as_secs_f64() {
            broken.push(format!("a log call takes {:.2} us", call * 1e6));
        }
        broken
    }

    /// Throughput and latency with forebay, each as a share of what it is without logging. They are compared round
    /// by round, so that the machine's moods cancel out.
    fn ratios(&self) -> Vec<(Way, &'static str, f64)> {
        let mut ratios = Vec::new();
        for way in [Way::Forebay, Way::ForebayStopped] {
            for (title, figure) in COMPARED {
                let of = |run: &Run| figure(&self.phases, run);
                let ratio = |round: &[Run; 4]| of(&round[way as usize]) / of(&round[Way::Nowhere as usize]);
                ratios.push((way, title, median(self.rounds.iter().map(ratio).collect())));
            }
        }
        ratios
    }

    /// The run that stands for its way.
    fn typical(&self, way: Way) -> &Run {
        let mut runs: Vec<_> = self.rounds.iter().map(|round| &round[way as usize]).collect();
        runs.sort_by_key(|run| run.served());
        runs[runs.len() / 2]
    }

    fn json(&self) -> Value {
        let phases = self.phases.map(|phase| json!({"requests/s": phase.rate, "seconds": phase.length}));
        let ways = Way::ALL.map(|way| {
            let figure = |figure: &Figure| figure.1(&self.phases, self.typical(way));
            let figures = FIGURES.iter().map(|line| (line.0.to_owned(), json!(figure(line))));
            let mut figures: Map<_, _> = figures.collect();
            figures.insert("served/s by time".to_owned(), json!(self.curve(way)));
            (way.name().to_owned(), Value::Object(figures))
        });
        let ratios = self.ratios().into_iter().map(|(way, figure, ratio)| json!([way.name(), figure, ratio]));
        json!({
            "machine": machine(), "rounds": self.rounds.len(), "load": phases, "connections": POOL,
            "ways": Map::from_iter(ways), "of no logging": ratios.collect::<Vec<_>>(),
            "log calls in a row, p50 and p99 s": [share(&self.in_a_row, 0.5), share(&self.in_a_row, 0.99)],
        })
    }

    fn plot(&self) -> Plot {
        let [calm, burst, after] = self.phases;
        let curves = Way::ALL.map(|way| Curve { way, served: self.curve(way) });
        let calls = [Way::Pool, Way::Forebay, Way::ForebayStopped].map(|way| {
            let at = |at| share(&self.typical(way).calls, at);
            Span { way, p50: at(0.5), p99: at(0.99) }
        });
        Plot { phases: [calm, burst, after], point: POINT, curves: curves.into(), calls: calls.into() }
    }

    /// Requests served a second, by the time at which they arrived.
    fn curve(&self, way: Way) -> Vec<f64> {
        let points = (ends(&self.phases)[2] / POINT) as usize;
        let point = |index: usize| {
            let from = index as f64 * POINT;
            served(self.typical(way), from, from + POINT)
        };
        (0..points).map(point).collect()
    }
}

/// When each phase ends, in seconds.
fn ends(phases: &[Phase; 3]) -> [f64; 3] {
    let mut end = 0.0;
    phases.map(|phase| {
        end += phase.length;
        end
    })
}

/// Of those that were due between `from` and `to`, the requests served a second.
fn served(run: &Run, from: f64, to: f64) -> f64 {
    let served = run.answers.iter().filter(|answer| answer.served && answer.due >= from && answer.due < to);
    served.count() as f64 / (to - from)
}

fn failed_after(run: &Run, time: f64) -> f64 {
    run.answers.iter().filter(|answer| !answer.served && answer.due >= time).count() as f64
}

/// The value at this share of a sorted list, in seconds; NaN where there is none.
fn share(sorted: &[Duration], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share) as usize).map_or(f64::NAN, Duration::as_secs_f64)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
