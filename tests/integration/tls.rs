//! TLS at the receiver's ports: who may speak to them, and what happens as certificates come and go.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use prost::Message;
use serde_json::Value;
use support::authority::{Authority, Client, Files, Identity};
use support::forebay::{Forebay, Ran, command, ran};
use support::postgres::{Database, database};
use support::records::numbered_request;
use support::sender::Sender;
use support::{PATIENCE, eventually};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::client::TlsStream;
use tonic::Code;

const GRPC: &str = "receivers.otlp.protocols.grpc";

/// A forebay with TLS, and all that its clients need.
struct Secured {
    files: Files,
    authority: Authority,
    forebay: Forebay,
}

impl Secured {
    /// One with a certificate by an authority of its own, and with further `--set` arguments, of which `FILES` is
    /// replaced by the directory.
    async fn start(database: &Database, sets: &[&str]) -> Self {
        Self::start_by(Authority::default(), database, sets).await
    }

    /// The same, with a certificate by `authority`.
    async fn start_by(authority: Authority, database: &Database, sets: &[&str]) -> Self {
        let files = Files::default();
        files.write_identity("server", &authority.server());
        files.write("ca.pem", &authority.pem);
        let directory = files.path("").display().to_string();
        let own = [
            format!("{GRPC}.tls.cert_file=FILES/server.pem"),
            format!("{GRPC}.tls.key_file=FILES/server.key"),
        ];
        let sets = own.iter().map(String::as_str).chain(sets.iter().copied());
        let sets: Vec<_> = sets.map(|set| set.replace("FILES", &directory)).collect();
        let forebay =
            Forebay::ready(database.dsn(), &sets.iter().map(String::as_str).collect::<Vec<_>>()).await;
        Self { files, authority, forebay }
    }

    fn address(&self) -> SocketAddr {
        address(&self.forebay)
    }

    /// A client that trusts the server.
    fn client(&self) -> Client {
        Client::new(&self.authority, None)
    }

    async fn turned_away(&self, reason: &str) -> u64 {
        turned_away(&self.forebay, reason).await
    }
}

fn address(forebay: &Forebay) -> SocketAddr {
    forebay.endpoint().trim_start_matches("http://").parse().unwrap()
}

async fn turned_away(forebay: &Forebay, reason: &str) -> u64 {
    let labels = format!("reason=\"{reason}\",transport=\"grpc\"");
    forebay.scrape().await.sum("log_receiver_turned_away_total", &labels)
}

/// What forebay has said, of the messages that contain `part`.
fn said(forebay: &Forebay, part: &str) -> Vec<String> {
    forebay.said().into_iter().filter(|line| line.contains(part)).collect()
}

/// Waits until forebay has said `part`.
async fn says(forebay: &Forebay, part: &str) -> Value {
    let what = format!("it says {part:?}");
    let line = eventually(&what, || async { said(forebay, part).pop() }).await;
    serde_json::from_str(&line).unwrap()
}

async fn send(sender: &Sender, numbers: std::ops::Range<u64>) {
    sender.send(numbered_request(numbers)).await.unwrap();
}

/// The official Python SDK with its settings from `environment`.
pub async fn python(environment: &[(&str, String)]) -> Ran {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new(root.join("target/python/bin/python"));
    python.arg(root.join("tests/sdk/python/secured.py")).envs(environment.iter().cloned());
    ran(&mut python).await
}

/// Scenario: the official Python SDK has a certificate, and trusts the authority that has signed forebay's. Guarantee:
/// it is told that its records are taken, and they are stored.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_sdk_with_a_certificate() {
    let database = database().await;
    let secured = Secured::start(&database, &[&format!("{GRPC}.tls.client_ca_file=FILES/ca.pem")]).await;
    secured.files.write_identity("client", &secured.authority.client());
    let path = |name| secured.files.path(name).display().to_string();
    let of_server = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("https://localhost:{}", secured.address().port())),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", path("ca.pem")),
    ];
    let of_client = [
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", path("client.pem")),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", path("client.key")),
    ];
    let ran = python(&[of_server, of_client].concat()).await;
    assert_eq!(ran.out.trim(), "{'SUCCESS': 10}", "{ran:?}");
    let scrape = secured.forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), 10);
    assert_eq!(scrape.value("log_receiver_turned_away_total"), 0);
}

