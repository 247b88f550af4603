//! The shape of the source, held by a test: imports go down only, foreign crates come in by their doors, files
//! stay short. ARCHITECTURE.md says why; the tables below are the rules themselves.
//!
//! Tests are exempt: `#[cfg(test)]` items, `tests.rs` and files in `tests/` may name whatever they need.

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/source.rs"]
mod source;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use circles::circles;
use source::{code, paths, tokens};

/// Each module's floor. An import leads to a lower floor, or stays in its module.
const FLOORS: &[(&str, u8)] = &[
    ("values", 0),
    ("shutdown", 0),
    ("supervisor", 0),
    ("version", 0),
    ("otlp", 0),
    ("embedded", 0),
    ("net", 0),
    ("telemetry", 1),
    ("memory", 2),
    ("table", 2),
    ("postgres", 3),
    ("buffer", 4),
    ("store", 4),
    ("receiver", 5),
    ("exporter", 5),
    ("operator", 5),
    ("config", 6),
    ("app", 7),
    ("cli", 8),
    ("main", 8),
];

/// The imports between modules of one floor.
const SIDEWAYS: &[(&str, &str)] = &[("main", "cli")];

/// Paths that only some rooms may name: the paths, the rooms (files or folders of `src`), and what to do instead.
const DOORS: &[(&[&str], &[&str], &str)] = &[
    (
        &["tonic"],
        &["receiver", "telemetry/otlp.rs"],
        "speak gRPC in receiver, or as a client in telemetry/otlp.rs",
    ),
    (
        &["http"],
        &["net", "receiver", "telemetry"],
        "serve connections in net, requests in receiver, pages in telemetry",
    ),
    (&["tower", "tower_service", "tower_layer"], &["receiver"], "speak gRPC in receiver"),
    (&["tonic_types"], &["receiver", "otlp/messages.rs"], "build answers in receiver or otlp/messages.rs"),
    (&["hyper::server", "hyper::service"], &["net"], "have net serve it"),
    (&["hyper::body", "hyper::Error"], &["net", "receiver", "telemetry"], "have net serve it"),
    (&["hyper", "hyper_util"], &["net", "telemetry/otlp.rs", "telemetry/probe.rs"], "have net serve it"),
    (
        &["tokio_postgres", "deadpool_postgres", "rustls_native_certs"],
        &["postgres"],
        "speak to PostgreSQL by what postgres offers",
    ),
    (&["bcrypt"], &["receiver/auth"], "verify passwords in receiver/auth"),
    (&["rustls"], &["postgres/tls", "receiver/tls"], "encrypt in the tls of postgres and receiver"),
    (&["tokio_rustls"], &["postgres/tls", "receiver/tls"], "shake hands in the tls of postgres and receiver"),
    (
        &["x509_cert"],
        &["postgres/tls", "receiver/tls"],
        "read certificates in the tls of postgres and receiver",
    ),
    (&["prost", "prost_types"], &["otlp", "telemetry/otlp.rs"], "encode messages in otlp/messages.rs"),
    (
        &[
            "opentelemetry_sdk",
            "opentelemetry_proto",
            "opentelemetry_prometheus",
            "prometheus",
            "tracing_subscriber",
        ],
        &["telemetry"],
        "take a Meter as an argument, and write messages with tracing's macros",
    ),
    (&["opentelemetry::global"], &[], "take a Meter as an argument"),
    (&["serde_saphyr"], &["config"], "read YAML in config"),
    (&["clap"], &["cli"], "read the command line in cli"),
    (&["sd_notify"], &["supervisor.rs"], "tell the service manager in supervisor"),
    (
        &[
            "std::env::var",
            "std::env::var_os",
            "std::env::vars",
            "std::env::vars_os",
            "env::var",
            "env::var_os",
            "env::vars",
            "env::vars_os",
        ],
        &["config", "telemetry/logs.rs", "embedded", "postgres/dsn/surroundings.rs"],
        "make it a key of the configuration",
    ),
    (&["tokio::task::JoinSet"], &["app", "net/listener.rs"], "hold tasks where they end with their owner"),
    (
        &[
            "tokio::spawn",
            "tokio::task::spawn",
            "tokio::task::spawn_blocking",
            "task::spawn",
            "task::spawn_blocking",
            "std::thread::spawn",
            "thread::spawn",
        ],
        &["app"],
        "return a future, and let app spawn and join it",
    ),
];

