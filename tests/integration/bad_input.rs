//! Requests that no SDK sends. Each has a clear status for its answer, costs nothing but itself, and leaves the
//! process as it was: another sender's records are taken before, between and after.

use bytes::Bytes;
use forebay::otlp::messages::any_value::Value;
use forebay::otlp::messages::{AnyValue, ArrayValue, ExportLogsServiceRequest, LogRecord};
use prost::Message;
use support::forebay::Forebay;
use support::metrics::Scrape;
use support::postgres::{Database, database};
use support::records::{now, numbered, numbered_request, pair, request, text};
use support::sender::{PATH, Sender, Told, retry_delay};
use support::stored;
use tonic::{Code, Status};

/// A forebay with two senders, of whom one behaves.
struct Scene {
    database: Database,
    forebay: Forebay,
    good: Sender,
    bad: Sender,
    told: Told,
}

impl Scene {
    async fn begin() -> Self {
        let database = database().await;
        let forebay = Forebay::ready(database.dsn(), &["processors.batch.timeout=10ms"]).await;
        let (good, bad) = (forebay.sender().await, forebay.sender().await);
        let mut scene = Self { database, forebay, good, bad, told: Told::default() };
        scene.others_are_taken().await;
        scene
    }

    /// Ten more records of the sender who behaves.
    async fn others_are_taken(&mut self) {
        let first = self.told.sent;
        self.good.send_numbered(first..first + 10, &mut self.told).await;
        assert_eq!(self.told.rejected + self.told.refused + self.told.unanswered, 0);
    }

    /// Sends bytes that must be refused for good.
    async fn refused(&mut self, request: impl Into<Bytes>, code: Code) -> Status {
        let status = self.bad.send_bytes(request.into()).await.expect_err("a refusal");
        self.assert_final(&status, code);
        self.others_are_taken().await;
        status
    }

    /// The sender is not asked to try again what can never be taken.
    fn assert_final(&self, status: &Status, code: Code) {
        assert_eq!(status.code(), code, "{status:?}");
        assert!(retry_delay(status).is_none() && !status.message().is_empty(), "{status:?}");
    }

    /// Sends bytes that must be taken in full.
    async fn taken(&mut self, request: impl Into<Bytes>) {
        let answer = self.bad.send_bytes(request.into()).await.expect("it is taken");
        assert_eq!(answer.partial_success, None);
        self.others_are_taken().await;
    }

    /// The only row without a number, when everything is written; `columns` of the view, each a text.
    async fn row(&self, columns: &str) -> Vec<Option<String>> {
        self.forebay.settles().await;
        let query = format!("SELECT {columns} FROM otel.logs WHERE NOT attributes ? 'number'");
        let row = self.database.connect().await.query_one(&query, &[]).await.unwrap();
        (0..row.len()).map(|index| row.get(index)).collect()
    }

    /// Everything that was taken is written, and nothing else; the end is an orderly one.
    async fn ends(mut self, further: u64) -> Scrape {
        self.others_are_taken().await;
        let scrape = self.forebay.settles().await;
        assert_eq!(scrape.value("log_buffer_flushed_total"), self.told.sent + further);
        stored(&self.database).await.assert_holds_each_once(&self.told.stored);
        let (status, said) = self.forebay.terminate().await;
        assert_eq!(status, Some(0), "{said:#?}");
        scrape
    }
}

/// The request with each DEL in its texts turned into a byte that is not UTF-8.
fn spoiled(request: &ExportLogsServiceRequest) -> Vec<u8> {
    let mut bytes = request.encode_to_vec();
    bytes.iter_mut().filter(|byte| **byte == 0x7f).for_each(|byte| *byte = 0xff);
    bytes
}

/// A request of records that are given in their encoded form.
fn of_encoded(records: &[Vec<u8>]) -> Vec<u8> {
    let scope: Vec<u8> = records.iter().flat_map(|record| field(2, record)).collect();
    field(1, &field(2, &scope))
}

/// A field of protobuf that is a message.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

