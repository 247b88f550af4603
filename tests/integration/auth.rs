//! Who may send: tokens and passwords, how they change, and what happens to all others.

use std::ops::Range;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use prost::Message;
use support::authority::Files;
use support::forebay::{Forebay, command, ran};
use support::http;
use support::metrics::Scrape;
use support::postgres::{Database, database};
use support::records::{numbered_request, pair, text};
use support::sender::{Sender, retry_delay};
use support::{PATIENCE, eventually};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::metadata::MetadataValue;

use crate::tls::python;

const GRPC: &str = "receivers.otlp.protocols.grpc";
/// What nothing may show.
const SECRET: &str = "hunter2";

/// Starts forebay with an extension that knows who may send.
async fn guarded(database: &Database, name: &str, sets: &[String]) -> Forebay {
    let own =
        [format!("service.extensions=[health_check, {name}]"), format!("{GRPC}.auth.authenticator={name}")];
    let sets: Vec<_> = own.iter().chain(sets).map(String::as_str).collect();
    Forebay::ready(database.dsn(), &sets).await
}

/// `authorization` of a name and a password.
fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}")))
}

/// A line as `htpasswd -B` makes it.
fn hashed(name: &str, password: &str) -> String {
    format!("{name}:{}\n", bcrypt::hash(password, 6).unwrap().replace("$2b$", "$2y$"))
}

/// The code of the answer to a request with these records, and the header `authorization`.
async fn code(sender: &Sender, authorization: &str, numbers: Range<u64>) -> Code {
    let sent = send(sender, authorization, numbers).await;
    sent.map_or_else(|status| status.code(), |()| Code::Ok)
}

async fn send(sender: &Sender, authorization: &str, numbers: Range<u64>) -> Result<(), tonic::Status> {
    let request = Bytes::from(numbered_request(numbers).encode_to_vec());
    let value = (!authorization.is_empty()).then(|| MetadataValue::try_from(authorization).unwrap());
    sender.send_as(value, request).await.map(|response| assert_eq!(response.partial_success, None))
}

fn turned_away(scrape: &Scrape, reason: &str) -> u64 {
    scrape.sum("log_receiver_turned_away_total", &format!("reason=\"{reason}\",transport=\"grpc\""))
}

/// Scenario: a token that is known, some that are not, and none, among them requests that are large. Guarantee: only who
/// has the token is taken; the others are told what to send and not to come again, are counted by reason, and their
/// records are not even counted. No secret is in the log.
#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_a_token_is_taken() {
    let database = database().await;
    let tokens = [format!("extensions.bearertokenauth.tokens=[first, {SECRET}]")];
    let forebay = guarded(&database, "bearertokenauth", &tokens).await;
    let sender = forebay.sender().await;
    assert_eq!(code(&sender, &format!("Bearer {SECRET}"), 0..10).await, Code::Ok);
    assert_eq!(code(&sender, "Bearer first", 10..20).await, Code::Ok);
    for authorization in ["Bearer second", "Bearer hunter", "Basic aHVudGVyMg==", "hunter2-not-quite"] {
        let status = send(&sender, authorization, 20..10_000).await.unwrap_err();
        assert_eq!((status.code(), retry_delay(&status)), (Code::Unauthenticated, None), "{authorization}");
        assert!(status.message().contains("Bearer TOKEN"), "{status}");
    }
    let status = send(&sender, "", 20..30).await.unwrap_err();
    assert_eq!((status.code(), retry_delay(&status)), (Code::Unauthenticated, None));
    assert!(status.message().contains("OTEL_EXPORTER_OTLP_HEADERS"), "{status}");
    let scrape = forebay.settles().await;
    assert_eq!((turned_away(&scrape, "wrong_credentials"), turned_away(&scrape, "no_credentials")), (4, 1));
    assert_eq!(
        (scrape.value("log_buffer_received_total"), scrape.value("log_buffer_flushed_total")),
        (20, 20)
    );
    let said = forebay.said().join("\n");
    assert!(said.contains("the token is not known") && !said.contains(SECRET), "{said}");
}

/// Scenario: the official Python SDK with a token in its headers, and with a wrong one. Guarantee: the one is taken; the
/// other is told at once that it is not, and does not send again.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_sdk_with_a_token() {
    let tokens = ["extensions.bearertokenauth.token=of-the-shop".to_owned()];
    let forebay = guarded(&database().await, "bearertokenauth", &tokens).await;
    for (token, results) in [("of-the-shop", "{'SUCCESS': 10}"), ("of-nobody", "{'FAILURE': 10}")] {
        let ran = python(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", forebay.endpoint()),
            ("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer%20{token}")),
        ])
        .await;
        assert_eq!(ran.out.trim(), results, "{ran:?}");
    }
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), 10);
    assert_eq!(turned_away(&scrape, "wrong_credentials"), 10, "each was sent once");
}

