//! The three layouts: how each is filled, and how it is asked.

use tokio_postgres::Client;

use crate::load::Days;

pub struct Layout {
    pub name: &'static str,
    /// The statements that fill the table `other` from forebay's; forebay's own is there.
    pub fill: Option<fn() -> String>,
    /// In the order of [`QUESTIONS`].
    pub questions: [&'static str; 5],
}

pub const QUESTIONS: [&str; 5] = [
    "last 15 minutes of a service at ERROR or above",
    "by trace id",
    "text in body over one day",
    "attribute equals over one day",
    "histogram of one day by minute and severity",
];

pub const LAYOUTS: [Layout; 3] = [
    Layout {
        name: "forebay",
        fill: None,
        questions: [
            "SELECT time, severity, body, attributes FROM otel.logs WHERE service_name = '{service}' \
             AND severity_number >= 17 AND time >= {now}::timestamptz - interval '15 minutes' AND time < {now} ORDER BY time DESC",
            "SELECT time, severity, body, attributes FROM otel.logs WHERE trace_id = '{trace}'",
            "SELECT time, severity, body, attributes FROM otel.logs WHERE body ILIKE '%{text}%' AND time >= {from} AND time < {to}",
            "SELECT time, severity, body, attributes FROM otel.logs WHERE attributes @> '{\"user.id\": \"{user}\"}' \
             AND time >= {from} AND time < {to}",
            "SELECT bucket, severity, records FROM otel.histogram('1 minute', {from}, {to}) WHERE records > 0",
        ],
    },
    Layout {
        name: "(a) wide table",
        fill: Some(wide),
        questions: [
            "SELECT time, severity_number, body, attributes FROM other WHERE service_name = '{service}' \
             AND severity_number >= 17 AND time >= {now}::timestamptz - interval '15 minutes' AND time < {now} ORDER BY time DESC",
            "SELECT time, severity_number, body, attributes FROM other WHERE trace_id = '\\x{trace}'",
            "SELECT time, severity_number, body, attributes FROM other WHERE body ILIKE '%{text}%' AND time >= {from} AND time < {to}",
            "SELECT time, severity_number, body, attributes FROM other WHERE attributes ->> 'user.id' = '{user}' \
             AND time >= {from} AND time < {to}",
            "SELECT date_trunc('minute', time), (severity_number + 3) / 4, count(*) FROM other \
             WHERE time >= {from} AND time < {to} GROUP BY 1, 2 ORDER BY 1, 2",
        ],
    },
    Layout {
        name: "(b) one jsonb",
        fill: Some(jsonb),
        questions: [
            "SELECT time, data FROM other WHERE data -> 'resource' ->> 'service.name' = '{service}' \
             AND (data ->> 'severity_number')::int >= 17 AND time >= {now}::timestamptz - interval '15 minutes' AND time < {now} ORDER BY time DESC",
            "SELECT time, data FROM other WHERE data ->> 'trace_id' = '{trace}'",
            "SELECT time, data FROM other WHERE data ->> 'body' ILIKE '%{text}%' AND time >= {from} AND time < {to}",
            "SELECT time, data FROM other WHERE data -> 'attributes' ->> 'user.id' = '{user}' AND time >= {from} AND time < {to}",
            "SELECT date_trunc('minute', time), ((data ->> 'severity_number')::int + 3) / 4, count(*) FROM other \
             WHERE time >= {from} AND time < {to} GROUP BY 1, 2 ORDER BY 1, 2",
        ],
    },
];

fn wide() -> String {
    "CREATE UNLOGGED TABLE other AS SELECT l.time, l.time_unix_nano, l.observed_time_unix_nano, l.trace_flags, \
     l.dropped_attributes_count, l.severity_number, l.severity_text, l.trace_id, l.span_id, l.event_name, l.body, l.body_json, \
     l.attributes, r.service_name, r.attributes AS resource, s.name AS scope_name, s.version AS scope_version, \
     s.attributes AS scope_attributes FROM otel.log_records l JOIN otel.resources r ON r.id = l.resource_id \
     JOIN otel.scopes s ON s.id = l.scope_id;\n\
     CREATE INDEX ON other (time)"
        .to_owned()
}

fn jsonb() -> String {
    "CREATE UNLOGGED TABLE other AS SELECT service_name AS tag, time, jsonb_strip_nulls(jsonb_build_object(\
     'time_unix_nano', time_unix_nano, 'observed_time_unix_nano', observed_time_unix_nano, 'severity_number', severity_number, \
     'severity_text', severity_text, 'body', body, 'trace_id', trace_id, 'span_id', span_id, 'trace_flags', trace_flags, \
     'attributes', attributes, 'resource', resource, 'scope_name', scope_name, 'scope_version', scope_version)) AS data \
     FROM otel.logs;\n\
     CREATE INDEX ON other (time)"
        .to_owned()
}

impl Layout {
    /// Bytes of the table and of its indexes.
    pub async fn bytes(&self, client: &Client) -> (i64, i64) {
        let sizes = if self.fill.is_some() {
            "SELECT pg_table_size('other'), pg_indexes_size('other')"
        } else {
            "SELECT (sum(pg_table_size(inhrelid)) + pg_table_size('otel.resources'))::int8, sum(pg_indexes_size(inhrelid))::int8 \
             FROM pg_inherits WHERE inhparent = 'otel.log_records'::regclass"
        };
        let row = client.query_one(sizes, &[]).await.unwrap();
        (row.get(0), row.get(1))
    }
}

/// What is asked for.
pub struct Samples {
    now: String,
    from: String,
    to: String,
    service: String,
    trace: String,
    text: String,
    user: String,
}

impl Samples {
    /// Of a record in the middle of a day in the middle.
    pub async fn of(client: &Client, days: &Days) -> Self {
        let at = |seconds| format!("'{}'", jiff::Timestamp::from_second(seconds).unwrap());
        let day = days.day(days.count / 2);
        let (from, to) = (at(day.start()), at(day.end()));
        let middle = at(day.start() + 43_200);
        let sample = format!(
            "SELECT service_name, trace_id, substr(body, 2, 8), attributes ->> 'user.id' FROM otel.logs \
             WHERE time >= {middle} AND time < {middle}::timestamptz + interval '1 second' LIMIT 1"
        );
        let row = client.query_one(&sample, &[]).await.unwrap();
        let now = at(days.day(days.count - 1).end());
        Self { now, from, to, service: row.get(0), trace: row.get(1), text: row.get(2), user: row.get(3) }
    }

    pub fn put_into(&self, sql: &str) -> String {
        [
            ("{now}", &self.now),
            ("{from}", &self.from),
            ("{to}", &self.to),
            ("{service}", &self.service),
            ("{trace}", &self.trace),
            ("{text}", &self.text),
            ("{user}", &self.user),
        ]
        .iter()
        .fold(sql.to_owned(), |sql, (name, value)| sql.replace(name, value))
    }
}
