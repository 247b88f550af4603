//! Checks that types cannot express: ranges, addresses and combinations of keys. The exporter checks the connection string,
//! which only it can read.

use std::fmt::Display;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Config;
use super::error::KeyError;
use crate::buffer::budget::{MOST_BYTES, MOST_RECORDS};
use crate::postgres::backoff::RetryConfig;
use crate::receiver::config::{AdmissionConfig, EnforcementPolicy, GrpcConfig, HttpConfig, Protocols};
use crate::store::config::RetentionConfig;
use crate::table::index::Index;
use crate::table::mapping::Refusal;
use crate::telemetry::config::Protocol;
use crate::values::duration::GoDuration;
use crate::values::percent::Percent;
use crate::values::size::ByteSize;
use crate::{buffer, exporter, memory, receiver, telemetry};

type Checked = Result<(), KeyError>;

const MIB: ByteSize = ByteSize::mib(1);
const GIB: ByteSize = ByteSize::mib(1024);

/// Refuses the first value that forebay cannot run on.
pub(super) fn check(config: &Config) -> Checked {
    receiver(&config.receiver)?;
    config.memory.as_ref().map_or(Ok(()), memory)?;
    batch(&config.batch)?;
    exporter(&config.exporter)?;
    queue(&config.exporter.sending_queue)?;
    config.storage.as_ref().map_or(Ok(()), storage)?;
    retry(&config.exporter.retry_on_failure)?;
    if let Some(health) = &config.health {
        endpoint("extensions.health_check.endpoint", &health.endpoint)?;
        path("extensions.health_check.path", &health.path, "a path such as /")?;
    }
    metrics(&config.telemetry.metrics)
}

fn receiver(config: &receiver::config::Config) -> Checked {
    let Protocols { grpc, http } = &config.protocols;
    let limit = config.admission.request_limit;
    structure(&config.admission)?;
    let named = grpc.is_some() || http.is_some();
    demand(named, "receivers.otlp.protocols", "none of them", "grpc, http or both")?;
    let attribute = config.sender_attribute.as_ref();
    let is_key = attribute.is_none_or(|key| !key.is_empty() && key != "service.name");
    let found = attribute.map(String::as_str).unwrap_or_default();
    demand(is_key, "receivers.otlp.sender_attribute", format!("{found:?}"), "a key such as forebay.sender")?;
    if let Some(config) = grpc {
        self::grpc(config)?;
        admission(limit, "max_recv_msg_size_mib", config.max_recv_msg_size)?;
    }
    if let Some(config) = http {
        self::http(config)?;
        admission(limit, "max_request_body_size", config.max_request_body_size)?;
    }
    Ok(())
}

fn grpc(config: &GrpcConfig) -> Checked {
    let key = |name| format!("receivers.otlp.protocols.grpc.{name}");
    endpoint(&key("endpoint"), &config.endpoint)?;
    within(&key("max_recv_msg_size_mib"), config.max_recv_msg_size, MIB..=GIB)?;
    within(&key("max_concurrent_streams"), config.max_concurrent_streams, 1..=1_000_000)?;
    within(&key("max_connections"), config.max_connections, 0..=1_000_000)?;
    within(&key("max_connections_per_address"), config.max_connections_per_address, 0..=1_000_000)?;
    let keepalive = &config.keepalive.server_parameters;
    let grace = keepalive.max_connection_age_grace;
    positive(&key("keepalive.server_parameters.max_connection_age_grace"), grace)?;
    positive(&key("keepalive.server_parameters.time"), keepalive.time)?;
    positive(&key("keepalive.server_parameters.timeout"), keepalive.timeout)?;
    ping_policy(&key("keepalive.enforcement_policy"), &config.keepalive.enforcement_policy)
}

fn http(config: &HttpConfig) -> Checked {
    let key = |name| format!("receivers.otlp.protocols.http.{name}");
    endpoint(&key("endpoint"), &config.endpoint)?;
    path(&key("logs_url_path"), &config.logs_url_path, "a path such as /v1/logs")?;
    within(&key("max_request_body_size"), config.max_request_body_size, ByteSize(1)..=GIB)?;
    let age = config.cors.max_age;
    demand(age.0.subsec_nanos() == 0, &key("cors.max_age"), age, "whole seconds")?;
    within(&key("max_connections"), config.max_connections, 0..=1_000_000)?;
    within(&key("max_connections_per_address"), config.max_connections_per_address, 0..=1_000_000)?;
    positive(&key("read_header_timeout"), config.read_header_timeout)?;
    positive(&key("max_connection_age_grace"), config.max_connection_age_grace)
}

