//! The receiver's part of the YAML: `receivers.otlp`.

use std::time::Duration;

use serde::Deserialize;

use crate::duration::GoDuration;

/// `receivers.otlp`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The protocols that are listened to.
    pub protocols: Protocols,
}

/// `receivers.otlp.protocols`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Protocols {
    /// OTLP over gRPC.
    pub grpc: GrpcConfig,
}

/// `receivers.otlp.protocols.grpc`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcConfig {
    /// Address and port to listen on, such as `127.0.0.1:4317`.
    pub endpoint: String,
    /// The largest request, after decompression, in MiB.
    pub max_recv_msg_size_mib: u32,
    /// The most requests under way on one connection.
    pub max_concurrent_streams: u32,
    /// HTTP/2 pings and the age of connections.
    pub keepalive: KeepaliveConfig,
}

/// `receivers.otlp.protocols.grpc.keepalive`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct KeepaliveConfig {
    /// The server's side of it.
    pub server_parameters: ServerParameters,
}

/// `receivers.otlp.protocols.grpc.keepalive.server_parameters`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ServerParameters {
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
            keepalive: KeepaliveConfig::default(),
        }
    }
}

impl Default for ServerParameters {
    fn default() -> Self {
        Self { time: GoDuration(Duration::from_secs(20)), timeout: GoDuration(Duration::from_secs(10)) }
    }
}