/// Names that say nothing of what is inside.
const BUCKETS: &[&str] = &["util", "utils", "common", "misc", "helper", "helpers"];

const MAX_LINES: usize = 400;

#[test]
fn the_source_is_tidy() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    read_folder(&src, &src, &mut files);
    assert!(files.len() > 20, "src has more files than the {} found", files.len());
    let violations: Vec<String> =
        files.iter().flat_map(check).map(|violation| violation.to_string()).collect();
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn no_file_imports_what_imports_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    read_folder(&src, &src, &mut files);
    let told = |circle: Vec<(String, usize)>| {
        let steps: Vec<_> = circle.iter().map(|(file, line)| format!("{file}:{line}")).collect();
        steps.join(" -> ")
    };
    let found: Vec<_> = circles(&files).into_iter().map(told).collect();
    assert!(
        found.is_empty(),
        "{} circles: hand in from above, or move what both need:\n{}",
        found.len(),
        found.join("\n")
    );
}

/// ARCHITECTURE.md's list of folders is the map: each folder of `src` has its row, and each file in it is there.
#[test]
fn the_map_has_each_folder_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("it is there");
    let map =
        text.split("## Folders").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("it has a map");
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let mut folders = Vec::new();
    for row in map.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        for folder in quoted(cells[1]) {
            for file in
                quoted(cells[3]).iter().filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
            {
                let at = root.join("src").join(&folder).join(file);
                let is_there =
                    at.is_dir() || at.with_extension("rs").is_file() || root.join("src").join(file).is_dir();
                assert!(is_there, "{folder} has no {file}, which ARCHITECTURE.md names");
            }
            folders.push(folder);
        }
    }
    for entry in fs::read_dir(root.join("src")).expect("src can be read") {
        let entry = entry.expect("src can be read").path();
        let name = entry.file_stem().expect("it has a name").to_string_lossy().into_owned();
        assert!(
            !entry.is_dir() || folders.contains(&name),
            "{name} has no row in ARCHITECTURE.md's list of folders"
        );
    }
}

/// One file of `src`.
struct Source {
    /// Its path below `src`.
    path: PathBuf,
    text: String,
}

struct Violation {
    path: PathBuf,
    line: usize,
    rule: String,
    cure: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, rule, cure } = self;
        write!(f, "src/{}:{line}: {rule}; {cure}", path.display())
    }
}

impl Source {
    /// The module that the file is of: the first step below `src`.
    fn module(&self) -> String {
        self.steps().remove(0)
    }

    /// Its path as steps, without `.rs` and `mod`.
    fn steps(&self) -> Vec<String> {
        let path = self.path.with_extension("");
        let mut steps: Vec<_> = path.iter().map(|step| step.to_string_lossy().into_owned()).collect();
        if steps.len() > 1 && steps.last().is_some_and(|last| last == "mod") {
            steps.pop();
        }
        steps
    }

    /// Whether it has nothing but tests: `tests.rs`, or a file in `tests/`.
    fn is_test(&self) -> bool {
        self.steps().iter().skip(1).any(|step| step == "tests")
    }

    fn is_in(&self, rooms: &[&str]) -> bool {
        rooms.iter().any(|room| self.path.starts_with(room))
    }

    fn violation(&self, line: usize, rule: impl Into<String>, cure: impl Into<String>) -> Violation {
        Violation { path: self.path.clone(), line, rule: rule.into(), cure: cure.into() }
    }
}

