//! Room for forebay's connections: the limits of the server, the database and the role.

use super::{Checked, Patient, Verdict, ok, problem, warning};
use crate::postgres::error::Failure;

/// The limits on the sessions of a role in a database. -1 is no limit.
#[derive(Clone, Copy, Debug)]
struct Slots {
    /// Sessions that the server has for roles like this one.
    server: i64,
    /// The role's CONNECTION LIMIT.
    role: i64,
    /// The database's.
    database: i64,
    used_server: i64,
    used_role: i64,
    used_database: i64,
    /// The ones among them that are a forebay's as this role.
    forebay: i64,
}

pub(super) async fn check(p: &Patient<'_>) -> Checked {
    let (role, superuser) = p.role().await?;
    let slots = Slots::read(p, superuser).await?;
    let beside = if p.config.create_schema && p.config.table.is_none() { 2 } else { 0 };
    Ok(slots.judge(p.config.pool_size as i64, beside, &role))
}

impl Slots {
    async fn read(p: &Patient<'_>, superuser: bool) -> Result<Self, Failure> {
        let number = async |name: &str| {
            Ok::<i64, Failure>(p.setting(name).await?.and_then(|value| value.parse().ok()).unwrap_or(0))
        };
        let mut server = number("max_connections").await?;
        if !superuser {
            server -= number("superuser_reserved_connections").await?;
            if !uses_reserved(p).await? {
                server -= number("reserved_connections").await?;
            }
        }
        // A plain role sees of others' sessions that they are there; of background workers, that they have no user.
        let name = p.host.application_name();
        let row = p
            .connection
            .query_one(
                "SELECT count(*), count(*) FILTER (WHERE usename = current_user), \
                 count(*) FILTER (WHERE datname = current_database()), \
                 count(*) FILTER (WHERE usename = current_user AND application_name = $1), \
                 (SELECT rolconnlimit::bigint FROM pg_roles WHERE rolname = current_user), \
                 (SELECT datconnlimit::bigint FROM pg_database WHERE datname = current_database()) \
                 FROM pg_stat_activity WHERE usename IS NOT NULL AND pid <> pg_backend_pid() \
                 AND (backend_type IS NULL OR backend_type = 'client backend')",
                &[&name],
            )
            .await?;
        let unlimited = |limit: i64| if superuser { -1 } else { limit };
        Ok(Self {
            server,
            role: unlimited(row.get(4)),
            database: unlimited(row.get(5)),
            used_server: row.get(0),
            used_role: row.get(1),
            used_database: row.get(2),
            forebay: row.get(3),
        })
    }

    /// A running forebay has its connections already; whether it is one or several cannot be told.
    /// Building indexes and moving stray records take connections `beside`, for as long as that lasts, and can wait for them.
    fn judge(&self, pool_size: i64, beside: i64, role: &str) -> Vec<(Verdict, String)> {
        let needed = (pool_size - self.forebay).max(0);
        let ample = pool_size + beside + 2;
        let mut found = Vec::new();
        for (what, limit, used, cure) in [
            ("the server", self.server, self.used_server, "max_connections".to_owned()),
            ("the role", self.role, self.used_role, format!("ALTER ROLE {role} CONNECTION LIMIT {ample}")),
            (
                "the database",
                self.database,
                self.used_database,
                "ALTER DATABASE ... CONNECTION LIMIT".to_owned(),
            ),
        ] {
            if limit >= 0 && limit - used < needed {
                found.push(problem(format!(
                    "{what} has room for {limit} sessions, of which {used} are in use, and pool_size is {pool_size}: \
                     {cure}, or end sessions that are not needed"
                )));
            }
        }
        if found.is_empty() && (0..ample).contains(&self.role) {
            found.push(warning(format!(
                "the role's CONNECTION LIMIT of {} leaves no room for building indexes, or for sessions that a broken \
                 network has left half open: ALTER ROLE {role} CONNECTION LIMIT {ample}",
                self.role
            )));
        }
        if found.is_empty() {
            let free = (self.server - self.used_server).max(0);
            found.push(ok(format!(
                "{free} of {} are free, pool_size is {pool_size}{}, {} of forebay's are there already",
                self.server,
                if beside > 0 { ", building indexes and moving stray records take two more" } else { "" },
                self.forebay
            )));
        }
        found
    }
}

/// Whether the role may use the connections that PostgreSQL 16 and newer can reserve.
async fn uses_reserved(p: &Patient<'_>) -> Result<bool, Failure> {
    let select = "SELECT coalesce(bool_or(pg_has_role(oid, 'USAGE')), false) FROM pg_roles \
                  WHERE rolname = 'pg_use_reserved_connections'";
    Ok(p.connection.query_one(select, &[]).await?.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Slots = Slots {
        server: 97,
        role: -1,
        database: -1,
        used_server: 10,
        used_role: 2,
        used_database: 4,
        forebay: 0,
    };

    fn verdicts(slots: Slots) -> Vec<Verdict> {
        slots.judge(2, 0, "me").into_iter().map(|(verdict, _)| verdict).collect()
    }

    #[test]
    fn each_limit_leaves_room_for_the_pool_or_not() {
        use Verdict::{Ok, Problem, Warning};
        assert_eq!(verdicts(FREE), [Ok]);
        assert_eq!(verdicts(Slots { used_server: 95, ..FREE }), [Ok]);
        assert_eq!(verdicts(Slots { used_server: 96, ..FREE }), [Problem]);
        assert_eq!(verdicts(Slots { used_server: 97, forebay: 2, ..FREE }), [Ok], "it has them already");
        assert_eq!(verdicts(Slots { role: 4, ..FREE }), [Ok]);
        assert_eq!(verdicts(Slots { role: 3, used_role: 1, ..FREE }), [Warning]);
        assert_eq!(verdicts(Slots { role: 3, ..FREE }), [Problem]);
        let with_indexes = Slots { role: 4, ..FREE }.judge(2, 2, "me");
        assert!(with_indexes[0].0 == Warning && with_indexes[0].1.ends_with("LIMIT 6"), "{with_indexes:?}");
        assert_eq!(verdicts(Slots { database: 5, role: 1, used_role: 0, ..FREE }), [Problem, Problem]);
    }
}
