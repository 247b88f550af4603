//! What goes with a release: the list of what the binary is made of, and one version everywhere.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::tools::{run, succeeds, text, tool};

/// The checksum of each package in Cargo.lock, by name and version; none for forebay itself.
fn locked() -> BTreeMap<(String, String), Option<String>> {
    let lock = text("Cargo.lock");
    let value = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let packages = lock.split("[[package]]").skip(1);
    packages
        .map(|package| {
            (
                (value(package, "name").unwrap(), value(package, "version").unwrap()),
                value(package, "checksum"),
            )
        })
        .collect()
}

/// Scenario: `./dev sbom`. Guarantee: it names every package that the binary links, and only packages of Cargo.lock, each with
/// the checksum that is there; no path of this machine is in it.
#[test]
fn the_sbom_names_what_is_linked() {
    let Some(_) = tool("cargo-cyclonedx") else { return };
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("forebay.cdx.json");
    run("./dev", ["sbom", file.to_str().unwrap()]);
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains(crate::tools::ROOT), "a path of this machine");
    let sbom: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&sbom["bomFormat"], &sbom["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    assert_eq!(sbom["metadata"]["component"]["name"], "forebay");
    let named: BTreeMap<_, _> = sbom["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| {
            let field = |key: &str| part[key].as_str().unwrap().to_owned();
            ((field("name"), field("version")), part["hashes"][0]["content"].as_str().map(str::to_owned))
        })
        .collect();
    let locked = locked();
    for (package, hash) in &named {
        assert!(hash.is_some() && locked.get(package) == Some(hash), "{package:?}: {hash:?}");
    }
    let tree = ["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--no-dedupe"];
    let tree = succeeds(Command::new(env!("CARGO")).args(tree).stderr(std::process::Stdio::null()));
    let linked = tree.lines().filter_map(|line| {
        let (name, rest) = line.split_once(" v")?;
        Some((name.to_owned(), rest.split(' ').next()?.to_owned()))
    });
    let linked: std::collections::BTreeSet<_> = linked.filter(|(name, _)| name != "forebay").collect();
    assert!(linked.len() > 100, "{linked:?}");
    let missing: Vec<_> = linked.iter().filter(|package| !named.contains_key(package)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Scenario: the version stands in several files. Guarantee: it is the same one.
#[test]
fn the_version_is_one() {
    let version = env!("CARGO_PKG_VERSION");
    for (path, line) in [
        ("deploy/helm/forebay/Chart.yaml", format!("appVersion: {version}")),
        ("deploy/Dockerfile", format!("ARG VERSION={version}")),
        ("deploy/compose.yaml", format!("        VERSION: ${{FOREBAY_VERSION:-{version}}}")),
    ] {
        assert!(text(path).lines().any(|found| found == line), "{path}: {line}");
    }
}