/// The HTTP/2 library answers all pings of clients by itself, so forebay cannot enforce a policy on them.
fn ping_policy(key: &str, policy: &EnforcementPolicy) -> Checked {
    let because = "or nothing: forebay answers every ping of a client and cannot refuse any";
    let EnforcementPolicy { min_time, permit_without_stream } = policy;
    let time = min_time.unwrap_or_default();
    demand(time.0.is_zero(), &format!("{key}.min_time"), time, &format!("0s {because}"))?;
    let permitted = permit_without_stream.unwrap_or(true);
    demand(permitted, &format!("{key}.permit_without_stream"), permitted, &format!("true {because}"))
}

/// No limit is 0, and none allows more than PostgreSQL's largest value.
fn structure(admission: &AdmissionConfig) -> Checked {
    for (name, found, most) in [
        ("max_decompression_ratio", admission.max_decompression_ratio, 1_000_000),
        ("max_resources", admission.max_resources, 1_000_000),
        ("max_scopes", admission.max_scopes, 1_000_000),
        ("max_resource_attributes", admission.max_resource_attributes, 1_000_000),
        ("max_attributes", admission.max_attributes, 1_000_000),
        ("max_elements", admission.max_elements, 4_000_000),
    ] {
        within(&format!("receivers.otlp.admission.{name}"), found, 1..=most)?;
    }
    for (name, found, most) in [
        ("max_resource_bytes", admission.max_resource_bytes, 64),
        ("max_record_bytes", admission.max_record_bytes, 64),
        ("max_key_bytes", admission.max_key_bytes, 1),
    ] {
        within(&format!("receivers.otlp.admission.{name}"), found, ByteSize(1)..=ByteSize::mib(most))?;
    }
    Ok(())
}

/// A single request gets little more than half of the memory for all requests.
fn admission(limit: ByteSize, key: &str, largest: ByteSize) -> Checked {
    let allowed = format!("three times {key} ({largest}) or more, and 1TiB at most");
    let holds = limit.0 >= 3 * largest.0 && limit <= ByteSize(1 << 40);
    demand(holds, "receivers.otlp.admission.request_limit_mib", limit, &allowed)
}

fn memory(config: &memory::config::Config) -> Checked {
    let key = |name| format!("processors.memory_limiter.{name}");
    positive(&key("check_interval"), config.check_interval)?;
    let (none, limit, spike) = (ByteSize::default(), config.limit, config.spike_limit);
    let is_limited = limit > none || config.limit_percentage > 0;
    demand(is_limited, &key("limit_mib"), 0, "a limit such as 512MiB, or limit_percentage")?;
    within(&key("limit_percentage"), config.limit_percentage, 0..=100)?;
    let allowed = format!("less than the limit ({limit})");
    demand(spike == none || limit == none || spike < limit, &key("spike_limit_mib"), spike, &allowed)?;
    let (limit, spike) = (config.limit_percentage, config.spike_limit_percentage);
    let allowed = format!("less than the limit ({limit})");
    demand(spike == 0 || limit == 0 || spike < limit, &key("spike_limit_percentage"), spike, &allowed)
}

fn batch(config: &buffer::config::BatchConfig) -> Checked {
    let (size, max) = (config.send_batch_size, config.send_batch_max_size);
    within("processors.batch.send_batch_size", size, 1..=1_000_000_000)?;
    let allowed = format!("send_batch_size ({size}) or more, or 0 for as much as the queue holds");
    demand(max == 0 || max >= size, "processors.batch.send_batch_max_size", max, &allowed)
}