/// Scenario: the keys of forebay, of the clients and of the authority of both are on the curve P-521; by gRPC, and by HTTP with curl,
/// in TLS 1.2 and in 1.3. Guarantee: each is served, and who has no certificate, or one by another such authority, is turned away.
#[tokio::test(flavor = "multi_thread")]
async fn keys_on_the_curve_p521_are_as_good_as_others() {
    let tls = "{cert_file: FILES/server.pem, key_file: FILES/server.key, client_ca_file: FILES/ca.pem}";
    let sets = [GRPC, "receivers.otlp.protocols.http"].map(|receiver| format!("{receiver}.tls={tls}"));
    let sets = sets.each_ref().map(String::as_str);
    let secured = Secured::start_by(Authority::p521(), &database().await, &sets).await;
    let (files, authority) = (&secured.files, &secured.authority);
    let (own, of_others) = (authority.client(), Authority::p521().client());
    files.write_identity("client", &own);
    for (number, client) in
        [Client::new(authority, Some(&own)), Client::old(authority, Some(&own))].iter().enumerate()
    {
        let first = number as u64 * 10;
        send(&client.sender(secured.address()), first..first + 10).await;
    }
    for (count, identity) in [(1, None), (2, Some(&of_others))] {
        let client = Client::new(authority, identity);
        client.sender(secured.address()).send(numbered_request(0..1)).await.unwrap_err();
        eventually("it is counted", || async {
            (secured.turned_away("client_certificate").await == count).then_some(())
        })
        .await;
    }
    let url = format!("https://{}/v1/logs", secured.forebay.http_address());
    for (version, first) in [("1.2", 20), ("1.3", 30)] {
        std::fs::write(files.path("body"), numbered_request(first..first + 10).encode_to_vec()).unwrap();
        let mut curl = Command::new("curl");
        curl.current_dir(files.path("")).args(["-sS", "-H", "content-type: application/x-protobuf"]);
        curl.args([
            "--data-binary",
            "@body",
            "--cacert",
            "ca.pem",
            "--cert",
            "client.pem",
            "--key",
            "client.key",
        ]);
        curl.args([
            &format!("--tlsv{version}"),
            "--tls-max",
            version,
            "-w",
            "%{http_code}",
            "-o",
            "answer",
            &url,
        ]);
        let ran = ran(&mut curl).await;
        assert_eq!(ran.out, "200", "TLS {version}: {ran:?}");
    }
    assert_eq!(secured.forebay.settles().await.value("log_buffer_flushed_total"), 40);
}

/// Scenario: clients without a certificate, with one by somebody else, and with one that has expired. Guarantee: they
/// are turned away, counted and told of; who has a good one is served.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_good_certificate_is_turned_away() {
    let database = database().await;
    let secured = Secured::start(&database, &[&format!("{GRPC}.tls.client_ca_file=FILES/ca.pem")]).await;
    let (good, expired) = (secured.authority.client(), secured.authority.expired_client());
    let of_others = Authority::default().client();
    for (count, identity) in [(1, None), (2, Some(&of_others)), (3, Some(&expired))] {
        let client = Client::new(&secured.authority, identity);
        client.sender(secured.address()).send(numbered_request(0..1)).await.unwrap_err();
        eventually("it is counted", || async {
            (secured.turned_away("client_certificate").await == count).then_some(())
        })
        .await;
    }
    let message = says(&secured.forebay, "a client has no valid certificate").await;
    assert_eq!((&message["level"], &message["peer"]), (&"warn".into(), &"127.0.0.1".into()), "{message}");
    send(&Client::new(&secured.authority, Some(&good)).sender(secured.address()), 0..10).await;
    assert_eq!(secured.forebay.settles().await.value("log_buffer_flushed_total"), 10);
}

/// Scenario: a client that trusts another authority. Guarantee: it sends nothing, and the log says why.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_trust_the_server_sends_nothing() {
    let secured = Secured::start(&database().await, &[]).await;
    let error = Client::new(&Authority::default(), None).connect(secured.address()).await.unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    let message = says(&secured.forebay, "a TLS handshake failed").await;
    assert!(message["message"].as_str().unwrap().contains("UnknownCA"), "{message}");
    assert_eq!(secured.turned_away("handshake").await, 1);
    assert_eq!(secured.forebay.settles().await.value("log_buffer_received_total"), 0);
}

