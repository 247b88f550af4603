-- Functions that read the view; each answers one question. They run as their caller, who needs only SELECT on the view; with
-- SELECT on resources and log_counts as well, some answers are faster. `{schema}` and `{name}` are the schema, as an identifier
-- and as a string; `$forebay$` is a quote that the schema's name does not contain.
--
-- No name is looked up in the caller's search_path, where another role may have put a function or an operator that matches
-- better. Functions set their own path; trace and errors_by_service qualify every name instead, because PostgreSQL does not
-- inline a function that sets something, and would then plan it without the caller's times.

CREATE OR REPLACE FUNCTION {schema}.severity_number(severity text) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $forebay$
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
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $forebay$
DECLARE
    of_service text := CASE WHEN service IS NOT NULL THEN ' AND l.service_name = $3' ELSE '' END;
    resource_ids uuid[];
BEGIN
    -- How many records a join finds is a guess, and how many a resource has is known. Of a single one they are in order.
    IF service IS NOT NULL AND has_table_privilege(to_regclass(format('%I.resources', {name})), 'SELECT') THEN
        resource_ids := ARRAY(SELECT r.id FROM {schema}.resources r WHERE r.service_name = service);
        of_service := CASE cardinality(resource_ids) WHEN 1 THEN ' AND l.resource_id = $7[1]' ELSE ' AND l.resource_id = ANY ($7)' END;
    END IF;
    RETURN QUERY EXECUTE format('SELECT l.* FROM %I.logs l WHERE true', {name})
        || CASE WHEN since IS NOT NULL THEN ' AND l.time >= $1' ELSE '' END
        || CASE WHEN until IS NOT NULL THEN ' AND l.time < $2' ELSE '' END
        || of_service
        || CASE WHEN min_severity IS NOT NULL THEN ' AND l.severity_number >= $4' ELSE '' END
        || CASE WHEN text IS NOT NULL THEN ' AND l.body ILIKE $5' ELSE '' END
        || ' ORDER BY l.time DESC, l.time_unix_nano DESC LIMIT $6'
    USING since, until, service, {schema}.severity_number(min_severity),
        '%' || regexp_replace(text, E'([\\\\%_])', E'\\\\\\1', 'g') || '%', max_rows, resource_ids;
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
WHERE l.trace_id OPERATOR(pg_catalog.=) pg_catalog.lower(trace.trace_id)
    AND l.time OPERATOR(pg_catalog.>=) trace.since AND l.time OPERATOR(pg_catalog.<) trace.until
ORDER BY l.time, l.time_unix_nano
$forebay$;
COMMENT ON FUNCTION {schema}.trace(text, timestamp with time zone, timestamp with time zone) IS
    'The log records of a trace, by its 32 hexadecimal digits, in the order of time. With since and until it looks into fewer partitions';

-- What of log_counts can be relied on is in the catalogue: a trigger keeps the counts of a partition, and says in its comment that
-- they are complete, and by which key.
CREATE OR REPLACE FUNCTION {schema}.counted(
    since timestamp with time zone, until timestamp with time zone
) RETURNS TABLE (partition_key text, first_minute bigint, end_minute bigint)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET "DateStyle" = 'ISO' SET "TimeZone" = 'UTC' AS $forebay$
SELECT substring(d.comment FROM '^counted as (.*)$'),
    ceil(extract(epoch FROM greatest(b.lower, counted.since)) / 60)::bigint,
    floor(extract(epoch FROM least(b.upper, counted.until)) / 60)::bigint
FROM pg_class parent JOIN pg_namespace n ON n.oid = parent.relnamespace JOIN pg_inherits i ON i.inhparent = parent.oid
JOIN pg_class p ON p.oid = i.inhrelid JOIN pg_trigger t ON t.tgrelid = p.oid,
LATERAL (SELECT obj_description(t.oid, 'pg_trigger') AS comment, pg_get_expr(p.relpartbound, p.oid) AS bound) d,
LATERAL (
    SELECT substring(d.bound FROM 'FROM [(]''([^'']*)''[)]')::timestamp with time zone AS lower,
        substring(d.bound FROM 'TO [(]''([^'']*)''[)]')::timestamp with time zone AS upper
) b
WHERE n.nspname = {name} AND parent.relname = 'log_records' AND t.tgname = 'forebay_keep_counts' AND t.tgenabled IN ('O', 'A')
    AND d.comment LIKE 'counted as %/' || p.oid AND b.lower < counted.until AND b.upper > counted.since
    AND date_trunc('minute', b.lower AT TIME ZONE 'UTC') = b.lower AT TIME ZONE 'UTC'
    AND date_trunc('minute', b.upper AT TIME ZONE 'UTC') = b.upper AT TIME ZONE 'UTC'