fn record(body: AnyValue) -> LogRecord {
    LogRecord { time_unix_nano: now(), body: Some(body), ..Default::default() }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_request_is_an_invalid_argument() {
    let mut scene = Scene::begin().await;
    let whole = numbered_request(0..3).encode_to_vec();
    let garbage: Vec<u8> =
        (0..4096_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let unending_varint = vec![0x80; 64];
    let too_long = vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let a_group = vec![0x0b, 0x0c];
    for bytes in [garbage, unending_varint, too_long, a_group, b"{\"resourceLogs\":[]}".to_vec()] {
        scene.refused(bytes, Code::InvalidArgument).await;
    }
    for cut in [1, whole.len() / 2, whole.len() - 1] {
        scene.refused(whole[..cut].to_vec(), Code::InvalidArgument).await;
    }
    scene.taken(Vec::new()).await;
    let scrape = scene.ends(0).await;
    assert_eq!(scrape.value("log_buffer_rejected_total"), 0, "what cannot be counted is in no book");
    assert_eq!(scrape.value("log_buffer_unread_requests_total"), 8);
    assert_eq!(scrape.sum("log_buffer_unread_requests_total", r#"reason="malformed""#), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_for_good() {
    let mut scene = Scene::begin().await;
    let large = request(vec![record(text("x".repeat(5 << 20)))]).encode_to_vec();
    let limit = "receivers.otlp.protocols.grpc.max_recv_msg_size_mib";
    let status = scene.refused(large.clone(), Code::ResourceExhausted).await;
    assert!(status.message().contains("4 MiB") && status.message().contains(limit), "{status:?}");
    let bomb = scene.bad.send_gzip(large.into()).await.unwrap_err();
    scene.assert_final(&bomb, Code::ResourceExhausted);
    assert!(bomb.message().contains(limit), "{bomb:?}");
    let scrape = scene.ends(0).await;
    assert_eq!(scrape.sum("log_buffer_unread_requests_total", r#"reason="too_large""#), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_request_may_be_compressed() {
    let scene = Scene::begin().await;
    let answer = scene.bad.send_gzip(numbered_request(1000..1100).encode_to_vec().into()).await.unwrap();
    assert_eq!(answer.partial_success, None);
    scene.forebay.settles().await;
    stored(&scene.database).await.assert_holds_each_once(std::slice::from_ref(&(1000..1100)));
    scene.ends(100).await;
}

/// Guarantee: invalid UTF-8 costs no record; each broken byte is a replacement character, and counted.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_utf8_is_repaired() {
    let mut scene = Scene::begin().await;
    let mut record = record(text("caf\x7f"));
    record.severity_text = "b\x7fd".into();
    record.attributes = vec![pair("k\x7f", text("v\x7f"))];
    let mut request = request(vec![record]);
    request.resource_logs[0].resource.as_mut().unwrap().attributes[0] = pair("service.name", text("sh\x7fp"));
    scene.taken(spoiled(&request)).await;
    let row =
        scene.row("body, severity_text, attributes::text, service_name, resource->>'service.name'").await;
    let expected =
        ["caf\u{fffd}", "b\u{fffd}d", "{\"k\u{fffd}\": \"v\u{fffd}\"}", "sh\u{fffd}p", "sh\u{fffd}p"];
    assert_eq!(row, expected.map(some));
    let scrape = scene.ends(1).await;
    assert_eq!(scrape.sum("log_buffer_replaced_values_total", r#"kind="utf8""#), 5);
}

/// Guarantee: NUL, which PostgreSQL can hold neither in text nor in jsonb, costs no record either.
#[tokio::test(flavor = "multi_thread")]
async fn nul_is_replaced() {
    let mut scene = Scene::begin().await;
    let mut record = record(text("a\0b"));
    record.attributes = vec![pair("\0key", text("\0")), pair("literal", text(r"\u0000"))];
    scene.taken(request(vec![record]).encode_to_vec()).await;
    let row = scene.row("body, attributes->>E'\\ufffdkey', attributes->>'literal'").await;
    assert_eq!(row, ["a\u{fffd}b", "\u{fffd}", r"\u0000"].map(some));
    let scrape = scene.ends(1).await;
    assert_eq!(scrape.sum("log_buffer_replaced_values_total", r#"kind="nul""#), 3);
}

/// Guarantee: any 64 bits are taken as a time. OTLP's times are unsigned, so one before 1970 is a late one; the
/// nanoseconds end where bigint does.
#[tokio::test(flavor = "multi_thread")]
async fn times_out_of_range_are_kept_as_far_as_they_go() {
    for (time, expected) in [
        (-1_000_000_000_i64 as u64, "2554-07-21 23:34:32.709551+00"),
        (u64::MAX, "2554-07-21 23:34:33.709551+00"),
    ] {
        let mut scene = Scene::begin().await;
        let record = LogRecord { time_unix_nano: time, ..record(text("out of time")) };
        scene.taken(request(vec![record]).encode_to_vec()).await;
        let row = scene.row("time::text, time_unix_nano::text, body").await;
        assert_eq!(row, [expected, &i64::MAX.to_string(), "out of time"].map(some));
        let scrape = scene.ends(1).await;
        assert_eq!(scrape.sum("log_buffer_replaced_values_total", r#"kind="time""#), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_attributes_as_there_may_be_are_kept() {
    let mut scene = Scene::begin().await;
    let mut record = record(text("many"));
    record.attributes = (0..4096).map(|index| pair(format!("key {index}"), text("value"))).collect();
    scene.taken(request(vec![record]).encode_to_vec()).await;
    let row = scene
        .row("(SELECT count(*) FROM jsonb_object_keys(attributes))::text, attributes->>'key 4095'")
        .await;
    assert_eq!(row, ["4096", "value"].map(some));
    scene.ends(1).await;
}

/// An AnyValue of arrays in each other, `levels` of them around a text. It is written from its end: no encoder has to
/// be able to do that, and from its beginning it would be copied once for each level.
fn nested(levels: usize) -> Vec<u8> {
    let mut reversed = text("the bottom").encode_to_vec();
    reversed.reverse();
    let mut length = Vec::new();
    for _ in 0..levels {
        // The value of an array, then the array of a value.
        for number in [1, 5] {
            length.clear();
            prost::encoding::encode_varint(reversed.len() as u64, &mut length);
            reversed.extend(length.iter().rev());
            reversed.push(number << 3 | 2);
        }
    }
    reversed.reverse();
    reversed
}

/// Guarantee: nesting is kept to a depth of 64, and what is deeper is replaced and counted, in a body, in an attribute
/// of the record, and in one of its resource.
#[tokio::test(flavor = "multi_thread")]
async fn nesting_without_end_is_cut() {
    for levels in [200, 20_000, 50_000] {
        let mut scene = Scene::begin().await;
        let value = nested(levels);
        let attribute = [field(1, b"deep"), field(2, &value)].concat();
        let mut record = LogRecord { time_unix_nano: now(), ..Default::default() }.encode_to_vec();
        record.extend([field(5, &value), field(6, &attribute)].concat());
        let scope = field(2, &field(2, &record));
        scene.taken(field(1, &[field(1, &field(1, &attribute)), scope].concat())).await;
        for deep in scene.row("body, attributes->>'deep', resource->>'deep'").await {
            let deep = deep.expect("a value");
            assert_eq!(deep.matches('[').count(), 64 + 1, "64 levels, and the mark: {deep}");
            assert!(deep.contains("nested deeper than 64 levels") && !deep.contains("the bottom"), "{deep}");
        }
        let scrape = scene.ends(1).await;
        assert_eq!(scrape.sum("log_buffer_replaced_values_total", r#"kind="depth""#), 3);
    }
}

/// Guarantee: a record that cannot be read costs only itself, and the sender is told how many those were.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_record_costs_only_itself() {
    let mut scene = Scene::begin().await;
    let good = |number| numbered(number).encode_to_vec();
    let cut = good(1)[..20].to_vec();
    // A body whose array holds a value that ends too early, found only when the row is half written.
    let late = [good(2), field(5, &field(5, &field(1, &[0x0a, 0x7f])))].concat();
    let not_a_body = [good(3), vec![5 << 3, 1]].concat();
    let request = of_encoded(&[good(1000), cut, late, good(1001), not_a_body, good(1002)]);
    let answer = scene.bad.send_bytes(request.into()).await.unwrap();
    let partial = answer.partial_success.expect("it is said");
    assert_eq!(partial.rejected_log_records, 3);
    assert!(partial.error_message.contains("3 refused"), "{}", partial.error_message);
    scene.forebay.settles().await;
    let stored = stored(&scene.database).await;
    stored.assert_holds_each_once(std::slice::from_ref(&(1000..1003)));
    assert_eq!(stored.rows(), scene.told.sent + 3);
    scene.others_are_taken().await;
    let scrape = scene.ends(3).await;
    assert_eq!(scrape.sum("log_buffer_rejected_total", r#"reason="malformed""#), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_path_is_unimplemented() {
    let mut scene = Scene::begin().await;
    let bytes = Bytes::from(numbered_request(0..1).encode_to_vec());
    for path in [
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        "/opentelemetry.proto.collector.logs.v1.LogsService/Import",
        "/v1/logs",
        "/",
    ] {
        let status = scene.bad.send_to(path, bytes.clone()).await.unwrap_err();
        scene.assert_final(&status, Code::Unimplemented);
        scene.others_are_taken().await;
    }
    scene.ends(0).await;
}

/// What a sender of another protocol, or of a broken one, is answered over HTTP/2.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_grpc_has_a_status_of_http() {
    let mut scene = Scene::begin().await;
    let message = numbered_request(0..1).encode_to_vec();
    let uri = format!("{}{PATH}", scene.forebay.endpoint());
    let post = |content_type: &str| http::Request::post(&uri).header("content-type", content_type);
    for content_type in ["application/json", "application/x-protobuf", "application/grpc-web", "text/plain"] {
        let head = scene.bad.send_raw(post(content_type).body(message.clone().into()).unwrap()).await;
        assert_eq!(head.status, 415, "{content_type}");
        scene.others_are_taken().await;
    }
    let none = http::Request::post(&uri).body(message.clone().into()).unwrap();
    assert_eq!(scene.bad.send_raw(none).await.status, 415);
    scene.ends(0).await;
}

/// gRPC whose frames are not what they say.
#[tokio::test(flavor = "multi_thread")]
async fn broken_frames_have_a_status() {
    let mut scene = Scene::begin().await;
    let uri = format!("{}{PATH}", scene.forebay.endpoint());
    let frame = |flag: u8, length: u32, bytes: &[u8]| [&[flag][..], &length.to_be_bytes(), bytes].concat();
    for (what, encoding, body, code) in [
        ("nothing at all", "identity", Vec::new(), Code::InvalidArgument),
        ("less than it says", "identity", frame(0, 100, b"\x0a"), Code::InvalidArgument),
        ("4 GiB, it says", "identity", frame(0, u32::MAX, b"\x0a"), Code::ResourceExhausted),
        ("an unknown flag", "identity", frame(7, 0, b""), Code::InvalidArgument),
        ("not gzip", "gzip", frame(1, 9, b"not gzip!"), Code::InvalidArgument),
        ("an encoding that is not had", "snappy", frame(1, 4, b"snap"), Code::Unimplemented),
        ("not zstd", "zstd", frame(1, 4, b"zstd"), Code::InvalidArgument),
        ("two messages", "identity", [frame(0, 0, b""), frame(0, 0, b"")].concat(), Code::InvalidArgument),
    ] {
        let post = http::Request::post(&uri).header("content-type", "application/grpc");
        let post = post.header("grpc-encoding", encoding).body(body.into()).unwrap();
        let head = scene.bad.send_raw(post).await;
        let status = Status::from_header_map(&head.headers).unwrap_or_else(|| panic!("{what}: {head:?}"));
        assert_eq!(status.code(), code, "{what}: {status:?}");
        scene.others_are_taken().await;
    }
    scene.ends(0).await;
}

/// Scenario: an exporter that is set to HTTP sends to the port of gRPC. Guarantee: it is told what to change.
#[tokio::test(flavor = "multi_thread")]
async fn http1_is_told_where_it_is() {
    let mut scene = Scene::begin().await;
    let url = format!("{}/v1/logs", scene.forebay.endpoint());
    let answer = tokio::task::spawn_blocking(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = agent.post(&url).header("content-type", "application/x-protobuf");
        let mut response = request.send(&numbered_request(0..1).encode_to_vec()).expect("an answer");
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    });
    let (status, body) = answer.await.unwrap();
    assert_eq!(status, 415);
    assert!(body.contains("OTEL_EXPORTER_OTLP_PROTOCOL=grpc"), "{body}");
    scene.others_are_taken().await;
    scene.ends(0).await;
}

/// The depth limit holds for what an encoder can make, too, and exactly.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_levels_are_kept() {
    let mut scene = Scene::begin().await;
    let wrap = |value, _| AnyValue { value: Some(Value::ArrayValue(ArrayValue { values: vec![value] })) };
    scene.taken(request(vec![record((0..64).fold(text("the bottom"), wrap))]).encode_to_vec()).await;
    let row = scene.row("body").await.remove(0).expect("a body");
    assert_eq!(row, format!("{}\"the bottom\"{}", "[".repeat(64), "]".repeat(64)));
    let scrape = scene.ends(1).await;
    assert_eq!(scrape.sum("log_buffer_replaced_values_total", r#"kind="depth""#), 0);
}
