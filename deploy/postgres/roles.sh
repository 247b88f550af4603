#!/bin/sh
# forebay's role and database, and a role for Grafana that may only read. The image of PostgreSQL runs it once, when its
# volume is new; elsewhere run it by hand, with the two passwords in the environment and psql's own variables.
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    --set forebay="$FOREBAY_DB_PASSWORD" --set grafana="$GRAFANA_DB_PASSWORD" <<'END'
-- Two lanes, and some more for what looks after the store, for the doctor and for sessions that have yet to end.
CREATE ROLE forebay LOGIN PASSWORD :'forebay' CONNECTION LIMIT 8;
CREATE DATABASE forebay OWNER forebay;
CREATE ROLE grafana LOGIN PASSWORD :'grafana' CONNECTION LIMIT 10;
-- A dashboard's query should not outlive who waits for it.
ALTER ROLE grafana SET statement_timeout = '30s';
ALTER ROLE grafana SET default_transaction_read_only = on;
\connect forebay
-- forebay makes its schema at its first start, and partitions later.
ALTER DEFAULT PRIVILEGES FOR ROLE forebay GRANT USAGE ON SCHEMAS TO grafana;
ALTER DEFAULT PRIVILEGES FOR ROLE forebay GRANT SELECT ON TABLES TO grafana;
END
