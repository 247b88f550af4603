//! Certificates of PostgreSQL servers, made as PostgreSQL's manual makes them ("Creating Certificates") and as authorities do: what
//! forebay takes is what libpq takes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use forebay::postgres::dsn::Target;
use forebay::postgres::pool::Pool;
use support::postgres::Postgres;
use tempfile::TempDir;

/// Makes `name.crt` and `name.key`, and root.crt.
struct Recipe {
    name: &'static str,
    /// Lines for a shell.
    script: &'static str,
    /// The file of roots.
    root: &'static str,
}

const ROOT: &str = "openssl req -new -nodes -out root.csr -keyout root.key -subj '/CN=root of tests'
printf '[v3_ca]\\nbasicConstraints=critical,CA:TRUE\\nsubjectKeyIdentifier=hash\\n' > ca.cnf
openssl x509 -req -in root.csr -days 3650 -extfile ca.cnf -extensions v3_ca -signkey root.key -out root.crt
openssl req -new -nodes -out server.csr -keyout server.key -subj /CN=localhost";

const RECIPES: [Recipe; 4] = [
    Recipe {
        name: "its own authority",
        script: "openssl req -new -x509 -days 365 -nodes -text -out server.crt -keyout server.key -subj /CN=localhost",
        root: "server.crt",
    },
    Recipe {
        name: "version 1, signed by a root",
        script: "openssl x509 -req -in server.csr -text -days 365 -CA root.crt -CAkey root.key -CAcreateserial -out server.crt",
        root: "root.crt",
    },
    Recipe {
        name: "a common name without an alternative one",
        script: "printf 'basicConstraints=CA:FALSE\\n' > ext.cnf
openssl x509 -req -in server.csr -days 365 -CA root.crt -CAkey root.key -CAcreateserial -extfile ext.cnf -out server.crt",
        root: "root.crt",
    },
    Recipe {
        name: "an alternative name",
        script: "printf 'basicConstraints=CA:FALSE\\nsubjectAltName=DNS:localhost\\n' > ext.cnf
openssl x509 -req -in server.csr -days 365 -CA root.crt -CAkey root.key -CAcreateserial -extfile ext.cnf -out server.crt",
        root: "root.crt",
    },
];

fn shell(dir: &Path, script: &str) {
    let ran = Command::new("sh").arg("-ec").arg(script).current_dir(dir).output().expect("sh runs");
    assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Whether libpq connects.
fn libpq_connects(dsn: &str) -> bool {
    let psql =
        Command::new("psql").args(["-Xqc", "SELECT", dsn]).env_clear().env("HOME", "/nonexistent").output();
    psql.expect("psql runs").status.success()
}

/// What keeps forebay from connecting.
async fn refusal(dsn: &str) -> Option<String> {
    let pool = Pool::new(Target::parse(dsn).unwrap(), 1, Duration::from_secs(10));
    match pool {
        Ok(pool) => pool.get().await.err().map(|failure| failure.message),
        Err(error) => Some(error.to_string()),
    }
}

/// Scenario: servers with the manual's certificates, and with one as authorities issue them, asked for with each mode and their
/// root, by their name and by another; and with somebody else's root. Guarantee: forebay connects exactly where psql does, which is
/// wherever the certificate fits, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn the_certificates_of_the_manual_are_taken_as_libpq_takes_them() {
    let (mut table, mut differences) = (Vec::new(), Vec::new());
    let stranger = TempDir::new().unwrap();
    shell(stranger.path(), ROOT);
    for recipe in &RECIPES {
        let dir = TempDir::new().unwrap();
        shell(dir.path(), ROOT);
        shell(dir.path(), recipe.script);
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let postgres = Postgres::start_with_tls(&read("server.crt"), &read("server.key")).await;
        let database = postgres.database().await;
        let own = dir.path().join(recipe.root).display().to_string();
        let other = stranger.path().join("root.crt").display().to_string();
        for mode in ["require", "verify-ca", "verify-full"] {
            for (host, root, fits) in [
                ("localhost", &own, true),
                ("127.0.0.1", &own, mode != "verify-full"),
                ("localhost", &other, false),
            ] {
                let (port, user) = (database.address().port(), forebay::embedded::NAME);
                let dsn = format!(
                    "host={host} port={port} user={user} dbname={} sslmode={mode} sslrootcert={root}",
                    database.name()
                );
                let refusal = refusal(&dsn).await;
                let row = format!("{}, {mode}, {host}, own root: {}", recipe.name, root == &own);
                if refusal.is_none() != fits || libpq_connects(&dsn) != fits {
                    differences.push(format!("{row}: expected {fits}, forebay says {refusal:?}"));
                }
                table.push(row);
            }
        }
        // What is encrypted without knowing to whom does not depend on the certificate.
        let dsn = database.dsn_by_way_of(database.address()) + " sslmode=require";
        assert_eq!(refusal(&dsn).await, None, "{}", recipe.name);
    }
    assert_eq!(table.len(), 36);
    assert!(differences.is_empty(), "{differences:#?}");
}

