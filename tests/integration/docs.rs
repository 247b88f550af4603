//! What stands in docs/ is so: configurations are valid or refused as it says, commands run, and the reference of keys
//! is complete. docs/README.md has the conventions.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::forebay::{Forebay, QUICK, Ran, arguments, command, command_of, ran};
use support::postgres::{Database, database};
use support::records::numbered_request;
use tempfile::TempDir;
use tokio::process::Command;

use ::forebay::{app, config};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A fenced block of a page.
struct Block {
    /// Page and line.
    place: String,
    /// What stands behind the backticks.
    kind: String,
    text: String,
}

fn pages() -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(ROOT).join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|name| name == "md")).collect();
    pages.sort();
    pages
}

fn blocks(page: &Path) -> Vec<Block> {
    let text = fs::read_to_string(page).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(kind), None) => {
                let place = format!("{}:{}", page.display(), number + 1);
                open = Some(Block { place, kind: kind.to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a block is not closed", page.display());
    blocks
}

/// Sets the variables that `text` names.
fn name_variables(command: &mut Command, text: &str) {
    for name in text.split("${env:").skip(1).filter_map(|rest| rest.split(['}', ':']).next()) {
        command.env(name, "some-value");
    }
}

const SOMEWHERE: &str = "postgres://forebay@db.internal/logs";

async fn validate(dir: &Path, block: &Block, over_the_shipped: bool) -> Ran {
    let mut command = command();
    command.current_dir(dir).arg("validate");
    if over_the_shipped {
        command.args(["--config", &format!("{ROOT}/otel-config.yaml")]);
    }
    name_variables(&mut command, &block.text);
    ran(command.env("DATABASE_URL", SOMEWHERE).args(["--config", "forebay.yaml"])).await
}

/// The binary under test is the first `forebay` on the path.
async fn run(dir: &Path, block: &Block, dsn: &str) -> Ran {
    let binary = Path::new(env!("CARGO_BIN_EXE_forebay")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = command_of("bash");
    name_variables(&mut command, &block.text);
    let script = format!("set -euo pipefail\n{}", block.text);
    ran(command.current_dir(dir).env("PATH", path).env("DATABASE_URL", dsn).args(["-c", &script])).await
}

/// A store with some records.
async fn store() -> Database {
    let database = database().await;
    let forebay = Forebay::ready(database.dsn(), QUICK).await;
    forebay.sender().await.send(numbered_request(0..50)).await.unwrap();
    forebay.settles().await;
    forebay.terminate().await;
    database
}

/// Runs `block` on `database`.
async fn run_on(database: &Database, block: &Block) -> Ran {
    if block.kind == "sql store" {
        let answer = database.connect().await.batch_execute(&block.text).await;
        let err = answer.as_ref().err().map(|error| format!("{error:?}")).unwrap_or_default();
        return Ran { status: Some(i32::from(answer.is_err())), out: String::new(), err };
    }
    run(Path::new(ROOT), block, database.dsn()).await
}

/// Scenario: every block of every page. Guarantee: what docs/README.md says of its kind.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_pages_is_so() {
    let mut checked = BTreeMap::<String, usize>::new();
    let store = store().await;
    for page in pages() {
        let dir = TempDir::new().unwrap();
        let blocks = blocks(&page);
        for (index, block) in blocks.iter().enumerate() {
            let Block { place, kind, text } = block;
            if kind.starts_with("yaml") {
                fs::write(dir.path().join("forebay.yaml"), text).unwrap();
            }
            let done = match kind.as_str() {
                "yaml" => validate(dir.path(), block, false).await,
                "yaml partial" => validate(dir.path(), block, true).await,
                "yaml refused" => {
                    let refused = validate(dir.path(), block, false).await;
                    let said = blocks.get(index + 1).filter(|next| next.kind == "text");
                    let said = said.unwrap_or_else(|| panic!("{place}: there is no text block behind it"));
                    assert_eq!((refused.status, &refused.err), (Some(2), &said.text), "{place}");
                    Ran { status: Some(0), ..refused }
                }
                "sh run" => run(dir.path(), block, SOMEWHERE).await,
                "sql store" | "sh store" => run_on(&store, block).await,
                kind => {
                    let is_known = kind == "yaml unchecked"
                        || !(["yaml", "run", "store"].iter().any(|word| kind.contains(word)));
                    assert!(is_known, "{place}: docs/README.md has no such kind of block");
                    continue;
                }
            };
            assert_eq!(done.status, Some(0), "{place}: {}{}", done.out, done.err);
            *checked.entry(kind.clone()).or_default() += 1;
        }
    }
    for kind in ["yaml", "yaml partial", "yaml refused", "sh run", "sql store", "sh store"] {
        assert!(checked.contains_key(kind), "{kind}: {checked:?}");
    }
}

/// Scenario: the requests that stand in the pages, sent in their order to a forebay with the page's configuration.
/// Guarantee: they are answered as it says.
#[tokio::test(flavor = "multi_thread")]
async fn requests_in_the_pages_are_answered_as_they_say() {
    let mut answered = 0;
    for page in pages() {
        let dir = TempDir::new().unwrap();
        let blocks = blocks(&page);
        let Some(yaml) = blocks.iter().find(|block| block.kind == "yaml partial") else { continue };
        let asks: Vec<_> = blocks.windows(2).filter(|pair| pair[0].kind == "sh answered").collect();
        if asks.is_empty() {
            continue;
        }
        fs::write(dir.path().join("forebay.yaml"), &yaml.text).unwrap();
        let mut forebay = command();
        forebay.current_dir(dir.path()).args(["--config", &format!("{ROOT}/otel-config.yaml")]);
        forebay.args(["--config", "forebay.yaml"]).args(arguments(&[]));
        let forebay = Forebay::spawn(forebay).await;
        for [ask, answer] in asks.into_iter().map(|pair| [&pair[0], &pair[1]]) {
            let script = ask.text.replace("127.0.0.1:4318", forebay.http_address());
            let found = ran(command_of("bash").args(["-euc", &script])).await;
            assert_eq!((found.out, answer.kind.as_str()), (answer.text.clone(), "text"), "{}", ask.place);
            answered += 1;
        }
    }
    assert!(answered >= 3, "{answered} are answered");
}

/// The rows of the tables in configuring.md: the whole path of each key, with its default and when it takes effect.
fn rows() -> BTreeMap<String, (String, String)> {
    let page = fs::read_to_string(format!("{ROOT}/docs/configuring.md")).unwrap();
    let in_backticks = |text: &str| text.split('`').nth(1).map(str::to_owned);
    let mut section = None;
    let mut rows = BTreeMap::new();
    for line in page.lines() {
        if line.starts_with('#') {
            section = in_backticks(line);
        }
        let cells: Vec<_> = line.split(" | ").collect();
        if let (Some(section), [key, default, .., effect]) = (&section, &cells[..])
            && let (Some(key), Some(default)) = (in_backticks(key), in_backticks(default))
        {
            let effect = effect.trim_end_matches([' ', '|']).to_owned();
            assert_eq!(
                rows.insert(format!("{section}.{key}"), (default, effect)),
                None,
                "{section}.{key} twice"
            );
        }
    }
    rows
}

/// Every key of `value` with its value as configuring.md writes it.
fn keys(value: &Value, path: &str, keys_: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let dot = if path.is_empty() { "" } else { "." };
                keys(value, &format!("{path}{dot}{key}"), keys_);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().for_each(|item| keys(item, &format!("{path}[]"), keys_));
        }
        Value::String(text) => drop(keys_.insert(path.to_owned(), text.clone())),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| item.as_str().unwrap()).collect();
            keys_.insert(path.to_owned(), format!("[{}]", items.join(", ")));
        }
        other => drop(keys_.insert(path.to_owned(), other.to_string())),
    }
}

