//! docs/existing-tables.md, followed: the table `structured_log_entries` of ContextForge, fed by a Python application's
//! named logger.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use support::forebay::{Forebay, arguments, command, ran, run};
use support::postgres::database;
use tempfile::TempDir;
use tokio::process::Command;
use tokio_postgres::Client;

const PAGE: &str = include_str!("../../docs/existing-tables.md");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The page's block of this kind; there is one.
fn block(kind: &str) -> &'static str {
    let begin = format!("```{kind}\n");
    let mut blocks = PAGE.split(begin.as_str()).skip(1);
    let (block, _) = blocks.next().and_then(|rest| rest.split_once("```")).unwrap();
    assert!(blocks.next().is_none(), "{kind}");
    block
}

/// Runs a program of tests/sdk/python; gives what it prints.
async fn python(program: &str, endpoint: &str) -> String {
    let mut command = Command::new(Path::new(ROOT).join("target/python/bin/python"));
    command.arg(Path::new(ROOT).join("tests/sdk/python").join(program)).stdin(Stdio::null());
    let ran =
        ran(command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env_remove("OTEL_RESOURCE_ATTRIBUTES"))
            .await;
    assert_eq!(ran.status, Some(0), "{ran:?}");
    ran.out
}

/// The rows as JSON, the oldest first.
async fn entries(client: &Client) -> Vec<Value> {
    let rows = "SELECT to_json(entry)::text FROM structured_log_entries entry ORDER BY timestamp, id";
    let rows = client.query(rows, &[]).await.unwrap();
    rows.iter().map(|row| serde_json::from_str(row.get(0)).unwrap()).collect()
}

/// A row of which only `columns` are not as for a record of nothing but a message.
fn entry(said: &Value, columns: Value) -> Value {
    let mut entry = json!({
        "correlation_id": null, "request_id": null, "level": "INFO", "component": "app", "message": null,
        "logger": "mcpgateway.structured", "user_id": null, "user_email": null, "client_ip": null, "user_agent": null,
        "request_path": null, "request_method": null, "duration_ms": null, "operation_type": null,
        "is_security_event": false, "security_severity": null, "threat_indicators": null, "context": null,
        "error_details": null, "performance_metrics": null, "hostname": said["host"], "process_id": said["process"],
        "thread_id": said["thread"], "version": "1.4.2", "environment": "production", "trace_id": null, "span_id": null,
    });
    for (name, value) in columns.as_object().unwrap() {
        assert!(entry.as_object_mut().unwrap().insert(name.clone(), value.clone()).is_some(), "{name}");
    }
    entry
}

