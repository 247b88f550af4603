//! The SDKs, the transports of each, and what has to be installed for them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Once;

use support::forebay::Forebay;
use tokio::process::Command;

/// The official SDK of a language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    Rust,
    Python,
    Go,
    Java,
    Node,
}

/// How it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Grpc,
    HttpProtobuf,
    HttpJson,
}

impl Transport {
    /// Where a forebay takes it.
    pub fn endpoint(self, forebay: &Forebay) -> String {
        match self {
            Self::Grpc => forebay.endpoint(),
            Self::HttpProtobuf | Self::HttpJson => format!("http://{}", forebay.http_address()),
        }
    }

    /// Its name in `OTEL_EXPORTER_OTLP_PROTOCOL`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
            Self::HttpJson => "http/json",
        }
    }
}

impl Sdk {
    const ALL: [Self; 5] = [Self::Rust, Self::Python, Self::Go, Self::Java, Self::Node];

    /// Those that are installed. Under CI that is all of them.
    pub fn installed() -> impl Iterator<Item = Self> {
        static SAID: Once = Once::new();
        let missing: Vec<_> = Self::ALL.into_iter().filter(|sdk| !sdk.is_installed()).collect();
        let everything = ["CI", "FOREBAY_ALL_SDKS"].iter().any(|name| std::env::var_os(name).is_some());
        assert!(!everything || missing.is_empty(), "not installed: {missing:?}; ./dev test installs them");
        if !missing.is_empty() {
            SAID.call_once(|| {
                say(&format!("SKIPPED, for want of what ./dev test installs: the SDKs {missing:?}\n"))
            });
        }
        Self::ALL.into_iter().filter(move |sdk| !missing.contains(sdk))
    }

    pub fn transports(self) -> &'static [Transport] {
        match self {
            Self::Rust | Self::Python | Self::Node => {
                &[Transport::Grpc, Transport::HttpProtobuf, Transport::HttpJson]
            }
            Self::Go | Self::Java => &[Transport::Grpc, Transport::HttpProtobuf],
        }
    }

    fn is_installed(self) -> bool {
        self.parts().iter().all(|part| part.exists())
    }

    /// What `./dev` installs for it.
    fn parts(self) -> Vec<PathBuf> {
        match self {
            Self::Rust => vec![],
            Self::Python => vec![target("python/bin/python"), target("python/requirements.txt")],
            Self::Go => vec![target("sdk/go/sender")],
            Self::Java => vec![target("sdk/java/lib"), target("sdk/java/classes/Sender.class")],
            Self::Node => vec![target("sdk/node/node_modules"), target("sdk/node/send.js")],
        }
    }

    /// The program that sends as README.md says. Rust's is a module.
    pub fn sender(self) -> Command {
        match self {
            Self::Rust => panic!("it is a module"),
            Self::Python => python("bridge.py"),
            Self::Go => Command::new(target("sdk/go/sender")),
            Self::Java => java(&["Sender"]),
            Self::Node => node("send.js"),
        }
    }

    /// The program of docs/sending.md. Rust's is a module.
    pub fn first(self) -> Command {
        match self {
            Self::Rust => panic!("it is a module"),
            Self::Python => python("first.py"),
            Self::Go => Command::new(target("sdk/go/first")),
            Self::Java => {
                let config = source("java/first.xml");
                java(&[&format!("-Dlogback.configurationFile={}", config.display()), "First"])
            }
            Self::Node => node("first.js"),
        }
    }
}

fn python(file: &str) -> Command {
    let mut command = Command::new(target("python/bin/python"));
    command.arg(source("python").join(file));
    command
}

fn java(arguments: &[&str]) -> Command {
    let mut command = Command::new("java");
    let path = format!("{}:{}/*", target("sdk/java/classes").display(), target("sdk/java/lib").display());
    // They do not live long enough for the best code.
    command.args(["-XX:TieredStopAtLevel=1", "-cp", &path]).args(arguments);
    command
}

/// As a link beside the packages, where Node looks for them.
fn node(file: &str) -> Command {
    let mut command = Command::new("node");
    command.arg("--preserve-symlinks-main").arg(target("sdk/node").join(file));
    command
}

/// A file below `target/`, where `./dev` installs.
pub fn target(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(path)
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(path)
}

/// Says something also where the test passes.
pub fn say(text: &str) {
    std::io::stderr().lock().write_all(text.as_bytes()).expect("stderr");
}
