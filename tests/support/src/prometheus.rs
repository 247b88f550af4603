//! A real Prometheus for a test: it scrapes and evaluates twice a second.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::forebay::get;
use crate::{eventually, free_port};

/// A Prometheus process. It is killed when it is dropped.
pub struct Prometheus {
    api: String,
    _server: Child,
    _dir: TempDir,
}

impl Prometheus {
    /// One that scrapes `target` as the job `forebay` and evaluates the `rules`.
    pub async fn of(target: &str, rules: &[&Path]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = serde_json::json!({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": rules,
            "scrape_configs": [{"job_name": "forebay", "static_configs": [{"targets": [target]}]}],
        });
        std::fs::write(dir.path().join("prometheus.yml"), config.to_string()).unwrap();
        let port = free_port();
        let server = Command::new("prometheus")
            .current_dir(dir.path())
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("prometheus is installed, which ./dev test does");
        let place = format!("http://127.0.0.1:{port}");
        eventually("Prometheus is ready", || async {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
            (get(&format!("{place}/-/ready")).await.0 == 200).then_some(())
        })
        .await;
        Self { api: format!("{place}/api/v1"), _server: server, _dir: dir }
    }

    /// What an instant query gives: its series, each with its last value. An error is the test's failure.
    pub async fn series(&self, query: &str) -> Vec<Value> {
        let answer = self.ask(&format!("query?query={}", encoded(query))).await;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// What a query gives from `start` to `end`, in seconds since 1970: its series, each with its values.
    pub async fn range(&self, query: &str, start: f64, end: f64, step: f64) -> Vec<Value> {
        let path =
            format!("query_range?query={}&start={start:.3}&end={end:.3}&step={step:.3}", encoded(query));
        let answer = self.ask(&path).await;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }

    /// The value of an instant query with one result.
    pub async fn value(&self, query: &str) -> Option<f64> {
        self.series(query).await.first()?["value"][1].as_str()?.parse().ok()
    }

    /// The answer of the API to what stands behind `/api/v1/`.
    pub async fn ask(&self, path: &str) -> Value {
        let (_, body) = get(&format!("{}/{path}", self.api)).await;
        serde_json::from_str(&body).unwrap_or(Value::Null)
    }
}

/// As it may stand in a URL.
fn encoded(text: &str) -> String {
    let mut url = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}
