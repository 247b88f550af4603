//! What docs/securing.md says is done as it stands there: its commands, its configuration, its senders.

use std::path::Path;

use support::forebay::{Forebay, arguments, command, ran};
use support::postgres::database;
use tempfile::TempDir;
use tokio::process::Command;

const PAGE: &str = include_str!("../../docs/securing.md");

/// The blocks of a language in the section called `title`, whatever docs.rs does with them.
fn blocks(title: &str, language: &str) -> Vec<String> {
    let section = PAGE.split("\n## ").find(|section| section.starts_with(&format!("{title}\n")));
    let fenced = section.expect("the section").split("\n```");
    let of_language = |block: &str| {
        let (first, text) = block.split_once('\n')?;
        (first.split(' ').next() == Some(language)).then(|| text.to_owned() + "\n")
    };
    fenced.filter_map(of_language).collect()
}

/// The official Python SDK, with what the shell knows after `script`, sends to `port`.
async fn sends(dir: &Path, script: &str, port: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (python, program) = (root.join("target/python/bin/python"), root.join("tests/sdk/python/secured.py"));
    let script = script.replace(":4317", &format!(":{port}"));
    let script = format!("{script}\nexec {} {}", python.display(), program.display());
    ran(Command::new("sh").current_dir(dir).args(["-ec", &script])).await.out.trim().to_owned()
}

/// Does what these sections say. Guarantee: a sender that does so is taken; one that leaves out the last section is not.
async fn follow(sections: &[&str]) {
    let (dir, database) = (TempDir::new().unwrap(), database().await);
    let lines = sections.iter().flat_map(|title| blocks(title, "sh")).collect::<String>();
    let (exports, makes): (Vec<_>, Vec<_>) = lines.lines().partition(|line| line.starts_with("export "));
    let made = ran(Command::new("sh").current_dir(dir.path()).args(["-ec", &makes.join("\n")])).await;
    assert_eq!(made.status, Some(0), "{made:?}");
    let mut forebay = command();
    forebay.current_dir(dir.path()).env("DATABASE_URL", database.dsn());
    forebay.args(["--config", concat!(env!("CARGO_MANIFEST_DIR"), "/otel-config.yaml")]);
    for (index, yaml) in sections.iter().flat_map(|title| blocks(title, "yaml")).enumerate() {
        let name = format!("{index}.yaml");
        std::fs::write(dir.path().join(&name), yaml).unwrap();
        forebay.args(["--config", &name]);
    }
    if let Some(senders) = exports.iter().find_map(|line| line.strip_prefix("export SENDERS=")) {
        forebay.env("SENDERS", senders.trim_matches('"'));
    }
    forebay.args(arguments(&[]));
    let forebay = Forebay::spawn(forebay).await;
    forebay.becomes_ready().await;
    let endpoint = forebay.endpoint();
    let port = endpoint.rsplit(':').next().unwrap();
    assert_eq!(sends(dir.path(), &exports.join("\n"), port).await, "{'SUCCESS': 10}");
    let (_, less) = exports.split_last().unwrap();
    assert_eq!(sends(dir.path(), &less.join("\n"), port).await, "{'FAILURE': 10}");
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), 10);
    assert_eq!(scrape.sum("log_receiver_turned_away_total", "no_credentials"), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_certificates_and_tokens() {
    follow(&["TLS", "Certificates of senders", "Tokens"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_passwords() {
    follow(&["TLS", "Names and passwords"]).await;
}
