-- Keeps the counts of a counted partition: each record that is inserted, deleted or changed becomes a row in log_counts, in the
-- same transaction. It writes as its owner, so nobody else may create a trigger with it. It does nothing for a table that is
-- neither a partition nor the owner's (a detached one may be another role's), or that has another table's key (a restored copy).

CREATE OR REPLACE FUNCTION {schema}.keep_counts() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $forebay$
BEGIN
    IF TG_ARGV[0] NOT LIKE '%/' || TG_RELID OR NOT EXISTS (
        SELECT FROM pg_class p, pg_class parent
        WHERE p.oid = TG_RELID AND parent.oid = to_regclass(format('%I.log_records', {name}))
            AND (p.relowner = parent.relowner OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = p.oid AND i.inhparent = parent.oid))
    ) THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM {schema}.log_counts WHERE partition_key = TG_ARGV[0];
        RETURN NULL;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO {schema}.log_counts VALUES (TG_ARGV[0], to_timestamp(NEW.time_unix_nano / 60000000000 * 60),
            (SELECT service_name FROM {schema}.resources WHERE id = NEW.resource_id), NEW.severity_number, '{1}', true);
    END IF;
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO {schema}.log_counts VALUES (TG_ARGV[0], to_timestamp(OLD.time_unix_nano / 60000000000 * 60),
            (SELECT service_name FROM {schema}.resources WHERE id = OLD.resource_id), OLD.severity_number, '{-1}', true);
    END IF;
    RETURN NULL;
END
$forebay$;
COMMENT ON FUNCTION {schema}.keep_counts() IS
    'Keeps log_counts right for a partition that is counted, of which the argument is the key';
REVOKE EXECUTE ON FUNCTION {schema}.keep_counts() FROM PUBLIC;
