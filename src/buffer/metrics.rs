//! The buffer's instruments. They read budget and books when they are collected.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use strum::VariantArray as _;

use super::Buffer;
use super::books::Books;
use super::reason::{DropReason, RejectReason};
use crate::table::{ReplacedKind, Severity};

/// Observes each value of an instrument with its labels.
type ObserveLabelled = fn(&Books, &mut dyn FnMut(u64, &[KeyValue]));

/// Registers every instrument of `buffer`.
pub(super) fn register(buffer: &Arc<Buffer>, meter: &Meter) {
    let gauge = |name, description, labels: &[KeyValue], read: fn(&Buffer) -> usize| {
        let (buffer, labels) = (buffer.clone(), labels.to_vec());
        meter
            .u64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |observer| observer.observe(read(&buffer) as u64, &labels))
            .build();
    };
    gauge("log_buffer_size", "Records held, those being written included.", &[], Buffer::held);
    gauge("log_buffer_capacity", "The most records that may be held.", &[], |buffer| {
        buffer.budget().max_records()
    });
    gauge("log_buffer_bytes", "Bytes of rows held, those being written included.", &[], |buffer| {
        buffer.budget().bytes()
    });
    gauge("log_buffer_bytes_capacity", "The most bytes of rows that may be held.", &[], |buffer| {
        buffer.budget().max_bytes()
    });
    gauge("otelcol_exporter_queue_size", "Records held.", &exporter(), Buffer::held);
    let capacity = "The most records that may be held.";
    gauge("otelcol_exporter_queue_capacity", capacity, &exporter(), |buffer| buffer.budget().max_records());
    let folding = buffer.clone();
    meter
        .u64_observable_gauge("log_buffer_folding")
        .with_description("1 while repeated records are folded, else 0.")
        .with_callback(move |observer| observer.observe(folding.is_folding().into(), &[]))
        .build();
    shares(buffer, meter);
    outcomes(buffer, meter);
    collector_names(buffer, meter);
}

fn shares(buffer: &Arc<Buffer>, meter: &Meter) {
    let pressed = buffer.clone();
    meter
        .f64_observable_gauge("log_buffer_pressure_ratio")
        .with_description(
            "The part of the buffer that is not free, by records or by bytes, whichever is larger.",
        )
        .with_callback(move |observer| observer.observe(pressed.pressure(), &[]))
        .build();
    let shared = buffer.clone();
    meter
        .u64_observable_gauge("log_buffer_senders_over_share")
        .with_description("Senders that hold more than their share of the buffer in a band of severity.")
        .with_callback(move |observer| observer.observe(shared.senders_over_share() as u64, &[]))
        .build();
}

/// The label of the Collector's metrics.
fn exporter() -> [KeyValue; 1] {
    [KeyValue::new("exporter", "postgres")]
}

fn outcomes(buffer: &Arc<Buffer>, meter: &Meter) {
    counter(buffer, meter, "log_buffer_received", "Records that arrived.", &[], Books::received);
    if buffer.durable().is_some() {
        let description =
            "Records of the durable queue that an earlier run has left, or that PostgreSQL has lost.";
        counter(buffer, meter, "log_buffer_recovered", description, &[], Books::recovered);
    }
    counter(buffer, meter, "log_buffer_flushed", "Records written to PostgreSQL.", &[], Books::flushed);
    counter(
        buffer,
        meter,
        "log_buffer_dead_lettered",
        "Records that PostgreSQL refused, kept as dead letters.",
        &[],
        Books::dead_lettered,
    );
    let labelled = |name, description, observe: ObserveLabelled| {
        let buffer = buffer.clone();
        meter
            .u64_observable_counter(name)
            .with_description(description)
            .with_callback(move |observer| {
                observe(buffer.books(), &mut |value, labels| observer.observe(value, labels));
            })
            .build();
    };
    labelled("log_buffer_dropped", "Records lost, by reason and severity.", |books, observe| {
        for &reason in DropReason::VARIANTS {
            for &severity in Severity::VARIANTS {
                let labels = [
                    KeyValue::new("reason", <&str>::from(reason)),
                    KeyValue::new("severity", <&str>::from(severity)),
                ];
                observe(books.dropped(reason, severity), &labels);
            }
        }
    });
    let description = "Repeated records for which another one stands, by severity.";
    labelled("log_buffer_folded", description, |books, observe| {
        for &severity in Severity::VARIANTS {
            observe(books.folded(severity), &[KeyValue::new("severity", <&str>::from(severity))]);
        }
    });
    labelled("log_buffer_rejected", "Records given back to their sender, by reason.", |books, observe| {
        for &reason in RejectReason::VARIANTS {
            observe(books.rejected(reason), &[KeyValue::new("reason", <&str>::from(reason))]);
        }
    });
    labelled(
        "log_buffer_replaced_values",
        "Values replaced that PostgreSQL cannot hold.",
        |books, observe| {
            for &kind in ReplacedKind::VARIANTS {
                observe(books.replaced(kind), &[KeyValue::new("kind", <&str>::from(kind))]);
            }
        },
    );
}

/// The same counts under the names of the OpenTelemetry Collector, so that its dashboards work.
fn collector_names(buffer: &Arc<Buffer>, meter: &Meter) {
    let exporter = exporter();
    counter(
        buffer,
        meter,
        "otelcol_processor_refused_log_records",
        "Records given back to their sender because the process takes more than its memory limit.",
        &[KeyValue::new("processor", "memory_limiter")],
        |books| books.rejected(RejectReason::Memory),
    );
    counter(
        buffer,
        meter,
        "otelcol_exporter_sent_log_records",
        "Records written to PostgreSQL.",
        &exporter,
        Books::flushed,
    );
    counter(
        buffer,
        meter,
        "otelcol_exporter_send_failed_log_records",
        "Records that were held and could not be written.",
        &exporter,
        |books| {
            let lost = [DropReason::RetryExhausted, DropReason::Undelivered];
            books.dead_lettered() + lost.into_iter().map(|reason| books.dropped_for(reason)).sum::<u64>()
        },
    );
    counter(
        buffer,
        meter,
        "otelcol_exporter_enqueue_failed_log_records",
        "Records for which the buffer had no room.",
        &exporter,
        |books| {
            let shed =
                [DropReason::DropNewest, DropReason::DropOldest, DropReason::TooLarge, DropReason::Share];
            books.rejected(RejectReason::Full)
                + shed.into_iter().map(|reason| books.dropped_for(reason)).sum::<u64>()
        },
    );
}

fn counter(
    buffer: &Arc<Buffer>,
    meter: &Meter,
    name: &'static str,
    description: &'static str,
    labels: &[KeyValue],
    read: fn(&Books) -> u64,
) {
    let (buffer, labels) = (buffer.clone(), labels.to_vec());
    meter
        .u64_observable_counter(name)
        .with_description(description)
        .with_callback(move |observer| observer.observe(read(buffer.books()), &labels))
        .build();
}