fn read_folder(src: &Path, folder: &Path, files: &mut Vec<Source>) {
    let generated = src.join("otlp/generated");
    for entry in fs::read_dir(folder).expect("src can be read") {
        let path = entry.expect("src can be read").path();
        if path.is_dir() && path != generated {
            assert!(path.join("mod.rs").exists(), "{}: a folder has a mod.rs; add one", path.display());
            read_folder(src, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("src is UTF-8");
            let path = path.strip_prefix(src).expect("it is below src").to_owned();
            files.push(Source { path, text });
        }
    }
}

fn check(file: &Source) -> Vec<Violation> {
    let mut violations = check_file(file);
    if !file.is_test() {
        let code = code(&file.text);
        let tokens = tokens(&code);
        for (line, path) in paths(&tokens) {
            violations.extend(check_floor(file, line, &path));
            violations.extend(check_doors(file, line, &path));
        }
        for window in tokens.windows(2) {
            if let [(line, name @ ("todo" | "unimplemented")), (_, "!")] = window {
                violations.push(file.violation(*line, format!("{name}! is left"), "write it"));
            }
        }
    }
    violations
}

fn check_file(file: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    let lines = file.text.lines().count();
    if lines > MAX_LINES {
        let cure = "split it by its nouns, or move its tests to tests.rs";
        violations.push(file.violation(lines, format!("{lines} lines are more than {MAX_LINES}"), cure));
    }
    if !file.text.starts_with("//!") {
        violations.push(file.violation(1, "the module has no docs", "say in //! what it promises"));
    }
    if file.steps().iter().any(|step| BUCKETS.contains(&step.as_str())) {
        violations.push(file.violation(1, "the name says nothing", "name it after what it holds"));
    }
    violations
}

fn check_floor(file: &Source, line: usize, path: &[&str]) -> Option<Violation> {
    let from = file.module();
    let to = match path {
        ["crate", to, ..] => *to,
        ["forebay", to, ..] if from == "main" => *to,
        ["super", ..] => {
            // A file's own module is as many steps below the crate as its path has.
            let ups = path.iter().take_while(|step| **step == "super").count();
            let leaves = ups >= file.steps().len();
            return leaves.then(|| file.violation(line, "super:: leaves the module", "write crate::"));
        }
        _ => return None,
    };
    if from == to || from == "lib" || SIDEWAYS.contains(&(&from, to)) {
        return None;
    }
    match (floor(&from), floor(to)) {
        (Some(here), Some(there)) if there < here => None,
        (Some(here), Some(there)) => Some(file.violation(
            line,
            format!("{from} (floor {here}) imports {to} (floor {there}); imports go down only"),
            "hand it in from above, or move what both need to a lower floor",
        )),
        (here, _) => {
            let unknown = if here.is_none() { &from } else { to };
            let cure = "add it to FLOORS in tests/tidy.rs and to ARCHITECTURE.md";
            Some(file.violation(line, format!("{unknown} has no floor"), cure))
        }
    }
}

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

fn check_doors(file: &Source, line: usize, path: &[&str]) -> Option<Violation> {
    let path = path.join("::");
    let (_, rooms, cure) = DOORS.iter().find(|(doors, ..)| {
        doors
            .iter()
            .any(|door| path.strip_prefix(door).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
    })?;
    let allowed = if rooms.is_empty() { "nobody".to_owned() } else { rooms.join(", ") };
    (!file.is_in(rooms)).then(|| file.violation(line, format!("{path} is named; only by {allowed}"), *cure))
}

mod rules {
    use super::{Source, check};

    /// The rules that `text` breaks as the file `path`, one line each.
    fn broken(path: &str, text: &str) -> Vec<String> {
        let file = Source { path: path.into(), text: format!("//! Docs.\n{text}") };
        check(&file).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn imports_go_down_only() {
        let up = broken("table/row.rs", "use crate::{otlp::wire, buffer::{Batch, Buffer}};\n");
        assert_eq!(up.len(), 2, "{up:?}");
        assert!(up[0].starts_with("src/table/row.rs:2: table (floor 2) imports buffer (floor 4)"), "{up:?}");
        assert_eq!(broken("receiver/mod.rs", "fn f() {\n    crate::exporter::go();\n}\n").len(), 1);
        assert_eq!(broken("buffer/mod.rs", "use super::table::Rows;\n").len(), 1);
        assert_eq!(broken("main.rs", "use forebay::nothing;\n").len(), 1);
        for (path, text) in [
            ("app/mod.rs", "use crate::config::Config;\n"),
            ("telemetry/logs.rs", "use crate::values::duration::GoDuration;\n"),
            (
                "buffer/batch.rs",
                "use super::queue::Queue;\n/// See [`crate::exporter`].\nconst A: &str = \"crate::app::x\";\n",
            ),
            ("buffer/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::exporter::Exporter;\n}\n"),
            ("buffer/tests/mod.rs", "use crate::exporter::Exporter;\n"),
        ] {
            assert_eq!(broken(path, text), [""; 0], "{path}: {text}");
        }
    }

    #[test]
    fn circles_are_found_and_a_folder_with_its_face_is_none() {
        let file = |path: &str, text: &str| Source { path: path.into(), text: text.to_owned() };
        let circles = |files: &[(&str, &str)]| {
            let files: Vec<_> = files.iter().map(|(path, text)| file(path, text)).collect();
            super::circles(&files)
        };
        let face = ("a/mod.rs", "mod b;\nmod c;\npub use b::B;\nuse c::C;\npub struct A;\n");
        let two = [
            face,
            ("a/b.rs", "use super::c::C;\npub struct B;\n"),
            ("a/c.rs", "use super::A;\npub struct C;\n"),
        ];
        assert_eq!(circles(&two).len(), 0, "both may name what the face has");
        let around = [face, two[1], ("a/c.rs", "fn c() -> super::B {}\n")];
        let expected = [("a/b".to_owned(), 1), ("a/c".to_owned(), 1)];
        assert_eq!(circles(&around), [expected], "what the face hands on is in b");
        let three = [
            ("a.rs", "use crate::b::f;\n"),
            ("b.rs", "fn f() { crate::c::g() }\n"),
            ("c.rs", "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n"),
        ];
        assert_eq!(circles(&three).len(), 0, "tests may look back");
        assert_eq!(circles(&[three[0], three[1], ("c.rs", "use crate::a::A;\n")]).len(), 1);
    }

    #[test]
    fn foreign_crates_have_doors() {
        assert_eq!(broken("exporter/mod.rs", "use {std::io, tonic::Status};\n").len(), 1);
        assert_eq!(broken("telemetry/pages.rs", "use hyper::server::conn::http1;\n").len(), 1);
        assert_eq!(broken("app/mod.rs", "fn f(e: tokio_postgres::Error) {}\n").len(), 1);
        assert_eq!(broken("receiver/mod.rs", "use opentelemetry::{global, KeyValue};\n").len(), 1);
        assert_eq!(
            broken("exporter/mod.rs", "use std::env;\nconst A: char = '\"';\nfn f() { env::var(\"A\"); }\n")
                .len(),
            1
        );
        assert_eq!(
            broken("buffer/mod.rs", "#[cfg(test)]\nmod tests;\nfn f() { tokio::spawn(g()); }\n").len(),
            1
        );
        for (path, text) in [
            ("telemetry/pages.rs", "use http::Method;\nuse hyper::body::Incoming;\n"),
            ("net/connection.rs", "use hyper::{Method, server::conn::http1};\n"),
            ("receiver/mod.rs", "use tonic::Status;\nuse http::HeaderMap;\nfn f() -> impl Send + use<> {}\n"),
            ("app/mod.rs", "fn f<'a>(x: &'a str) { tokio::spawn(g('\\'')); }\n"),
        ] {
            assert_eq!(broken(path, text), [""; 0], "{path}: {text}");
        }
    }

    #[test]
    fn files_are_short_finished_and_named() {
        assert_eq!(broken("buffer/mod.rs", &"// line\n".repeat(400)).len(), 1);
        assert_eq!(broken("buffer/common.rs", "").len(), 1);
        assert_eq!(broken("buffer/mod.rs", "fn f() { todo!() }\n").len(), 1);
        let undocumented = Source { path: "buffer/mod.rs".into(), text: "use std::io;\n".to_owned() };
        assert_eq!(check(&undocumented).len(), 1);
    }
}