fn exporter(config: &exporter::config::Config) -> Checked {
    let allowed = "embedded, a URL such as postgres://user@host/database, or key=value pairs";
    demand(!config.dsn.text.trim().is_empty(), "exporters.postgres.dsn", "nothing", allowed)?;
    let data_dir = config.data_dir.as_os_str();
    demand(!data_dir.is_empty(), "exporters.postgres.data_dir", "nothing", "a directory such as .forebay")?;
    within("exporters.postgres.pool_size", config.pool_size, 1..=64)?;
    schema("exporters.postgres.schema", &config.schema)?;
    retention(config)?;
    indexes("exporters.postgres.indexes", &config.indexes)?;
    if let Err(Refusal { path, found, expected }) = config.store().destination() {
        let above = ["exporters", "postgres", "table"].map(str::to_owned).into_iter();
        return Err(KeyError::at(above.chain(path), format!("found {found}, expected {expected}")));
    }
    positive("exporters.postgres.timeout", config.timeout)
}

fn indexes(key: &str, indexes: &[Index]) -> Checked {
    let twice = (1..indexes.len()).find(|&at| indexes[..at].contains(&indexes[at]));
    let label = twice.map_or("", |at| <&str>::from(indexes[at]));
    demand(twice.is_none(), key, format!("{label} twice"), "each index once")
}

fn retention(config: &exporter::config::Config) -> Checked {
    let exporter::config::Config { retention, partition, create_schema, table, .. } = config;
    let key = "exporters.postgres.retention";
    let is_off = *retention == RetentionConfig::default();
    let allowed =
        "create_schema: true as well, since only the owner of partitions can drop them; or none of its keys";
    demand(*create_schema || is_off, key, "create_schema: false", allowed)?;
    let allowed = "none of its keys, since forebay deletes nothing from an existing table";
    demand(table.is_none() || is_off, key, "exporters.postgres.table beside it", allowed)?;
    let (age, width) = (retention.max_age.0.as_secs(), partition.seconds() as u64);
    let allowed = format!("a partition's length ({}h) or more, or 0s to keep all", width / 3600);
    let found = retention.max_age;
    demand(found.0.is_zero() || age >= width, &format!("{key}.max_age"), found, &allowed)
}

/// PostgreSQL accepts any such name in quotes and reserves `pg_` for itself.
fn schema(key: &str, name: &str) -> Checked {
    let fits = (1..=63).contains(&name.len()) && !name.contains(char::is_control) && !name.starts_with("pg_");
    demand(fits, key, format!("{name:?}"), "a name of 1 to 63 bytes that does not begin with pg_")
}

fn queue(config: &buffer::config::QueueConfig) -> Checked {
    within("exporters.postgres.sending_queue.queue_size", config.queue_size, 1..=MOST_RECORDS)?;
    within(
        "exporters.postgres.sending_queue.max_bytes",
        config.max_bytes,
        MIB..=ByteSize(MOST_BYTES as u64),
    )?;
    let buffer::config::Weights { debug, info, warn, error } = config.overflow_weights;
    for (band, weight) in [("debug", debug), ("info", info), ("warn", warn), ("error", error)] {
        // Below 1, a share could be used up while most of the buffer is free.
        within(&format!("exporters.postgres.sending_queue.overflow_weights.{band}"), weight, 1..=1000)?;
    }
    let (shortest, longest) = (GoDuration::seconds(1), GoDuration::seconds(3600));
    within("exporters.postgres.sending_queue.fold.window", config.fold.window, shortest..=longest)?;
    let by = &config.fairness.by;
    let allowed = "the name of a resource attribute, such as service.name";
    demand(!by.trim().is_empty(), "exporters.postgres.sending_queue.fairness.by", "nothing", allowed)
}

fn storage(config: &buffer::config::StorageConfig) -> Checked {
    let key = |name| format!("exporters.postgres.sending_queue.{name}");
    within(&key("max_size"), config.max_size, ByteSize::mib(256)..=ByteSize::mib(1 << 30))?;
    within(&key("min_free"), config.min_free, Percent(0)..=Percent(90))?;
    positive(&key("disk_timeout"), config.disk_timeout)
}

fn retry(config: &RetryConfig) -> Checked {
    let key = |name| format!("exporters.postgres.retry_on_failure.{name}");
    let (initial, max) = (config.initial_interval, config.max_interval);
    positive(&key("initial_interval"), initial)?;
    within(&key("randomization_factor"), config.randomization_factor, 0.0..=1.0)?;
    demand(config.multiplier >= 1.0, &key("multiplier"), config.multiplier, "1 or more")?;
    let allowed = format!("initial_interval ({initial}) or more, or 0 for no limit");
    demand(max.0.is_zero() || max >= initial, &key("max_interval"), max, &allowed)
}