ORDER BY b.lower
$forebay$;
COMMENT ON FUNCTION {schema}.counted(timestamp with time zone, timestamp with time zone) IS
    'The spans between since and until of which log_counts has every record: its key there, the first minute since 1970, and the one after the last';

-- Whole numbers instead of date_bin, which is in PostgreSQL 14 and newer only, and slower. What is counted already is taken
-- from log_counts, by whole minutes, where the caller may read it; what lies between is counted here. log_counts has rows, so
-- that it does not help where a folded record counts as the records that it stands for.
CREATE OR REPLACE FUNCTION {schema}.histogram(
    width interval DEFAULT '1 minute',
    since timestamp with time zone DEFAULT now() - interval '1 hour',
    until timestamp with time zone DEFAULT now(),
    service text DEFAULT NULL,
    min_severity text DEFAULT NULL,
    text text DEFAULT NULL,
    folded boolean DEFAULT false
) RETURNS TABLE (bucket timestamp with time zone, severity text, records bigint)
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $forebay$
DECLARE
    microseconds bigint := round(extract(epoch FROM width) * 1000000);
    first_slot bigint;
    last_slot bigint;
    conditions text := CASE WHEN service IS NOT NULL THEN ' AND l.service_name = $1' ELSE '' END
        || CASE WHEN min_severity IS NOT NULL THEN ' AND l.severity_number >= $2' ELSE '' END
        || CASE WHEN text IS NOT NULL THEN ' AND l.body ILIKE $3' ELSE '' END;
    -- Both are for format() with the schema. The records of a span of time, in seconds since 1970:
    of_records text := 'SELECT l.time_unix_nano / $4, l.severity_number, '
        || CASE WHEN folded THEN
            'sum(CASE jsonb_typeof(l.attributes->''forebay.folded.count'') WHEN ''number'' '
            || 'THEN greatest(least((l.attributes->''forebay.folded.count'')::numeric, 1e12), 1) ELSE 1 END)'
        ELSE 'count(*)' END || ' FROM %1$I.logs l '
        || 'WHERE l.time >= to_timestamp(%2$s) AND l.time < to_timestamp(%3$s)' || conditions || ' GROUP BY 1, 2';
    -- and those of a partition's minutes, of which a row has up to an hour.
    of_counts text := 'SELECT l.minute * 60000000000 / $4, l.severity_number, l.records FROM (SELECT c.service_name, '
        || 'c.severity_number, extract(epoch FROM c.start)::bigint / 60 + m.number - 1 AS minute, m.records '
        || 'FROM %1$I.log_counts c, unnest(c.counts) WITH ORDINALITY m (records, number) WHERE c.partition_key = %4$L '
        || 'AND c.start > to_timestamp((%2$s - 60) * 60::bigint) AND c.start < to_timestamp(%3$s * 60::bigint)) l '
        || 'WHERE l.minute >= %2$s AND l.minute < %3$s AND l.records <> 0' || conditions;
    done numeric;
    span record;
    sources text[] := '{}';
