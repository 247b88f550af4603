//! Connection strings: forebay goes where psql goes.

use std::process::Command;

use forebay::postgres::dsn::Target;

/// The places that psql has tried, as forebay names them. None of them has a server.
fn tried_by_psql(dsn: &str) -> String {
    let ran =
        Command::new("psql").args(["-Xqc", "SELECT", dsn]).env_clear().env("HOME", "/nonexistent").output();
    let said = String::from_utf8(ran.expect("psql runs").stderr).unwrap();
    let places = said.split("connection to server ").skip(1).map(|attempt| {
        let mut quoted = attempt.split('"').skip(1);
        let place = quoted.next().unwrap_or_default();
        match attempt.starts_with("at ") {
            true => {
                let port = quoted.next().unwrap_or_default().split("port ").nth(1).unwrap_or_default();
                format!("{place}:{}", port.split(' ').next().unwrap_or_default())
            }
            false => place.to_owned(),
        }
    });
    places.collect::<Vec<_>>().join(", ")
}

/// Scenario: hosts and ports in every form that libpq has for them. Guarantee: forebay would connect where psql tries to.
#[test]
fn forebay_goes_where_psql_goes() {
    for dsn in [
        "postgresql://127.0.0.1:1/x?port=2",
        "postgresql://127.0.0.1:1/x?host=127.0.0.2",
        "postgresql://127.0.0.1:1/x?host=127.0.0.2&port=3",
        "postgresql://127.0.0.1:1,:2/x",
        "postgresql://127.0.0.1:1,127.0.0.2:2/x",
        "postgresql://127.0.0.1:1,127.0.0.2:2/x?port=3",
        "postgresql://me:s@:1/x",
        "postgresql://%2Fnowhere%2Fpg:7/x",
        "postgresql:///x?host=/nowhere&port=7",
        "postgresql://?host=127.0.0.1&port=9&",
        "postgresql:///x?target_session_attrs=primary&host=127.0.0.1&port=9",
        "postgresql://127.0.0.1:9/x?ssl=true",
        "postgresql://[::1]:9/x",
        "postgresql://me:a@127.0.0.1:9/x?user=you&password=b",
        "host=127.0.0.1,127.0.0.2 port=9,1",
        "host=127.0.0.1,,127.0.0.2 port=9",
        "host=/nowhere,127.0.0.1 port=9",
        "host=127.0.0.1 port=1 port=9",
        "host = '127.0.0.1' port = 9",
        "port=9",
    ] {
        let target = Target::parse(dsn).unwrap_or_else(|error| panic!("{dsn}: {error}"));
        assert_eq!(target.describe(), tried_by_psql(dsn), "{dsn}");
    }
}
