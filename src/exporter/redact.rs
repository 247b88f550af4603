//! A connection string as it may be shown: all of it but its password.

use super::dsn::{Target, key_value, percent_decode};
use crate::secret::REDACTED;

/// `dsn` without its password. What cannot be read is not shown at all.
pub(super) fn without_password(dsn: &str) -> String {
    let shown = match dsn.split_once("://") {
        _ if dsn == "embedded" => Some(dsn.to_owned()),
        // Where a password ends is only known of what can be read.
        _ if Target::parse(dsn).is_err() => None,
        Some((scheme @ ("postgres" | "postgresql"), rest)) => Some(format!("{scheme}://{}", url(rest))),
        _ => pairs(dsn),
    };
    shown.unwrap_or_else(|| REDACTED.to_owned())
}

/// What stands behind the `://` of a URL. As in tokio-postgres, the first @ ends the password.
fn url(rest: &str) -> String {
    let (before, query) = rest.split_once('?').map_or((rest, None), |(before, query)| (before, Some(query)));
    let mut shown = match before.split_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:{REDACTED}@{host}"),
            None => before.to_owned(),
        },
        None => before.to_owned(),
    };
    for (index, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        shown.push(if index == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((key, _)) if is_secret(&percent_decode(key)) => shown += &format!("{key}={REDACTED}"),
            _ => shown += pair,
        }
    }
    shown
}

fn pairs(dsn: &str) -> Option<String> {
    let mut shown = Vec::new();
    let mut rest = dsn.trim();
    while !rest.is_empty() {
        let (key, _, tail) = key_value(rest).ok()?;
        let pair = rest[..rest.len() - tail.len()].trim_end();
        shown.push(if is_secret(key) { format!("{key}={REDACTED}") } else { pair.to_owned() });
        rest = tail;
    }
    Some(shown.join(" "))
}

fn is_secret(key: &str) -> bool {
    key.contains("password")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_password_is_shown() {
        for (dsn, shown) in [
            ("embedded", "embedded"),
            (
                "postgres://me:hunter2@db:5432/logs?sslmode=require",
                "postgres://me:[REDACTED]@db:5432/logs?sslmode=require",
            ),
            ("postgresql://me@db/logs", "postgresql://me@db/logs"),
            ("postgres://db/logs?user=me&password=hunter2", "postgres://db/logs?user=me&password=[REDACTED]"),
            ("host=db password=hunter2 user=me", "host=db password=[REDACTED] user=me"),
            ("password = 'hunter2 \\' x'  host = /run", "password=[REDACTED] host = /run"),
        ] {
            assert_eq!(without_password(dsn), shown);
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_shown() {
        for dsn in [
            "hunter2",
            "host=db password='hunter2",
            "https://me:hunter2@db",
            "host=db hunter2",
            "host=db sslpassword=hunter2",
            "postgres://db?pass%77ord=hunter2",
            "postgresql://u:p@hunter2@h/db",
            "postgresql:/u:hunter2@h/db?connect_timeout=3",
        ] {
            assert!(!without_password(dsn).contains("hunter2"), "{dsn}");
        }
    }
}
