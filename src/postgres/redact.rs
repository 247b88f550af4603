//! Connection strings without their passwords, for messages.

use super::dsn::Target;
use super::dsn::conninfo::places;
use crate::values::secret::REDACTED;

/// `dsn` without its passwords. A string that cannot be parsed is not shown at all, since nobody knows where its password ends.
pub(crate) fn without_password(dsn: &str) -> String {
    if dsn == "embedded" {
        return dsn.to_owned();
    }
    let Ok(places) = Target::parse(dsn).and_then(|_| places(dsn)) else { return REDACTED.to_owned() };
    let mut shown = dsn.to_owned();
    // Backwards, so that the earlier ranges stay valid.
    for (key, place) in places.into_iter().rev() {
        if key.contains("password") {
            shown.replace_range(place, REDACTED);
        }
    }
    shown
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
            ("password = 'hunter2 \\' x'  host = /run", "password = [REDACTED]  host = /run"),
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