/// Settings that bring keys to light which are not there by themselves.
const PARTS: &[&[&str]] = &[
    &[
        "processors.memory_limiter={limit_mib: 512}",
        "service.pipelines.logs.processors=[memory_limiter, batch]",
        "service.telemetry.metrics.readers=[{pull: }, {periodic: }]",
    ],
    &["receivers.otlp.protocols.grpc.tls={cert_file: a, key_file: a, client_ca_file: a}"],
    &["receivers.otlp.protocols.grpc.tls={cert_pem: a, key_pem: a, client_ca_pem: a}"],
    &[
        "receivers.otlp.protocols.grpc.auth.authenticator=bearertokenauth",
        "extensions={bearertokenauth: {token: a}, basicauth: {htpasswd: {file: a, inline: 'a:b'}}}",
        "service.extensions=[bearertokenauth, basicauth]",
    ],
    &["receivers.otlp.sender_attribute=a"],
    &["extensions.bearertokenauth={tokens: [a]}", "service.extensions=[bearertokenauth]"],
    &["extensions.bearertokenauth={filename: a}", "service.extensions=[bearertokenauth]"],
];

/// The defaults of what is set there.
const DEFAULTS: &[(&str, &str)] = &[
    ("processors.memory_limiter.limit_mib", "0"),
    ("service.extensions", "[health_check, file_storage]"),
    ("exporters.postgres.sending_queue.storage", "null"),
    ("service.pipelines.logs.processors", "[batch]"),
    ("receivers.otlp.protocols.grpc.tls.cert_file", "null"),
    ("receivers.otlp.protocols.grpc.tls.cert_pem", "null"),
    ("receivers.otlp.protocols.grpc.tls.key_file", "null"),
    ("receivers.otlp.protocols.grpc.tls.key_pem", "null"),
    ("receivers.otlp.protocols.grpc.tls.client_ca_file", "null"),
    ("receivers.otlp.protocols.grpc.tls.client_ca_pem", "null"),
    ("receivers.otlp.protocols.grpc.auth.authenticator", "null"),
    ("receivers.otlp.sender_attribute", "null"),
    ("extensions.bearertokenauth.token", "null"),
    ("extensions.bearertokenauth.tokens", "null"),
    ("extensions.bearertokenauth.filename", "null"),
    ("extensions.basicauth.htpasswd.file", "null"),
    ("extensions.basicauth.htpasswd.inline", "null"),
];

