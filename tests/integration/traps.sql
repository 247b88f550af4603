-- What a role with nothing but CREATE on `public` can put there: for each function of pg_catalog whose name is in `names`, one with
-- the same arguments, and others whose arguments fit better; every usual operator between any two usual types; and types.
-- Whatever is called of it writes down who has called it.
SET search_path = pg_catalog;
CREATE TABLE public.caught (who text, what text);
GRANT ALL ON public.caught TO PUBLIC;

CREATE FUNCTION pg_temp.fitting(argument text) RETURNS text[] LANGUAGE sql AS $$
SELECT CASE argument
    WHEN 'oid' THEN '{oid,regclass}' WHEN 'name' THEN '{name,text}' WHEN 'text' THEN '{text,name,varchar}'
    WHEN 'bigint' THEN '{int8,int4,int2}' WHEN 'integer' THEN '{int4,int2}' WHEN 'numeric' THEN '{numeric,int8,int4}'
    WHEN 'double precision' THEN '{float8,int8,int4,numeric}' WHEN 'timestamp with time zone' THEN '{timestamptz,date}'
    WHEN 'anyarray' THEN '{text[],uuid[],int4[],bytea[],oid[],name[]}' WHEN 'anycompatiblearray' THEN '{text[],uuid[],int4[]}'
    ELSE CASE WHEN argument LIKE 'any%' OR argument LIKE '"any%'
        THEN '{text,int8,int4,int2,timestamptz,uuid,oid,bytea,jsonb,name,numeric}' ELSE ARRAY[argument]::text END
END::text[]
$$;

DO $do$
DECLARE
    names text[] := string_to_array('{names}', ',');
    made record;
    list text;
    lists text[];
    result text;
    body text := $t$ LANGUAGE plpgsql AS $b$BEGIN INSERT INTO public.caught VALUES (current_user, %L); RETURN NULL; END$b$ $t$;
    types text[] := '{text,name,oid,int2,int4,int8,numeric,float8,timestamptz,interval,uuid,jsonb,bytea,xid,"char",text[],uuid[],int8[]}';
    one text;
    other text;
BEGIN
    FOR made IN
        SELECT p.proname, p.provariadic, p.proretset, format_type(p.prorettype, NULL) AS result,
            ARRAY(SELECT format_type(a.type, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY a (type, number) ORDER BY number) AS arguments
        FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY (names) AND p.pronargs <= 4
    LOOP
        lists := '{""}';
        FOREACH one IN ARRAY made.arguments LOOP
            lists := ARRAY(SELECT l || CASE WHEN l = '' THEN '' ELSE ', ' END || f FROM unnest(lists) l, unnest(pg_temp.fitting(one)) f);
        END LOOP;
        IF made.provariadic <> 0 THEN
            lists := lists || '{text}'::text[] || '{"text, text"}'::text[] || '{"text, text, text"}'::text[];
        END IF;
        result := CASE WHEN made.result LIKE 'any%' OR made.result IN ('internal', 'record', 'cstring') THEN 'text' ELSE made.result END;
        FOREACH list IN ARRAY lists LOOP
            BEGIN
                EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s%s' || replace(body, 'RETURN NULL', CASE WHEN made.proretset
                    OR result = 'void' THEN 'RETURN' ELSE 'RETURN NULL' END), made.proname, list, CASE WHEN made.proretset THEN 'SETOF ' ELSE '' END, result,
                    format('%s(%s)', made.proname, list));
            EXCEPTION WHEN duplicate_function OR invalid_function_definition OR feature_not_supported THEN
                -- Two fit the same, or the original is for the server's own use.
            END;
        END LOOP;
    END LOOP;
    FOREACH one IN ARRAY types LOOP
        FOREACH other IN ARRAY types LOOP
            FOREACH result IN ARRAY '{bool,text,int8,float8,timestamptz}'::text[] LOOP
                EXECUTE format('CREATE FUNCTION public.of_%s(%s, %s) RETURNS %s' || body, result, one, other, result,
                    format('an operator of %s and %s', one, other));
            END LOOP;
            FOREACH list IN ARRAY '{=,<>,<,>,<=,>=,~,~~,~~*,@>}'::text[] LOOP
                EXECUTE format('CREATE OPERATOR public.%s (FUNCTION = public.of_bool, LEFTARG = %s, RIGHTARG = %s)', list, one, other);
            END LOOP;
            EXECUTE format('CREATE OPERATOR public.|| (FUNCTION = public.of_text, LEFTARG = %s, RIGHTARG = %s)', one, other);
            FOREACH list IN ARRAY '{*,/,%}'::text[] LOOP
                EXECUTE format('CREATE OPERATOR public.%s (FUNCTION = public.of_int8, LEFTARG = %s, RIGHTARG = %s)', list, one, other);
            END LOOP;
            FOREACH list IN ARRAY '{+,-}'::text[] LOOP
                EXECUTE format('CREATE OPERATOR public.%s (FUNCTION = public.of_timestamptz, LEFTARG = %s, RIGHTARG = %s)', list, one, other);
            END LOOP;
        END LOOP;
    END LOOP;
    EXECUTE format('CREATE FUNCTION public.of_type() RETURNS bool' || body, 'a type');
    FOREACH one IN ARRAY '{text,name,oid,xid,jsonb,uuid,bytea,regclass,int8,int4,float8,timestamptz}'::text[] LOOP
        EXECUTE format('CREATE DOMAIN public.%I AS pg_catalog.%I CHECK (public.of_type())', one, one);
    END LOOP;
END
$do$;
RESET search_path;