/// Scenario: a client that knows TLS 1.2 alone. Guarantee: it is served, unless `min_version` is 1.3.
#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_version_is_what_min_version_says() {
    let database = database().await;
    let secured = Secured::start(&database, &[]).await;
    send(&Client::old(&secured.authority, None).sender(secured.address()), 0..10).await;
    assert_eq!(secured.forebay.settles().await.value("log_buffer_flushed_total"), 10);
    secured.forebay.terminate().await;

    let secured = Secured::start(&database, &[&format!("{GRPC}.tls.min_version=1.3")]).await;
    let error = Client::old(&secured.authority, None).connect(secured.address()).await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    send(&secured.client().sender(secured.address()), 10..20).await;
    assert_eq!(secured.turned_away("handshake").await, 1);
    assert_eq!(secured.forebay.settles().await.value("log_buffer_flushed_total"), 10);
}

/// Scenario: plain text to a port with TLS, TLS to a port without. Guarantee: both are told what to change, in their
/// own language as far as there is one, and in the log; it takes one line a port, however many there are.
#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_the_wrong_language_is_told() {
    let database = database().await;
    let secured = Secured::start(&database, &[]).await;
    for _ in 0..20 {
        let status = secured.forebay.sender().await.send(numbered_request(0..1)).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains("https://"), "{status}");
    }
    let mut http1 = TcpStream::connect(secured.address()).await.unwrap();
    http1.write_all(b"GET / HTTP/1.1\r\nhost: forebay\r\n\r\n").await.unwrap();
    let mut answer = vec![0; 300];
    let read = http1.read(&mut answer).await.unwrap();
    assert!(String::from_utf8_lossy(&answer[..read]).contains("https://"));
    assert_eq!(secured.turned_away("plain_text").await, 21);
    let lines = said(&secured.forebay, "speaks plain text to a port with TLS");
    assert!(lines.len() == 1 && lines[0].contains("https://"), "{lines:#?}");

    let plain = Forebay::ready(database.dsn(), &[]).await;
    for _ in 0..20 {
        secured.client().connect(address(&plain)).await.unwrap_err();
    }
    assert_eq!(turned_away(&plain, "tls").await, 20);
    let lines = said(&plain, "speaks TLS to a port without");
    assert!(lines.len() == 1 && lines[0].contains("http://"), "{lines:#?}");
    send(&plain.sender().await, 0..10).await;
    assert_eq!(plain.settles().await.value("log_buffer_flushed_total"), 10);
}

/// Scenario: the files are replaced while connections live, by good ones, by a key that does not fit, by nothing, and by
/// good ones again. Guarantee: a connection keeps what it began with, new ones get the newest that can be used, and what
/// cannot be used is told of once, by the file.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_replaced_while_connections_live() {
    let database = database().await;
    let secured = Secured::start(&database, &[&format!("{GRPC}.tls.reload_interval=20ms")]).await;
    let (forebay, files) = (&secured.forebay, &secured.files);
    let before = secured.client().sender(secured.address());
    send(&before, 0..10).await;

    let newer = secured.authority.server();
    files.write_identity("server", &newer);
    shows(&secured, &newer).await;
    send(&before, 10..20).await;
    send(&secured.client().sender(secured.address()), 20..30).await;

    let other = secured.authority.server();
    files.write("server.key", &other.key);
    let message = says(forebay, "is not the key of the certificate").await;
    let error = message["error"].as_str().unwrap();
    assert!(error.contains("grpc.tls.key_file") && error.contains("server.pem"), "{message}");
    shows(&secured, &newer).await;
    std::fs::remove_file(files.path("server.pem")).unwrap();
    // It is the latest of repeats by now, which are told when their window is over; what counts is that it is served.
    shows(&secured, &newer).await;
    send(&before, 30..40).await;

    files.write_identity("server", &other);
    shows(&secured, &other).await;
    send(&before, 40..50).await;
    assert_eq!(said(forebay, "is not the key of the certificate").len(), 1, "told once");
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 50);
}

