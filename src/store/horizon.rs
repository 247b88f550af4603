//! How far the store is prepared, for the metrics: the end of the last partition, and the size of the default one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use opentelemetry::metrics::Meter;

use crate::postgres::error::Failure;
use crate::postgres::session::Connection;
use crate::table::identifier::Schema;

/// The last values read; none until the store was reached.
#[derive(Clone, Debug)]
pub(crate) struct Horizon(Arc<Seen>);

#[derive(Debug)]
struct Seen {
    /// Seconds since 1970.
    until: AtomicI64,
    default_bytes: AtomicI64,
}

const UNSEEN: i64 = -1;

impl Horizon {
    /// Registers the gauges with `meter`.
    pub(crate) fn new(meter: &Meter) -> Self {
        let horizon =
            Self(Arc::new(Seen { until: AtomicI64::new(UNSEEN), default_bytes: AtomicI64::new(UNSEEN) }));
        let gauge = |name, unit, description, read: fn(&Seen) -> &AtomicI64| {
            let seen = horizon.0.clone();
            meter
                .i64_observable_gauge(name)
                .with_unit(unit)
                .with_description(description)
                .with_callback(move |gauge| match read(&seen).load(Ordering::Relaxed) {
                    UNSEEN => {}
                    value => gauge.observe(value, &[]),
                })
                .build();
        };
        gauge(
            "log_buffer_partitioned_until_timestamp",
            "s",
            "The end of the last partition, in seconds since 1970.",
            |seen| &seen.until,
        );
        gauge(
            "log_buffer_default_partition",
            "By",
            "Size of the records whose time has no partition.",
            |seen| &seen.default_bytes,
        );
        horizon
    }

    /// Reads the catalogue.
    pub(crate) async fn look(&self, connection: &Connection, schema: &Schema) -> Result<(), Failure> {
        let bounds = "SELECT coalesce(extract(epoch FROM max(until) FILTER (WHERE isfinite(until))), 0)::int8, \
               coalesce(sum(pg_total_relation_size(partition)) FILTER (WHERE bound = 'DEFAULT'), 0)::int8 \
             FROM (SELECT c.oid AS partition, pg_get_expr(c.relpartbound, c.oid) AS bound \
               FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass($1)) p, \
             LATERAL (SELECT substring(bound FROM 'TO \\(''([^'']+)''\\)')::timestamptz AS until) u";
        let row = connection.query_one(bounds, &[&format!("{schema}.log_records")]).await?;
        self.0.until.store(row.get(0), Ordering::Relaxed);
        self.0.default_bytes.store(row.get(1), Ordering::Relaxed);
        Ok(())
    }
}
