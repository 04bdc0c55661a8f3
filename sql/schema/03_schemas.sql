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

-- Patterns of ECMA-262 as PostgreSQL's advanced regular expressions.
--
-- Every character and class becomes a set of code points, so that nothing depends on what the
-- server takes for a letter, a digit or white space. What a pattern captures does not matter here,
-- so greed does not either, and all groups are translated as groups that capture nothing.
-- PostgreSQL matches such expressions without trying one way after another: no pattern makes it
-- take exponential time. Its copies of what is repeated are bounded by regex_of().

-- Code points. NUL and surrogates are in no text of PostgreSQL.
CREATE FUNCTION headwater.all_characters() RETURNS int4multirange
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN int4multirange(int4range(1, x'D800'::int), int4range(x'E000'::int, x'110000'::int));

-- The code point of a character, written as itself or as an escape; null: it is no such thing.
CREATE FUNCTION headwater.character_of(token text, in_class boolean) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN CASE
    WHEN token !~ '^\\' THEN ascii(token)
    WHEN token ~ '^\\u[Dd][89ABab].{2}\\u[Dd][C-Fc-f].{2}$' THEN
        x'10000'::int + ((('x0000' || substr(token, 3, 4))::bit(32)::int & 1023) << 10)
        + (('x0000' || substr(token, 9, 4))::bit(32)::int & 1023)
    WHEN token ~ '^\\(x[[:xdigit:]]{2}|u[[:xdigit:]]{4}|u\{0*[[:xdigit:]]{1,6}\})$' THEN
        ('x' || lpad(right('00000000' || translate(substr(token, 3), '{}', ''), 8), 8, '0')
        )::bit(32)::int
    WHEN token ~ '^\\c[A-Za-z]$' THEN ascii(substr(token, 3)) % 32
    WHEN token ~ '^\\[tnvfr]$' THEN strpos('tnvfr', substr(token, 2)) + 8
    WHEN token = '\0' THEN 0
    WHEN token ~ '^\\[]^$\\.*+?()[{}|/]$' THEN ascii(substr(token, 2))
    WHEN in_class AND token = '\b' THEN 8
    WHEN in_class AND token = '\-' THEN 45
END;

-- The set that \d, \w, \s, their complements or the dot stand for; null: it is none of these.
CREATE FUNCTION headwater.class_of(token text) RETURNS int4multirange
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN (
    SELECT CASE WHEN token ~ '[.A-Z]' THEN headwater.all_characters() - s.members
                ELSE s.members END
    FROM (SELECT CASE lower(token)
        WHEN '.' THEN '{[10,11),[13,14),[8232,8234)}'::int4multirange
        WHEN '\d' THEN '{[48,58)}'
        WHEN '\w' THEN '{[48,58),[65,91),[95,96),[97,123)}'
        WHEN '\s' THEN '{[9,14),[32,33),[160,161),[5760,5761),[8192,8203),[8232,8234),'
                       '[8239,8240),[8287,8288),[12288,12289),[65279,65280)}' END) AS s (members));

-- A set of code points as a bracket expression.
CREATE FUNCTION headwater.brackets_of(characters int4multirange) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN (
    SELECT CASE count(*) WHEN 0 THEN '[^\U00000001-\U0010ffff]' ELSE
        '[' || string_agg('\U' || lpad(to_hex(lower(r)), 8, '0')
                          || CASE WHEN upper(r) - lower(r) > 1
                             THEN '-\U' || lpad(to_hex(upper(r) - 1), 8, '0') ELSE '' END, '')
            || ']' END
    FROM unnest(characters * headwater.all_characters()) AS r);

-- An escape as a token of a pattern, or of a class within one.
CREATE FUNCTION headwater.escape_token() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN '\\u[Dd][89ABab][[:xdigit:]]{2}\\u[Dd][C-Fc-f][[:xdigit:]]{2}|\\u[[:xdigit:]]{4}'
       '|\\u\{[[:xdigit:]]+\}|\\x[[:xdigit:]]{2}|\\c[A-Za-z]|\\[0-9]+|\\.';

-- The set that a class stands for: "[…]".
CREATE FUNCTION headwater.set_of(class text, at text) RETURNS int4multirange
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    one CONSTANT text := '(' || escape_token() || '|[^\\])';
    is_inverted CONSTANT boolean := class LIKE '[^%';
    members int4multirange := '{}';
    first text;
    last text;
    low int;
    high int;
