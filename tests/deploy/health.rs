//! `forebay health`, as containers and Kubernetes ask it, and `forebay --version`.

use ::forebay::embedded::Stop;
use support::eventually;
use support::forebay::{Forebay, Ran, command, ran};
use support::postgres::Postgres;

const NOWHERE: &str = "host=127.0.0.1 port=1 user=nobody";

/// Asks the forebay at `endpoint` whether it has an ability.
async fn asked(endpoint: &str, ability: &str) -> Ran {
    let mut command = command();
    command.env("DATABASE_URL", NOWHERE).args(["health", "--at-least", ability]);
    ran(command.arg("--set").arg(format!("extensions.health_check.endpoint={endpoint}"))).await
}

/// The exit status for each ability.
async fn statuses(endpoint: &str) -> [Option<i32>; 3] {
    let mut statuses = [None; 3];
    for (status, ability) in statuses.iter_mut().zip(["alive", "accepting", "ready"]) {
        *status = asked(endpoint, ability).await.status;
    }
    statuses
}

/// Scenario: forebay writes; its database goes away; it is stopped in its tracks; it is gone. Guarantee: the exit status
/// says for each step whether it is alive, takes records, writes them; what is said is the page.
#[tokio::test(flavor = "multi_thread")]
async fn each_step_has_its_status() {
    let mut postgres = Postgres::start().await;
    let forebay = Forebay::ready(postgres.database().await.dsn(), &[]).await;
    let endpoint = forebay.health_address().to_owned();
    assert_eq!(statuses(&endpoint).await, [Some(0); 3]);
    let everywhere = endpoint.replace("127.0.0.1", "0.0.0.0");
    let answer = asked(&everywhere, "ready").await;
    assert_eq!(answer.status, Some(0), "who listens everywhere is asked here: {answer:?}");
    assert_eq!(answer.json()[0]["status"], "Server available");

    postgres.stop(Stop::Fast).await;
    forebay.becomes_unready("database_unreachable").await;
    assert_eq!(statuses(&endpoint).await, [Some(0), Some(0), Some(1)]);
    let answer = asked(&endpoint, "ready").await;
    assert!(answer.err.starts_with(r#"forebay: {"status":"Server not available","reason":"#), "{answer:?}");

    forebay.signal("STOP").await;
    let status = format!("/proc/{}/status", forebay.pid());
    eventually("it stands still", || async {
        std::fs::read_to_string(&status).unwrap().contains("State:\tT").then_some(())
    })
    .await;
    let answer = asked(&endpoint, "alive").await;
    assert_eq!((answer.status, answer.err.contains("no answer in 3s")), (Some(1), true), "{answer:?}");
    forebay.signal("CONT").await;
    forebay.terminate().await;
    let answer = asked(&endpoint, "alive").await;
    assert_eq!(
        (answer.status, answer.err.contains("no forebay answers at 127.0.0.1:")),
        (Some(1), true),
        "{answer:?}"
    );
}

/// Scenario: the configuration has no health page. Guarantee: that is an error of the configuration.
#[tokio::test]
async fn without_a_page_there_is_nothing_to_ask() {
    let mut command = command();
    let answer = ran(command.args(["health", "--set", "service.extensions=[]"])).await;
    assert_eq!(answer.status, Some(2));
    assert!(answer.err.contains("service.extensions does not name health_check"), "{answer:?}");
}

/// Scenario: `--version` and `-V`. Guarantee: the commit and what is in it; the version alone.
#[tokio::test]
async fn the_version_names_the_commit() {
    let long = ran(command().arg("--version")).await.out;
    let commit = option_env!("FOREBAY_COMMIT").unwrap_or("unknown");
    let version = env!("CARGO_PKG_VERSION");
    assert!(long.starts_with(&format!("forebay {version}\ncommit:     {commit}\n")), "{long}");
    for part in ["otlp (grpc, http", "memory_limiter", "postgres", "bearertokenauth"] {
        assert!(long.contains(part), "{long}");
    }
    assert_eq!(ran(command().arg("-V")).await.out, format!("forebay {version}\n"));
}
