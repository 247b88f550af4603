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

    /// The value of `name`, if there is a sample.
    pub fn value_if_any(&self, name: &str) -> Option<u64> {
        self.samples.contains_key(name).then(|| self.value(name))
    }

    /// received + recovered = flushed + dropped + rejected + dead-lettered + held.
    pub fn assert_balanced(&self) {
        let recovered = self.value_if_any("log_buffer_recovered_total").unwrap_or_default();
        // A durable queue holds all on the disk, and some of it in memory as well.
        let on_disk = self.value_if_any("log_buffer_disk_records").map(|_| "log_buffer_disk_records");
        let outcomes = ["log_buffer_flushed_total", "log_buffer_dropped_total", "log_buffer_rejected_total"]
            .into_iter()
            .chain(["log_buffer_dead_lettered_total", on_disk.unwrap_or("log_buffer_size")]);
        let parts: Vec<_> = outcomes.map(|name| (name, self.value(name))).collect();
        let sum: u64 = parts.iter().map(|(_, value)| value).sum();
        assert_eq!(
            self.value("log_buffer_received_total") + recovered,
            sum,
            "the books do not balance: {parts:?}"
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
