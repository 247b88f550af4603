//! The receiver's part of the YAML: `receivers.otlp`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::auth::config::{AuthConfig, AuthenticatorConfig};
use super::tls::config::TlsConfig;
use crate::otlp::Limits;
use crate::values::duration::{self, GoDuration};
use crate::values::size::{self, ByteSize};

/// `receivers.otlp`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The protocols that are listened to.
    pub protocols: Protocols,
    /// What requests may take before they are in the buffer.
    pub admission: AdmissionConfig,
    /// The attribute of each resource that says by which credentials it was sent; none where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_attribute: Option<String>,
    /// Who may send, by the names of the extensions that know it.
    #[serde(skip)]
    pub authenticators: BTreeMap<String, AuthenticatorConfig>,
}

/// `receivers.otlp.admission`, as the OTel-Arrow receiver has it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdmissionConfig {
    /// The most that all requests together may take while they are received, decompressed and made into rows.
    #[serde(rename = "request_limit_mib", with = "size::mib")]
    pub request_limit: ByteSize,
    /// A request may be so many times as large as it is compressed; up to 1 MiB any number of times.
    pub max_decompression_ratio: usize,
    /// The most `ResourceLogs` in a request.
    pub max_resources: usize,
    /// The most `ScopeLogs` in a request.
    pub max_scopes: usize,
    /// The most bytes of a resource or a scope, its schema URL among them.
    pub max_resource_bytes: ByteSize,
    /// The most attributes of a resource or a scope.
    pub max_resource_attributes: usize,
    /// The most bytes of a record.
    pub max_record_bytes: ByteSize,
    /// The most attributes of a record, and entries of any map in its values.
    pub max_attributes: usize,
    /// The most elements of arrays and entries of maps in all values of a record.
    pub max_elements: usize,
    /// The most bytes of a key.
    pub max_key_bytes: ByteSize,
}

/// `receivers.otlp.protocols`. Where it is written, a protocol that it does not name is off.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Protocols {
    /// OTLP over gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcConfig>,
    /// OTLP over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpConfig>,
}

/// `receivers.otlp.protocols.grpc`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcConfig {
    /// Address and port to listen on, such as `127.0.0.1:4317`.
    pub endpoint: String,
    /// The largest request, after decompression.
    #[serde(rename = "max_recv_msg_size_mib", with = "size::mib")]
    pub max_recv_msg_size: ByteSize,
    /// The most requests under way on one connection.
    pub max_concurrent_streams: u32,
    /// The most connections at a time; 0 is what the limit on open files leaves, 10,000 at most.
    pub max_connections: usize,
    /// The most of these from one address (of IPv6: from one /64); 0 is three quarters.
    pub max_connections_per_address: usize,
    /// Encrypts, and may ask clients for certificates; without it, plain text is spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// Who may send; without it, everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthConfig>,
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

/// `receivers.otlp.protocols.http`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address and port to listen on, such as `127.0.0.1:4318`.
    pub endpoint: String,
    /// The path that logs are sent to.
    pub logs_url_path: String,
    /// The largest body, before and after decompression.
    pub max_request_body_size: ByteSize,
    /// Which pages of browsers may send.
    pub cors: CorsConfig,
    /// The longest wait for the headers of a request, from the beginning of its connection or the last answer on it.
    pub read_header_timeout: GoDuration,
    /// A connection without a request for this long is closed; 0 is never.
    pub idle_timeout: GoDuration,
    /// Encrypts, and may ask clients for certificates; without it, plain text is spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// Who may send; without it, everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthConfig>,
    /// Whether a connection of HTTP/1 is kept for further requests.
    pub keep_alives_enabled: bool,
    /// The most connections at a time; 0 is what the limit on open files leaves, 10,000 at most.
    pub max_connections: usize,
    /// The most of these from one address (of IPv6: from one /64); 0 is three quarters.
    pub max_connections_per_address: usize,
    /// A connection that is this old is asked to go, a tenth sooner or later; 0 is never.
    pub max_connection_age: GoDuration,
    /// What requests under way have left of their time once their connection was asked to go for its age.
    pub max_connection_age_grace: GoDuration,
}

/// `receivers.otlp.protocols.http.cors`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CorsConfig {
    /// Origins such as `https://shop.example`; one `*` in each is for any text. None: no page may send.
    pub allowed_origins: Vec<String>,
    /// Headers beside Accept, Accept-Language, Content-Language and Content-Type; `*` is any.
    pub allowed_headers: Vec<String>,
    /// For how long a browser may remember the answer, in whole seconds; 0 leaves it to the browser.
    #[serde(with = "duration::seconds")]
    pub max_age: GoDuration,
}

/// A name of a sender has no more bytes, with what stands around it and its key.
const MARK: usize = 1024;

impl Default for Protocols {
    fn default() -> Self {
        Self { grpc: Some(GrpcConfig::default()), http: Some(HttpConfig::default()) }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:4318".to_owned(),
            logs_url_path: "/v1/logs".to_owned(),
            max_request_body_size: ByteSize::mib(20),
            cors: CorsConfig::default(),
            read_header_timeout: GoDuration::seconds(60),
            idle_timeout: GoDuration::seconds(60),
            tls: None,
            auth: None,
            keep_alives_enabled: true,
            max_connections: 0,
            max_connections_per_address: 0,
            max_connection_age: GoDuration::seconds(0),
            max_connection_age_grace: GoDuration::seconds(30),
        }
    }
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            endpoint: "127.0.0.1:4317".to_owned(),
            max_recv_msg_size: ByteSize::mib(4),
            max_concurrent_streams: 128,
            max_connections: 0,
            max_connections_per_address: 0,
            tls: None,
            auth: None,
            keepalive: KeepaliveConfig::default(),
        }
    }
}

impl Config {
    /// The limits on the structure of requests. The attribute that forebay adds is not held against them.
    pub fn limits(&self) -> Limits {
        let limits = self.admission.limits();
        match &self.sender_attribute {
            None => limits,
            Some(key) => Limits {
                resource_attributes: limits.resource_attributes + 1,
                resource_bytes: limits.resource_bytes + key.len() + MARK,
                ..limits
            },
        }
    }
}

impl AdmissionConfig {
    /// The limits on the structure of requests.
    pub fn limits(&self) -> Limits {
        Limits {
            resources: self.max_resources,
            scopes: self.max_scopes,
            resource_bytes: self.max_resource_bytes.bytes(),
            resource_attributes: self.max_resource_attributes,
            record_bytes: self.max_record_bytes.bytes(),
            attributes: self.max_attributes,
            elements: self.max_elements,
            key_bytes: self.max_key_bytes.bytes(),
        }
    }
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        let Limits {
            resources,
            scopes,
            resource_bytes,
            resource_attributes,
            record_bytes,
            attributes,
            elements,
            key_bytes,
        } = Limits::default();
        Self {
            request_limit: ByteSize::mib(80),
            max_decompression_ratio: 1000,
            max_resources: resources,
            max_scopes: scopes,
            max_resource_bytes: ByteSize(resource_bytes as u64),
            max_resource_attributes: resource_attributes,
            max_record_bytes: ByteSize(record_bytes as u64),
            max_attributes: attributes,
            max_elements: elements,
            max_key_bytes: ByteSize(key_bytes as u64),
        }
    }
}

impl Default for ServerParameters {
    fn default() -> Self {
        Self {
            max_connection_idle: GoDuration::seconds(60),
            max_connection_age: GoDuration::seconds(0),
            max_connection_age_grace: GoDuration::seconds(30),
            time: GoDuration::seconds(20),
            timeout: GoDuration::seconds(10),
        }
    }
}
