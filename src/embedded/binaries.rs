//! Finds the installed PostgreSQL servers.

use std::path::{Path, PathBuf};
use std::{env, fs};

use super::account::Account;
use super::error::Error;
use super::process::{ASK_LIMIT, run};

/// The oldest major version that forebay's SQL is written for.
const OLDEST: u32 = 13;

/// The directories of packaged servers, which are often not in PATH: Debian, SUSE, Red Hat, Alpine, PostgreSQL's own default,
/// Homebrew. One `*` in a part of a path stands for anything.
const USUAL_PLACES: &[&str] = &[
    "/usr/lib/postgresql/*/bin",
    "/usr/lib/postgresql*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql*/bin",
];

/// One installed PostgreSQL server.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    dir: PathBuf,
    version: String,
    major: u32,
}

impl Binaries {
    /// The usable servers, the preferred first: PATH's, then `pg_config`'s, then the others, newest version first.
    pub(super) async fn installed(account: &Account) -> Result<Vec<Self>, Error> {
        let mut dirs: Vec<PathBuf> = env::split_paths(&env::var_os("PATH").unwrap_or_default())
            .filter(|dir| dir.is_absolute())
            .collect();
        let mut pg_config = account.command("pg_config");
        pg_config.arg("--bindir");
        if let Ok(bindir) = run(pg_config, "", ASK_LIMIT).await {
            dirs.push(bindir.trim().into());
        }
        let mut found = Vec::new();
        probe(&mut found, dirs, account).await;
        let mut others = found.clone();
        probe(&mut others, USUAL_PLACES.iter().flat_map(|place| expand(place)).collect(), account).await;
        let mut others = others.split_off(found.len());
        others.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
        found.extend(others);
        if found.is_empty() { Err(Error::NotInstalled { oldest: OLDEST }) } else { Ok(found) }
    }

    /// The usable server in `dir`.
    pub(super) async fn in_dir(dir: &Path, account: &Account) -> Result<Vec<Self>, Error> {
        let mut found = Vec::new();
        probe(&mut found, vec![dir.to_owned()], account).await;
        if found.is_empty() { Err(Error::NotInstalled { oldest: OLDEST }) } else { Ok(found) }
    }

    /// The full version, for instance `15.18`.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// The version as a cluster's `PG_VERSION` states it.
    pub(super) fn major(&self) -> u32 {
        self.major
    }

    /// The server.
    pub(super) fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    /// The maker of clusters.
    pub(super) fn initdb(&self) -> PathBuf {
        self.dir.join("initdb")
    }
}

/// Adds those of `dirs` that hold a usable server to `found`, each once.
async fn probe(found: &mut Vec<Binaries>, dirs: Vec<PathBuf>, account: &Account) {
    for dir in dirs {
        // If PATH has a link, its target is beside the other programs.
        let Ok(postgres) = fs::canonicalize(dir.join("postgres")) else { continue };
        let Some(dir) = postgres.parent().map(Path::to_owned) else { continue };
        if found.iter().any(|known| known.dir == dir) || !dir.join("initdb").exists() {
            continue;
        }
        let mut ask = account.command(&postgres);
        ask.arg("--version");
        let Ok(answer) = run(ask, "", ASK_LIMIT).await else { continue };
        if let Some((version, major)) = read_version(&answer).filter(|&(_, major)| major >= OLDEST) {
            found.push(Binaries { dir, version, major });
        }
    }
}

/// Full and major version from `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn read_version(answer: &str) -> Option<(String, u32)> {
    let version = answer.split("(PostgreSQL)").nth(1)?.split_whitespace().next()?;
    let major = version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    Some((version.to_owned(), major))
}

/// The existing paths that `pattern` stands for.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let Some((start, end)) = part.split_once('*') else {
            paths.iter_mut().for_each(|path| path.push(part));
            continue;
        };
        let entries = paths.iter().filter_map(|path| fs::read_dir(path).ok()).flatten().flatten();
        paths = entries
            .filter(|entry| {
                let name = entry.file_name();
                name.to_str().is_some_and(|name| {
                    name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
                })
            })
            .map(|entry| entry.path())
            .collect();
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions_as_packagers_write_them() {
        let read = |answer| read_version(answer).map(|(version, major)| format!("{version} {major}"));
        assert_eq!(
            read("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n").as_deref(),
            Some("15.18 15")
        );
        assert_eq!(read("postgres (PostgreSQL) 18devel").as_deref(), Some("18devel 18"));
        assert_eq!(read("postgres (PostgreSQL) 9.6.24").as_deref(), Some("9.6.24 9"));
        assert_eq!(read("postgres (EnterpriseDB) 15"), None);
        assert_eq!(read("postgres (PostgreSQL)"), None);
    }

    #[test]
    fn expands_stars_to_what_exists() {
        let root = tempfile::tempdir().unwrap();
        for made in ["pg/9/bin", "pg/16/bin", "pgsql-17/bin"] {
            fs::create_dir_all(root.path().join(made)).unwrap();
        }
        let expanded = |pattern: &str| {
            let mut found = expand(&format!("{}/{pattern}", root.path().display()));
            found.sort();
            found
                .iter()
                .map(|path| path.strip_prefix(root.path()).unwrap().display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(expanded("pg/*/bin"), ["pg/16/bin", "pg/9/bin"]);
        assert_eq!(expanded("pgsql-*/bin"), ["pgsql-17/bin"]);
        assert!(expanded("none/*/bin").is_empty());
    }
}