/// Scenario: the tables in docs/configuring.md beside the configuration with all its parts. Guarantee: each key has its
/// row, with its default and with when it takes effect, and there is no other row.
#[test]
fn the_reference_of_keys_is_complete() {
    let mut expected = BTreeMap::new();
    for parts in PARTS {
        let parts: Vec<_> = parts.iter().map(|&set| set.to_owned()).collect();
        let config = config::load_with(&[], &parts, &|_| None).unwrap();
        keys(&config.tree(), "", &mut expected);
    }
    for (path, default) in DEFAULTS {
        assert!(expected.insert((*path).to_owned(), (*default).to_owned()).is_some(), "{path} is a key");
    }
    let effect = |path: &str| if app::is_live(path) { "at once" } else { "restart" };
    let expected: BTreeMap<_, _> = expected
        .into_iter()
        .map(|(path, default)| {
            let effect = effect(&path).to_owned();
            (path, (default, effect))
        })
        .collect();
    let rows = rows();
    for (path, row) in &expected {
        assert_eq!(rows.get(path), Some(row), "{path} in docs/configuring.md, with its default and effect");
    }
    let unknown: Vec<_> = rows.keys().filter(|path| !expected.contains_key(*path)).collect();
    assert!(unknown.is_empty(), "docs/configuring.md has rows for {unknown:?}, which are no keys");
}
