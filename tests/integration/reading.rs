//! The view and the functions over it: what they answer, and which partitions and indexes they touch for it.

use std::collections::BTreeSet;
use std::ops::Range;

use ::forebay::otlp::messages::{LogRecord, ResourceLogs};
use ::forebay::table::identifier::Schema;
use ::forebay::table::index::Index;
use ::forebay::table::partition::{Period, Width};
use support::forebay::{Forebay, QUICK, run};
use support::postgres::{Database, database};
use support::records::{int, now, pair, request, text};
use tokio_postgres::{Client, SimpleQueryMessage};

const DAY: u64 = 86_400_000_000_000;

/// The first column of what `sql` answers.
pub async fn first_column(client: &Client, sql: &str) -> Vec<String> {
    let answer = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let value = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
        _ => None,
    };
    answer.iter().filter_map(value).collect()
}

/// Two closed days and the one that is being written, each of 30,000 records from 100 resources of 20 services.
struct Days {
    client: Client,
    /// Days since 1970; the last one is open.
    days: Range<i64>,
}

impl Days {
    async fn begin() -> Self {
        let database = database().await;
        Forebay::ready(database.dsn(), &[]).await.terminate().await;
        let client = database.connect().await;
        let today = (now() / DAY) as i64;
        let days = today - 2..today + 1;
        let mut fill = String::from(
            "SET TimeZone = 'UTC'; SET max_parallel_workers_per_gather = 0; SET jit = off;
            INSERT INTO otel.resources SELECT md5('r' || i)::uuid, 'service-' || i % 20, '{}', NULL, 0
                FROM generate_series(0, 99) i;
            INSERT INTO otel.scopes VALUES (md5('s')::uuid, 'scope', NULL, '{}', NULL, 0);",
        );
        for day in days.clone() {
            if day != today {
                let (period, schema) = (Period::at(day * 86_400, Width::Day), Schema::new("otel"));
                let create = period.create_statements(&schema, &[Index::Errors]);
                fill += &format!("{create}; {};", period.attach_statement(&schema));
            }
            fill += &format!(
                "INSERT INTO otel.log_records (time, time_unix_nano, resource_id, scope_id, severity_number,
                    trace_id, body, attributes)
                SELECT to_timestamp(second), second::bigint * 1000000000, md5('r' || i * 37 % 100)::uuid, md5('s')::uuid,
                    CASE WHEN hashtext(i::text) % 50 = 7 THEN 17 ELSE 9 END, decode(md5({day} || 't' || i / 10), 'hex'),
                    'order ' || i || ' of day {day} is taken, token ' || md5({day} || 'b' || i),
                    jsonb_build_object('order', i, 'method', 'GET')
                FROM generate_series(0, 29999) i, LATERAL (SELECT {day} * 86400 + i * 2.88) t (second);"
            );
        }
        client.batch_execute(&fill).await.unwrap();
        let days = Self { client, days };
        days.close(today - 2).await;
        days.close(today - 1).await;
        days.client.batch_execute("VACUUM ANALYZE").await.unwrap();
        days
    }

    /// Gives a day the indexes that a closed one has.
    async fn close(&self, day: i64) {
        let table = self.table(day);
        let trigrams = if self.has_trigrams().await {
            format!(
                "CREATE INDEX {table}_body ON otel.{table} USING gin ((coalesce(body, body_json::text)) gin_trgm_ops);"
            )
        } else {
            String::new()
        };
        let indexes = format!(
            "CREATE INDEX {table}_service ON otel.{table} (resource_id, time);
            CREATE INDEX {table}_trace ON otel.{table} (encode(trace_id, 'hex'));
            CREATE INDEX {table}_attributes ON otel.{table} USING gin (attributes jsonb_path_ops);{trigrams}"
        );
        self.client.batch_execute(&indexes).await.unwrap();
    }

    /// Whether there are trigrams, which a server without PostgreSQL's own extensions has not.
    async fn has_trigrams(&self) -> bool {
        self.client.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_trgm").await.is_ok()
    }

    fn table(&self, day: i64) -> String {
        Period::at(day * 86_400, Width::Day).name()
    }

    /// `hours` of the day as SQL: two points in time, with `between` between them.
    fn hours(&self, day: i64, hours: Range<i64>, between: &str) -> String {
        let at = |hour: i64| format!("to_timestamp({})", day * 86_400 + hour * 3600);
        format!("{}{between}{}", at(hours.start), at(hours.end))
    }

    /// The condition that a record is of these hours of the day.
    fn within(&self, day: i64, hours: Range<i64>) -> String {
        format!("time >= {}", self.hours(day, hours, " AND time < "))
    }

    /// The tables and indexes in the plan of `sql`.
    async fn planned(&self, sql: &str) -> BTreeSet<String> {
        let plan = first_column(&self.client, &format!("EXPLAIN (FORMAT JSON) {sql}")).await.join("\n");
        let mut names = BTreeSet::new();
        collect(&serde_json::from_str(&plan).unwrap(), &mut names);
        names
    }

    /// The tables of records that carrying `sql` out has read from end to end, and the indexes that it has used there.
    async fn touched(&self, sql: &str) -> BTreeSet<String> {
        let counts = "SELECT c.relname || ' ' || pg_stat_get_xact_numscans(c.oid) FROM pg_class c
            WHERE c.relname LIKE 'log_records%' AND c.relkind IN ('r', 'i')";
        let count = async || BTreeSet::from_iter(first_column(&self.client, counts).await);
        self.client.batch_execute("BEGIN").await.unwrap();
        let before = count().await;
        assert!(!first_column(&self.client, sql).await.is_empty(), "{sql} finds something");
        let after = count().await;
        self.client.batch_execute("COMMIT").await.unwrap();
        after.difference(&before).map(|count| count.split(' ').next().unwrap().to_owned()).collect()
    }
}

