-- What a transaction would do to nodes, asked from within it: plan(). And one call for a transaction
-- of many resources: apply().

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (11, 'plan');

-- RFC 6901: the pointer to a member or an element of what parent points to.
CREATE FUNCTION headwater.json_pointer(parent text, token text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN parent || '/' || replace(replace(token, '~', '~0'), '/', '~1');

-- Where two documents differ: [{"path", "old", "new"}], by path; old is not there where something
-- was added, new where it was removed. Objects are compared by member, arrays by position. Bounded:
-- of at most 200 differences, and values of at most 1000 characters; a longer one is left out, and
-- "omitted" names it. That there are more than 200 is told by a last entry {"path": "", "omitted":
-- "more"}.
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

-- The nodes whose revision is another than before this transaction. Its own rows of the history are
-- the last ones, for writers take turns: they are found from the end.
CREATE FUNCTION headwater.planned()
RETURNS TABLE (node text, change text,
               old_revision bigint, old_digest text, old_media_type text,
               new_revision bigint, new_digest text, new_media_type text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    own bigint;
BEGIN
    SELECT h.rev INTO own FROM changelog_head AS h
    WHERE h.xid = pg_current_xact_id_if_assigned() AND h.at = now();
    IF own IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT t.node,
               CASE WHEN b.digest IS NULL THEN 'create' WHEN d.node IS NULL THEN 'remove'
                    ELSE 'update' END,
               b.revision, b.digest, b.media_type, d.revision, d.digest, d.media_type
        FROM (SELECT DISTINCT h.node FROM desired_history AS h
              WHERE h.id > coalesce((SELECT e.id FROM desired_history AS e WHERE e.rev < own
                                     ORDER BY e.id DESC LIMIT 1), 0)) AS t
        LEFT JOIN LATERAL (
            SELECT h.revision, h.digest, h.media_type FROM desired_history AS h
            WHERE h.node = t.node AND h.rev < own ORDER BY h.id DESC LIMIT 1) AS l ON true
        -- A row of the history without a digest says that there is nothing.
        LEFT JOIN LATERAL (SELECT l.* WHERE l.digest IS NOT NULL) AS b ON true
        LEFT JOIN desired AS d ON d.node = t.node
        WHERE b.revision IS DISTINCT FROM d.revision;
END
$$;

-- The same in order of the nodes, and at most the first ones, with the differences where both
-- documents are JSON. They are computed once for all nodes that go from one document to another.
CREATE FUNCTION headwater.plan(most int DEFAULT NULL)
RETURNS TABLE (node text, change text,
               old_revision bigint, old_digest text, old_media_type text,
               new_revision bigint, new_digest text, new_media_type text, diff jsonb)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH listed AS MATERIALIZED (
        SELECT p.* FROM headwater.planned() AS p ORDER BY p.node COLLATE "C" LIMIT most
    ), compared AS MATERIALIZED (
        SELECT c.old_digest, c.new_digest, headwater.json_diff(
                   convert_from(headwater.bytes_of(o.content, o.encoding), 'UTF8')::jsonb,
                   convert_from(headwater.bytes_of(n.content, n.encoding), 'UTF8')::jsonb) AS diff
        FROM (SELECT DISTINCT l.old_digest, l.new_digest FROM listed AS l
              WHERE headwater.is_json_type(l.old_media_type)
                AND headwater.is_json_type(l.new_media_type)) AS c
        JOIN headwater.blob AS o ON o.digest = c.old_digest
        JOIN headwater.blob AS n ON n.digest = c.new_digest
    )
    SELECT l.*, CASE WHEN headwater.is_json_type(l.old_media_type)
                      AND headwater.is_json_type(l.new_media_type) THEN c.diff END
    FROM listed AS l
    LEFT JOIN compared AS c ON (c.old_digest, c.new_digest) = (l.old_digest, l.new_digest)
    ORDER BY l.node COLLATE "C";
END;

COMMENT ON FUNCTION headwater.plan(int)
    IS 'What this transaction changes for nodes, so far; most: the first ones only';
COMMENT ON FUNCTION headwater.planned() IS 'The same without the differences inside documents';

GRANT EXECUTE ON FUNCTION headwater.json_pointer(text, text), headwater.json_diff(jsonb, jsonb),
    headwater.planned(), headwater.plan(int)
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;

-- ---- many resources in one call -----------------------------------------------------------------

CREATE TYPE headwater.resource AS (
    ordinal    int, -- in the list, from 0
    kind        text,
    name        text,
    is_delete   boolean,
    if_match    text,
    labels      jsonb,
    description text,
    content     text,
    encoding    text,
    member      text, -- that the content came as
    media_type  text,
    has_schema  boolean, -- without the member, the schema stays as it is
    schema      jsonb,
    config      text,
    node        text,
    selector    jsonb,
    priority    int,
    revision    int
);

CREATE FUNCTION headwater.refuse_body(path text, problem text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '%: %', path, problem
        USING ERRCODE = 'invalid_parameter_value', CONSTRAINT = 'apply_body_is_legal',
              COLUMN = path;
END
$$;

-- A resource as JSON, read strictly: what is unknown, missing or of another type is refused. json,
-- not jsonb: the text of a content stays as it is.
CREATE FUNCTION headwater.read_resource(item json, ordinal int) RETURNS headwater.resource
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    path CONSTANT text := format('$.resources[%s]', ordinal);
    kind CONSTANT text := CASE json_typeof(item) WHEN 'object' THEN item ->> 'kind' END;
    r resource;
    place text;
    known text[] := '{kind,name,if_match,delete}';
    seen text[] := '{}';
    m record;
BEGIN
    IF json_typeof(item) <> 'object' THEN
        PERFORM refuse_body(path, 'must be an object, not ' || json_typeof(item));
    ELSIF kind IS NULL OR kind NOT IN ('node', 'config', 'assignment') THEN
        PERFORM refuse_body(path || '.kind', 'must be "node", "config" or "assignment"');
    END IF;
    known := known || CASE kind
        WHEN 'node' THEN '{labels,description}'::text[]
        WHEN 'config' THEN '{content,text,base64,media_type,schema}'
        ELSE '{config,node,selector,priority,revision}' END;
    FOR m IN
        SELECT e.key, e.value, json_typeof(e.value) AS type, CASE
                   WHEN e.key IN ('content', 'schema') THEN NULL
                   WHEN e.key = 'delete' THEN 'boolean'
                   WHEN e.key IN ('labels', 'selector') THEN 'object'
                   WHEN e.key IN ('priority', 'revision') THEN 'number'
                   ELSE 'string' END AS wanted
        FROM json_each(item) AS e LOOP
        place := path || CASE WHEN m.key ~ '^[A-Za-z_]\w*$' THEN '.' || m.key
                              ELSE '[' || to_json(left(m.key, 200)) || ']' END;
        IF m.key <> ALL (known) THEN
            PERFORM refuse_body(place, format('there is no such member of a %s', kind));
        ELSIF m.key = ANY (seen) THEN
            PERFORM refuse_body(place, 'is given twice');
        ELSIF m.type <> m.wanted AND (m.type <> 'null' OR m.key = 'name') THEN
            PERFORM refuse_body(place, format('must be of type %s, not %s', m.wanted, m.type));
        ELSIF m.wanted = 'number' AND m.type = 'number'
            AND (m.value::text !~ '^-?[0-9]{1,10}$'
                 OR m.value::text::bigint NOT BETWEEN -2147483648 AND 2147483647) THEN
            PERFORM refuse_body(place, 'must be an integer of 32 bits');
        END IF;
        seen := seen || m.key;
    END LOOP;
    place := path;
    r.ordinal := ordinal;
    r.kind := kind;
    r.name := item ->> 'name';
    IF r.name IS NULL THEN
        PERFORM refuse_body(path || '.name', 'is missing');
    END IF;
    r.is_delete := coalesce((item ->> 'delete')::boolean, false);
    r.if_match := item ->> 'if_match';
    IF r.is_delete THEN
        RETURN r;
    END IF;
    r.labels := coalesce((item ->> 'labels')::jsonb, '{}');
    r.description := coalesce(item ->> 'description', '');
    IF kind = 'config' THEN
        IF (item -> 'content' IS NOT NULL)::int + (item ->> 'text' IS NOT NULL)::int
                + (item ->> 'base64' IS NOT NULL)::int <> 1 THEN
            PERFORM refuse_body(path, 'needs one of content, text and base64');
        END IF;
        r.member := CASE WHEN item -> 'content' IS NOT NULL THEN 'content'
                         WHEN item ->> 'text' IS NOT NULL THEN 'text' ELSE 'base64' END;
        r.content := CASE r.member WHEN 'content' THEN btrim((item -> 'content')::text, E' \t\r\n')
                                   ELSE item ->> r.member END;
        r.encoding := CASE r.member WHEN 'base64' THEN 'base64' ELSE 'utf-8' END;
        r.media_type := coalesce(item ->> 'media_type', CASE r.member
            WHEN 'content' THEN 'application/json' WHEN 'text' THEN 'text/plain'
            ELSE 'application/octet-stream' END);
        IF r.member = 'content' AND NOT is_json_type(r.media_type) THEN
            PERFORM refuse_body(path || '.content',
                                format('is JSON, and %s is not: give it as text', r.media_type));
        END IF;
        r.has_schema := item -> 'schema' IS NOT NULL;
        r.schema := CASE WHEN json_typeof(item -> 'schema') <> 'null'
                         THEN (item -> 'schema')::jsonb END;
    ELSIF kind = 'assignment' THEN
        r.config := item ->> 'config';
        IF r.config IS NULL THEN
            PERFORM refuse_body(path || '.config', 'is missing');
        END IF;
        r.node := item ->> 'node';
        r.selector := (item ->> 'selector')::jsonb;
        r.priority := coalesce((item ->> 'priority')::int, 0);
        r.revision := (item ->> 'revision')::int;
    END IF;
    RETURN r;
EXCEPTION WHEN untranslatable_character OR invalid_text_representation
          OR statement_too_complex THEN
    PERFORM refuse_body(coalesce(place, path), SQLERRM);
END
$$;

-- Writes resources of one kind, all of them to be there or all to be gone; says which changed.
CREATE FUNCTION headwater.write_resources(items headwater.resource[]) RETURNS int[]
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    names text[];
    kind CONSTANT text := items[1].kind;
BEGIN
    IF items[1].is_delete THEN
        EXECUTE format('WITH gone AS (DELETE FROM headwater.%I AS t USING unnest($1) AS i '
                       'WHERE t.name = i.name RETURNING t.name) SELECT array_agg(name) FROM gone',
                       kind)
        INTO names USING items;
    ELSIF kind = 'node' THEN
        WITH done AS (
            INSERT INTO node AS n (name, labels, description)
            SELECT i.name, i.labels, i.description FROM unnest(items) AS i
            ON CONFLICT (name) DO UPDATE
            SET labels = excluded.labels, description = excluded.description
            WHERE (n.labels, n.description)
                IS DISTINCT FROM (excluded.labels, excluded.description)
            RETURNING n.name)
        SELECT array_agg(d.name) INTO names FROM done AS d;
    ELSIF kind = 'config' THEN
        WITH done AS (
            INSERT INTO config AS c (name, content, encoding, media_type, schema)
            SELECT i.name,
                   -- The same JSON, written in another way, is no other content.
                   CASE WHEN i.member = 'content' AND (o.media_type, o.encoding)
                             = (i.media_type, i.encoding) THEN
                        CASE WHEN o.content::jsonb = i.content::jsonb THEN o.content
                             ELSE i.content END
                        ELSE i.content END,
                   i.encoding, i.media_type,
                   CASE WHEN i.has_schema THEN i.schema ELSE o.schema END
            FROM unnest(items) AS i LEFT JOIN config AS o ON o.name = i.name
            ON CONFLICT (name) DO UPDATE SET content = excluded.content,
                encoding = excluded.encoding, media_type = excluded.media_type,
                schema = excluded.schema
            WHERE (c.content, c.encoding, c.media_type, c.schema) IS DISTINCT FROM
                (excluded.content, excluded.encoding, excluded.media_type, excluded.schema)
            RETURNING c.name)
        SELECT array_agg(d.name) INTO names FROM done AS d;
    ELSE
        WITH done AS (
            INSERT INTO assignment AS a (name, config, node, selector, priority, revision)
            SELECT i.name, i.config, i.node, i.selector, i.priority, i.revision
            FROM unnest(items) AS i
            ON CONFLICT (name) DO UPDATE SET config = excluded.config, node = excluded.node,
                selector = excluded.selector, priority = excluded.priority,
                revision = excluded.revision
            WHERE (a.config, a.node, a.selector, a.priority, a.revision) IS DISTINCT FROM
                (excluded.config, excluded.node, excluded.selector, excluded.priority,
                 excluded.revision)
            RETURNING a.name)
        SELECT array_agg(d.name) INTO names FROM done AS d;
    END IF;
    RETURN ARRAY(SELECT i.ordinal FROM unnest(items) AS i WHERE i.name = ANY (names));
END
$$;

-- {"message", "resources": [{"kind", "name", …}]}: all of it or nothing. Nodes come before configs
-- and these before assignments, and what goes, goes the other way round, whatever the order of the
-- list.
CREATE FUNCTION headwater.apply(document text)
RETURNS TABLE (kind text, name text, result text, etag text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    body json;
    m record;
    items resource[];
    batch resource[];
    item resource;
    before bigint[];
    changed int[] := '{}';
    step int;
    code text; what text; detail text; hint text; rule text; place text;
BEGIN
    BEGIN
        body := document::json;
        -- Reads all strings, of which there are some that text cannot hold.
        IF json_typeof(body) = 'object' THEN
            PERFORM FROM json_each(body);
        END IF;
    EXCEPTION WHEN data_exception OR statement_too_complex THEN
        GET STACKED DIAGNOSTICS what = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
                                place = PG_EXCEPTION_CONTEXT;
        RAISE EXCEPTION 'the body is not JSON: %', what
            USING ERRCODE = 'invalid_text_representation', CONSTRAINT = 'apply_body_is_json',
                  DETAIL = concat_ws(' ', nullif(detail, ''),
                                     substring(place from 'JSON data, line[^\n]*'));
    END;
    IF body IS NULL OR json_typeof(body) <> 'object' THEN
        PERFORM refuse_body('$', 'must be an object');
    END IF;
    FOR m IN SELECT e.key, json_typeof(e.value) AS type, count(*) OVER (PARTITION BY e.key) AS count
             FROM json_each(body) AS e LOOP
        place := '$' || CASE WHEN m.key ~ '^[A-Za-z_]\w*$' THEN '.' || m.key
                             ELSE '[' || to_json(left(m.key, 200)) || ']' END;
        IF m.key NOT IN ('message', 'resources') THEN
            PERFORM refuse_body(place, 'there is no such member');
        ELSIF m.count > 1 THEN
            PERFORM refuse_body(place, 'is given twice');
        ELSIF m.key = 'message' AND m.type NOT IN ('string', 'null') THEN
            PERFORM refuse_body(place, 'must be of type string, not ' || m.type);
        ELSIF m.key = 'resources' AND m.type <> 'array' THEN
            PERFORM refuse_body(place, 'must be of type array, not ' || m.type);
        END IF;
    END LOOP;
    IF body -> 'resources' IS NULL THEN
        PERFORM refuse_body('$.resources', 'is missing');
    ELSIF json_array_length(body -> 'resources') > 10000 THEN
        PERFORM refuse_body('$.resources', 'has more than 10000 resources');
    END IF;
    BEGIN
        IF body ->> 'message' IS NOT NULL THEN
            PERFORM set_config('headwater.message', body ->> 'message', true);
        END IF;
    EXCEPTION WHEN data_exception THEN
        PERFORM refuse_body('$.message', SQLERRM);
    END;
    items := ARRAY(SELECT read_resource(e.value, e.ordinal::int - 1)
                   FROM json_array_elements(body -> 'resources') WITH ORDINALITY
                       AS e (value, ordinal)
                   ORDER BY e.ordinal);
    SELECT i.* INTO item
    FROM (SELECT i.*, row_number() OVER (PARTITION BY i.kind, i.name ORDER BY i.ordinal) AS number
          FROM unnest(items) AS i) AS i
    WHERE i.number > 1 ORDER BY i.ordinal LIMIT 1;
    IF FOUND THEN
        PERFORM refuse_body(format('$.resources[%s].name', item.ordinal),
                            format('the %s "%s" is in the list twice', item.kind,
                                   left(item.name, 200)));
    END IF;

    PERFORM lock_head();
    before := ARRAY(
        SELECT coalesce(n.version, c.version, a.version)
        FROM unnest(items) AS i
        LEFT JOIN node AS n ON i.kind = 'node' AND n.name = i.name
        LEFT JOIN config AS c ON i.kind = 'config' AND c.name = i.name
        LEFT JOIN assignment AS a ON i.kind = 'assignment' AND a.name = i.name
        ORDER BY i.ordinal);
    FOREACH item IN ARRAY items LOOP
        IF item.if_match IS NOT NULL AND (before[item.ordinal + 1] IS NULL
            OR btrim(item.if_match, '"') NOT IN ('*', before[item.ordinal + 1]::text)) THEN
            place := format('$.resources[%s].if_match', item.ordinal);
            RAISE EXCEPTION '%: %', place, CASE WHEN before[item.ordinal + 1] IS NULL
                THEN format('there is no %s "%s"', item.kind, left(item.name, 200))
                ELSE format('the %s "%s" is there in version "%s"', item.kind,
                            left(item.name, 200), before[item.ordinal + 1]) END
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      CONSTRAINT = 'apply_if_match_holds', COLUMN = place;
        END IF;
    END LOOP;

    FOR step IN 1..6 LOOP
        batch := ARRAY(SELECT i FROM unnest(items) AS i WHERE (i.kind, i.is_delete) =
            ((ARRAY['node', 'config', 'assignment', 'assignment', 'config', 'node'])[step],
             step > 3) ORDER BY i.ordinal);
        CONTINUE WHEN batch = '{}';
        BEGIN
            changed := changed || write_resources(batch);
        EXCEPTION WHEN integrity_constraint_violation OR data_exception OR program_limit_exceeded
                  OR statement_too_complex OR raise_exception THEN
            -- One by one they tell which it was.
            FOREACH item IN ARRAY batch LOOP
                BEGIN
                    PERFORM write_resources(ARRAY[item]);
                EXCEPTION WHEN integrity_constraint_violation OR data_exception
                          OR program_limit_exceeded OR statement_too_complex OR raise_exception THEN
                    GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, what = MESSAGE_TEXT,
                        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
                        rule = CONSTRAINT_NAME, place = COLUMN_NAME;
                    place := format('$.resources[%s]', item.ordinal) || CASE
                        WHEN rule = 'config_schema_is_legal' THEN '.schema'
                        WHEN rule = 'config_content_fits_schema' OR place = 'content'
                            THEN '.' || item.member
                        WHEN place IN ('name', 'media_type') THEN '.' || place ELSE '' END;
                    RAISE EXCEPTION '%: %', place, what
                        -- 23001, restrict_violation: something else refers to it.
                        USING ERRCODE = CASE WHEN item.is_delete AND code = '23503' THEN '23001'
                                             ELSE code END, DETAIL = detail, HINT = hint, CONSTRAINT = rule,
                              COLUMN = place, SCHEMA = 'headwater', TABLE = item.kind;
                END;
            END LOOP;
            RAISE;
        END;
    END LOOP;

    RETURN QUERY
        SELECT i.kind, i.name,
               CASE WHEN i.is_delete AND i.ordinal = ANY (changed) THEN 'deleted'
                    WHEN i.ordinal <> ALL (changed) THEN 'unchanged'
                    WHEN before[i.ordinal + 1] IS NULL THEN 'created'
                    ELSE 'changed' END,
               coalesce(n.version, c.version, a.version)::text
        FROM unnest(items) AS i
        LEFT JOIN node AS n ON i.kind = 'node' AND n.name = i.name
        LEFT JOIN config AS c ON i.kind = 'config' AND c.name = i.name
        LEFT JOIN assignment AS a ON i.kind = 'assignment' AND a.name = i.name
        ORDER BY i.ordinal;
END
$$;

COMMENT ON FUNCTION headwater.apply(text)
    IS 'Many nodes, configs and assignments, as JSON, in one transaction';

GRANT EXECUTE ON FUNCTION headwater.apply(text) TO headwater_dba, headwater_api;

COMMIT;
