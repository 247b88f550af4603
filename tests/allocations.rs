//! How often memory is asked for on a record's way from the wire to COPY, counted by an allocator that counts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay::buffer::Buffer;
use forebay::buffer::config::{BatchConfig, QueueConfig};
use forebay::otlp::messages::any_value::Value;
use forebay::otlp::messages::{
    AnyValue, ExportLogsServiceRequest, KeyValue, LogRecord, Resource, ResourceLogs, ScopeLogs,
};
use forebay::receiver::{Intake, Transport};
use prost::Message;

const RECORDS: usize = 500;

/// A request as SDKs send them: one resource, records with six attributes and a body.
fn request() -> Bytes {
    let text = |text: &str| Some(AnyValue { value: Some(Value::StringValue(text.into())) });
    let pair = |key: &str| KeyValue { key: key.into(), value: text("a value of some length") };
    let record = LogRecord {
        time_unix_nano: 1_700_000_000_000_000_000,
        severity_number: 17,
        severity_text: "ERROR".into(),
        body: text("connection pool exhausted: could not get a \"connection\" within 30 s"),
        attributes: ["http.route", "user.id", "tenant", "thread.name", "code.function", "url.path"]
            .map(pair)
            .into(),
        trace_id: vec![7; 16].into(),
        ..LogRecord::default()
    };
    let resource =
        Resource { attributes: ["service.name", "host.name"].map(pair).into(), ..Resource::default() };
    let scope_logs = vec![ScopeLogs { log_records: vec![record; RECORDS], ..ScopeLogs::default() }];
    let resource_logs =
        vec![ResourceLogs { resource: Some(resource), scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec().into()
}

/// Guarantee: fewer than one allocation for twenty records, from the bytes of a request to the bytes of a COPY.
#[test]
fn a_record_costs_hardly_an_allocation() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let batch = BatchConfig { send_batch_size: 1, ..BatchConfig::default() };
    let buffer = Arc::new(Buffer::new(&QueueConfig::default(), &batch));
    let intake = Intake::new(buffer.clone(), false, Duration::from_secs(1));
    let request = request();
    let pass = || {
        runtime.block_on(async {
            assert_eq!(
                intake.take_in(request.clone(), Transport::Grpc).await.expect("it is taken").rejected,
                0
            );
            let batch = buffer.take().await.expect("a batch");
            assert_eq!(batch.len(), RECORDS);
            assert!(!batch.runs(&Default::default()).is_empty());
            batch.settle_written(&Default::default());
        });
    };
    // What is made once is not counted: the resource's JSON, the queue's first block.
    pass();
    let counted = allocation_counter::measure(pass);
    assert!(counted.count_total > 0, "the counter counts");
    let per_record = counted.count_total as f64 / RECORDS as f64;
    assert!(per_record < 0.05, "{per_record} allocations a record, {counted:?}");
}
