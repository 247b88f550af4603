//! What stands on `/metrics`, and whether the books on it balance.

use std::collections::BTreeMap;

/// One scrape: each sample by its name and labels.
#[derive(Clone, Debug)]
pub struct Scrape {
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    /// Reads Prometheus' text format.
    pub fn parse(page: &str) -> Self {
        let lines = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let samples = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line}"));
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("not a number: {line}")))
        });
        Self { samples: samples.collect() }
    }

    /// The sum of all samples of `name` whose labels contain `labels`, such as `reason="drop_newest"`.
    pub fn sum(&self, name: &str, labels: &str) -> u64 {
        let of_name =
            |key: &str| key == name || key.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
        let found: Vec<_> =
            self.samples.iter().filter(|(key, _)| of_name(key) && key.contains(labels)).collect();
        assert!(!found.is_empty(), "no sample {name}{{{labels}}} in {:#?}", self.samples.keys());
        found.into_iter().map(|(_, value)| *value as u64).sum()
    }

    /// The sum of all samples of `name`.
    pub fn value(&self, name: &str) -> u64 {
        self.sum(name, "")
    }

    /// Whether its forebay has a durable queue.
    pub fn is_durable(&self) -> bool {
        self.samples.contains_key("log_buffer_disk_records")
    }

    /// The records that are held: in memory, or with a durable queue on the disk, where those in memory are as well.
    pub fn held(&self) -> u64 {
        self.value(if self.is_durable() { "log_buffer_disk_records" } else { "log_buffer_size" })
    }

    /// received + recovered = flushed + dropped + rejected + dead-lettered + folded + held.
    pub fn assert_balanced(&self) {
        let outcomes = ["log_buffer_flushed_total", "log_buffer_dropped_total", "log_buffer_rejected_total"]
            .into_iter()
            .chain(["log_buffer_dead_lettered_total", "log_buffer_folded_total"]);
        let mut parts: Vec<_> = outcomes.map(|name| (name, self.value(name))).collect();
        parts.push(("held", self.held()));
        let sum: u64 = parts.iter().map(|(_, value)| value).sum();
        let recovered = if self.is_durable() { self.value("log_buffer_recovered_total") } else { 0 };
        let received = self.value("log_buffer_received_total");
        assert_eq!(
            received + recovered,
            sum,
            "the books do not balance: {received} received, {recovered} recovered, {parts:?}"
        );
        self.assert_collector_names_agree();
    }

    /// The Collector's names tell the same facts.
    fn assert_collector_names_agree(&self) {
        for (own, collector) in [
            ("log_buffer_size", "otelcol_exporter_queue_size"),
            ("log_buffer_capacity", "otelcol_exporter_queue_capacity"),
            ("log_buffer_flushed_total", "otelcol_exporter_sent_log_records_total"),
            ("log_buffer_rejected_total", "otelcol_receiver_refused_log_records_total"),
        ] {
            assert_eq!(self.value(own), self.value(collector), "{own} and {collector}");
        }
    }
}