/// Scenario: the authority of a sender's certificate is taken out of `client_ca_file`, while the sender is connected.
/// Guarantee: its connection ends in an orderly way, it gets no other, and what it sent is stored.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_trusted_any_more_is_asked_to_go() {
    let database = database().await;
    let asks =
        [format!("{GRPC}.tls.reload_interval=20ms"), format!("{GRPC}.tls.client_ca_file=FILES/ca.pem")];
    let secured = Secured::start(&database, &asks.each_ref().map(String::as_str)).await;
    let client = Client::new(&secured.authority, Some(&secured.authority.client()));
    let sender = client.sender(secured.address());
    send(&sender, 0..10).await;
    secured.files.write("ca.pem", &Authority::default().pem);
    eventually("its connections are refused", || async {
        sender.send(numbered_request(0..0)).await.err().map(|_| ())
    })
    .await;
    assert_eq!(secured.forebay.settles().await.value("log_buffer_flushed_total"), 10);
}

/// Scenario: a certificate is replaced where nobody looks at the files, and forebay is sent SIGHUP. Guarantee: the new one
/// is in force, and nothing is said to need a restart.
#[tokio::test(flavor = "multi_thread")]
async fn sighup_takes_the_certificate_over() {
    let secured = Secured::start(&database().await, &[]).await;
    let newer = secured.authority.server();
    secured.files.write_identity("server", &newer);
    secured.forebay.signal("HUP").await;
    shows(&secured, &newer).await;
    assert_eq!(said(&secured.forebay, "need a restart"), [""; 0]);
}

/// Waits until a new connection is shown `identity`.
async fn shows(secured: &Secured, identity: &Identity) {
    let expected = {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()
    };
    eventually("new connections are shown the certificate", || async {
        let stream: io::Result<TlsStream<TcpStream>> = secured.client().connect(secured.address()).await;
        (Client::shown(&stream.unwrap()) == expected).then_some(())
    })
    .await;
}

/// Scenario: a thousand clients connect and never say a word. Guarantee: they keep nobody else from being served, each
/// counts as a connection, and the end does not wait for them.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_silent_handshakes_hold_nobody_up() {
    let database = database().await;
    let secured = Secured::start(&database, &[]).await;
    let mut silent = Vec::new();
    for _ in 0..1000 {
        silent.push(TcpStream::connect(secured.address()).await.unwrap());
    }
    for number in 0..10 {
        let sender = secured.client().sender(secured.address());
        let served = send(&sender, number * 10..number * 10 + 10);
        tokio::time::timeout(PATIENCE, served).await.expect("it waits for none of them");
    }
    assert_eq!(secured.forebay.settles().await.value("log_buffer_flushed_total"), 100);
    let (status, _) = secured.forebay.terminate().await;
    assert_eq!(status, Some(0));
    for mut stream in silent {
        assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)), "it was ended");
    }
}

/// Scenario: as many silent clients as there may be connections. Guarantee: they give way to one that speaks.
#[tokio::test(flavor = "multi_thread")]
async fn silent_handshakes_give_way_to_who_speaks() {
    let secured = Secured::start(&database().await, &[&format!("{GRPC}.max_connections=20")]).await;
    let mut silent = Vec::new();
    for _ in 0..60 {
        silent.push(TcpStream::connect(secured.address()).await.unwrap());
    }
    send(&secured.client().sender(secured.address()), 0..10).await;
    assert_eq!(secured.forebay.settles().await.value("log_buffer_flushed_total"), 10);
}

/// Scenario: both ports listen beyond loopback, without TLS and without knowing who sends. Guarantee: there is a warning
/// for each of both, by the keys to set; on loopback there is none.
#[tokio::test(flavor = "multi_thread")]
async fn who_listens_beyond_loopback_is_warned() {
    let database = database().await;
    let http = "receivers.otlp.protocols.http";
    let sets = [format!("{GRPC}.endpoint=0.0.0.0:0"), format!("{http}.endpoint=0.0.0.0:0")];
    let open = Forebay::ready(database.dsn(), &sets.each_ref().map(String::as_str)).await;
    for name in ["tls", "auth"] {
        let message = says(&open, &format!("`{GRPC}.{name}` (0.0.0.0:0) and `{http}.{name}`")).await;
        assert_eq!(message["level"], "warn", "{message}");
    }
    let closed = Forebay::ready(database.dsn(), &[]).await;
    assert_eq!(said(&closed, &format!("{GRPC}.")), [""; 0]);
}

