//! The table, the file of results and the plot.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::machine::machine;

use crate::measure::Run;

pub struct Report {
    records: u64,
    /// The server's version.
    postgres: String,
    full_speed: BTreeMap<String, Vec<Run>>,
    raw_copy: Vec<Run>,
    others: Vec<(String, Run)>,
}

type Figure = fn(&Run) -> f64;

/// The columns of the table: each a title and what it shows of a run.
const COLUMNS: &[(&str, Figure)] = &[
    ("records/s", Run::rate),
    ("answered/s", |run| run.records as f64 / run.answered.as_secs_f64()),
    ("forebay us", |run| run.per_record(run.cpu_forebay)),
    ("postgres us", |run| run.per_record(run.cpu_postgres)),
    ("generator us", |run| run.per_record(run.cpu_generator)),
    ("RSS MB", |run| run.peak_resident as f64 / 1e6),
    ("disk B", |run| run.written as f64 / run.records as f64),
    ("held MB", |run| run.peak_held as f64 / 1e6),
    ("batches", |run| run.batches as f64),
    ("batch size", |run| run.records as f64 / run.batches.max(1) as f64),
    ("refused", |run| run.refused as f64),
    ("p50 ms", |run| run.wait(0.5)),
    ("p99 ms", |run| run.wait(0.99)),
    ("max ms", |run| run.wait(1.0)),
    ("fresh p50 ms", |run| run.freshness.map_or(f64::NAN, |(p50, _)| p50.as_secs_f64() * 1e3)),
    ("fresh p99 ms", |run| run.freshness.map_or(f64::NAN, |(_, p99)| p99.as_secs_f64() * 1e3)),
];

impl Report {
    pub fn new(records: u64, postgres: String) -> Self {
        Self { records, postgres, full_speed: BTreeMap::new(), raw_copy: Vec::new(), others: Vec::new() }
    }

    pub fn full_speed(&mut self, name: &str, run: Run) {
        self.full_speed.entry(name.to_owned()).or_default().push(run);
    }

    pub fn raw_copy(&mut self, run: Run) {
        self.raw_copy.push(run);
    }

    pub fn other(&mut self, name: &str, run: Run) {
        self.others.push((name.to_owned(), run));
    }

    pub fn print(&self) {
        print!("{}", self.text());
    }

    /// Writes `end_to_end.txt`, `.json` and `.svg` to `dir`.
    pub fn write(&self, dir: &str) {
        let dir = Path::new(dir);
        fs::create_dir_all(dir).expect("a directory for the results");
        let text = format!("{}\n\n{}", self.machine().join("\n"), self.text());
        let json = serde_json::to_string_pretty(&self.json()).expect("JSON") + "\n";
        for (name, content) in [("txt", text), ("json", json), ("svg", self.svg())] {
            fs::write(dir.join(format!("end_to_end.{name}")), content).expect("a file of results");
        }
    }

    fn machine(&self) -> Vec<String> {
        let mut lines = machine();
        lines.push(format!("PostgreSQL: {}", self.postgres));
        lines
    }

    fn text(&self) -> String {
        let mut text = format!("{:<40}", format!("{} records, medians", self.records));
        for (title, _) in COLUMNS {
            let _ = write!(text, "{title:>13}");
        }
        text.push('\n');
        let limit = median(&self.raw_copy, Run::rate);
        line(&mut text, "plain COPY, two streams", &self.raw_copy);
        for (name, runs) in &self.full_speed {
            line(&mut text, &format!("{name}, full speed"), runs);
        }
        for (name, run) in &self.others {
            line(&mut text, name, std::slice::from_ref(run));
        }
        for (name, runs) in &self.full_speed {
            // Paired run by run, so that the machine's moods cancel out.
            let ratios = runs.iter().zip(&self.raw_copy).map(|(run, raw)| run.rate() / raw.rate()).collect();
            let share = median(runs, |run| run.cpu_forebay.as_secs_f64() / run.cpu_postgres.as_secs_f64());
            let _ = writeln!(
                text,
                "{name}: {:.2} of plain COPY ({:.0} of {limit:.0} records/s); {share:.2} of PostgreSQL's CPU",
                median_of(ratios),
                median(runs, Run::rate)
            );
        }
        text
    }

