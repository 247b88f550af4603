-- What reads the view: functions of which each answers one question. They run as whoever calls them, who needs SELECT on
-- the view and nothing else. `{schema}` and `{name}` stand for the schema, as an identifier and as a string, and `$forebay$`
-- for a quote that the schema's name does not have in it.

CREATE OR REPLACE FUNCTION {schema}.severity_number(severity text) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $forebay$
SELECT CASE upper(severity)
    WHEN 'TRACE' THEN 1::smallint
    WHEN 'DEBUG' THEN 5::smallint
    WHEN 'INFO' THEN 9::smallint
    WHEN 'WARN' THEN 13::smallint
    WHEN 'WARNING' THEN 13::smallint
    WHEN 'ERROR' THEN 17::smallint
    WHEN 'FATAL' THEN 21::smallint
    WHEN 'CRITICAL' THEN 21::smallint
    ELSE severity::smallint
END
$forebay$;
COMMENT ON FUNCTION {schema}.severity_number(text) IS
    'The lowest severity_number of a severity: TRACE, DEBUG, INFO, WARN, ERROR or FATAL in any case, or a number from 1 to 24';

-- The statement is made of the conditions that are asked for, and planned each time with their values. One statement with
-- all of them, such as `service IS NULL OR service_name = service`, has no use for an index as soon as a client prepares it.
CREATE OR REPLACE FUNCTION {schema}.search(
    text text DEFAULT NULL,
    service text DEFAULT NULL,
    min_severity text DEFAULT NULL,
    since timestamp with time zone DEFAULT now() - interval '1 hour',
    until timestamp with time zone DEFAULT now(),
    max_rows bigint DEFAULT 1000
) RETURNS SETOF {schema}.logs
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $forebay$
BEGIN
    RETURN QUERY EXECUTE format('SELECT l.* FROM %I.logs l WHERE true', {name})
        || CASE WHEN since IS NOT NULL THEN ' AND l.time >= $1' ELSE '' END
        || CASE WHEN until IS NOT NULL THEN ' AND l.time < $2' ELSE '' END
        || CASE WHEN service IS NOT NULL THEN ' AND l.service_name = $3' ELSE '' END
        || CASE WHEN min_severity IS NOT NULL THEN ' AND l.severity_number >= $4' ELSE '' END
        || CASE WHEN text IS NOT NULL THEN ' AND l.body ILIKE $5' ELSE '' END
        || ' ORDER BY l.time DESC, l.time_unix_nano DESC LIMIT $6'
    USING since, until, service, {schema}.severity_number(min_severity),
        '%' || regexp_replace(text, E'([\\\\%_])', E'\\\\\\1', 'g') || '%', max_rows;
END
$forebay$;
COMMENT ON FUNCTION {schema}.search(text, text, text, timestamp with time zone, timestamp with time zone, bigint) IS
    'The newest max_rows log records from since to before until, the newest first: with text in their body in any case, of service, at min_severity or above. What is NULL asks for nothing';

CREATE OR REPLACE FUNCTION {schema}.trace(
    trace_id text,
    since timestamp with time zone DEFAULT '-infinity',
    until timestamp with time zone DEFAULT 'infinity'
) RETURNS SETOF {schema}.logs
LANGUAGE sql STABLE PARALLEL SAFE AS $forebay$
SELECT l.* FROM {schema}.logs l
WHERE l.trace_id = lower(trace.trace_id) AND l.time >= trace.since AND l.time < trace.until
ORDER BY l.time, l.time_unix_nano
$forebay$;
COMMENT ON FUNCTION {schema}.trace(text, timestamp with time zone, timestamp with time zone) IS
    'The log records of a trace, by its 32 hexadecimal digits, in the order of time. With since and until it looks into fewer partitions';

-- Whole numbers instead of date_bin, which is in PostgreSQL 14 and newer only, and slower.
CREATE OR REPLACE FUNCTION {schema}.histogram(
    width interval DEFAULT '1 minute',
    since timestamp with time zone DEFAULT now() - interval '1 hour',
    until timestamp with time zone DEFAULT now(),
    service text DEFAULT NULL,
    min_severity text DEFAULT NULL,
    text text DEFAULT NULL
) RETURNS TABLE (bucket timestamp with time zone, severity text, records bigint)
LANGUAGE plpgsql STABLE PARALLEL SAFE AS $forebay$
DECLARE
    microseconds bigint := round(extract(epoch FROM width) * 1000000);
    first_slot bigint;
    last_slot bigint;