/// Scenario: the file of tokens is replaced while senders are connected, is broken, is deleted, comes back, and is emptied.
/// Guarantee: the tokens are those of the latest file that could be used, with no restart; without one nobody may send.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_change_with_their_file() {
    let files = Files::default();
    let path = files.write("tokens", "old\n");
    let file = [format!("extensions.bearertokenauth/file.filename={path}")];
    let forebay = guarded(&database().await, "bearertokenauth/file", &file).await;
    let sender = forebay.sender().await;
    assert_eq!(code(&sender, "Bearer old", 0..10).await, Code::Ok);
    files.write("tokens", "old\n\nnew\n");
    becomes(&sender, "Bearer new", Code::Ok).await;
    assert_eq!(code(&sender, "Bearer old", 10..20).await, Code::Ok, "both, while senders change");
    files.write("tokens", "new\n");
    becomes(&sender, "Bearer old", Code::Unauthenticated).await;
    files.write("tokens", "new\n\u{e9}\n");
    says(&forebay, &["cannot be used", &path]).await;
    assert_eq!(code(&sender, "Bearer new", 20..30).await, Code::Ok);
    std::fs::remove_file(&path).unwrap();
    becomes(&sender, "Bearer new", Code::Unauthenticated).await;
    says(&forebay, &["the token file is empty or missing", &path]).await;
    files.write("tokens", "newest\n");
    becomes(&sender, "Bearer newest", Code::Ok).await;
    assert_eq!(code(&sender, "Bearer new", 30..40).await, Code::Unauthenticated);
    files.write("tokens", "");
    becomes(&sender, "Bearer newest", Code::Unauthenticated).await;
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 30);
}

/// Waits until a line of the log has all these parts.
async fn says(forebay: &Forebay, parts: &[&str]) {
    eventually("it is told", || async {
        let said = forebay.said();
        said.iter().any(|line| parts.iter().all(|part| line.contains(part))).then_some(())
    })
    .await;
}

/// Waits until a request without records is answered so.
async fn becomes(sender: &Sender, authorization: &str, expected: Code) {
    let what = format!("{authorization} is {expected:?}");
    eventually(&what, || async { (code(sender, authorization, 0..0).await == expected).then_some(()) }).await;
}

/// Scenario: names and passwords, hashed in a file, plain in the configuration. Guarantee: only who has both is taken,
/// and a password that is changed in the file is the one that counts.
#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_name_and_password_is_taken() {
    let files = Files::default();
    let path = files.write("passwords", &(hashed("shop", "secret") + &hashed("pay", "other")));
    let passwords = [
        format!("extensions.basicauth.htpasswd.file={path}"),
        format!("extensions.basicauth.htpasswd.inline='from-text:{SECRET}'"),
    ];
    let forebay = guarded(&database().await, "basicauth", &passwords).await;
    let sender = forebay.sender().await;
    for (name, password, expected) in [
        ("shop", "secret", Code::Ok),
        ("pay", "other", Code::Ok),
        ("from-text", SECRET, Code::Ok),
        ("shop", "other", Code::Unauthenticated),
        ("nobody", "secret", Code::Unauthenticated),
        ("", "", Code::Unauthenticated),
    ] {
        for _ in 0..2 {
            assert_eq!(code(&sender, &basic(name, password), 0..10).await, expected, "{name}:{password}");
        }
    }
    assert_eq!(code(&sender, "", 0..10).await, Code::Unauthenticated);
    files.write("passwords", &hashed("shop", "newer"));
    becomes(&sender, &basic("shop", "secret"), Code::Unauthenticated).await;
    assert_eq!(code(&sender, &basic("shop", "newer"), 0..10).await, Code::Ok);
    assert_eq!(code(&sender, &basic("pay", "other"), 0..10).await, Code::Unauthenticated);
    assert_eq!(forebay.settles().await.value("log_buffer_flushed_total"), 70);
    assert!(!forebay.said().join("\n").contains(SECRET));
}