/// The commands of `script` with keys of this kind, and signatures of this digest.
fn with_keys(script: &str, kind: &str, digest: &str) -> String {
    script
        .replace("openssl req -new ", &format!("openssl req -{digest} -new -newkey {kind} "))
        .replace("openssl x509 -req ", &format!("openssl x509 -{digest} -req "))
}

/// Scenario: the keys of server, client and authority are of each kind that authorities certify, each signed with digests of other
/// lengths as well (`openssl req` takes SHA-256 for every curve). The server asks for the client's certificate, of version 1 as the
/// manual makes it, and for a password that is tied to its own. Guarantee: forebay connects where psql does, with each; not without its
/// certificate, nor with somebody else's root.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_all_kinds_are_taken_as_libpq_takes_them() {
    const CLIENT: &str = "openssl req -new -nodes -out client.csr -keyout client.key -subj /CN=forebay
openssl x509 -req -in client.csr -days 365 -CA root.crt -CAkey root.key -CAcreateserial -out client.crt";
    const P521: &str = "ec -pkeyopt ec_paramgen_curve:P-521";
    let mut differences = Vec::new();
    for (kind, digest, recipe) in [
        (P521, "sha256", &RECIPES[1]),
        (P521, "sha384", &RECIPES[3]),
        (P521, "sha512", &RECIPES[1]),
        (P521, "sha512", &RECIPES[3]),
        ("ec -pkeyopt ec_paramgen_curve:P-256", "sha512", &RECIPES[3]),
        ("ec -pkeyopt ec_paramgen_curve:P-384", "sha512", &RECIPES[1]),
        ("rsa:4096", "sha384", &RECIPES[3]),
    ] {
        let (dir, stranger) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        for script in [ROOT, recipe.script, CLIENT] {
            shell(dir.path(), &with_keys(script, kind, digest));
        }
        shell(stranger.path(), &with_keys(ROOT, kind, digest));
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let (certificate, key, root) = (read("server.crt"), read("server.key"), read("root.crt"));
        let postgres = Postgres::start_with_certificates(&certificate, &key, &root).await;
        let (port, user) = (postgres.database().await.address().port(), forebay::embedded::NAME);
        let path = |dir: &TempDir, name: &str| dir.path().join(name).display().to_string();
        let identity = format!("sslcert={} sslkey={}", path(&dir, "client.crt"), path(&dir, "client.key"));
        for (root, identity, fits) in [
            (path(&dir, "root.crt"), &*identity, true),
            (path(&dir, "root.crt"), "", false),
            (path(&stranger, "root.crt"), &identity, false),
        ] {
            let dsn = format!(
                "host=localhost port={port} user={user} dbname=postgres sslmode=verify-full password=secret \
                 channel_binding=require sslrootcert={root} {identity}"
            );
            let refusal = refusal(&dsn).await;
            if refusal.is_none() != fits || libpq_connects(&dsn) != fits {
                differences
                    .push(format!("{kind}, {digest}, {}, {dsn}: forebay says {refusal:?}", recipe.name));
            }
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

/// Scenario: the manual's certificate that is its own authority has expired, or its name is another. Guarantee: it is refused though
/// it is in the file of roots.
#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_certificate_is_still_checked() {
    for (script, part) in [
        (
            "openssl req -new -x509 -nodes -not_before 20200101000000Z -not_after 20200202000000Z -out server.crt -keyout server.key \
             -subj /CN=localhost || { openssl req -new -nodes -out server.csr -keyout server.key -subj /CN=localhost
             openssl x509 -req -in server.csr -days -1 -signkey server.key -out server.crt; }",
            "certificate",
        ),
        (
            "openssl req -new -x509 -days 9 -nodes -out server.crt -keyout server.key -subj /CN=localhost \
             -addext subjectAltName=DNS:db.example",
            "not valid for name",
        ),
    ] {
        let dir = TempDir::new().unwrap();
        shell(dir.path(), script);
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let postgres = Postgres::start_with_tls(&read("server.crt"), &read("server.key")).await;
        let address = postgres.database().await.address();
        let (port, user) = (address.port(), forebay::embedded::NAME);
        let root = dir.path().join("server.crt");
        let dsn =
            format!("host=localhost port={port} user={user} dbname=postgres sslmode=verify-full sslrootcert={}", root.display());
        let refused = refusal(&dsn).await.expect("it is refused");
        assert!(refused.contains(part), "{refused}");
        assert!(!libpq_connects(&dsn), "as by libpq");
    }
}