/// Scenario: a certificate that has expired, at the start. Guarantee: forebay starts, and warns; `validate` does, too.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_a_warning() {
    let (files, authority) = (Files::default(), Authority::default());
    files.write_identity("server", &authority.expired_server());
    let set = |name: &str, file: &str| format!("{GRPC}.tls.{name}={}", files.path(file).display());
    let sets = [set("cert_file", "server.pem"), set("key_file", "server.key")];
    let sets: Vec<_> = sets.iter().map(String::as_str).collect();
    let validated = ran(command().arg("validate").args(sets.iter().flat_map(|set| ["--set", set]))).await;
    assert_eq!(validated.status, Some(0), "{validated:?}");
    assert!(validated.err.contains("warning") && validated.err.contains("2020-02-02"), "{validated:?}");
    let forebay = Forebay::start(database().await.dsn(), &sets).await;
    let message = says(&forebay, "has expired on 2020-02-02").await;
    assert_eq!(message["level"], "warn");
}

/// Scenario: OTLP/HTTP with TLS and a token, by HTTP/1.1, by HTTP/2, and in plain text. Guarantee: it is taken by either
/// protocol, which the handshake agrees on; without the token it is 401 with the way to send it; plain text is told.
#[tokio::test(flavor = "multi_thread")]
async fn http_is_secured_as_well() {
    let http = "receivers.otlp.protocols.http";
    let sets = [
        &format!("{http}.tls={{cert_file: FILES/server.pem, key_file: FILES/server.key}}"),
        "extensions.bearertokenauth.token=of-the-shop",
        "service.extensions=[health_check, bearertokenauth]",
        &format!("{http}.auth.authenticator=bearertokenauth"),
    ];
    let secured = Secured::start(&database().await, &sets).await;
    let address: SocketAddr = secured.forebay.http_address().parse().unwrap();
    let body = numbered_request(0..10).encode_to_vec();
    let post = |authorization: &str| {
        let head = "POST /v1/logs HTTP/1.1\r\nhost: forebay\r\nconnection: close\r\n\
                    content-type: application/x-protobuf\r\n";
        let head = format!("{head}content-length: {}\r\n{authorization}\r\n", body.len());
        [head.as_bytes(), &body].concat()
    };
    let client = secured.client().speaking("http/1.1");
    for (authorization, parts) in [
        ("authorization: Bearer of-the-shop\r\n", &["HTTP/1.1 200 "][..]),
        ("authorization: Bearer of-nobody\r\n", &["HTTP/1.1 401 ", "www-authenticate: Bearer realm="]),
        ("", &["HTTP/1.1 401 ", "www-authenticate: Bearer realm=", "OTEL_EXPORTER_OTLP_HEADERS"]),
    ] {
        let mut stream = client.connect(address).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let answer = exchange(&mut stream, &post(authorization)).await;
        assert!(parts.iter().all(|part| answer.contains(part)), "{authorization}: {answer}");
    }
    let mut plain = TcpStream::connect(address).await.unwrap();
    let answer = exchange(&mut plain, &post("")).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");

    let stream = secured.client().connect(address).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("https://localhost/v1/logs")
        .header("content-type", "application/x-protobuf")
        .header("authorization", "Bearer of-the-shop");
    let (answer, mut sent) = client.send_request(request.body(()).unwrap(), false).unwrap();
    sent.send_data(numbered_request(10..20).encode_to_vec().into(), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    let scrape = secured.forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), 20);
    for (reason, count) in [("wrong_credentials", 1), ("no_credentials", 1), ("plain_text", 1)] {
        let labels = format!("reason=\"{reason}\",transport=\"http\"");
        assert_eq!(scrape.sum("log_receiver_turned_away_total", &labels), count, "{reason}");
    }
}

/// Writes a request, and reads until the other end closes.
async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Scenario: a request of no bytes by TLS, compressed ones, and one over the limit. Guarantee: TLS changes no answer.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_inside_of_tls() {
    let secured = Secured::start(&database().await, &[&format!("{GRPC}.max_recv_msg_size_mib=1")]).await;
    let sender = secured.client().sender(secured.address());
    assert_eq!(sender.send_bytes(Bytes::new()).await.unwrap().partial_success, None);
    let status = sender.send_bytes(Bytes::from_static(b"not protobuf")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = sender.send_bytes(vec![0; (1 << 20) + 1].into()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    send(&sender, 0..2000).await;
    assert_eq!(secured.forebay.settles().await.value("log_buffer_flushed_total"), 2000);
}
