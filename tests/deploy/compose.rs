//! deploy/compose.yaml, as the Compose specification's own loader reads it, and what its services read.

use std::process::Command;

use serde_json::Value;
use support::eventually;
use support::forebay::Forebay;
use support::postgres::Postgres;
use support::records::numbered_request;

use crate::tools::{file, own_tool, run, succeeds, text, tool};

const COMPOSE: &str = "deploy/compose.yaml";

/// Scenario: the file is loaded with an empty environment. Guarantee: it is valid; every service is read-only, without
/// capabilities and new privileges, not root, bounded in memory, and has a health check; ports are published on loopback
/// only, and PostgreSQL's on none; every file that is mounted is there.
#[test]
fn every_service_is_confined() {
    let Some(loader) = own_tool("bin/deploy-tools") else { return };
    let project =
        succeeds(Command::new(loader).args(["compose", file(COMPOSE).to_str().unwrap()]).env_clear());
    let project: Value = serde_json::from_str(&project).unwrap_or_else(|error| panic!("{error}: {project}"));
    let services = project["services"].as_object().unwrap();
    assert_eq!(services.keys().collect::<Vec<_>>(), ["forebay", "grafana", "postgres", "prometheus"]);
    for (name, service) in services {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        assert_eq!(service["cap_add"], Value::Null, "{name}");
        assert_eq!(service["security_opt"], serde_json::json!(["no-new-privileges:true"]), "{name}");
        assert!(service["mem_limit"].is_string(), "{name}: {service}");
        assert!(service["healthcheck"]["test"].is_array(), "{name}");
        // forebay's user is the image's.
        let user = service["user"].as_str().unwrap_or("65532:65532");
        assert!(user.split(':').next().unwrap().parse::<u32>().unwrap() > 0, "{name}: {user}");
        for port in service["ports"].as_array().into_iter().flatten() {
            assert_eq!(port["host_ip"], "127.0.0.1", "{name}");
        }
        for volume in service["volumes"].as_array().unwrap_or(&Vec::new()) {
            if volume["type"] == "bind" {
                let source = volume["source"].as_str().unwrap();
                assert!(std::path::Path::new(source).exists(), "{name}: {source} is not there");
                assert_eq!(volume["read_only"], true, "{name}: {source}");
            }
        }
    }
    assert_eq!(services["postgres"]["ports"], Value::Null);
    // The directory that turns on the queue on disk is in the volume, which has the owner that the image gives it.
    let volume = &services["forebay"]["volumes"][0];
    assert_eq!((&volume["type"], &volume["source"]), (&"volume".into(), &"queue".into()));
    let place = volume["target"].as_str().unwrap();
    assert!(text("deploy/.env.example").contains(&format!("#LOG_BUFFER_STORAGE_DIRECTORY={place}/queue\n")));
    assert!(text("deploy/Dockerfile").contains(&format!("--chown=65532:65532 {place} {place}\n")));
    assert_eq!(services["forebay"]["mem_limit"], "536870912");
    assert_eq!(services["forebay"]["stop_grace_period"], "45s");
    assert_eq!(services["forebay"]["depends_on"]["postgres"]["condition"], "service_healthy");
    // A password in the file is one that says what it is.
    let passwords = text(COMPOSE).matches("PASSWORD:-").count();
    assert!(passwords > 4 && passwords == text(COMPOSE).matches("PASSWORD:-only-for-trying-out}").count());
}

/// Scenario: Prometheus reads its configuration. Guarantee: it is valid, with all rules.
#[test]
fn prometheus_reads_its_configuration() {
    let Some(promtool) = tool("promtool") else { return };
    let said = run(promtool, ["check", "config", "deploy/prometheus/prometheus.yml"]);
    assert!(said.contains("SUCCESS: deploy/prometheus/prometheus.yml is valid"), "{said}");
    assert!(said.contains("2 rule files found"), "{said}");
}

/// Scenario: the script by which Compose prepares a new volume runs on a new PostgreSQL; forebay starts on it, as the role
/// and in the database that the script made. Guarantee: records are stored, Grafana's role reads them, and can neither
/// write them nor read what is not forebay's.
#[tokio::test(flavor = "multi_thread")]
async fn the_roles_fit_forebay_and_grafana() {
    let Some(_) = tool("psql") else { return };
    let postgres = Postgres::start().await;
    let database = postgres.database().await;
    let client = database.connect().await;
    // The tests' own superuser and its database have the names of those that the script makes.
    client.batch_execute("CREATE ROLE postgres SUPERUSER LOGIN").await.unwrap();
    let address = database.address();
    let psql = |user: &str, database: &str, sql: &str| {
        let mut command = Command::new("psql");
        command.args(["-X", "-At", "-v", "ON_ERROR_STOP=1", "-U", user, "-c", sql, database]);
        command.env("PGHOST", address.ip().to_string()).env("PGPORT", address.port().to_string());
        crate::tools::outcome(&mut command)
    };
    for sql in ["ALTER ROLE forebay RENAME TO tests", "DROP DATABASE forebay"] {
        let (done, said) = psql("postgres", "postgres", sql);
        assert!(done, "{said}");
    }
    succeeds(
        Command::new(file("deploy/postgres/roles.sh"))
            .env("PGHOST", address.ip().to_string())
            .env("PGPORT", address.port().to_string())
            .env("FOREBAY_DB_PASSWORD", "it's \"one\"")
            .env("GRAFANA_DB_PASSWORD", "another"),
    );
    let dsn =
        format!("host={} port={} user=forebay dbname=forebay password=unasked", address.ip(), address.port());
    let forebay = Forebay::ready(&dsn, &[]).await;
    forebay.sender().await.send(numbered_request(0..42)).await.unwrap();
    forebay.settles().await;
    eventually("Grafana's role reads the logs", || async {
        (psql("grafana", "forebay", "SELECT count(*) FROM otel.logs") == (true, "42\n".to_owned()))
            .then_some(())
    })
    .await;
    for (table, reads) in [
        ("losses", true),
        ("resources", true),
        ("log_counts", true),
        ("dead_letters", false),
        ("log_records", false),
        ("lanes", false),
        ("schema_migrations", false),
    ] {
        let (done, said) = psql("grafana", "forebay", &format!("SELECT count(*) FROM otel.{table}"));
        assert!(done == reads && (reads || said.contains("permission denied")), "{table}: {said}");
    }
    let (done, said) = psql("grafana", "forebay", "DELETE FROM otel.log_records");
    assert!(!done && said.contains("read-only transaction"), "{said}");
    // That is a default, which anybody may set aside; this is not.
    for sql in [
        "DELETE FROM otel.log_records",
        "INSERT INTO otel.losses DEFAULT VALUES",
        "CREATE TABLE public.mine ()",
    ] {
        let (done, said) = psql("grafana", "forebay", &format!("BEGIN READ WRITE; {sql}"));
        assert!(!done && said.contains("permission denied"), "{sql}: {said}");
    }
    let (status, said) = forebay.terminate().await;
    assert_eq!(status, Some(0), "{said:#?}");
}
