//! The figures, as a table for people and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use support::machine::machine;
use tokio_postgres::Client;

use crate::layouts::{LAYOUTS, QUESTIONS};

pub struct Answer {
    pub median: Duration,
    /// `None` where it took too long.
    pub rows: Option<usize>,
}

pub struct Report {
    rows: u64,
    days: i64,
    version: String,
    facts: Vec<(String, f64, &'static str)>,
    /// Layout, bytes a record in the table and in indexes.
    sizes: Vec<(&'static str, f64, f64)>,
    answers: Vec<(&'static str, &'static str, Answer)>,
}

impl Report {
    pub fn new(rows: u64, days: i64, version: String) -> Self {
        Self { rows, days, version, facts: Vec::new(), sizes: Vec::new(), answers: Vec::new() }
    }

    pub fn fact(&mut self, name: &str, value: f64, unit: &'static str) {
        self.facts.push((name.to_owned(), value, unit));
    }

    pub fn size(&mut self, layout: &'static str, (table, indexes): (i64, i64), rows: u64) {
        self.sizes.push((layout, table as f64 / rows as f64, indexes as f64 / rows as f64));
    }

    pub fn answer(&mut self, layout: &'static str, question: &'static str, answer: Answer) {
        eprintln!("    {layout}: {question}: {:.1} ms", answer.median.as_secs_f64() * 1000.0);
        self.answers.push((layout, question, answer));
    }

    /// Bytes for each record that each kind of index takes in the closed partitions.
    pub async fn sizes_of_indexes(&mut self, client: &Client) {
        let sizes = "SELECT regexp_replace(c.relname, '^.*log_records_[0-9_]*', ''), \
                     sum(pg_relation_size(c.oid))::float8 / sum(t.reltuples)::float8 \
                     FROM pg_inherits p JOIN pg_index i ON i.indrelid = p.inhrelid JOIN pg_class c ON c.oid = i.indexrelid \
                     JOIN pg_class t ON t.oid = p.inhrelid \
                     WHERE p.inhparent = 'otel.log_records'::regclass AND t.reltuples > 0 GROUP BY 1 ORDER BY 1";
        for row in client.query(sizes, &[]).await.unwrap() {
            let (name, bytes): (String, f64) = (row.get(0), row.get(1));
            self.fact(&format!("index {name}"), bytes, "bytes a record");
        }
    }

    fn millis(&self, layout: &str, question: &str) -> Option<(f64, Option<usize>)> {
        let found = self.answers.iter().find(|(of, to, _)| *of == layout && *to == question)?;
        Some((found.2.median.as_secs_f64() * 1000.0, found.2.rows))
    }

    pub fn text(&self) -> String {
        let mut text = machine().join("\n");
        let _ = writeln!(
            text,
            "\nPostgreSQL: {}\n\n{} records over {} day partitions\n",
            self.version, self.rows, self.days
        );
        let _ = writeln!(
            text,
            "{:<52}{:>12}{:>12}{:>12}{:>12}",
            "bytes for each record", "table", "indexes", "all", "forebay is"
        );
        let ours = self.sizes.first().map_or(0.0, |(_, table, indexes)| table + indexes);
        for (layout, table, indexes) in &self.sizes {
            let all = table + indexes;
            let _ = writeln!(text, "{layout:<52}{table:>12.0}{indexes:>12.0}{all:>12.0}{:>12.2}", ours / all);
        }
        let _ = write!(text, "\n{:<52}", "medians in ms");
        for layout in &LAYOUTS {
            let _ = write!(text, "{:>16}", layout.name);
        }
        let _ = writeln!(text, "{:>10}{:>10}{:>8}", "(a) is", "(b) is", "rows");
        for question in QUESTIONS {
            let _ = write!(text, "{question:<52}");
            let times = LAYOUTS
                .each_ref()
                .map(|layout| self.millis(layout.name, question).unwrap_or((f64::NAN, None)));
            for (time, _) in &times {
                let _ = write!(text, "{time:>16.1}");
            }
            let ratio = |other: usize| times[other].0 / times[0].0;
            let rows = times[0].1.map_or("-".to_owned(), |rows| rows.to_string());
            let _ = writeln!(text, "{:>9.1}x{:>9.1}x{rows:>8}", ratio(1), ratio(2));
        }
        text.push('\n');
        for (name, value, unit) in &self.facts {
            let _ = writeln!(text, "{name:<52}{value:>12.2} {unit}");
        }
        text
    }

    pub fn write(&self, dir: &str) {
        std::fs::write(format!("{dir}/store.txt"), self.text()).unwrap();
        let answers: Vec<Value> = self
            .answers
            .iter()
            .map(|(layout, question, answer)| {
                json!({"layout": layout, "question": question, "ms": answer.median.as_secs_f64() * 1000.0, "rows": answer.rows})
            })
            .collect();
        let sizes: Vec<Value> = self
            .sizes
            .iter()
            .map(|(layout, table, indexes)| json!({"layout": layout, "table": table, "indexes": indexes}))
            .collect();
        let facts: Vec<Value> = self
            .facts
            .iter()
            .map(|(name, value, unit)| json!({"name": name, "value": value, "unit": unit}))
            .collect();
        let all = json!({"machine": machine(), "postgresql": self.version, "records": self.rows, "days": self.days,
            "bytes_a_record": sizes, "answers": answers, "facts": facts});
        std::fs::write(format!("{dir}/store.json"), format!("{all:#}\n")).unwrap();
    }
}
