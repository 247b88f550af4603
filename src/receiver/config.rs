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
    /// The enabled protocols.
    pub protocols: Protocols,
    /// The limits of requests before they are in the buffer.
    pub admission: AdmissionConfig,
    /// The resource attribute in which to store the authenticated sender; `None` stores no such attribute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_attribute: Option<String>,
    /// The authenticators, by the names of their extensions.
    #[serde(skip)]
    pub authenticators: BTreeMap<String, AuthenticatorConfig>,
}

/// `receivers.otlp.admission`, as the OTel-Arrow receiver has it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdmissionConfig {
    /// The most memory of all requests together while they are received, decompressed and made into rows.
    #[serde(rename = "request_limit_mib", with = "size::mib")]
    pub request_limit: ByteSize,
    /// The most decompressed bytes per compressed byte of a request; up to 1 MiB any ratio is allowed.
    pub max_decompression_ratio: usize,
    /// The most `ResourceLogs` in a request.
    pub max_resources: usize,
    /// The most `ScopeLogs` in a request.
    pub max_scopes: usize,
    /// The most bytes of a resource or a scope, including its schema URL.
    pub max_resource_bytes: ByteSize,
    /// The most attributes of a resource or a scope.
    pub max_resource_attributes: usize,
    /// The most bytes of a record.
    pub max_record_bytes: ByteSize,
    /// The most attributes of a record, and entries of each map in its values.
    pub max_attributes: usize,
    /// The most array elements and map entries in all values of a record.
    pub max_elements: usize,
    /// The most bytes of a key.
    pub max_key_bytes: ByteSize,
}

/// `receivers.otlp.protocols`. If the key is present, protocols that it does not name are off.
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
    /// The server's pings and timeouts.
    pub server_parameters: ServerParameters,
    /// The rules for clients' pings.
    pub enforcement_policy: EnforcementPolicy,
}

/// `receivers.otlp.protocols.grpc.keepalive.enforcement_policy`: how often clients may ping. forebay answers every ping and counts none,
/// so that only values that match this are accepted.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnforcementPolicy {
    /// The least time between a client's pings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_time: Option<GoDuration>,
    /// Whether a client may ping without a request in flight.
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
    /// The web pages that may send.
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
    /// Headers allowed besides Accept, Accept-Language, Content-Language and Content-Type; `*` is any.
    pub allowed_headers: Vec<String>,
    /// How long a browser may cache the answer, in whole seconds; 0 leaves it to the browser.
    #[serde(with = "duration::seconds")]
    pub max_age: GoDuration,
}

/// The most bytes of the attribute with a sender's name, without its key.
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
    /// The limits on the structure of requests, with room for the attribute that forebay adds.
    pub fn limits(&self) -> Limits {
        let mut limits = self.admission.limits();
        if let Some(key) = &self.sender_attribute {
            limits.resource_attributes += 1;
            limits.resource_bytes += key.len() + MARK;
        }
        limits
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
        let limits = Limits::default();
        Self {
            request_limit: ByteSize::mib(80),
            max_decompression_ratio: 1000,
            max_resources: limits.resources,
            max_scopes: limits.scopes,
            max_resource_bytes: ByteSize(limits.resource_bytes as u64),
            max_resource_attributes: limits.resource_attributes,
            max_record_bytes: ByteSize(limits.record_bytes as u64),
            max_attributes: limits.attributes,
            max_elements: limits.elements,
            max_key_bytes: ByteSize(limits.key_bytes as u64),
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
