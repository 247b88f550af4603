//! The receiver's part of the YAML: `receivers.otlp`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tls::config::TlsConfig;
use crate::duration::GoDuration;

/// `receivers.otlp`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The protocols that are listened to.
    pub protocols: Protocols,
    /// What requests may take before they are in the buffer.
    pub admission: AdmissionConfig,
}

/// `receivers.otlp.admission`, as the OTel-Arrow receiver has it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdmissionConfig {
    /// The most that all requests together may take while they are received and decompressed, in MiB.
    pub request_limit_mib: u32,
}

/// `receivers.otlp.protocols`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Protocols {
    /// OTLP over gRPC.
    pub grpc: GrpcConfig,
}

/// `receivers.otlp.protocols.grpc`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcConfig {
    /// Address and port to listen on, such as `127.0.0.1:4317`.
    pub endpoint: String,
    /// The largest request, after decompression, in MiB.
    pub max_recv_msg_size_mib: u32,
    /// The most requests under way on one connection.
    pub max_concurrent_streams: u32,
    /// The most connections at a time; 0 is what the limit on open files leaves, 10,000 at most.
    pub max_connections: usize,
    /// Encrypts, and may ask clients for certificates; without it, plain text is spoken.
    pub tls: Option<TlsConfig>,
    /// HTTP/2 pings and the age of connections.
    pub keepalive: KeepaliveConfig,
}

/// `receivers.otlp.protocols.grpc.keepalive`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeepaliveConfig {
    /// The server's side of it.
    pub server_parameters: ServerParameters,
    /// What clients may do. It is here to be refused by name.
    pub enforcement_policy: EnforcementPolicy,
}

/// `receivers.otlp.protocols.grpc.keepalive.enforcement_policy`: how often clients may ping. Every ping is answered,
/// and none is counted, so that only the values that mean this can be had.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnforcementPolicy {
    /// The least time between a client's pings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_time: Option<GoDuration>,
    /// Whether a client may ping without a request under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permit_without_stream: Option<bool>,
}

/// `receivers.otlp.protocols.grpc.keepalive.server_parameters`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerParameters {
    /// A connection without a request for this long is asked to go; 0 is never.
    pub max_connection_idle: GoDuration,
    /// A connection that is this old is asked to go, a tenth sooner or later; 0 is never.
    pub max_connection_age: GoDuration,
    /// What requests under way have left of their time once their connection was asked to go for its age.
    pub max_connection_age_grace: GoDuration,
    /// A quiet connection is pinged after this long.
    pub time: GoDuration,
    /// A ping that is not answered within this ends the connection.
    pub timeout: GoDuration,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:4317".to_owned(),
            max_recv_msg_size_mib: 64,
            max_concurrent_streams: 128,
            max_connections: 0,
            tls: None,
            keepalive: KeepaliveConfig::default(),
        }
    }
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self { request_limit_mib: 128 }
    }
}

impl Default for ServerParameters {
    fn default() -> Self {
        let seconds = |seconds| GoDuration(Duration::from_secs(seconds));
        Self {
            max_connection_idle: seconds(60),
            max_connection_age: seconds(0),
            max_connection_age_grace: seconds(30),
            time: seconds(20),
            timeout: seconds(10),
        }
    }
}
