-- JSON Schema: is this a schema, and does a document fit it?
--
-- A config may have a schema that its content must fit. The keywords of JSON Schema 2020-12 that
-- are checked here are listed in docs/sql.md. A schema with any other keyword is refused when it is
-- written, so that nobody relies on a rule that nobody checks. check_schema() looks at a schema
-- once, when it is written, and judge() looks at content each time, so judge() expects a legal
-- schema.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (3, 'schemas');

CREATE TYPE headwater.verdict AS (
    steps   int,  -- how many schemas were applied so far
    at      text, -- JSON Pointer into the content
    keyword text, -- JSON Pointer into the schema
    problem text  -- null: the content fits
);

CREATE FUNCTION headwater.refuse_schema(at text, problem text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'schema at "%": %', at, problem
        USING ERRCODE = 'check_violation', CONSTRAINT = 'config_schema_is_legal',
              SCHEMA = 'headwater', TABLE = 'config', COLUMN = at,
              HINT = 'docs/sql.md lists the keywords of JSON Schema that are checked here.';
END
$$;

CREATE FUNCTION headwater.check_pattern(pattern text, at text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    PERFORM '' ~ pattern;
EXCEPTION WHEN invalid_regular_expression THEN
    PERFORM refuse_schema(at, SQLERRM);
END
$$;

-- Refuses what is not a schema, and every keyword that judge() does not check. Returns the place of
-- each schema within the schema as {"schema": pointer}, and each reference as {"ref": pointer,
-- "at": place}, so that check_schema() can tell whether every reference leads to a schema.
CREATE FUNCTION headwater.schema_parts(schema jsonb, at text, depth int) RETURNS SETOF jsonb
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    key text;
    value jsonb;
    name text;
    part jsonb;
    place text;
    kind text;
BEGIN
    RETURN NEXT jsonb_build_object('schema', at);
    IF jsonb_typeof(schema) = 'boolean' THEN
        RETURN;
    ELSIF jsonb_typeof(schema) <> 'object' THEN
        PERFORM refuse_schema(at, 'must be an object or a boolean');
    ELSIF depth > 64 THEN
        PERFORM refuse_schema(at, 'schemas within schemas, more than 64 levels deep');
    END IF;
    FOR key, value IN SELECT * FROM jsonb_each(schema) LOOP
        place := json_pointer(at, key);
        kind := jsonb_typeof(value);
        IF key IN ('title', 'description', 'default', 'examples', '$comment', '$schema', '$id',
                   'format', 'enum', 'const') THEN
            IF key = 'enum' AND kind <> 'array' THEN
                PERFORM refuse_schema(place, 'must be an array');
            END IF;
        ELSIF key = 'type' THEN
            IF kind NOT IN ('string', 'array') OR EXISTS (
                SELECT FROM jsonb_array_elements(
                    CASE kind WHEN 'array' THEN value ELSE jsonb_build_array(value) END) AS e
                WHERE e #>> '{}' NOT IN ('null', 'boolean', 'object', 'array', 'number', 'string',
                                         'integer') OR jsonb_typeof(e) <> 'string') THEN
                PERFORM refuse_schema(place, 'must be null, boolean, object, array, number, '
                                             'string or integer, or an array of these');
            END IF;
        ELSIF key = 'required' THEN
            IF kind <> 'array' OR EXISTS (SELECT FROM jsonb_array_elements(
                    CASE kind WHEN 'array' THEN value END) AS e
                    WHERE jsonb_typeof(e) <> 'string') THEN
                PERFORM refuse_schema(place, 'must be an array of strings');
            END IF;
        ELSIF key IN ('minProperties', 'maxProperties', 'minItems', 'maxItems', 'minLength',
                      'maxLength') THEN
            IF kind <> 'number' OR value < '0' OR trunc((value #>> '{}')::numeric)
                    <> (value #>> '{}')::numeric THEN
                PERFORM refuse_schema(place, 'must be an integer, not negative');
            END IF;
        ELSIF key IN ('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf')
            THEN
            IF kind <> 'number' OR (key = 'multipleOf' AND value <= '0') THEN
                PERFORM refuse_schema(place, CASE key WHEN 'multipleOf'
                    THEN 'must be a number above 0' ELSE 'must be a number' END);
            END IF;
        ELSIF key = 'uniqueItems' THEN
            IF kind <> 'boolean' THEN
                PERFORM refuse_schema(place, 'must be a boolean');
            END IF;
        ELSIF key = 'pattern' THEN
            IF kind <> 'string' THEN
                PERFORM refuse_schema(place, 'must be a string');
            END IF;
            PERFORM check_pattern(value #>> '{}', place);
        ELSIF key = '$ref' THEN
            IF kind <> 'string' OR value #>> '{}' !~ '^#(/|$)' THEN
                PERFORM refuse_schema(place, 'must be a reference within this schema: "#/…"');
            END IF;
            RETURN NEXT jsonb_build_object('ref', substr(value #>> '{}', 2), 'at', place);
        ELSIF key IN ('additionalProperties', 'propertyNames', 'items', 'not', 'if', 'then',
                      'else') THEN
            RETURN QUERY SELECT * FROM schema_parts(value, place, depth + 1);
        ELSIF key IN ('properties', 'patternProperties', '$defs') THEN
            IF kind <> 'object' THEN
                PERFORM refuse_schema(place, 'must be an object');
            END IF;
            FOR name, part IN SELECT * FROM jsonb_each(value) LOOP
                IF key = 'patternProperties' THEN
                    PERFORM check_pattern(name, json_pointer(place, name));
                END IF;
                RETURN QUERY SELECT * FROM schema_parts(part, json_pointer(place, name), depth + 1);
            END LOOP;
        ELSIF key IN ('prefixItems', 'allOf', 'anyOf', 'oneOf') THEN
            IF kind <> 'array' OR value = '[]' THEN
                PERFORM refuse_schema(place, 'must be an array of schemas');
            END IF;
            FOR name, part IN SELECT (e.position - 1)::text, e.value
                FROM jsonb_array_elements(value) WITH ORDINALITY AS e (value, position) LOOP
                RETURN QUERY SELECT * FROM schema_parts(part, json_pointer(place, name), depth + 1);
            END LOOP;
        ELSE
            PERFORM refuse_schema(place, 'this keyword is not checked here, so it is not taken');
        END IF;
    END LOOP;
END
$$;

CREATE FUNCTION headwater.check_schema(schema jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    parts jsonb[] := ARRAY(SELECT * FROM schema_parts(schema, '', 0));
    lost jsonb;
BEGIN
    SELECT r INTO lost FROM unnest(parts) AS r
    WHERE r ? 'ref' AND NOT EXISTS (
        SELECT FROM unnest(parts) AS s WHERE s -> 'schema' = r -> 'ref')
    LIMIT 1;
    IF FOUND THEN
        PERFORM refuse_schema(lost ->> 'at', format('there is no schema at "#%s"', lost ->> 'ref'));
    END IF;
END
$$;

-- Does the instance fit the schema? The instance stands at the pointer at in the content, and the
-- schema at the pointer place in the root schema. Returns the first problem that is found. A schema
-- may refer to itself, so steps and depth are bounded.
CREATE FUNCTION headwater.judge(instance jsonb, schema jsonb, root jsonb, at text, place text,
                                depth int, steps int) RETURNS headwater.verdict
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    v verdict := ROW (steps + 1, at, place, NULL);
    w verdict;
    kind CONSTANT text := jsonb_typeof(instance);
    key text;
    value jsonb;
    name text;
    part jsonb;
    other jsonb;
    number numeric;
    length int;
    count int;
    problem text;
BEGIN
    IF v.steps > 500000 OR depth > 128 THEN
        RAISE EXCEPTION 'the content cannot be checked: %', CASE WHEN depth > 128
            THEN 'content and schema go more than 128 levels deep'
            ELSE 'its schemas would be applied more than 500000 times' END
            USING ERRCODE = 'program_limit_exceeded', CONSTRAINT = 'config_schema_limit',
                  SCHEMA = 'headwater', TABLE = 'config';
    END IF;
    IF jsonb_typeof(schema) = 'boolean' THEN
        IF schema = 'false' THEN
            v.problem := 'is not allowed';
        END IF;
        RETURN v;
    END IF;
    IF kind = 'number' THEN
        number := (instance #>> '{}')::numeric;
    ELSIF kind = 'string' THEN
        length := char_length(instance #>> '{}');
    ELSIF kind = 'array' THEN
        length := jsonb_array_length(instance);
    ELSIF kind = 'object' THEN
        length := (SELECT count(*) FROM jsonb_object_keys(instance));
    END IF;

    FOR key, value IN SELECT * FROM jsonb_each(schema) LOOP
        problem := NULL;
        -- These keywords look at the value itself.
        IF key = 'type' THEN
            IF NOT EXISTS (
                SELECT FROM jsonb_array_elements_text(
                    CASE jsonb_typeof(value) WHEN 'array' THEN value
                                             ELSE jsonb_build_array(value) END) AS t (name)
                WHERE t.name = kind OR (t.name = 'integer' AND number = trunc(number))) THEN
                problem := format('must be %s, not %s', translate(value::text, '"[]', ''), kind);
            END IF;
        ELSIF key = 'enum' THEN
            IF NOT EXISTS (SELECT FROM jsonb_array_elements(value) AS e WHERE e = instance) THEN
                problem := 'must be one of ' || left(value::text, 200);
            END IF;
        ELSIF key = 'const' THEN
            IF instance <> value THEN
                problem := 'must be ' || left(value::text, 200);
            END IF;
        ELSIF kind = 'number' AND key IN ('minimum', 'maximum', 'exclusiveMinimum',
                                          'exclusiveMaximum', 'multipleOf') THEN
            problem := CASE
                WHEN key = 'minimum' AND number < (value #>> '{}')::numeric
                    THEN 'must be at least '
                WHEN key = 'maximum' AND number > (value #>> '{}')::numeric THEN 'must be at most '
                WHEN key = 'exclusiveMinimum' AND number <= (value #>> '{}')::numeric
                    THEN 'must be above '
                WHEN key = 'exclusiveMaximum' AND number >= (value #>> '{}')::numeric
                    THEN 'must be below '
                WHEN key = 'multipleOf' AND number % (value #>> '{}')::numeric <> 0
                    THEN 'must be a multiple of ' END || value::text;
        ELSIF (kind, key) IN (('string', 'minLength'), ('array', 'minItems'),
                              ('object', 'minProperties')) THEN
            IF length < (value #>> '{}')::numeric THEN
                problem := format('has %s of at least %s %s', length, value, CASE kind
                    WHEN 'string' THEN 'characters' WHEN 'array' THEN 'items' ELSE 'members' END);
            END IF;
        ELSIF (kind, key) IN (('string', 'maxLength'), ('array', 'maxItems'),
                              ('object', 'maxProperties')) THEN
            IF length > (value #>> '{}')::numeric THEN
                problem := format('has %s of at most %s %s', length, value, CASE kind
                    WHEN 'string' THEN 'characters' WHEN 'array' THEN 'items' ELSE 'members' END);
            END IF;
        ELSIF kind = 'string' AND key = 'pattern' THEN
            IF instance #>> '{}' !~ (value #>> '{}') THEN
                problem := 'must match ' || value::text;
            END IF;
        ELSIF kind = 'array' AND key = 'uniqueItems' THEN
            IF value = 'true' AND length <> (SELECT count(DISTINCT e)
                                             FROM jsonb_array_elements(instance) AS e) THEN
                problem := 'has the same item twice';
            END IF;
        ELSIF kind = 'object' AND key = 'required' THEN
            SELECT e INTO name FROM jsonb_array_elements_text(value) AS e
            WHERE NOT instance ? e LIMIT 1;
            IF FOUND THEN
                problem := format('lacks the member "%s"', name);
            END IF;

        -- These keywords look at the members or elements of the value.
        ELSIF kind = 'object' AND key = 'properties' THEN
            FOR name, part, other IN
                SELECT p.key, p.value, instance -> p.key FROM jsonb_each(value) AS p
                WHERE instance ? p.key LOOP
                v := judge(other, part, root, json_pointer(at, name),
                           json_pointer(json_pointer(place, key), name), depth + 1, v.steps);
                IF v.problem IS NOT NULL THEN
                    RETURN v;
                END IF;
            END LOOP;
        ELSIF kind = 'object' AND key = 'patternProperties' THEN
            FOR name, part, other, problem IN
                SELECT i.key, p.value, i.value, p.key
                FROM jsonb_each(value) AS p JOIN jsonb_each(instance) AS i ON i.key ~ p.key LOOP
                v := judge(other, part, root, json_pointer(at, name),
                           json_pointer(json_pointer(place, key), problem), depth + 1, v.steps);
                IF v.problem IS NOT NULL THEN
                    RETURN v;
                END IF;
            END LOOP;
            problem := NULL;
        ELSIF kind = 'object' AND key = 'additionalProperties' THEN
            FOR name, other IN
                SELECT i.key, i.value FROM jsonb_each(instance) AS i
                WHERE NOT coalesce(schema -> 'properties' ? i.key, false)
                  AND NOT EXISTS (
                    SELECT FROM jsonb_object_keys(coalesce(schema -> 'patternProperties', '{}'))
                        AS p WHERE i.key ~ p) LOOP
                v := judge(other, value, root, json_pointer(at, name), json_pointer(place, key),
                           depth + 1, v.steps);
                IF v.problem IS NOT NULL THEN
                    RETURN v;
                END IF;
            END LOOP;
        ELSIF kind = 'object' AND key = 'propertyNames' THEN
            FOR name IN SELECT * FROM jsonb_object_keys(instance) LOOP
                v := judge(to_jsonb(name), value, root, at, json_pointer(place, key), depth + 1,
                           v.steps);
                IF v.problem IS NOT NULL THEN
                    v.at := at;
                    v.problem := format('the name "%s" %s', left(name, 200), v.problem);
                    RETURN v;
                END IF;
            END LOOP;
        ELSIF kind = 'array' AND key IN ('prefixItems', 'items') THEN
            count := CASE key WHEN 'items'
                     THEN coalesce(jsonb_array_length(schema -> 'prefixItems'), 0) ELSE 0 END;
            FOR name, other IN
                SELECT (e.position - 1)::text, e.value
                FROM jsonb_array_elements(instance) WITH ORDINALITY AS e (value, position)
                WHERE e.position > count
                  AND (key = 'items' OR e.position <= jsonb_array_length(
                           CASE key WHEN 'prefixItems' THEN value ELSE '[]' END)) LOOP
                v := judge(other, CASE key WHEN 'items' THEN value ELSE value -> name::int END,
                           root, json_pointer(at, name),
                           CASE key WHEN 'items' THEN json_pointer(place, key)
                                ELSE json_pointer(json_pointer(place, key), name) END,
                           depth + 1, v.steps);
                IF v.problem IS NOT NULL THEN
                    RETURN v;
                END IF;
            END LOOP;

        -- These keywords apply other schemas to the value.
        ELSIF key = '$ref' THEN
            other := root #> ARRAY(
                SELECT replace(replace(t, '~1', '/'), '~0', '~')
                FROM unnest(string_to_array(nullif(substr(value #>> '{}', 3), ''), '/')) AS t);
            v := judge(instance, other, root, at, substr(value #>> '{}', 2), depth + 1, v.steps);
        ELSIF key IN ('allOf', 'anyOf', 'oneOf') THEN
            count := 0;
            FOR name, part IN
                SELECT (e.position - 1)::text, e.value
                FROM jsonb_array_elements(value) WITH ORDINALITY AS e (value, position) LOOP
                w := judge(instance, part, root, at, json_pointer(json_pointer(place, key), name),
                           depth + 1, v.steps);
                v.steps := w.steps;
                IF w.problem IS NULL THEN
                    count := count + 1;
                ELSIF key = 'allOf' THEN
                    RETURN w;
                END IF;
            END LOOP;
            IF key = 'anyOf' AND count = 0 THEN
                problem := 'fits none of the schemas';
            ELSIF key = 'oneOf' AND count <> 1 THEN
                problem := format('must fit one of the schemas, not %s of them', count);
            END IF;
        ELSIF key = 'not' THEN
            w := judge(instance, value, root, at, json_pointer(place, key), depth + 1, v.steps);
            v.steps := w.steps;
            IF w.problem IS NULL THEN
                problem := 'fits the schema that it must not fit';
            END IF;
        ELSIF key = 'if' THEN
            w := judge(instance, value, root, at, json_pointer(place, key), depth + 1, v.steps);
            v.steps := w.steps;
            name := CASE WHEN w.problem IS NULL THEN 'then' ELSE 'else' END;
            IF schema ? name THEN
                v := judge(instance, schema -> name, root, at, json_pointer(place, name),
                           depth + 1, v.steps);
            END IF;
        END IF;

        IF v.problem IS NULL AND problem IS NOT NULL THEN
            v.at := at;
            v.keyword := json_pointer(place, key);
            v.problem := problem;
        END IF;
        IF v.problem IS NOT NULL THEN
            RETURN v;
        END IF;
    END LOOP;
    RETURN v;
END
$$;

-- Refuses content that does not fit the schema.
CREATE FUNCTION headwater.check_content(config text, content jsonb, schema jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    v CONSTANT verdict := judge(content, schema, schema, '', '', 0, 0);
BEGIN
    IF v.problem IS NOT NULL THEN
        RAISE EXCEPTION 'config "%": content at "%" %', config, v.at, v.problem
            USING ERRCODE = 'check_violation', CONSTRAINT = 'config_content_fits_schema',
                  SCHEMA = 'headwater', TABLE = 'config', COLUMN = v.at,
                  DETAIL = format('The schema says so at "%s".', v.keyword);
    END IF;
END
$$;

COMMIT;