/// Scenario: the page's table, mapping and program, and one record of each kind by the same handler. Guarantee: every
/// column of every row is what the page says.
#[tokio::test(flavor = "multi_thread")]
async fn a_python_application_fills_its_structured_log_entries() {
    let database = database().await;
    let client = database.connect().await;
    client.batch_execute(block("sql")).await.unwrap();
    let proposed = run(database.dsn(), "mapping public.structured_log_entries", &[]).await.out;
    for line in [
        "        id: {generate: uuid, type: varchar(36)}\n",
        "        context: {attributes: rest, type: json}\n",
    ] {
        assert!(
            proposed.contains(line) && block("yaml partial").contains(line),
            "{line} is not in:\n{proposed}"
        );
    }
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("forebay.yaml");
    std::fs::write(&file, block("yaml partial")).unwrap();
    let mut start = command();
    start.env("DATABASE_URL", database.dsn()).args([
        "--config",
        &format!("{ROOT}/otel-config.yaml"),
        "--config",
    ]);
    let forebay = Forebay::spawn({
        start.arg(&file).args(arguments(&[]));
        start
    })
    .await;
    forebay.becomes_ready().await;
    let said: Value = serde_json::from_str(&python("contextforge.py", &forebay.endpoint()).await).unwrap();
    let scrape = forebay.settles().await;
    assert_eq!(scrape.value("log_buffer_flushed_total"), 6);
    let mut found = entries(&client).await;
    let mut ids = Vec::new();
    for row in &mut found {
        let row = row.as_object_mut().unwrap();
        ids.push(row.remove("id").unwrap().as_str().unwrap().to_owned());
        let age = "SELECT now() - $1::text::timestamptz BETWEEN interval '-1 s' AND interval '1 minute'";
        let time = row.remove("timestamp").unwrap();
        assert!(client.query_one(age, &[&time.as_str()]).await.unwrap().get::<_, bool>(0), "{time}");
    }
    assert!(ids.iter().all(|id| id.len() == 36) && ids.is_sorted(), "{ids:?}");
    let path: String = std::iter::once('/').chain(std::iter::repeat_n('é', 499)).collect();
    let expected = [
        json!({
            "correlation_id": "c-1", "request_id": "r-1", "level": "WARNING", "component": "tool_service",
            "message": "tool was slow", "user_id": "u-17", "user_email": "user@example.com",
            "client_ip": "2001:db8::17", "user_agent": "curl/8.5", "request_path": "/tools/search",
            "request_method": "POST", "duration_ms": 1250.5, "operation_type": "tool_invocation",
            "is_security_event": true, "security_severity": "LOW",
            "threat_indicators": {"score": 0.25, "kinds": ["rate"]}, "context": {"tool": "search", "tags": ["a", "b"]},
            "error_details": {"error_type": "TimeoutError", "error_message": "no answer",
                "error_stack_trace": "line 1\nline 2", "error_context": {"tool": {"name": "search"}}},
            "performance_metrics": {"database_query_count": 3, "cache_hits": 2, "cache_misses": 1,
                "external_api_calls": 4, "memory_usage_mb": 12.5, "cpu_usage_percent": 7, "query_duration_ms": 20.25},
        }),
        json!({"message": "nothing but a message"}),
        json!({"level": "CRITICAL", "message": "x".repeat(3000), "component": "ü".repeat(100), "request_path": path,
            "request_method": "PROPPATCH-"}),
        json!({"level": "ERROR", "message": "odd values", "duration_ms": 12.5, "is_security_event": true, "user_id": "17"}),
        json!({"level": "DEBUG", "message": "unfit values", "client_ip": "1".repeat(45)}),
        json!({"level": "CRITICAL", "message": "in a span", "trace_id": format!("{:032x}", 0xa1b2),
            "span_id": format!("{:016x}", 0xc3d4)}),
    ];
    let expected: Vec<_> = expected.into_iter().map(|columns| entry(&said, columns)).collect();
    assert_eq!(found, expected);
    for (kind, count) in [("width", 4), ("type", 2), ("number", 0)] {
        assert_eq!(
            scrape.sum("log_buffer_replaced_values_total", &format!("kind=\"{kind}\"")),
            count,
            "{kind}"
        );
    }
    python("structured.py", &forebay.endpoint()).await;
    forebay.settles().await;
    let row = "| WARNING | tool_service | tool was slow | mcpgateway.tools | u-17 | 1250.5 | `{\"tool\":\"search\"}` |";
    assert!(PAGE.contains(row));
    let shown = "SELECT concat_ws(' | ', '', level, component, message, logger, user_id, duration_ms, \
                 format('`%s` |', context)) FROM structured_log_entries ORDER BY timestamp DESC LIMIT 1";
    assert_eq!(client.query_one(shown, &[]).await.unwrap().get::<_, String>(0).trim(), row);
    let doctor = ran(command()
        .env("DATABASE_URL", database.dsn())
        .args(["doctor", "--config"])
        .arg(format!("{ROOT}/otel-config.yaml"))
        .arg("--config")
        .arg(&file))
    .await;
    assert_eq!(doctor.status, Some(0), "{doctor:?}");
}