fn collect(plan: &serde_json::Value, names: &mut BTreeSet<String>) {
    match plan {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value.as_str()) {
                    ("Relation Name" | "Index Name", Some(name)) => drop(names.insert(name.to_owned())),
                    _ => collect(value, names),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        _ => {}
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Scenario: three days, of which two are closed and have their indexes. Guarantee: a condition on the view's columns
/// reaches the day's partition alone and the index there; tables of which no column is asked for are not joined; and the
/// functions read what the same conditions in SQL read, whatever a client has prepared.
#[tokio::test(flavor = "multi_thread")]
async fn conditions_reach_partitions_and_indexes() {
    let days = Days::begin().await;
    let (closed, open) = (days.days.start, days.days.end - 1);
    let (table, indexed) = (days.table(closed), |name: &str| format!("{}_{name}", days.table(closed)));
    let quarter = days.within(closed, 10..11);
    let whole = days.within(closed, 0..24);
    for (select, condition, index, joined) in [
        ("time, body", quarter.clone(), "time_idx", &[][..]),
        ("*", format!("{quarter} AND service_name = 'service-3'"), "service", &["resources", "scopes"]),
        (
            "body",
            format!("{quarter} AND service_name = 'service-3' AND severity_number >= 17"),
            "errors_idx",
            &["resources"],
        ),
        (
            "body, service_name",
            format!("{whole} AND attributes @> '{{\"order\": 4711}}'"),
            "attributes",
            &["resources"],
        ),
        ("body, scope_name", format!("{whole} AND trace_id = md5('{closed}t471')"), "trace", &["scopes"]),
    ] {
        let sql = format!("SELECT {select} FROM otel.logs WHERE {condition} ORDER BY time DESC LIMIT 100");
        let expected = set(&[&[table.as_str(), &indexed(index)], joined].concat());
        assert_eq!(days.planned(&sql).await, expected, "{sql}");
    }
    // Without a time, every closed day is met by its index.
    let planned =
        days.planned(&format!("SELECT body FROM otel.logs WHERE trace_id = md5('{closed}t471')")).await;
    for day in days.days.clone().filter(|day| *day != open) {
        assert!(planned.contains(&format!("{}_trace", days.table(day))), "{planned:?}");
    }
    let span = |day, hours| days.hours(day, hours, ", ");
    let named = |day, hours| format!("since => {}", days.hours(day, hours, ", until => "));
    let day = named(closed, 0..24);
    for (call, expected) in [
        (format!("search(service => 'service-7', {})", named(closed, 10..11)), "service"),
        (
            format!("search(service => 'service-7', min_severity => 'error', {})", named(closed, 10..11)),
            "errors_idx",
        ),
        (format!("search(service => 'service-7', max_rows => 5, {})", named(closed, 0..24)), "service"),
        (format!("trace(upper(md5('{closed}t471')), {})", span(closed, 0..24)), "trace"),
        (format!("histogram(service => 'service-7', {})", named(closed, 10..11)), "service"),
        (format!("errors_by_service({})", span(closed, 10..11)), "errors_idx"),
    ] {
        let touched = only_indexes(&days, &format!("SELECT * FROM otel.{call}")).await;
        assert_eq!(touched, set(&[&indexed(expected)]), "{call}");
    }
    // While it is written, errors have an index and services have none.
    let now = named(open, 10..11);
    let touched =
        only_indexes(&days, &format!("SELECT * FROM otel.search(min_severity => 'error', {now})")).await;
    assert_eq!(touched, set(&[&format!("{}_errors_idx", days.table(open))]));
    if days.has_trigrams().await {
        let condition = format!("{whole} AND body ILIKE '%Order 4711 %'");
        let sql = format!("SELECT body FROM otel.logs WHERE {condition}");
        assert_eq!(days.planned(&sql).await, set(&[&table, &indexed("body")]), "{sql}");
        for generic in [false, true] {
            let mode = if generic { "force_generic_plan" } else { "auto" };
            let prepare = format!(
                "SET plan_cache_mode = {mode}; PREPARE find{generic} (text, text) AS SELECT * FROM otel.search($1, $2, {day})"
            );
            days.client.batch_execute(&prepare).await.unwrap();
            let sql = format!("EXECUTE find{generic} ('ORDER 4711 ', NULL)");
            assert_eq!(only_indexes(&days, &sql).await, set(&[&indexed("body")]), "{mode}");
        }
    }
}

/// The indexes that carrying `sql` out has used; no table may have been read from end to end.
async fn only_indexes(days: &Days, sql: &str) -> BTreeSet<String> {
    let touched = days.touched(sql).await;
    let read: Vec<_> =
        days.days.clone().map(|day| days.table(day)).filter(|table| touched.contains(table)).collect();
    assert!(read.is_empty(), "{sql} reads {read:?}: {touched:?}");
    touched
}

/// A store with records of two services, sent through a forebay.
pub struct Scene {
    pub database: Database,
    pub client: Client,
    /// The minute, since 1970, at whose beginning the first one happened.
    pub minute: u64,
}

/// What is sent: minutes after the first, service, severity number, body.
pub const SENT: &[(u64, &str, i32, &str)] = &[
    (0, "shop", 9, "100% of the cart"),
    (0, "shop", 10, "100 percent of the cart"),
    (1, "shop", 13, "slow_query took 12 ms"),
    (1, "till", 17, "cannot print receipt 1"),
    (1, "till", 17, "cannot print receipt 22"),
    (1, "till", 18, "out of paper"),
    (3, "shop", 21, "C:\\temp is gone"),
    (3, "shop", 0, "no severity"),
];

impl Scene {
    pub async fn begin(sets: &[&str]) -> Self {
        let database = database().await;
        let forebay = Forebay::ready(database.dsn(), &[QUICK, sets].concat()).await;
        let minute = now() / 60_000_000_000 - 30;
        let mut sent = request(Vec::new());
        let of_service = |service: &str| -> ResourceLogs {
            let records = SENT.iter().zip(0_u8..).filter(|(sent, _)| sent.1 == service);
            let record =
                |(&(minutes, _, severity_number, body), number): (&(u64, &str, i32, &str), u8)| LogRecord {
                    time_unix_nano: (minute + minutes) * 60_000_000_000 + u64::from(number) * 1_000,
                    severity_number,
                    body: Some(text(body)),
                    trace_id: [number / 4 + 0xa0; 16].to_vec().into(),
                    attributes: vec![pair("number", int(number.into())), pair("who", text("me"))],
                    ..Default::default()
                };
            let mut logs = request(records.map(record).collect()).resource_logs.remove(0);
            logs.resource.as_mut().unwrap().attributes = vec![pair("service.name", text(service))];
            logs
        };
        sent.resource_logs = vec![of_service("shop"), of_service("till")];
        forebay.sender().await.send(sent).await.unwrap();
        forebay.settles().await;
        forebay.terminate().await;
        let client = database.connect().await;
        client.batch_execute("SET TimeZone = 'UTC'").await.unwrap();
        Self { database, client, minute }
    }

    /// The minute as SQL.
    fn at(&self, minutes: u64) -> String {
        format!("to_timestamp({})", (self.minute + minutes) * 60)
    }

    async fn bodies(&self, call: &str) -> Vec<String> {
        first_column(&self.client, &format!("SELECT body FROM otel.{call}")).await
    }
}

/// Scenario: a few records through a forebay. Guarantee: search finds by each of its arguments, the newest first, and
/// takes no character of the text for more than itself.
#[tokio::test(flavor = "multi_thread")]
async fn search_finds_what_is_asked_for() {
    let scene = Scene::begin(&[]).await;
    let bodies =
        |numbers: &[usize]| numbers.iter().map(|&number| SENT[number].3.to_owned()).collect::<Vec<_>>();
    let until = format!("since => {}, until => {}", scene.at(0), scene.at(1));
    for (arguments, numbers) in [
        ("", &[7, 6, 5, 4, 3, 2, 1, 0][..]),
        ("max_rows => 2", &[7, 6]),
        (&until, &[1, 0]),
        ("'CANNOT print'", &[4, 3]),
        ("'100%'", &[0]),
        ("'w_q'", &[2]),
        ("'\\temp'", &[6]),
        ("service => 'till'", &[5, 4, 3]),
        ("min_severity => 'warn'", &[6, 5, 4, 3, 2]),
        ("min_severity => 'CRITICAL'", &[6]),
        ("min_severity => '18'", &[6, 5]),
        ("'receipt', 'till', 'ERROR', max_rows => 1", &[4]),
        ("'receipt', 'shop'", &[]),
        ("since => NULL, until => NULL", &[7, 6, 5, 4, 3, 2, 1, 0]),
    ] {
        assert_eq!(scene.bodies(&format!("search({arguments})")).await, bodies(numbers), "{arguments}");
    }
    let unknown = scene.client.simple_query("SELECT * FROM otel.search(min_severity => 'loud')").await;
    assert!(unknown.unwrap_err().as_db_error().unwrap().message().contains("\"loud\""));
    let trace = format!("trace('{}')", "A1".repeat(16));
    assert_eq!(scene.bodies(&trace).await, bodies(&[4, 5, 6, 7]));
    let trace = format!("trace('{}', until => {})", "a1".repeat(16), scene.at(3));
    assert_eq!(scene.bodies(&trace).await, bodies(&[4, 5]));
}

/// Scenario: the same records. Guarantee: the histogram has every bucket of each severity that occurs, aligned, with
/// the numbers of what search would find; errors are told by service with their most frequent kind.
#[tokio::test(flavor = "multi_thread")]
async fn records_are_counted_by_time_and_service() {
    let scene = Scene::begin(&[]).await;
    let histogram = async |arguments: &str| {
        let select = "SELECT concat_ws(' ', extract(epoch FROM bucket)::bigint / 60 - $, severity, records)
            FROM otel.histogram(?)";
        let select = select.replace('$', &scene.minute.to_string()).replace('?', arguments);
        first_column(&scene.client, &select).await
    };
    let span =
        format!("since => {} + interval '59 s', until => {} + interval '1 s'", scene.at(0), scene.at(3));
    let errors = [
        "0 ERROR 0",
        "0 FATAL 0",
        "1 ERROR 3",
        "1 FATAL 0",
        "2 ERROR 0",
        "2 FATAL 0",
        "3 ERROR 0",
        "3 FATAL 1",
    ];
    assert_eq!(histogram(&format!("{span}, min_severity => 'ERROR'")).await, errors);
    let shop = format!("'2 minutes', since => {}, until => {}, service => 'shop'", scene.at(0), scene.at(4));
    let even = scene.minute % 2;
    let counted: u64 = histogram(&shop)
        .await
        .iter()
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    let first = histogram(&shop).await[0].clone();
    assert_eq!(counted, 5, "the one of no severity as well");
    assert!(
        first.starts_with(if even == 0 { "0 " } else { "-1 " }),
        "buckets are counted from 1970: {first}"
    );
    assert_eq!(
        histogram(&format!("{span}, text => 'PAPER'")).await,
        ["0 ERROR 0", "1 ERROR 1", "2 ERROR 0", "3 ERROR 0"]
    );
    assert_eq!(histogram("service => 'nobody'").await, [""; 0]);
    for wrong in ["'0 s'", "'-1 minute'", "since => NULL", "until => 'infinity'", "'1 ms'"] {
        let refused = scene.client.simple_query(&format!("SELECT * FROM otel.histogram({wrong})")).await;
        assert_eq!(refused.unwrap_err().code().unwrap().code(), "22023", "{wrong}");
    }
    let errors = "SELECT concat_ws('|', service_name, records, extract(epoch FROM last_seen)::bigint / 60 - $, message,
        message_records) FROM otel.errors_by_service()";
    let errors = first_column(&scene.client, &errors.replace('$', &scene.minute.to_string())).await;
    assert_eq!(errors, ["till|3|1|cannot print receipt 22|2", "shop|1|3|C:\\temp is gone|1"]);
}

/// Scenario: a schema whose name has all that quotes, and a role that may SELECT in the view and nothing else.
/// Guarantee: the functions are there, they do, and each has a comment.
#[tokio::test(flavor = "multi_thread")]
async fn functions_need_the_view_alone_whatever_the_schema_is_called() {
    let name = r#"o'dd "name" $forebay0$ %s"#;
    let scene =
        Scene::begin(&[&format!("exporters.postgres.schema=\"{}\"", name.replace('"', "\\\""))]).await;
    let (schema, role) = (Schema::new(name), format!("reader_{}", scene.database.name()));
    let role = format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {schema}.logs TO {role}; SET ROLE {role}"
    );
    scene.client.batch_execute(&role).await.unwrap();
    for (call, rows) in [
        ("search('receipt', 'till', 'error')".to_owned(), 2),
        (format!("trace('{}')", "a0".repeat(16)), 4),
        ("histogram('1 hour', now() - interval '10 minutes', text => 'nothing')".to_owned(), 0),
        ("errors_by_service()".to_owned(), 2),
    ] {
        let found = first_column(&scene.client, &format!("SELECT 1 FROM {schema}.{call}")).await;
        assert_eq!(found.len(), rows, "{call}");
    }
    let silent = "SELECT proname FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace
        WHERE nspname LIKE 'o''dd%' AND obj_description(pg_proc.oid, 'pg_proc') IS NULL";
    assert_eq!(first_column(&scene.client, silent).await, [""; 0]);
}