BEGIN
    IF (isfinite(since) AND isfinite(until) AND microseconds > 0) IS NOT TRUE THEN
        RAISE invalid_parameter_value USING MESSAGE = 'histogram: since and until must be points in time, and width longer than nothing';
    END IF;
    first_slot := greatest(floor(extract(epoch FROM since) * 1000000 / microseconds), 0);
    last_slot := ceil(extract(epoch FROM until) * 1000000 / microseconds) - 1;
    IF last_slot - first_slot > 100000 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'histogram: from since to until there are more than 100000 buckets; make width longer';
    END IF;
    done := extract(epoch FROM since);
    IF text IS NULL AND folded IS NOT TRUE AND microseconds % 60000000 = 0
        AND has_table_privilege(to_regclass(format('%I.log_counts', {name})), 'SELECT') THEN
        FOR span IN SELECT * FROM {schema}.counted(since, until) c WHERE c.first_minute < c.end_minute LOOP
            IF done < span.first_minute * 60 THEN
                sources := sources || format(of_records, {name}, done, span.first_minute * 60);
            END IF;
            sources := sources || format(of_counts, {name}, span.first_minute, span.end_minute, span.partition_key);
            done := span.end_minute * 60;
        END LOOP;
    END IF;
    IF done < extract(epoch FROM until) OR sources = '{}' THEN
        sources := sources || format(of_records, {name}, done, extract(epoch FROM until));
    END IF;
    RETURN QUERY EXECUTE 'WITH counted AS MATERIALIZED (SELECT slot, sum(records)::bigint AS records, '
        || 'CASE WHEN severity_number BETWEEN 1 AND 24 THEN (severity_number + 3) / 4 ELSE 0 END AS level '
        || 'FROM (' || array_to_string(sources, ' UNION ALL ') || ') l (slot, severity_number, records) '
        || 'GROUP BY 1, 3 HAVING sum(records) <> 0) SELECT to_timestamp(slot * $4 / 1000000000.0), '
        || '(ARRAY[''TRACE'', ''DEBUG'', ''INFO'', ''WARN'', ''ERROR'', ''FATAL''])[level], coalesce(records, 0) '
        || 'FROM generate_series($5, $6) AS slots (slot) CROSS JOIN (SELECT DISTINCT level FROM counted) levels '
        || 'LEFT JOIN counted USING (slot, level) ORDER BY slot, level'
    USING service, {schema}.severity_number(min_severity),
        '%' || regexp_replace(text, E'([\\\\%_])', E'\\\\\\1', 'g') || '%', microseconds * 1000, first_slot, last_slot;
END
$forebay$;
COMMENT ON FUNCTION {schema}.histogram(interval, timestamp with time zone, timestamp with time zone, text, text, text, boolean) IS
    'How many log records there are in each width of time and severity, from since to before until. Buckets are counted from 1970-01-01 UTC; each severity that occurs has all of them, with 0 where there is none. With folded, a folded record counts as the records that it stands for';

CREATE OR REPLACE FUNCTION {schema}.errors_by_service(
    since timestamp with time zone DEFAULT now() - interval '1 hour',
    until timestamp with time zone DEFAULT now()
) RETURNS TABLE (
    service_name text, records bigint, last_seen timestamp with time zone, message text, message_records bigint
)
LANGUAGE sql STABLE PARALLEL SAFE AS $forebay$
WITH kinds AS (
    -- Messages that differ in their numbers are of one kind.
    SELECT l.service_name, pg_catalog.count(*) AS records, pg_catalog.max(l.time) AS last_seen,
        pg_catalog.max(pg_catalog.left(l.body, 1000)) AS message
    FROM {schema}.logs l
    WHERE l.severity_number OPERATOR(pg_catalog.>=) 17 AND l.time OPERATOR(pg_catalog.>=) errors_by_service.since
        AND l.time OPERATOR(pg_catalog.<) errors_by_service.until
    GROUP BY l.service_name, pg_catalog.regexp_replace(pg_catalog.left(l.body, 200), '[0-9]+', '#', 'g')
)
SELECT k.service_name, pg_catalog.sum(k.records)::bigint, pg_catalog.max(k.last_seen),
    (pg_catalog.array_agg(k.message ORDER BY k.records DESC, k.last_seen DESC))[1], pg_catalog.max(k.records)
FROM kinds k GROUP BY k.service_name ORDER BY 2 DESC, 1
$forebay$;
COMMENT ON FUNCTION {schema}.errors_by_service(timestamp with time zone, timestamp with time zone) IS
    'The services with log records at ERROR or above from since to before until, those with the most first: how many, the last one, and a message of the most frequent kind with its number; messages that differ in their numbers are of one kind';