/// Scenario: guesses at the passwords of two names, each another one, as fast as they go, while the sender of one sends, and
/// that of the other comes for the first time, from the same address. Guarantee: the known one is never held up; the new one
/// is taken while the guessing goes on; a guess is refused or sent back; it takes a few lines of the log.
#[tokio::test(flavor = "multi_thread")]
async fn guesses_hold_up_nobody_who_is_known() {
    let files = Files::default();
    let slow = |name: &str| format!("{name}:{}\n", bcrypt::hash("secret", 5).unwrap());
    let path = files.write("passwords", &(slow("shop") + &slow("pay")));
    let passwords = [format!("extensions.basicauth.htpasswd.file={path}")];
    let forebay = guarded(&database().await, "basicauth", &passwords).await;
    let sender = forebay.sender().await;
    assert_eq!(code(&sender, &basic("shop", "secret"), 0..10).await, Code::Ok);
    let mut guessers = JoinSet::new();
    for guesser in 0..100 {
        let sender = sender.clone();
        guessers.spawn(async move {
            for number in 0.. {
                let name = ["shop", "pay"][number % 2];
                let guess = basic(name, &format!("{guesser} {number}"));
                let code = code(&sender, &guess, 0..10).await;
                assert!(matches!(code, Code::Unauthenticated | Code::Unavailable), "{code:?}");
                // The whole of it is some thousand guesses a second.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    for number in 1..100 {
        let right = basic("shop", "secret");
        let known = code(&sender, &right, number * 10..number * 10 + 10);
        let answered = tokio::time::timeout(PATIENCE, known).await;
        assert_eq!(answered.expect("it does not wait for a guess to be verified"), Code::Ok);
    }
    let new = forebay.sender().await;
    becomes(&new, &basic("pay", "secret"), Code::Ok).await;
    assert!(guessers.try_join_next().is_none(), "the guessing goes on");
    guessers.shutdown().await;
    let scrape = forebay.settles().await;
    assert!(turned_away(&scrape, "verifier_busy") > 0, "guesses are shed");
    assert_eq!(scrape.value("log_buffer_flushed_total"), 1000);
    let lines = forebay.said().iter().filter(|line| line.contains("verified")).count();
    assert!(lines <= 3, "{lines} lines");
}

/// Scenario: `sender_attribute`, senders with tokens and with passwords, one of which claims to be another. Guarantee: each
/// record's resource says who has sent it, whatever else it says of itself.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_says_who_has_sent_it() {
    let database = database().await;
    let sets = [
        "service.extensions=[health_check, basicauth, bearertokenauth]".to_owned(),
        format!("{GRPC}.auth.authenticator=basicauth"),
        "receivers.otlp.protocols.http.auth.authenticator=bearertokenauth".to_owned(),
        "receivers.otlp.sender_attribute=forebay.sender".to_owned(),
        format!("extensions.basicauth.htpasswd.inline='shop:{SECRET}'"),
        "extensions.bearertokenauth.token=token".to_owned(),
    ];
    let forebay = Forebay::ready(database.dsn(), &sets.each_ref().map(String::as_str)).await;
    let sender = forebay.sender().await;
    assert_eq!(code(&sender, &basic("shop", SECRET), 0..10).await, Code::Ok);
    let mut claims = numbered_request(10..20);
    let resource = claims.resource_logs[0].resource.as_mut().unwrap();
    resource.attributes.push(pair("forebay.sender", text("pay")));
    let authorization = MetadataValue::try_from(basic("shop", SECRET)).unwrap();
    sender.send_as(Some(authorization), claims.encode_to_vec().into()).await.unwrap();
    let url = format!("http://{}/v1/logs", forebay.http_address());
    let headers = [("content-type", "application/x-protobuf"), ("authorization", "Bearer token")];
    let reply = http::send("POST", &url, &headers, numbered_request(20..30).encode_to_vec()).await;
    assert_eq!(reply.status, 200);
    forebay.settles().await;
    let senders =
        "SELECT resource->>'forebay.sender' AS sender, count(*) FROM otel.logs GROUP BY 1 ORDER BY 1";
    let rows = database.connect().await.query(senders, &[]).await.unwrap();
    let senders: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    // printf %s token | sha256sum | cut -c 1-8
    assert_eq!(senders, [("shop".to_owned(), 20), ("token:3c469e9d".to_owned(), 10)]);
}

/// Scenario: names of extensions that are not there, and secrets in wrong places. Guarantee: each is refused by its key
/// before anything is begun, with the cure, and no secret is shown.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_go_together_is_refused_without_its_secret() {
    let authenticator = format!("{GRPC}.auth.authenticator");
    for (sets, parts) in [
        (
            vec![format!("{authenticator}=bearertokenauth")],
            vec![authenticator.as_str(), "service.extensions"],
        ),
        (
            vec![
                format!("extensions.bearertokenauth.token={SECRET}"),
                format!("{authenticator}=bearertokenauth"),
            ],
            vec![&authenticator, "service.extensions"],
        ),
        (
            vec!["service.extensions=[basicauth/x]".to_owned()],
            vec!["service.extensions: basicauth/x is not defined", "`basicauth/x:`"],
        ),
        (
            vec![format!("extensions.bearertokenauth={SECRET}")],
            vec!["bearertokenauth: found text, expected a map"],
        ),
        (
            vec![format!("extensions.bearertokenauth.tokens={SECRET}")],
            vec!["bearertokenauth.tokens: found text, expected a list"],
        ),
        (
            vec![format!("extensions.basicauth.htpasswd='a:{SECRET}'")],
            vec!["basicauth.htpasswd: found text, expected a map"],
        ),
        (
            vec![
                format!("extensions.basicauth.htpasswd.inline='a:$1${SECRET}'"),
                "service.extensions=[basicauth]".to_owned(),
            ],
            vec!["extensions.basicauth.htpasswd.inline: line 1 holds a hash that is not bcrypt's"],
        ),
        (
            vec![
                "extensions.bearertokenauth.filename=/nowhere".to_owned(),
                "service.extensions=[bearertokenauth]".to_owned(),
            ],
            vec!["extensions.bearertokenauth.filename: cannot read /nowhere"],
        ),
    ] {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let empty = TempDir::new().unwrap();
        let refused = ran(command().current_dir(empty.path()).arg("validate").args(sets)).await;
        assert_eq!(refused.status, Some(2), "{refused:?}");
        for part in parts {
            assert!(refused.err.contains(part), "{part} is not in {refused:?}");
        }
        assert!(!refused.err.contains(SECRET), "{refused:?}");
    }
}
