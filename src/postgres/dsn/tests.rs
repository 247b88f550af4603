//! Connection strings as people write them, and their meaning for libpq.

use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};

use super::*;
use crate::postgres::tls::Version;

fn parse(dsn: &str) -> Target {
    Target::parse(dsn).unwrap_or_else(|error| panic!("{dsn}: {error}"))
}

/// In the environment `variables`.
fn open(dsn: &str, variables: &[(&str, &str)]) -> Result<Target, String> {
    let env =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Target::open(dsn, &env).map_err(|error| error.to_string())
}

/// A target in one line: user, password, database, hosts with ports, and addresses.
fn shown(target: &Target) -> String {
    let host = &target.hosts[0];
    let password = host.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
    let addresses: Vec<_> =
        target.hosts.iter().flat_map(|host| host.get_hostaddrs()).map(IpAddr::to_string).collect();
    let or_none = |text: Option<&str>| text.unwrap_or("-").to_owned();
    format!(
        "{} {} {} [{}] [{}]",
        or_none(host.get_user()),
        or_none(password.as_deref()),
        or_none(host.get_dbname()),
        target.describe(),
        addresses.join(", ")
    )
}

/// Scenario: a table of connection strings. Promise: each means what `psql` says of it (`\conninfo`, or its refusal's words),
/// and SQLAlchemy's and JDBC's forms what they mean there.
#[test]
fn connection_strings_mean_what_they_mean_for_libpq() {
    let socket = "/var/run/postgresql/.s.PGSQL.5432";
    for (dsn, expected) in [
        // URLs.
        ("postgresql://", format!("- - - [{socket}] []")),
        ("postgresql:///logs", format!("- - logs [{socket}] []")),
        ("postgres://db", "- - - [db:5432] []".into()),
        ("postgresql://me:secret@db:6432/logs", "me secret logs [db:6432] []".into()),
        ("postgresql://me@db/", "me - - [db:5432] []".into()),
        ("postgresql://me:@db/logs", "me - logs [db:5432] []".into()),
        ("postgresql://:secret@db/logs", "- secret logs [db:5432] []".into()),
        ("postgresql://m%40e:p%40%3A%2F%3F%23s@db/l%20ogs", "m@e p@:/?#s l ogs [db:5432] []".into()),
        ("postgresql://me:a:b:c@db/logs", "me a:b:c logs [db:5432] []".into()),
        ("postgresql://me:pa?ss#x@db/logs", "me pa?ss#x logs [db:5432] []".into()),
        ("  postgresql://me:s@db/logs\r\n", "me s logs [db:5432] []".into()),
        ("postgresql://me:s p@db/logs", "me s p logs [db:5432] []".into()),
        ("POSTGRESQL://me@db/logs", "me - logs [db:5432] []".into()),
        ("postgresql://[::1]:6432/logs", "- - logs [::1:6432] []".into()),
        ("postgresql://[2001:db8::7],other:1/logs", "- - logs [2001:db8::7:5432, other:1] []".into()),
        ("postgresql://one:1,two,three:3/logs", "- - logs [one:1, two:5432, three:3] []".into()),
        ("postgresql://one,/logs", format!("- - logs [one:5432, {socket}] []")),
        ("postgresql://:6432/logs", "- - logs [/var/run/postgresql/.s.PGSQL.6432] []".into()),
        ("postgresql://%2Frun%2Fpg/logs", "- - logs [/run/pg/.s.PGSQL.5432] []".into()),
        ("postgresql://me@%2Frun%2Fpg:6432/logs", "me - logs [/run/pg/.s.PGSQL.6432] []".into()),
        ("postgresql:///logs?host=/run/pg&port=6432", "- - logs [/run/pg/.s.PGSQL.6432] []".into()),
        // Parameters after the ? override the parts before it.
        ("postgresql://one:1/logs?host=two&port=2", "- - logs [two:2] []".into()),
        ("postgresql://one:1/logs?host=two", "- - logs [two:1] []".into()),
        ("postgresql://one:1/logs?port=2", "- - logs [one:2] []".into()),
        ("postgresql://me:a@db/logs?user=you&password=b&dbname=other", "you b other [db:5432] []".into()),
        ("postgresql://db/logs?host=one,two&port=1,2", "- - logs [one:1, two:2] []".into()),
        ("postgresql://db/logs?hostaddr=10.0.0.7", "- - logs [db:5432] [10.0.0.7]".into()),
        ("postgresql://db?dbname=logs&", "- - logs [db:5432] []".into()),
        // Other libraries' forms.
        ("postgresql+psycopg://me:s@db/logs", "me s logs [db:5432] []".into()),
        ("postgresql+psycopg2://me@/logs?host=/run/pg", "me - logs [/run/pg/.s.PGSQL.5432] []".into()),
        ("postgresql+asyncpg://me:s@db:6432/logs?ssl=require", "me s logs [db:6432] []".into()),
        ("jdbc:postgresql://db:6432/logs?user=me&password=s&ssl=true", "me s logs [db:6432] []".into()),
        // Pairs.
        ("host=db", "- - - [db:5432] []".into()),
        ("dbname=logs user=me", format!("me - logs [{socket}] []")),
        (
            r"host = '/run/pg' dbname=logs password='it\'s \\ me'",
            r"- it's \ me logs [/run/pg/.s.PGSQL.5432] []".into(),
        ),
        (r"host=db password=a\ b user=''", "- a b - [db:5432] []".into()),
        ("host=db\n port=6432\n\tuser=me\n", "me - - [db:6432] []".into()),
        ("host=one,two port=1,2", "- - - [one:1, two:2] []".into()),
        ("host=one,two port=6432", "- - - [one:6432, two:6432] []".into()),
        ("host=one,two port=,2", "- - - [one:5432, two:2] []".into()),
        ("host=one,,two", format!("- - - [one:5432, {socket}, two:5432] []")),
        ("hostaddr=10.0.0.7 host=db", "- - - [db:5432] [10.0.0.7]".into()),
        ("hostaddr=10.0.0.7,::1", "- - - [10.0.0.7:5432, ::1:5432] [10.0.0.7, ::1]".into()),
        ("host=one host=two", "- - - [two:5432] []".into()),
        ("host=db password=p@ss:w/o%rd", "- p@ss:w/o%rd - [db:5432] []".into()),
    ] {
        assert_eq!(shown(&parse(dsn)), expected, "{dsn}");
    }
}

