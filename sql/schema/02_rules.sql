-- The rules that need no table: what is a name, a media type and a digest, how JSON documents
-- merge, and where two of them differ.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (2, 'rules');

-- A body written as RETURN ... is parsed when the function is created. The search_path of a caller
-- has no influence on it, and the planner can inline it into a constraint.

-- Names become parts of NATS keys, so only what NATS takes in a key is legal. Host names are.
CREATE FUNCTION headwater.is_name(name text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN name ~ '^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$' AND char_length(name) <= 128;
COMMENT ON FUNCTION headwater.is_name(text)
    IS 'Is this a legal name of a node, config, assignment, token or set?';

-- RFC 6838, section 4.2, defines type/subtype, and RFC 9110, section 5.6.6, the parameters.
CREATE FUNCTION headwater.is_media_type(media_type text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN char_length(media_type) <= 255
    AND media_type ~ ('^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}'
        || '/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}'
        || '([ \t]*;[ \t]*[A-Za-z0-9!#$%&''*+.^_`|~-]+='
        || '([A-Za-z0-9!#$%&''*+.^_`|~-]+|"([\t !#-\[\]-~]|\\[\t -~])*"))*$');
COMMENT ON FUNCTION headwater.is_media_type(text) IS 'Is this a legal media type (RFC 6838)?';

-- JSON is application/json and every type with the suffix +json (RFC 6839).
CREATE FUNCTION headwater.is_json_type(media_type text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN media_type ~* '^(application/json|[^;]+\+json)[ \t]*(;|$)';
COMMENT ON FUNCTION headwater.is_json_type(text)
    IS 'Is content of this media type JSON, so that it merges?';

-- The pattern does not count the digits. With {64} PostgreSQL builds a large automaton that takes
-- 50 µs to run, twice for each report, which was most of the cost of storing one.
CREATE FUNCTION headwater.is_digest(digest text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN digest ~ '^sha256:[0-9a-f]+$' AND octet_length(digest) = 71;
COMMENT ON FUNCTION headwater.is_digest(text) IS 'Is this sha256: and 64 hex digits?';

CREATE FUNCTION headwater.digest_of(bytes bytea) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN 'sha256:' || encode(sha256(bytes), 'hex');
COMMENT ON FUNCTION headwater.digest_of(bytea)
    IS 'The SHA-256 of bytes, as sha256: and 64 hex digits';

-- The bytes that a node gets: content is stored as text, or as base64 of any bytes.
CREATE FUNCTION headwater.bytes_of(content text, encoding text) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN CASE encoding WHEN 'base64' THEN decode(content, 'base64')
                     ELSE convert_to(content, 'UTF8') END;
COMMENT ON FUNCTION headwater.bytes_of(text, text)
    IS 'The bytes of a content in its encoding, utf-8 or base64';

-- A config, and a merged document, has at most 16 MiB.
CREATE FUNCTION headwater.size_limit() RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 16777216;
COMMENT ON FUNCTION headwater.size_limit()
    IS 'How many bytes a config or a merged document has at most';

-- Do two contents have the same bytes, perhaps in different encodings? A client sends a file as
-- text where it can, so bytes that were stored as base64 may come back as text.
CREATE FUNCTION headwater.is_same_content(old_content text, old_encoding text,
                                          new_content text, new_encoding text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
    WHEN old_encoding = new_encoding THEN old_content = new_content
    WHEN old_encoding = 'base64'
        THEN old_content = translate(encode(convert_to(new_content, 'UTF8'), 'base64'), E'\n', '')
    ELSE new_content = translate(encode(convert_to(old_content, 'UTF8'), 'base64'), E'\n', '') END;

-- Lists at most five of the names for a message, in quotes, and says how many more there are.
CREATE FUNCTION headwater.some_names(names text[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT string_agg(format('"%s"', n.name), ', ' ORDER BY n.number)
        FROM unnest(names[1:5]) WITH ORDINALITY AS n (name, number))
    || CASE WHEN cardinality(names) > 5 THEN format(' and %s more', cardinality(names) - 5)
            ELSE '' END;
COMMENT ON FUNCTION headwater.some_names(text[]) IS 'Five of the names, for a message';

-- JSON Merge Patch (RFC 7396, section 2). A member of the target that the patch does not name stays
-- as it is, even when it is null.
CREATE FUNCTION headwater.merge_patch(target jsonb, patch jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF jsonb_typeof(patch) <> 'object' THEN
        RETURN patch;
    END IF;
    IF jsonb_typeof(target) <> 'object' THEN
        target := '{}';
    END IF;
    -- A patch without nulls and objects only overwrites members. The operator || does the same, and
    -- is much faster.
    IF NOT jsonb_path_exists(patch, 'strict $.* ? (@ == null || @.type() == "object")') THEN
        RETURN target || patch;
    END IF;
    RETURN (
        SELECT coalesce(jsonb_object_agg(key, CASE
                   WHEN p.value IS NULL THEN t.value
                   WHEN jsonb_typeof(p.value) = 'object' THEN
                       merge_patch(coalesce(t.value, 'null'), p.value)
                   ELSE p.value END), '{}')
        FROM jsonb_each(target) AS t FULL JOIN jsonb_each(patch) AS p USING (key)
        WHERE p.value IS DISTINCT FROM 'null');
END
$$;
COMMENT ON FUNCTION headwater.merge_patch(jsonb, jsonb)
    IS 'Merges a patch over a target by JSON Merge Patch (RFC 7396)';

-- JSON Pointer (RFC 6901): parent points to an object or an array, and the result to its member or
-- element token.
CREATE FUNCTION headwater.json_pointer(parent text, token text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN parent || '/' || replace(replace(token, '~', '~0'), '/', '~1');
COMMENT ON FUNCTION headwater.json_pointer(text, text)
    IS 'The JSON Pointer (RFC 6901) to a member or element of its parent';

-- Lists where two documents differ, as [{"path", "old", "new"}] in the order of the paths. An entry
-- has no "old" where something was added, and no "new" where something was removed. Objects are
-- compared member by member, and arrays by position. The answer is bounded: it has at most 200
-- differences, and a last entry {"path": "", "omitted": "more"} where there are more of them. A
-- value of more than 1000 characters is left out, and "omitted" says which of the two it was.
CREATE FUNCTION headwater.json_diff(old jsonb, new jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH RECURSIVE pair (path, old, new) AS (
        SELECT '', json_diff.old, json_diff.new
        WHERE json_diff.old IS DISTINCT FROM json_diff.new
        UNION ALL
        SELECT headwater.json_pointer(p.path, m.token), m.old, m.new
        FROM pair AS p
        CROSS JOIN LATERAL (
            SELECT key AS token, o.value AS old, n.value AS new
            FROM jsonb_each(CASE jsonb_typeof(p.old) WHEN 'object' THEN p.old END) AS o
            FULL JOIN jsonb_each(CASE jsonb_typeof(p.new) WHEN 'object' THEN p.new END) AS n
                USING (key)
            UNION ALL
            SELECT (position - 1)::text, o.value, n.value
            FROM jsonb_array_elements(CASE jsonb_typeof(p.old) WHEN 'array' THEN p.old END)
                WITH ORDINALITY AS o (value, position)
            FULL JOIN jsonb_array_elements(CASE jsonb_typeof(p.new) WHEN 'array' THEN p.new END)
                WITH ORDINALITY AS n (value, position) USING (position)) AS m
        WHERE jsonb_typeof(p.old) = jsonb_typeof(p.new)
          AND jsonb_typeof(p.old) IN ('object', 'array')
          AND m.old IS DISTINCT FROM m.new
    ), difference AS (
        SELECT p.path, p.old, p.new,
               length(p.old::text) > 1000 AS is_long_old, length(p.new::text) > 1000 AS is_long_new
        FROM pair AS p
        WHERE p.old IS NULL OR p.new IS NULL OR jsonb_typeof(p.old) <> jsonb_typeof(p.new)
           OR jsonb_typeof(p.old) NOT IN ('object', 'array')
        LIMIT 201
    ), numbered AS (
        SELECT d.*, row_number() OVER (ORDER BY d.path COLLATE "C") AS number FROM difference AS d
    )
    SELECT coalesce(jsonb_agg(CASE WHEN n.number > 200 THEN '{"path": "", "omitted": "more"}'
        ELSE jsonb_build_object('path', n.path)
             || CASE WHEN n.old IS NULL OR n.is_long_old THEN '{}'
                     ELSE jsonb_build_object('old', n.old) END
             || CASE WHEN n.new IS NULL OR n.is_long_new THEN '{}'
                     ELSE jsonb_build_object('new', n.new) END
             || CASE WHEN n.is_long_old AND n.is_long_new THEN '{"omitted": "old, new"}'
                     WHEN n.is_long_old THEN '{"omitted": "old"}'
                     WHEN n.is_long_new THEN '{"omitted": "new"}'
                     ELSE '{}'::jsonb END
        END ORDER BY n.number), '[]')
    FROM numbered AS n;
END;
COMMENT ON FUNCTION headwater.json_diff(jsonb, jsonb)
    IS 'Lists where two JSON documents differ; at most 200 places';

CREATE FUNCTION headwater.refuse_name(kind text, name text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% name "%" is not legal', kind, left(name, 200)
        USING ERRCODE = 'check_violation', CONSTRAINT = kind || '_name_is_legal',
              SCHEMA = 'headwater', TABLE = kind, COLUMN = 'name',
              DETAIL = 'A name is 1 to 128 characters: letters, digits, "_" and "-", in parts '
                       'separated by single dots.';
END
$$;

-- A number keeps its value when documents merge, and is then written out in decimal digits: 1e131071
-- would be one with 131072 of them. Every number of IEEE 754 with 64 bits stays below this limit.
CREATE FUNCTION headwater.number_limit() RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 400;
COMMENT ON FUNCTION headwater.number_limit()
    IS 'How many characters a number in JSON has at most when it is written out';

-- The JSON Pointer to a number that is longer than that, or null.
CREATE FUNCTION headwater.long_number(document jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH RECURSIVE part (path, value) AS (
        SELECT '', document
        UNION ALL
        SELECT headwater.json_pointer(p.path, m.token), m.value
        FROM part AS p
        CROSS JOIN LATERAL (
            SELECT key AS token, e.value
            FROM jsonb_each(CASE jsonb_typeof(p.value) WHEN 'object' THEN p.value END) AS e
            UNION ALL
            SELECT (position - 1)::text, e.value
            FROM jsonb_array_elements(CASE jsonb_typeof(p.value) WHEN 'array' THEN p.value END)
                WITH ORDINALITY AS e (value, position)) AS m
        WHERE jsonb_typeof(p.value) IN ('object', 'array')
    )
    SELECT p.path FROM part AS p
    WHERE jsonb_typeof(p.value) = 'number' AND length(p.value::text) > headwater.number_limit()
    ORDER BY p.path COLLATE "C" LIMIT 1;
END;
COMMENT ON FUNCTION headwater.long_number(jsonb)
    IS 'The JSON Pointer to the first number that number_limit() does not allow; null: there is none';

CREATE FUNCTION headwater.refuse_number(kind text, name text, path text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% "%": the number at "%" has more than % characters when it is written out',
                    kind, name, path, number_limit()
        USING ERRCODE = 'check_violation', CONSTRAINT = kind || '_number_limit',
              SCHEMA = 'headwater', TABLE = kind, COLUMN = path,
              DETAIL = 'The path is a JSON Pointer (RFC 6901). When documents merge, numbers are '
                       'written out: 1e400 is one of 401 digits.',
              HINT = 'Every number of 64 bits (IEEE 754) fits; a longer one can be a string.';
END
$$;

-- Refuses numbers that are too long, and content that is too large once its numbers are written out.
-- A number can only be longer than its text where an exponent has two digits or more, and only be too
-- long where it has three, or where many digits stand in a row. So most contents are not taken apart.
CREATE FUNCTION headwater.check_numbers(config text, content text, document jsonb) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    path text;
    size bigint := octet_length(content);
BEGIN
    IF content ~ '[0-9][eE][-+]?[0-9]{3}'
            OR strpos(translate(content, '123456789', '000000000'), repeat('0', 150)) > 0 THEN
        path := long_number(document);
        IF path IS NOT NULL THEN
            PERFORM refuse_number('config', config, path);
        END IF;
    END IF;
    -- At worst, 1e399 is 80 times longer. What looks like an exponent may be part of a string, so the
    -- numbers are looked at where that could be too much.
    IF size > size_limit() / 80 AND size_limit() < size + (
            SELECT coalesce(sum(CASE length(e.digits[1]) WHEN 2 THEN e.digits[1]::int
                                                         ELSE number_limit() END), 0)
            FROM regexp_matches(content, '[0-9][eE][-+]?([0-9]{2,})', 'g') AS e (digits)) THEN
        size := size + (SELECT coalesce(sum(length(n.value::text)), 0)
                        FROM jsonb_path_query(document, 'strict $.** ? (@.type() == "number")')
                            AS n (value));
        IF size > size_limit() THEN
            RAISE EXCEPTION 'config "%": content is about % bytes when its numbers are written out; '
                            'the limit is 16 MiB (% bytes)', config, size, size_limit()
                USING ERRCODE = 'check_violation', CONSTRAINT = 'config_size_limit',
                      SCHEMA = 'headwater', TABLE = 'config', COLUMN = 'content';
        END IF;
    END IF;
END
$$;

-- The kind of a content decides how it merges: an object is a JSON object, a value is any other
-- JSON, and opaque is everything else. Content that is not JSON although its media type says so is
-- refused.
CREATE FUNCTION headwater.kind_of(config text, content text, encoding text, media_type text)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    document jsonb;
    what text;
    detail text;
    context text;
BEGIN
    IF NOT is_json_type(media_type) THEN
        RETURN 'opaque';
    END IF;
    content := convert_from(bytes_of(content, encoding), 'UTF8');
    document := content;
    PERFORM check_numbers(config, content, document);
    RETURN CASE jsonb_typeof(document) WHEN 'object' THEN 'object' ELSE 'value' END;
EXCEPTION WHEN data_exception OR program_limit_exceeded OR statement_too_complex THEN
    GET STACKED DIAGNOSTICS what = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
                            context = PG_EXCEPTION_CONTEXT;
    RAISE EXCEPTION 'config "%": content is not valid JSON: %', config, what
        USING ERRCODE = 'check_violation', CONSTRAINT = 'config_content_is_json',
              SCHEMA = 'headwater', TABLE = 'config', COLUMN = 'content',
              DETAIL = concat_ws(' ', nullif(detail, ''),
                                 substring(context from 'JSON data, line[^\n]*')),
              HINT = format('The media type is %s; other types take any content.', media_type);
END
$$;

-- ---- notifications ------------------------------------------------------------------------------

-- LISTEN and PREPARE TRANSACTION exclude each other: PostgreSQL prepares no transaction that has sent
-- a notification. Who prepares says SET LOCAL headwater.notify = 'off'; those who listen then find
-- out a little later, when they look by themselves.
CREATE FUNCTION headwater.notify(channel text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF current_setting('headwater.notify', true) IS DISTINCT FROM 'off' THEN
        PERFORM pg_notify(channel, '');
    END IF;
END
$$;
COMMENT ON FUNCTION headwater.notify(text)
    IS 'Wakes those who LISTEN, save in a transaction that SET LOCAL headwater.notify = off';

-- ---- time ---------------------------------------------------------------------------------------

-- What is decided in SQL by the time of day asks headwater.now(). The offset is for tests of deadlines,
-- which then need not wait; nobody but the owner may set it.
CREATE TABLE headwater.clock (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    shift    interval NOT NULL
);
COMMENT ON TABLE headwater.clock IS 'How far headwater.now() is ahead of the server''s clock; one row';
INSERT INTO headwater.clock (shift) VALUES ('0');

CREATE FUNCTION headwater.now() RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$ SELECT clock_timestamp() + coalesce((SELECT c.shift FROM clock AS c), interval '0') $$;
COMMENT ON FUNCTION headwater.now()
    IS 'The time by which is decided: the server''s clock, and the offset in headwater.clock';

-- Constraints call these functions with the rights of the writer. They show no data, so everyone
-- may execute them.
GRANT EXECUTE ON FUNCTION
    headwater.is_name(text), headwater.is_media_type(text), headwater.is_json_type(text),
    headwater.is_digest(text), headwater.digest_of(bytea), headwater.bytes_of(text, text),
    headwater.size_limit(), headwater.merge_patch(jsonb, jsonb), headwater.number_limit(),
    headwater.notify(text), headwater.now()
    TO PUBLIC;
GRANT SELECT ON headwater.clock
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION
    headwater.some_names(text[]), headwater.json_pointer(text, text),
    headwater.json_diff(jsonb, jsonb), headwater.long_number(jsonb)
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;

COMMIT;
