//! Every key of a connection string (PostgreSQL manual, "Parameter Key Words") and its environment variable.

use super::{DsnError, refused};

/// How a key is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Treatment {
    /// It has libpq's meaning.
    Used,
    /// Its value has no effect.
    Ignored,
    /// Only these values are accepted, which have no effect; for others the text gives the reason and an alternative.
    Only(&'static [&'static str], &'static str),
}

use Treatment::{Ignored, Only, Used};

type Key = (&'static str, &'static str, Treatment);

const NO_GSS: Treatment = Only(
    &["", "disable", "prefer"],
    "forebay does not speak GSSAPI; encrypt with sslmode=verify-full, and authenticate with a password or a certificate",
);
const NO_OAUTH: Treatment =
    Only(&[""], "forebay does not speak OAuth to PostgreSQL; use a password or a certificate");
const NO_SCRAM_KEY: Treatment = Only(&[""], "forebay authenticates with the password; set it, or a passfile");

const KEYS: [Key; 51] = [
    ("host", "PGHOST", Used),
    ("hostaddr", "PGHOSTADDR", Used),
    ("port", "PGPORT", Used),
    ("dbname", "PGDATABASE", Used),
    ("user", "PGUSER", Used),
    ("password", "PGPASSWORD", Used),
    ("passfile", "PGPASSFILE", Used),
    ("service", "PGSERVICE", Used),
    ("servicefile", "PGSERVICEFILE", Used),
    (
        "require_auth",
        "PGREQUIREAUTH",
        Only(
            &[""],
            "forebay cannot choose how the server authenticates; write channel_binding=require, \
      which takes SCRAM over TLS and nothing else",
        ),
    ),
    ("channel_binding", "PGCHANNELBINDING", Used),
    ("connect_timeout", "PGCONNECT_TIMEOUT", Used),
    // The encoding is always UTF-8.
    ("client_encoding", "PGCLIENTENCODING", Ignored),
    ("options", "PGOPTIONS", Used),
    ("application_name", "PGAPPNAME", Used),
    ("fallback_application_name", "", Used),
    ("keepalives", "", Used),
    ("keepalives_idle", "", Used),
    ("keepalives_interval", "", Used),
    ("keepalives_count", "", Used),
    ("keepalives_retries", "", Used),
    ("tcp_user_timeout", "", Used),
    (
        "replication",
        "",
        Only(&["", "false", "off", "no", "0"], "forebay writes by ordinary sessions; remove this key"),
    ),
    ("gssencmode", "PGGSSENCMODE", NO_GSS),
    ("gssdelegation", "PGGSSDELEGATION", Ignored),
    ("krbsrvname", "PGKRBSRVNAME", Ignored),
    ("gsslib", "PGGSSLIB", Ignored),
    ("sslmode", "PGSSLMODE", Used),
    ("sslnegotiation", "PGSSLNEGOTIATION", Used),
    // libpq ignores it too, unless the server allows compression, which no server should.
    ("sslcompression", "PGSSLCOMPRESSION", Ignored),
    ("sslcert", "PGSSLCERT", Used),
    ("sslkey", "PGSSLKEY", Used),
    ("sslpassword", "", Used),
    ("sslcertmode", "PGSSLCERTMODE", Used),
    ("sslrootcert", "PGSSLROOTCERT", Used),
    ("sslcrl", "PGSSLCRL", Used),
    (
        "sslcrldir",
        "PGSSLCRLDIR",
        Only(
            &[""],
            "forebay reads no directory of revoked certificates; put them into one file (cat DIR/*) and set sslcrl",
        ),
    ),
    ("sslsni", "PGSSLSNI", Used),
    (
        "requirepeer",
        "PGREQUIREPEER",
        Only(
            &[""],
            "forebay cannot ask who serves a socket; let only the server's user write to the socket's directory, and \
      remove this key",
        ),
    ),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", Used),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", Used),
    (
        "min_protocol_version",
        "PGMINPROTOCOLVERSION",
        Only(&["", "3.0"], "forebay speaks version 3.0 of the protocol; remove this key"),
    ),
    ("max_protocol_version", "PGMAXPROTOCOLVERSION", Ignored),
    ("sslkeylogfile", "", Only(&[""], "forebay gives its session keys to nobody; remove this key")),
    ("target_session_attrs", "PGTARGETSESSIONATTRS", Used),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS", Used),
    ("scram_client_key", "", NO_SCRAM_KEY),
    ("scram_server_key", "", NO_SCRAM_KEY),
    ("oauth_issuer", "", NO_OAUTH),
    ("oauth_client_id", "", NO_OAUTH),
    ("oauth_client_secret", "", NO_OAUTH),
];

/// Keys and their environment variables.
pub(super) fn variables() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEYS.iter().map(|(key, variable, _)| (*key, *variable)).filter(|(_, variable)| !variable.is_empty())
}

/// Refuses an unknown key, and a value that forebay does not support. The message never shows a value, which may be a
/// password, nor a key that may contain one: in a URL with a slash too few, the key is everything up to the first `=`.
pub(super) fn check(key: &str, value: &str) -> Result<(), DsnError> {
    match KEYS.iter().find(|(known, ..)| *known == key) {
        Some((_, _, Used | Ignored)) => Ok(()),
        Some((_, _, Only(allowed, _))) if allowed.contains(&value) => Ok(()),
        Some((_, _, Only(_, instead))) => refused(key, *instead),
        None if !key.is_empty() && key.chars().all(|c| c.is_ascii_alphabetic() || c == '_') => {
            let distance = |known: &str| strsim::damerau_levenshtein(key, known);
            let near = KEYS.iter().map(|(known, ..)| *known).min_by_key(|known| distance(known));
            let near = near.filter(|known| distance(known) <= 1 + known.len() / 4);
            let cure = near.map_or_else(|| "remove it".to_owned(), |near| format!("did you mean {near}?"));
            refused(key, format!("libpq has no such key; {cure}"))
        }
        None => Err(DsnError::Parse("what stands before a = is not an option's name".to_owned())),
    }
}