/// Scenario: strings that cannot be meant. Promise: the refusal names the key and the cure, and has nothing of the password.
#[test]
fn what_cannot_be_read_is_said_with_its_cure_and_without_the_secret() {
    for (dsn, part) in [
        ("postgresql://me:hunter2@db:port/logs", "port: expected numbers"),
        ("postgresql://me:hunter2@db:0/logs", "port: expected numbers"),
        ("postgresql://me:hunter2@db:99999/logs", "port: expected numbers"),
        ("postgresql://me:pass@hunter2@db/logs", "one in a password is written %40"),
        ("postgresql://me:12/hunter2@db/logs", "in a password, a slash is written %2F"),
        ("postgresql://me:hunter2/x@db/logs", "a slash is written %2F"),
        ("postgresql://me:hunter2%zz@db/logs", "a % itself is written %25"),
        ("postgresql://me:hunter2%@db/logs", "a % itself is written %25"),
        ("postgresql://me:hunter2%00@db/logs", "a % itself is written %25"),
        ("postgresql://me:hunter2@[::1/logs", "not closed"),
        ("postgresql://me:hunter2@[]/logs", "is empty"),
        ("postgresql://me:hunter2@db/logs?sslmode", "key=value"),
        ("postgresql://me:hunter2@db/logs?colour=blue", "colour: libpq has no such key; remove it"),
        (
            "postgresql://me:hunter2@db/logs?sslmod=require",
            "sslmod: libpq has no such key; did you mean sslmode?",
        ),
        ("postgresql:/me:hunter2@db/logs?sslmode=disable", "what stands before a ="),
        ("postgress://me:hunter2@db/logs?application_name=x", "what stands before a ="),
        ("mysql://me:hunter2@db/logs", "scheme is not postgresql://"),
        ("host=db password=hunter2 colour=blue", "colour: libpq has no such key"),
        ("host=db password='hunter2", "a quote is not closed"),
        ("host=db hunter2", "a key has no value"),
        ("hunter2", "a key has no value"),
        ("host=db password=hunter2 sslmode=maybe", "sslmode=maybe is not allowed"),
        ("host=one,two port=1,2,3 password=hunter2", "port: 3 ports are named for 2 hosts"),
        ("host=one,two hostaddr=10.0.0.7 password=hunter2", "hostaddr: it has 1 parts"),
        ("hostaddr=db password=hunter2", "hostaddr: expected IP addresses"),
        ("host=db password=hunter2 connect_timeout=soon", "connect_timeout: expected a whole number"),
        ("host=db password=hunter2 target_session_attrs=master", "allowed are any, read-write, primary"),
        ("host=db password=hunter2 gssencmode=require", "gssencmode: forebay does not speak GSSAPI"),
        ("host=db password=hunter2 require_auth=scram-sha-256", "require_auth: forebay cannot choose"),
        ("host=db password=hunter2 requirepeer=postgres", "requirepeer: forebay cannot ask"),
        ("host=db password=hunter2 replication=database", "replication: forebay writes by ordinary sessions"),
        ("host=db password=hunter2 sslcrldir=/crls", "sslcrldir: forebay reads no directory"),
        ("host=db sslcert=/c sslkey=/k sslpassword=hunter2", "sslpassword: forebay reads no encrypted key"),
        ("host=db password=hunter2 sslcert=/c", "set sslkey"),
        ("host=db password=hunter2 sslcertmode=require", "sslcertmode=require takes a certificate"),
        ("host=db password=hunter2 sslcertmode=maybe", "allowed are disable, allow, require"),
        ("host=db password=hunter2 ssl_max_protocol_version=TLSv1.1", "forebay speaks TLSv1.2"),
        ("host=db password=hunter2 ssl_min_protocol_version=1.3", "allowed are TLSv1, TLSv1.1"),
        ("host=db password=hunter2 channel_binding=yes", "allowed are disable, prefer, require"),
        ("host=db password=hunter2 sslnegotiation=direct", "direct takes sslmode=require"),
        ("host=db password=hunter2 load_balance_hosts=yes", "allowed are disable, random"),
        ("service=none password=hunter2", "no service none"),
    ] {
        let error = Target::parse(dsn).err().unwrap_or_else(|| panic!("{dsn:?} was read")).to_string();
        assert!(error.starts_with("exporters.postgres.dsn") && error.contains(part), "{dsn}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

/// Scenario: every parameter of libpq (PostgreSQL 17) with a usual value. Promise: each is taken, with libpq's units, or changes
/// nothing here.
#[test]
fn every_parameter_of_libpq_is_known() {
    let usual = "application_name=x fallback_application_name=y client_encoding=auto options='-c a.b=1' keepalives=1 \
        keepalives_idle=7 keepalives_interval=8 keepalives_count=9 tcp_user_timeout=1500 connect_timeout=2 replication=false \
        gssencmode=prefer gssdelegation=0 krbsrvname=postgres gsslib=gssapi sslcompression=0 sslsni=0 sslcertmode=allow \
        ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version='' requirepeer='' require_auth='' sslcrldir='' \
        sslmode=require sslnegotiation=direct channel_binding=require target_session_attrs=primary load_balance_hosts=random \
        passfile=/none host=db";
    let target = parse(usual);
    let host = &target.hosts[0];
    assert_eq!(host.get_application_name(), Some("x"));
    assert_eq!(host.get_options(), Some("-c a.b=1"));
    let spans =
        (host.get_keepalives_idle(), host.get_keepalives_interval(), host.get_tcp_user_timeout().copied());
    let (seconds, millis) = (Duration::from_secs, Duration::from_millis);
    assert_eq!(spans, (seconds(7), Some(seconds(8)), Some(millis(1500))));
    assert_eq!(host.get_keepalives_retries(), Some(9));
    assert_eq!(host.get_connect_timeout(), Some(&seconds(2)));
    assert_eq!(host.get_channel_binding(), ChannelBinding::Require);
    assert_eq!(host.get_ssl_negotiation(), SslNegotiation::Direct);
    assert_eq!(host.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    assert!(target.is_random() && target.tls.hides_name);
    assert_eq!(target.tls.without, Some(Version::Tls12));
    assert_eq!(parse("host=db fallback_application_name=y").application_name(), "y");
    assert!(!parse("host=db keepalives=0").hosts[0].get_keepalives());
    let own = &parse("host=db").hosts[0];
    assert_eq!((own.get_keepalives_idle(), own.get_keepalives_retries()), (seconds(10), Some(3)));
    assert_eq!(own.get_tcp_user_timeout(), Some(&seconds(20)));
    assert_eq!(own.get_application_name(), Some("forebay"));
    assert_eq!(parse("host=db tcp_user_timeout=0").hosts[0].get_tcp_user_timeout(), None);
    for same in ["any", "read-write", "primary"] {
        let target = parse(&format!("postgresql://db?target_session_attrs={same}"));
        assert_eq!(target.hosts[0].get_target_session_attrs(), TargetSessionAttrs::ReadWrite, "{same}");
        assert!(target.check_writes().is_ok(), "{same}");
    }
    for (reads, found) in [
        ("read-only", TargetSessionAttrs::ReadOnly),
        ("standby", TargetSessionAttrs::ReadOnly),
        ("prefer-standby", TargetSessionAttrs::Any),
    ] {
        let target = parse(&format!("host=db password=hunter2 target_session_attrs={reads}"));
        assert_eq!(target.hosts[0].get_target_session_attrs(), found, "{reads}");
        let refused = target.check_writes().unwrap_err().to_string();
        assert!(refused.contains("target_session_attrs: forebay writes"), "{refused}");
    }
    let named =
        parse("host=db sslcert=/c.pem sslkey=/k.pem sslmode=verify-ca sslrootcert=/ca.pem sslcrl=/crl.pem")
            .tls;
    assert_eq!(named.identity, Some(("/c.pem".into(), "/k.pem".into())));
    assert_eq!((named.root, named.revoked), (Some("/ca.pem".into()), Some("/crl.pem".into())));
}

/// Scenario: libpq's environment variables. Promise: each stands in for a key that is not written, and for none that is; those of
/// a value that cannot be used are named.
#[test]
fn the_environment_stands_in_for_what_is_not_written() {
    let all = [
        ("PGHOST", "one,two"),
        ("PGPORT", "6432"),
        ("PGUSER", "me"),
        ("PGPASSWORD", "secret\n"),
        ("PGDATABASE", "logs"),
        ("PGSSLMODE", "require"),
        ("PGAPPNAME", "x"),
        ("PGTARGETSESSIONATTRS", "primary"),
        ("PGCONNECT_TIMEOUT", ""),
    ];
    let target = open("postgresql://", &all).unwrap();
    assert_eq!(shown(&target), "me secret logs [one:6432, two:6432] []");
    assert_eq!((target.hosts[1].get_ssl_mode(), target.application_name()), (SslMode::Require, "x"));
    let written = "host=db port=1 user=you password=own dbname=mine sslmode=disable";
    let target = open(written, &all).unwrap();
    assert_eq!(shown(&target), "you own mine [db:1] []");
    assert_eq!(target.hosts[0].get_ssl_mode(), SslMode::Disable);
    let refusal = open("host=db", &[("PGGSSENCMODE", "require")]).unwrap_err();
    assert!(refusal.ends_with("(the value is from the environment: PGGSSENCMODE)"), "{refusal}");
    assert_eq!(shown(&parse("host=db")), "- - - [db:5432] []", "alone it means itself");
}

/// Scenario: a service by key and by variable, in the user's file, a named one and the system's. Promise: its keys stand in for what
/// is not written, before the environment; what is wrong with it is said with the file and the line.
#[test]
fn a_service_stands_in_for_what_is_not_written() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    let home = dir.path().to_str().unwrap();
    write(
        ".pg_service.conf",
        "\u{feff}# services\r\n[logs]\r\nhost=db\r\nport=6432\r\nuser=me\r\n\r\n[other]\nhost=x\n",
    );
    write("pg_service.conf", "[system]\nhost=of-system\ndbname=a b\n");
    write("named", "[logs]\nhost=of-named\n[bad]\nhost\n[worse]\ncolour=blue\n[ldap]\nldap://x\n");
    let env =
        [("HOME", home), ("PGSYSCONFDIR", home), ("PGPORT", "1"), ("PGUSER", "you"), ("PGDATABASE", "logs")];
    let with = |variable: &'static str, value: &'static str| [&env[..], &[(variable, value)]].concat();
    assert_eq!(shown(&open("service=logs", &env).unwrap()), "me - logs [db:6432] []");
    assert_eq!(shown(&open("postgresql://?service=logs&port=7", &env).unwrap()), "me - logs [db:7] []");
    assert_eq!(shown(&open("postgresql://", &with("PGSERVICE", "other")).unwrap()), "you - logs [x:1] []");
    assert_eq!(shown(&open("service=system", &env).unwrap()), "you - a b [of-system:1] []");
    let named = format!("servicefile={home}/named");
    assert_eq!(shown(&open(&format!("service=logs {named}"), &env).unwrap()), "you - logs [of-named:1] []");
    for (dsn, part) in [
        ("service=none".to_owned(), "no service none: it is not in "),
        (format!("service=bad {named}"), "named: line 4 is not key=value"),
        (format!("service=worse {named}"), "colour: libpq has no such key"),
        (format!("service=ldap {named}"), "line 8 asks an LDAP server"),
        ("service=logs servicefile=/nowhere/file".to_owned(), "cannot read /nowhere/file"),
    ] {
        let refusal = open(&dsn, &env).unwrap_err();
        assert!(
            refusal.starts_with("exporters.postgres.dsn: service: ") && refusal.contains(part),
            "{dsn}: {refusal}"
        );
    }
}

/// Scenario: passfiles in libpq's places, with stars and backslashes. Promise: the first line that fits has the password, anew each
/// time; one that others can read is ignored, as is any where a password is written.
#[test]
fn a_passfile_has_the_password_of_each_host() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(".pgpass");
    let home = dir.path().to_str().unwrap();
    let write = |text: &str, mode: u32| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write(
        "\u{feff}# all of them\none:5432:logs:me:of one\r\nlocalhost:*:*:me:of a socket\n2001\\:db8\\:\\:7:*:*:*:of seven\n\
         two:6432:*:*:a\\:b\\\\c\n*:*:other:*:of other:ignored\n",
        0o600,
    );
    let password = |dsn: &str| {
        let target = open(dsn, &[("HOME", home)]).unwrap();
        let shown =
            |host: &PgConfig| String::from_utf8_lossy(host.get_password().unwrap_or(b"-")).into_owned();
        target.each_host().iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(password("postgresql://me@one/logs"), ["of one"]);
    assert_eq!(password("postgresql://me@one:6432/logs"), ["-"]);
    assert_eq!(password("postgresql://me:own@one/logs"), ["own"]);
    assert_eq!(password("postgresql://me@one,two:6432,three/logs"), ["of one", "a:b\\c", "-"]);
    assert_eq!(password("user=me dbname=logs"), ["of a socket"]);
    assert_eq!(password("user=me host=localhost"), ["of a socket"]);
    assert_eq!(password("user=you host=2001:db8::7"), ["of seven"]);
    assert_eq!(password("user=you host=db dbname=other"), ["of other"]);
    assert_eq!(password("user=me host=one dbname=logs passfile=/nowhere"), ["-"]);
    let target = open("user=me host=one dbname=logs", &[("PGPASSFILE", path.to_str().unwrap())]).unwrap();
    write("*:*:*:*:changed\n", 0o600);
    assert_eq!(target.each_host()[0].get_password(), Some("changed".as_bytes()));
    write("*:*:*:*:changed\n", 0o640);
    assert_eq!(target.each_host()[0].get_password(), None);
    assert_eq!(password("user=me host=one"), ["-"]);
}

#[test]
fn each_host_is_a_target_of_its_own() {
    let dsn =
        "host=one,/run port=5432,5433 user=me password=secret dbname=logs options=-cx.y=1 sslmode=require";
    let hosts = parse(dsn).hosts();
    let described: Vec<_> = hosts.iter().map(Target::describe).collect();
    assert_eq!(described, ["one:5432", "/run/.s.PGSQL.5433"]);
    assert_eq!((hosts[0].is_local(), hosts[1].is_local()), (false, true));
    let modes: Vec<_> = hosts.iter().map(|host| host.hosts[0].get_ssl_mode()).collect();
    assert_eq!(modes, [SslMode::Require, SslMode::Disable], "as for libpq, a socket is not encrypted");
    for host in hosts {
        let host = &host.hosts[0];
        assert_eq!((host.get_user(), host.get_dbname()), (Some("me"), Some("logs")));
        assert_eq!((host.get_password(), host.get_options()), (Some("secret".as_bytes()), Some("-cx.y=1")));
        assert_eq!(host.get_target_session_attrs(), TargetSessionAttrs::Any);
    }
    let seconds = |dsn: &str| parse(dsn).connect_timeout().as_secs();
    assert_eq!(["host=one,two", "host=one", "host=one,two connect_timeout=9"].map(seconds), [3, 5, 9]);
}

#[test]
fn tls_is_asked_for_in_urls_and_pairs() {
    let expected =
        TlsConfig { verify: Verify::Host, root: Some("/etc/ca.pem".into()), ..TlsConfig::default() };
    for dsn in [
        "postgres://db/x?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem",
        "postgres://db/x?ssl%6Dode=verify-full&sslroot%63ert=/etc/ca.pem",
        "host=db sslmode = verify-full sslrootcert='/etc/ca.pem'",
        "host=db sslmode=disable sslmode=verify-full sslrootcert=/etc/ca.pem",
    ] {
        assert_eq!(parse(dsn).tls, expected, "{dsn}");
        assert_eq!(parse(dsn).hosts[0].get_ssl_mode(), SslMode::Require, "{dsn}");
    }
    let weak = Target::parse("postgres://db/x?sslrootcert=system&sslmode=require").unwrap_err().to_string();
    assert!(weak.starts_with("exporters.postgres.dsn: sslmode=require "), "{weak}");
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join(".postgresql")).unwrap();
    let root = dir.path().join(".postgresql/root.crt");
    std::fs::write(&root, "").unwrap();
    let of_home = open("host=db sslmode=require", &[("HOME", dir.path().to_str().unwrap())]).unwrap().tls;
    assert_eq!((of_home.verify, of_home.root), (Verify::Authority, Some(root)), "libpq's usual file");
}

#[test]
fn a_server_elsewhere_that_is_not_verified_is_warned_of() {
    for dsn in [
        "host=db",
        "host=db sslmode=require",
        "host=/run,db",
        "postgres://10.0.0.7/x?sslmode=disable",
        "hostaddr=10.0.0.7 host=localhost",
    ] {
        let warning = parse(dsn).warning().unwrap_or_else(|| panic!("{dsn}"));
        assert!(warning.contains(&parse(dsn).describe()), "{warning}");
        assert!(warning.contains("sslmode=verify-full"), "{warning}");
    }
    for dsn in [
        "host=/run",
        "host=localhost",
        "host=127.0.0.1,::1 sslmode=require",
        "host=db hostaddr=127.0.0.1",
        "host=db sslmode=verify-full",
        "host=db sslmode=verify-ca sslrootcert=/ca.pem",
    ] {
        assert_eq!(parse(dsn).warning(), None, "{dsn}");
    }
}
