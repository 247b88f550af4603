//! Instruments of the process, under the Collector's names: uptime and resident memory.
//!
//! Both are read when the page is requested. Without `/proc`, the memory is absent from the page.

use std::time::Instant;

use opentelemetry::metrics::Meter;

/// Creates the instruments. The uptime counts from this call.
pub(super) fn register(meter: &Meter) {
    let started = Instant::now();
    meter
        .f64_observable_counter("otelcol_process_uptime")
        .with_description("Uptime of the process.")
        .with_unit("s")
        .with_callback(move |uptime| uptime.observe(started.elapsed().as_secs_f64(), &[]))
        .build();
    meter
        .u64_observable_gauge("otelcol_process_memory_rss")
        .with_description("Total physical memory (resident set size).")
        .with_unit("By")
        .with_callback(|memory| {
            if let Some(bytes) = resident_bytes() {
                memory.observe(bytes, &[]);
            }
        })
        .build();
}

/// The size of the resident set in bytes, from `/proc`, whose reads do not block.
pub fn resident_bytes() -> Option<u64> {
    resident_in(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Picks `VmRSS:    1234 kB` out of `/proc/self/status`.
fn resident_in(status: &str) -> Option<u64> {
    let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = size.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn the_collectors_names_are_on_the_page() {
        let page = Metrics::new().unwrap().render().unwrap();
        for line in [
            "# TYPE otelcol_process_uptime_seconds_total counter",
            "# TYPE otelcol_process_memory_rss_bytes gauge",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is missing from:\n{page}");
        }
        let value = |name: &str| -> f64 {
            let line = page.lines().find(|line| line.starts_with(name)).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!((0.0..60.0).contains(&value("otelcol_process_uptime_seconds_total ")));
        // A test binary holds some megabytes, and kilobytes taken for bytes would show.
        assert!((1e6..1e11).contains(&value("otelcol_process_memory_rss_bytes ")));
    }

    #[test]
    fn reads_the_resident_size() {
        assert_eq!(resident_in("Name:\tforebay\nVmHWM:\t  9 kB\nVmRSS:\t    1234 kB\n"), Some(1234 * 1024));
        assert_eq!(resident_in("Name:\tforebay\n"), None);
        assert_eq!(resident_in("VmRSS:\t lots\n"), None);
    }
}
