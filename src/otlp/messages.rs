//! OTLP's messages as Rust types, generated from `proto/`, and the encoding of answers.
//!
//! The generated files are in the tree, so that a build needs neither protoc nor a code generator. The test
//! `generated_code_is_current` generates and compares them; run it with `FOREBAY_REGENERATE=1` after a change of `proto/`.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use serde_json::json;

#[allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]
#[rustfmt::skip]
#[path = "generated/mod.rs"]
mod generated;

pub use generated::grpc::health::v1::health_check_response::ServingStatus;
pub use generated::grpc::health::v1::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
pub use generated::opentelemetry::proto::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
pub use generated::opentelemetry::proto::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value,
};
pub use generated::opentelemetry::proto::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
pub use generated::opentelemetry::proto::resource::v1::Resource;

/// The body of an OK answer. OTLP wants `partial_success` unset on full success.
pub fn export_response(rejected: usize, message: &str) -> Bytes {
    let partial_success = (rejected > 0 || !message.is_empty()).then(|| ExportLogsPartialSuccess {
        rejected_log_records: i64::try_from(rejected).unwrap_or(i64::MAX),
        error_message: message.to_owned(),
    });
    ExportLogsServiceResponse { partial_success }.encode_to_vec().into()
}

/// A `google.rpc.Status`: OTLP/HTTP's body of a failure.
pub fn status(code: i32, message: &str) -> Bytes {
    let status = tonic_types::pb::Status { code, message: message.to_owned(), details: Vec::new() };
    status.encode_to_vec().into()
}

/// [`export_response`] in JSON, where an integer of 64 bits is a text.
pub fn export_response_json(rejected: usize, message: &str) -> Bytes {
    let answer = if rejected > 0 || !message.is_empty() {
        json!({"partialSuccess": {"rejectedLogRecords": rejected.to_string(), "errorMessage": message}})
    } else {
        json!({})
    };
    answer.to_string().into()
}

/// [`status`] in JSON.
pub fn status_json(code: i32, message: &str) -> Bytes {
    json!({"code": code, "message": message}).to_string().into()
}

/// A `google.rpc.RetryInfo`, which some senders read from a separate trailer.
pub fn retry_info(delay: Duration) -> Bytes {
    tonic_types::pb::RetryInfo::from(tonic_types::RetryInfo::new(Some(delay))).encode_to_vec().into()
}

/// The service in a request to gRPC's health service; `None` if the request is malformed.
pub fn health_service(request: &[u8]) -> Option<String> {
    HealthCheckRequest::decode(request).ok().map(|request| request.service)
}

/// The health service's answer.
pub fn health_status(status: ServingStatus) -> Bytes {
    HealthCheckResponse { status: status.into() }.encode_to_vec().into()
}

/// The same for each of these `services`.
pub fn health_statuses(services: [&str; 2], status: ServingStatus) -> Bytes {
    let of = |name: &str| (name.to_owned(), HealthCheckResponse { status: status.into() });
    HealthListResponse { statuses: services.map(of).into() }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn generated_code_is_current() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let kept = root.join("src/otlp/generated");
        let made = tempfile::tempdir().unwrap();
        let services =
            ["opentelemetry/proto/collector/logs/v1/logs_service.proto", "grpc/health/v1/health.proto"];
        let descriptors = protox::compile(services, [root.join("proto")]).unwrap();
        prost_build::Config::new()
            .bytes(["."])
            .out_dir(made.path())
            .include_file("mod.rs")
            .compile_fds(descriptors)
            .unwrap();
        for entry in std::fs::read_dir(made.path()).unwrap() {
            let entry = entry.unwrap();
            let (fresh, old) = (std::fs::read_to_string(entry.path()).unwrap(), kept.join(entry.file_name()));
            if std::env::var_os("FOREBAY_REGENERATE").is_some() {
                std::fs::write(&old, &fresh).unwrap();
            }
            assert!(
                fresh == std::fs::read_to_string(&old).unwrap_or_default(),
                "{} is not what proto/ gives; run this test with FOREBAY_REGENERATE=1",
                old.display()
            );
        }
    }

    #[test]
    fn full_success_is_an_empty_answer() {
        assert!(export_response(0, "").is_empty());
        let answer = ExportLogsServiceResponse::decode(export_response(3, "full")).unwrap();
        let partial = answer.partial_success.unwrap();
        assert_eq!((partial.rejected_log_records, partial.error_message.as_str()), (3, "full"));
        assert_eq!(export_response_json(0, ""), "{}");
        let expected = r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"\"full\""}}"#;
        assert_eq!(export_response_json(3, "\"full\""), expected);
    }

    #[test]
    fn retry_info_carries_the_delay() {
        // RetryInfo { retry_delay: Duration { seconds: 1, nanos: 500_000_000 } }
        assert_eq!(retry_info(Duration::from_millis(1500))[..3], [0x0a, 8, 0x08]);
    }
}