fn metrics(config: &telemetry::config::MetricsConfig) -> Checked {
    for (index, reader) in config.readers.iter().enumerate() {
        let key = format!("service.telemetry.metrics.readers.[{index}]");
        match (&reader.pull, &reader.periodic) {
            (Some(pull), None) => {
                let host = &pull.exporter.prometheus.host;
                let key = format!("{key}.pull.exporter.prometheus.host");
                demand(is_host(host), &key, format!("{host:?}"), "a host name or an IP address")?;
            }
            (None, Some(periodic)) => push(&format!("{key}.periodic"), periodic)?,
            (None, None) => demand(false, &key, "nothing", "pull or periodic")?,
            (Some(_), Some(_)) => demand(false, &key, "pull and periodic", "one of them; write two readers")?,
        }
    }
    Ok(())
}

fn push(key: &str, config: &telemetry::config::PeriodicConfig) -> Checked {
    let otlp = &config.exporter.otlp;
    for (name, found) in
        [("interval", config.interval), ("timeout", config.timeout), ("exporter.otlp.timeout", otlp.timeout)]
    {
        let key = format!("{key}.{name}");
        positive(&key, found)?;
    }
    let found = &otlp.endpoint;
    let key = |name: &str| format!("{key}.exporter.otlp.{name}");
    let is_safe = !found.starts_with("https://");
    let allowed =
        "http://host:port: metrics are pushed without TLS; let a Collector on this machine forward them";
    demand(is_safe, &key("endpoint"), format!("{found:?}"), allowed)?;
    let address = found.strip_prefix("http://").map(|rest| rest.split_once('/').unwrap_or((rest, "")));
    let has_path = otlp.protocol == Protocol::HttpProtobuf;
    let fits = address.is_some_and(|(host, path)| is_endpoint(host) && (has_path || path.is_empty()));
    let allowed = "http://host:port, and a path only where the protocol is http/protobuf";
    demand(fits, &key("endpoint"), format!("{found:?}"), allowed)?;
    let unfit = otlp.headers.unfit();
    let allowed = "a valid name of an HTTP header, and an ASCII value";
    demand(unfit.is_none(), &key("headers"), format!("{:?}", unfit.unwrap_or_default()), allowed)
}

pub(super) fn demand(holds: bool, key: &str, found: impl Display, allowed: &str) -> Checked {
    if holds { Ok(()) } else { Err(KeyError::new(key, format!("found {found}, expected {allowed}"))) }
}

pub(super) fn within<T: PartialOrd + Display>(key: &str, found: T, allowed: RangeInclusive<T>) -> Checked {
    let text = format!("{} to {}", allowed.start(), allowed.end());
    demand(allowed.contains(&found), key, found, &text)
}

fn path(key: &str, found: &str, allowed: &str) -> Checked {
    demand(found.starts_with('/'), key, format!("{found:?}"), allowed)
}

fn positive(key: &str, GoDuration(found): GoDuration) -> Checked {
    demand(found > Duration::ZERO, key, "0", "a duration above 0, such as 10s")?;
    demand(found >= Duration::from_millis(1), key, GoDuration(found), "1ms or more")
}

fn endpoint(key: &str, text: &str) -> Checked {
    let allowed = match text.strip_prefix(':') {
        // The Collector listens on every interface then. But the host may just be an empty variable.
        Some(port) if is_endpoint(&format!("0{text}")) => format!(
            "a host before the port: 127.0.0.1:{port} for this machine alone, or 0.0.0.0:{port} for every interface"
        ),
        _ => "host:port, such as 127.0.0.1:4317, [::1]:4317, or 0.0.0.0:4317 for every interface".to_owned(),
    };
    demand(is_endpoint(text), key, format!("{text:?}"), &allowed)
}

fn is_endpoint(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_number = port.bytes().all(|digit| digit.is_ascii_digit());
        is_number && port.parse::<u16>().is_ok() && bare.map_or(is_name(host), is_ipv6)
    })
}

fn is_host(text: &str) -> bool {
    is_name(text) || is_ipv6(text)
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok()
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}