BEGIN
    FOR first, last IN
        SELECT m[1], m[2]
        FROM regexp_matches(substr(left(class, -1), CASE WHEN is_inverted THEN 3 ELSE 2 END),
                            one || '(?:-' || one || ')?', 'g') AS m LOOP
        low := character_of(first, true);
        high := character_of(coalesce(last, first), true);
        IF low <= high AND high <= x'10FFFF'::int THEN
            members := members + int4multirange(int4range(low, high, '[]'));
        ELSIF last IS NULL AND class_of(first) IS NOT NULL THEN
            members := members + class_of(first);
        ELSE
            PERFORM refuse_schema(at, format('in "%s": %s', class, CASE
                WHEN last IS NOT NULL THEN format('"%s-%s" is no range', first, last)
                ELSE refused_escape(first) END));
        END IF;
    END LOOP;
    RETURN CASE WHEN is_inverted THEN all_characters() - members ELSE members END;
END
$$;

-- Why a token is not taken.
CREATE FUNCTION headwater.refused_escape(token text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN CASE
    WHEN token IN ('\p', '\P') THEN
        format('"%s": properties of characters are not known here', token)
    WHEN token ~ '^\\(k|[1-9])' THEN format('"%s": references to groups are not taken here', token)
    ELSE format('"%s" stands for nothing in a pattern of ECMA-262 with the flag u', token)
END;

-- The regular expression of PostgreSQL that matches what the pattern matches. Refuses a pattern
-- that is none, or has no equal; at is its place in the schema.
CREATE FUNCTION headwater.regex_of(pattern text, at text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    word CONSTANT text := '[A-Za-z0-9_]';
    edge CONSTANT text := format('(?:(?<=%1$s)(?!%1$s)|(?<!%1$s)(?=%1$s))', word);
    no_edge CONSTANT text := format('(?:(?<=%1$s)(?=%1$s)|(?<!%1$s)(?!%1$s))', word);
    regex text := '';
    token text;
    problem text;
    bounds text[];
    repeatable boolean := false; -- may a quantifier follow?
    size bigint := 0;            -- of what a quantifier would repeat, in characters and classes
    groups text[] := '{}';       -- those that are open
    sizes bigint[] := '{0}';     -- of the expression, and of each open group
    names text[] := '{}';
    members int4multirange;
    point int;
BEGIN
    IF char_length(pattern) > 2000 THEN
        PERFORM refuse_schema(at, 'a pattern has at most 2000 characters');
    END IF;
    FOR token IN
        SELECT m[1] FROM regexp_matches(pattern,
            '(\[(?:[^]\\]|\\.)*\]|\((?:\?(?::|=|!|<=|<!|<[A-Za-z_$][A-Za-z0-9_$]*>))?'
            '|(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??|' || escape_token() || '|.)', 'g') AS m LOOP
        IF token LIKE '(%' THEN
            groups := groups || CASE WHEN token IN ('(?=', '(?!', '(?<=', '(?<!') THEN token
                                     ELSE '(?:' END;
            sizes := sizes || 0::bigint;
            regex := regex || groups[cardinality(groups)];
            repeatable := false;
            IF token = ANY (names) THEN
                problem := format('two groups are called "%s"', token);
            ELSIF token LIKE '(?<%>' THEN
                names := names || token;
            END IF;
        ELSIF token = ')' THEN
            IF groups = '{}' THEN
                problem := 'a group is closed that was not opened';
            ELSE
                repeatable := groups[cardinality(groups)] = '(?:';
                size := sizes[cardinality(sizes)];
                groups := trim_array(groups, 1);
                sizes := trim_array(sizes, 1);
                sizes[cardinality(sizes)] := sizes[cardinality(sizes)] + size;
                regex := regex || ')';
            END IF;
        ELSIF token IN ('|', '^', '$') THEN
            regex := regex || token;
            repeatable := false;
        ELSIF token IN ('\b', '\B') THEN
            regex := regex || CASE token WHEN '\b' THEN edge ELSE no_edge END;
            repeatable := false;
        ELSIF token ~ '^[*+?{].' OR token IN ('*', '+', '?') THEN
            bounds := regexp_match(token, '^\{0*([0-9]+)(,?)0*([0-9]*)\}');
            IF NOT repeatable THEN
                problem := format('there is nothing that "%s" could repeat', token);
            ELSIF greatest(length(bounds[1]), length(bounds[3])) > 3
                OR greatest(bounds[1]::int, nullif(bounds[3], '')::int) > 255 THEN
                problem := format('"%s" repeats more than 255 times', token);
            ELSIF bounds[1]::int > nullif(bounds[3], '')::int THEN
                problem := format('"%s" has bounds in the wrong order', token);
            ELSE
                sizes[cardinality(sizes)] := sizes[cardinality(sizes)] + size
                    * (greatest(bounds[1]::int, nullif(bounds[3], '')::int, 1) - 1);
                regex := regex || CASE WHEN token LIKE '_%?' THEN left(token, -1) ELSE token END;
                repeatable := false;
            END IF;
        ELSE
            IF token ~ '^[A-Za-z0-9_ ]$' THEN
                regex := regex || token;
            ELSE
                members := CASE WHEN token LIKE '[_%' THEN set_of(token, at)
                                ELSE class_of(token) END;
                point := CASE WHEN members IS NULL AND token !~ '^[][{}]$'
                              THEN character_of(token, false) END;
                IF members IS NULL AND (point IS NULL OR point > x'10FFFF'::int) THEN
                    problem := refused_escape(token);
                END IF;
                regex := regex || brackets_of(coalesce(members,
                    int4multirange(int4range(point, point, '[]'))));
            END IF;
            repeatable := true;
            size := 1;
            sizes[cardinality(sizes)] := sizes[cardinality(sizes)] + 1;
        END IF;
        IF sizes[cardinality(sizes)] > 2000 THEN
            problem := 'what the pattern repeats makes it longer than 2000 characters';
        END IF;
        IF problem IS NOT NULL THEN
            PERFORM refuse_schema(at, problem);
        END IF;
    END LOOP;
    IF groups <> '{}' THEN
        PERFORM refuse_schema(at, 'a group is not closed');
    END IF;
    RETURN regex;
END
$$;

-- Content is judged more often than schemas are written, so the translation of every pattern that
-- any schema had is kept.
CREATE TABLE headwater.pattern (
    digest bytea PRIMARY KEY, -- SHA-256 of the pattern
    regex  text NOT NULL
);
COMMENT ON TABLE headwater.pattern
    IS 'The patterns of schemas, as PostgreSQL''s regular expressions; written by triggers';

-- The translation of a pattern that check_pattern() has taken.
CREATE FUNCTION headwater.kept_regex(pattern text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN coalesce((SELECT p.regex FROM pattern AS p
                     WHERE p.digest = sha256(convert_to(kept_regex.pattern, 'UTF8'))),
                    regex_of(kept_regex.pattern, ''));
END
$$;

CREATE FUNCTION headwater.check_pattern(pattern text, at text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    key CONSTANT bytea := sha256(convert_to(pattern, 'UTF8'));
    regex text;
BEGIN
    IF NOT EXISTS (SELECT FROM pattern AS p WHERE p.digest = key) THEN
        regex := regex_of(pattern, at);
        PERFORM '' ~ regex;
        INSERT INTO pattern (digest, regex) VALUES (key, regex) ON CONFLICT DO NOTHING;
    END IF;
EXCEPTION WHEN invalid_regular_expression THEN
    PERFORM refuse_schema(at, SQLERRM);
END
$$;

-- The JSON Pointer that a reference within the schema stands for: its fragment, decoded. Null: the
-- reference leads elsewhere, or is none.
CREATE FUNCTION headwater.pointer_of(reference text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF reference !~ '^#(/([^%#]|%[[:xdigit:]]{2})*)?$' THEN
        RETURN NULL;
    ELSIF strpos(reference, '%') = 0 THEN
        RETURN substr(reference, 2);
    END IF;
    RETURN convert_from((
        SELECT string_agg(CASE WHEN m[1] LIKE '\%%_' THEN decode(substr(m[1], 2), 'hex')
                               ELSE convert_to(m[1], 'UTF8') END, ''::bytea ORDER BY position)
        FROM regexp_matches(substr(reference, 2), '%..|[^%]+', 'g')
            WITH ORDINALITY AS t (m, position)), 'UTF8');
EXCEPTION WHEN character_not_in_repertoire THEN
    RETURN NULL;
END
$$;


-- Refuses what is not a schema, and every keyword that judge() does not check. Returns the place of
-- each schema within the schema as {"schema": pointer}, and each reference as {"ref": pointer,
-- "at": place}, so that check_schema() can tell whether every reference leads to a schema.
CREATE FUNCTION headwater.schema_parts(schema jsonb, at text, depth int) RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE
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
        IF key IN ('default', 'const') THEN
            NULL; -- any value
        ELSIF key IN ('title', 'description', '$comment', 'format') THEN
            IF kind <> 'string' THEN
                PERFORM refuse_schema(place, 'must be a string');
            END IF;
        ELSIF key = 'examples' THEN
            IF kind <> 'array' THEN
                PERFORM refuse_schema(place, 'must be an array');
            END IF;
        ELSIF key = 'enum' THEN
            IF kind <> 'array' OR value = '[]' THEN
                PERFORM refuse_schema(place, 'must be an array that is not empty');
            END IF;
        ELSIF key = '$schema' THEN
            IF value NOT IN ('"https://json-schema.org/draft/2020-12/schema"',
                             '"https://json-schema.org/draft/2020-12/schema#"') OR at <> '' THEN
                PERFORM refuse_schema(place, 'must be "https://json-schema.org/draft/2020-12/'
                                             'schema", and stand in the whole schema alone');
            END IF;
        ELSIF key = '$id' THEN
            IF kind <> 'string' OR value #>> '{}' ~ '#.' THEN
                PERFORM refuse_schema(place, 'must be a URI without a fragment');
            ELSIF at <> '' THEN
                PERFORM refuse_schema(place, 'a schema within a schema cannot have an identifier '
                                             'here: references to it would not be found');
            END IF;
        ELSIF key = 'type' THEN
            IF kind NOT IN ('string', 'array') OR value = '[]' OR EXISTS (
                SELECT FROM jsonb_array_elements(
                    CASE kind WHEN 'array' THEN value ELSE jsonb_build_array(value) END) AS e
                GROUP BY e
                HAVING count(*) > 1 OR jsonb_typeof(e) <> 'string'
                    OR e #>> '{}' NOT IN ('null', 'boolean', 'object', 'array', 'number', 'string',
                                          'integer')) THEN
                PERFORM refuse_schema(place, 'must be null, boolean, object, array, number, '
                                             'string or integer, or an array of these, each once');
            END IF;
        ELSIF key = 'required' THEN
            IF kind <> 'array' OR EXISTS (SELECT FROM jsonb_array_elements(
                    CASE kind WHEN 'array' THEN value END) AS e
                    GROUP BY e HAVING count(*) > 1 OR jsonb_typeof(e) <> 'string') THEN
                PERFORM refuse_schema(place, 'must be an array of strings, each once');
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
            name := CASE kind WHEN 'string' THEN pointer_of(value #>> '{}') END;
            IF name IS NULL THEN
                PERFORM refuse_schema(place, 'must be a reference within this schema: "#/…"');
            END IF;
            RETURN NEXT jsonb_build_object('ref', name, 'at', place);
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
LANGUAGE plpgsql VOLATILE
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
LANGUAGE plpgsql STABLE
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
    pattern text;
    patterns text[];
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
            IF instance #>> '{}' !~ kept_regex(value #>> '{}') THEN
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
            FOR pattern, part, name, other IN
                WITH p AS MATERIALIZED (
                    SELECT p.key, p.value, kept_regex(p.key) AS regex FROM jsonb_each(value) AS p)
                SELECT p.key, p.value, i.key, i.value
                FROM p JOIN jsonb_each(instance) AS i ON i.key ~ p.regex LOOP
                v := judge(other, part, root, json_pointer(at, name),
                           json_pointer(json_pointer(place, key), pattern), depth + 1, v.steps);
                IF v.problem IS NOT NULL THEN
                    RETURN v;
                END IF;
            END LOOP;
        ELSIF kind = 'object' AND key = 'additionalProperties' THEN
            patterns := ARRAY(
                SELECT kept_regex(p)
                FROM jsonb_object_keys(coalesce(schema -> 'patternProperties', '{}')) AS p);
            FOR name, other IN
                SELECT i.key, i.value FROM jsonb_each(instance) AS i
                WHERE NOT coalesce(schema -> 'properties' ? i.key, false)
                  AND NOT i.key ~ ANY (patterns) LOOP
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
            name := pointer_of(value #>> '{}');
            other := root #> ARRAY(
                SELECT replace(replace(t, '~1', '/'), '~0', '~')
                FROM unnest((string_to_array(name, '/'))[2:]) AS t);
            v := judge(instance, other, root, at, name, depth + 1, v.steps);
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