    fn json(&self) -> Value {
        let figures = |runs: &[Run]| {
            let medians =
                COLUMNS.iter().map(|(title, figure)| (title.to_string(), json!(median(runs, figure))));
            Value::Object(medians.collect())
        };
        let full: BTreeMap<_, _> = self.full_speed.iter().map(|(name, runs)| (name, figures(runs))).collect();
        let others: BTreeMap<_, _> =
            self.others.iter().map(|(name, run)| (name, figures(std::slice::from_ref(run)))).collect();
        json!({
            "machine": self.machine(), "records": self.records, "runs": self.raw_copy.len(),
            "plain COPY": figures(&self.raw_copy), "full speed": full, "others": others,
        })
    }

    /// Bars: records/s, and CPU for each record.
    fn svg(&self) -> String {
        let mut bars = vec![(
            "plain COPY".to_owned(),
            median(&self.raw_copy, Run::rate),
            [0.0, copy_cpu(&self.raw_copy), 0.0],
        )];
        for (name, runs) in &self.full_speed {
            let cpu = [2, 3, 4].map(|column: usize| median(runs, COLUMNS[column].1));
            bars.push((name.clone(), median(runs, Run::rate), cpu));
        }
        let (most, most_cpu) =
            (max(bars.iter().map(|bar| bar.1)), max(bars.iter().map(|bar| bar.2.iter().sum())));
        let height = 70 + 50 * bars.len();
        let mut svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' width='800' height='{height}' font-family='sans-serif' font-size='13'>\n\
             <rect width='800' height='{height}' fill='white'/>\n\
             <text x='180' y='24'>records/s into PostgreSQL</text><text x='480' y='24'>CPU for each record, us: \
             <tspan fill='#c2571a'>forebay</tspan>, <tspan fill='#336791'>PostgreSQL</tspan>, <tspan fill='#999'>senders</tspan></text>\n"
        );
        for (index, (name, rate, cpu)) in bars.iter().enumerate() {
            let y = 40 + 50 * index;
            let _ = writeln!(svg, "<text x='170' y='{}' text-anchor='end'>{name}</text>", y + 20);
            let width = 220.0 * rate / most;
            let _ = writeln!(svg, "<rect x='180' y='{y}' width='{width:.0}' height='30' fill='#4a7'/>");
            let _ = writeln!(svg, "<text x='186' y='{}' fill='white'>{rate:.0}</text>", y + 20);
            let mut x = 480.0;
            for (share, colour) in cpu.iter().zip(["#c2571a", "#336791", "#999"]) {
                let width = 260.0 * share / most_cpu;
                let _ = writeln!(
                    svg,
                    "<rect x='{x:.0}' y='{y}' width='{width:.0}' height='30' fill='{colour}'/>"
                );
                if width > 30.0 {
                    let _ = writeln!(
                        svg,
                        "<text x='{:.0}' y='{}' fill='white'>{share:.2}</text>",
                        x + 4.0,
                        y + 20
                    );
                }
                x += width;
            }
        }
        svg + "</svg>\n"
    }
}

fn copy_cpu(runs: &[Run]) -> f64 {
    median(runs, |run| run.per_record(run.cpu_postgres))
}

fn line(text: &mut String, name: &str, runs: &[Run]) {
    let _ = write!(text, "{name:<40}");
    for (_, figure) in COLUMNS {
        let value = median(runs, figure);
        let digits = if value >= 1000.0 { 0 } else { 2 };
        let _ = if value.is_nan() { write!(text, "{:>13}", "") } else { write!(text, "{value:>13.digits$}") };
    }
    text.push('\n');
}

fn median(runs: &[Run], figure: impl Fn(&Run) -> f64) -> f64 {
    median_of(runs.iter().map(figure).collect())
}

fn median_of(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn max(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::MIN_POSITIVE, f64::max)
}
