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
-- A dashboard's query should not outlive who waits for it, nor call what somebody else has put into the database.
ALTER ROLE grafana SET statement_timeout = '30s';
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET search_path = pg_catalog;
\connect forebay
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
-- forebay makes its schema at its first start. Grafana reads what its dashboards show, as soon as it is there: no dead letters,
-- which are whole records that nobody has looked at, and no other table.
CREATE SCHEMA grants;
CREATE FUNCTION grants.to_grafana() RETURNS event_trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    made record;
BEGIN
    FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE object_identity IN
        ('otel', 'otel.logs', 'otel.losses', 'otel.resources', 'otel.log_counts')
    LOOP
        IF made.object_type = 'schema' THEN
            GRANT USAGE ON SCHEMA otel TO grafana;
        ELSIF made.object_type IN ('table', 'view') THEN
            EXECUTE format('GRANT SELECT ON %s TO grafana', made.object_identity);
        END IF;
    END LOOP;
END;
$$;
CREATE EVENT TRIGGER grants_to_grafana ON ddl_command_end WHEN TAG IN ('CREATE SCHEMA', 'CREATE TABLE', 'CREATE VIEW')
    EXECUTE FUNCTION grants.to_grafana();
END