BEGIN
    IF (isfinite(since) AND isfinite(until) AND microseconds > 0) IS NOT TRUE THEN
        RAISE invalid_parameter_value USING MESSAGE = 'histogram: since and until must be points in time, and width longer than nothing';
    END IF;
    first_slot := greatest(floor(extract(epoch FROM since) * 1000000 / microseconds), 0);
    last_slot := ceil(extract(epoch FROM until) * 1000000 / microseconds) - 1;
    IF last_slot - first_slot > 100000 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'histogram: from since to until there are more than 100000 buckets; make width longer';
    END IF;
    RETURN QUERY EXECUTE 'WITH counted AS MATERIALIZED ('
        || 'SELECT l.time_unix_nano / $6 AS slot, count(*) AS records, '
        || 'CASE WHEN l.severity_number BETWEEN 1 AND 24 THEN (l.severity_number + 3) / 4 ELSE 0 END AS level '
        || format('FROM %I.logs l WHERE l.time >= $1 AND l.time < $2', {name})
        || CASE WHEN service IS NOT NULL THEN ' AND l.service_name = $3' ELSE '' END
        || CASE WHEN min_severity IS NOT NULL THEN ' AND l.severity_number >= $4' ELSE '' END
        || CASE WHEN text IS NOT NULL THEN ' AND l.body ILIKE $5' ELSE '' END
        || ' GROUP BY 1, 3) SELECT to_timestamp(slot * $6 / 1000000000.0), '
        || '(ARRAY[''TRACE'', ''DEBUG'', ''INFO'', ''WARN'', ''ERROR'', ''FATAL''])[level], coalesce(records, 0) '
        || 'FROM generate_series($7, $8) AS slots (slot) CROSS JOIN (SELECT DISTINCT level FROM counted) levels '
        || 'LEFT JOIN counted USING (slot, level) ORDER BY slot, level'
    USING since, until, service, {schema}.severity_number(min_severity),
        '%' || regexp_replace(text, E'([\\\\%_])', E'\\\\\\1', 'g') || '%', microseconds * 1000, first_slot, last_slot;
END
$forebay$;
COMMENT ON FUNCTION {schema}.histogram(interval, timestamp with time zone, timestamp with time zone, text, text, text) IS
    'How many log records there are in each width of time and severity, from since to before until. Buckets are counted from 1970-01-01 UTC; each severity that occurs has all of them, with 0 where there is none';

CREATE OR REPLACE FUNCTION {schema}.errors_by_service(
    since timestamp with time zone DEFAULT now() - interval '1 hour',
    until timestamp with time zone DEFAULT now()
) RETURNS TABLE (
    service_name text, records bigint, last_seen timestamp with time zone, message text, message_records bigint
)
LANGUAGE sql STABLE PARALLEL SAFE AS $forebay$
WITH kinds AS (
    -- Messages that differ in their numbers are of one kind.
    SELECT l.service_name, count(*) AS records, max(l.time) AS last_seen, max(left(l.body, 1000)) AS message
    FROM {schema}.logs l
    WHERE l.severity_number >= 17 AND l.time >= errors_by_service.since AND l.time < errors_by_service.until
    GROUP BY l.service_name, regexp_replace(left(l.body, 200), '[0-9]+', '#', 'g')
)
SELECT k.service_name, sum(k.records)::bigint, max(k.last_seen),
    (array_agg(k.message ORDER BY k.records DESC, k.last_seen DESC))[1], max(k.records)
FROM kinds k GROUP BY k.service_name ORDER BY 2 DESC, 1
$forebay$;
COMMENT ON FUNCTION {schema}.errors_by_service(timestamp with time zone, timestamp with time zone) IS
    'The services with log records at ERROR or above from since to before until, those with the most first: how many, the last one, and a message of the most frequent kind with its number; messages that differ in their numbers are of one kind';