/// Scenario: a store of version 3, with a role's privilege on the view. Guarantee: a forebay that comes, or the DDL that
/// it prints, brings the functions and the view's new column, and keeps the privilege and what is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_version_3_gets_them() {
    let scene = Scene::begin(&[]).await;
    let objects = "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'otel'::regnamespace
        UNION ALL SELECT pg_get_viewdef('otel.logs'::regclass) ORDER BY 1";
    let privileges = "SELECT relacl::text FROM pg_class WHERE oid = 'otel.logs'::regclass";
    let new = first_column(&scene.client, objects).await;
    assert_eq!(new.len(), 8, "seven functions and the view");
    for by_hand in [false, true] {
        back_to_version_3(&scene.client).await;
        let before = first_column(&scene.client, objects).await;
        assert!(before.len() == 1 && !before[0].contains("stored_by"), "{before:?}");
        scene.client.batch_execute("GRANT SELECT ON otel.logs TO PUBLIC").await.unwrap();
        let granted = first_column(&scene.client, privileges).await;
        if by_hand {
            let ddl = run(scene.database.dsn(), "schema --since 3", &[]).await;
            scene.client.batch_execute(&ddl.out).await.unwrap();
        } else {
            Forebay::ready(scene.database.dsn(), &[]).await.terminate().await;
        }
        assert_eq!(first_column(&scene.client, objects).await, new);
        assert_eq!(first_column(&scene.client, privileges).await, granted);
        assert_eq!(scene.bodies("search()").await.len(), SENT.len());
    }
}

/// Takes the store back to version 3, as far as what is read is concerned.
async fn back_to_version_3(client: &Client) {
    let functions = "SELECT format('DROP FUNCTION %s', oid::regprocedure) FROM pg_proc
        WHERE pronamespace = 'otel'::regnamespace ORDER BY proname = 'severity_number'";
    let mut back = first_column(client, functions).await.join(";\n");
    let view = first_column(client, "SELECT pg_get_viewdef('otel.logs'::regclass)").await.remove(0);
    let older = view.replace(",\n    l.xmin AS stored_by,\n    l.resource_id", "");
    assert_ne!(view, older);
    back += &format!(
        "; DROP VIEW otel.logs; CREATE VIEW otel.logs AS {older}
        DELETE FROM otel.schema_migrations WHERE version > 3"
    );
    client.batch_execute(&back).await.unwrap();
}
