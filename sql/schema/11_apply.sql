-- Many resources in one call.
--
-- apply() takes a document that lists nodes, configs and assignments, and writes them all or none.
-- A named set remembers what was applied under its name. When the same set is applied again with
-- prune, the resources that the document no longer lists are removed; resources of nobody's set, of
-- another set, and those that somebody changed since, are never removed.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (11, 'apply');

CREATE TYPE headwater.resource AS (
    ordinal    int, -- its place in the list, from 0
    kind        text,
    name        text,
    is_delete   boolean,
    if_match    text,
    labels      jsonb,
    description text,
    content     text,
    encoding    text,
    member      text, -- the member which had the content: content, text or base64
    media_type  text,
    has_schema  boolean, -- false: the schema stays as it is
    schema      jsonb,
    config      text,
    node        text,
    selector    jsonb,
    priority    int,
    revision    int
);

-- Refuses the document for the problem at path (JSONPath), with a hint for what people often get
-- wrong.
CREATE FUNCTION headwater.refuse_body(path text, problem text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    -- What can be done about the problem.
    advice CONSTANT text := CASE
        WHEN problem LIKE 'needs one of content%' THEN
            'Exactly one: content is any JSON, text is taken as it is, base64 is bytes.'
        WHEN problem LIKE 'is JSON, and % is not%' THEN
            'Or leave media_type out, or give a type of JSON such as application/json.'
        WHEN problem LIKE '%no such member of a node' THEN
            'A node has name, labels and description.'
        WHEN problem LIKE '%no such member of a config' THEN
            'A config has name, media_type, schema, and one of content, text and base64.'
        WHEN problem LIKE '%no such member of a assignment' THEN
            'An assignment has name, config, node or selector, priority and revision.'
        WHEN path ~ '\.(labels|selector)$' AND problem LIKE 'must be of type object%' THEN
            'An object such as {"site": "north"}.'
        END;
BEGIN
    IF advice IS NULL THEN
        RAISE EXCEPTION '%: %', path, problem
            USING ERRCODE = 'invalid_parameter_value', CONSTRAINT = 'apply_body_is_legal',
                  COLUMN = path;
    END IF;
    RAISE EXCEPTION '%: %', path, problem
        USING ERRCODE = 'invalid_parameter_value', CONSTRAINT = 'apply_body_is_legal',
              COLUMN = path, HINT = advice;
END
$$;

-- Is the text of a JSON number an integer of 32 bits? JSON has one kind of number, so 1.0 and 1e3
-- are integers as 1 is. A number of that size needs no long exponent.
CREATE FUNCTION headwater.is_integer_of_32_bits(number text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT
RETURN CASE WHEN length(number) <= 100 AND number ~ '^-?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]{1,2})?$'
    THEN number::numeric = trunc(number::numeric)
         AND number::numeric BETWEEN -2147483648 AND 2147483647
    ELSE false END;

-- Reads one resource, strictly: an unknown member, a missing one and one of another type are
-- refused. The argument is json and not jsonb, so that the text of a content stays as it was
-- written.
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
            AND NOT is_integer_of_32_bits(m.value::text) THEN
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
        r.priority := coalesce((item ->> 'priority')::numeric::int, 0);
        r.revision := (item ->> 'revision')::numeric::int;
    END IF;
    RETURN r;
EXCEPTION WHEN untranslatable_character OR invalid_text_representation
          OR statement_too_complex THEN
    PERFORM refuse_body(coalesce(place, path), SQLERRM);
END
$$;

-- Writes resources of one kind, or deletes them all, and returns the ordinals of those that
-- changed.
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
                   -- JSON that only differs in its spelling is the same content, which stays.
                   CASE WHEN s.is_same THEN o.content
                        WHEN i.member = 'content' AND (o.media_type, o.encoding)
                             = (i.media_type, i.encoding) THEN
                        CASE WHEN o.content::jsonb = i.content::jsonb THEN o.content
                             ELSE i.content END
                        ELSE i.content END,
                   CASE WHEN s.is_same THEN o.encoding ELSE i.encoding END, i.media_type,
                   CASE WHEN i.has_schema THEN i.schema ELSE o.schema END
            FROM unnest(items) AS i LEFT JOIN config AS o ON o.name = i.name
            CROSS JOIN LATERAL (VALUES (o.media_type = i.media_type AND is_same_content(
                o.content, o.encoding, i.content, i.encoding))) AS s (is_same)
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

-- Takes {"message", "resources": [{"kind", "name", …}]} and does all of it or nothing. Whatever the
-- order of the list, nodes are written before configs and these before assignments, because
-- assignments refer to both. Deletions come last, in the opposite order.
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
        -- This reads all strings: some strings of JSON, as "\u0000", cannot be held by a text.
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
            -- One by one, they show which of them failed.
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
                        -- 23001 is restrict_violation: another resource refers to this one.
                        USING ERRCODE = CASE WHEN item.is_delete AND code = '23503' THEN '23001'
                                             ELSE code END,
                              DETAIL = detail, HINT = hint, CONSTRAINT = rule, COLUMN = place,
                              SCHEMA = 'headwater', TABLE = item.kind;
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

-- ---- named sets ---------------------------------------------------------------------------------

-- The members of all sets. A resource is a member of one set at most.
CREATE TABLE headwater.set_member (
    kind     text COLLATE "C",
    name     text COLLATE "C",
    set_name text COLLATE "C" NOT NULL,
    version  bigint NOT NULL, -- that the set gave it; with another one, it was changed since
    PRIMARY KEY (kind, name),
    CONSTRAINT set_member_kind_is_known CHECK (kind IN ('node', 'config', 'assignment')),
    CONSTRAINT set_member_set_is_legal CHECK (headwater.is_name(set_name))
);
COMMENT ON TABLE headwater.set_member
    IS 'Which named set of files a node, config or assignment was applied from; at most one';
CREATE INDEX set_member_set_name ON headwater.set_member (set_name);

-- A resource that is deleted leaves its set, whoever deletes it: a later one of the same name is
-- another resource.
CREATE FUNCTION headwater.leave_set() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM set_member AS m WHERE m.kind = TG_TABLE_NAME;
    ELSE
        DELETE FROM set_member AS m
        WHERE m.kind = TG_TABLE_NAME AND m.name = ANY (ARRAY(SELECT b.name FROM before_rows AS b));
    END IF;
    RETURN NULL;
END
$$;

DO $$
DECLARE
    relation text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['node', 'config', 'assignment'] LOOP
        EXECUTE replace($sql$
            CREATE TRIGGER leave_set_delete AFTER DELETE
                ON headwater.% REFERENCING OLD TABLE AS before_rows
                FOR EACH STATEMENT EXECUTE FUNCTION headwater.leave_set();
            CREATE TRIGGER leave_set_truncate AFTER TRUNCATE
                ON headwater.% FOR EACH STATEMENT EXECUTE FUNCTION headwater.leave_set();
            ALTER TABLE headwater.%
                ENABLE ALWAYS TRIGGER leave_set_delete, ENABLE ALWAYS TRIGGER leave_set_truncate;
            $sql$, '%', relation);
    END LOOP;
END
$$;

-- Removes the members of a set that are not among these resources. A member whose version is not
-- the one that the set gave it was changed by somebody else. It is kept, and stays a member.
CREATE FUNCTION headwater.prune_set(set_name text, kinds text[], names text[])
RETURNS TABLE (kind text, name text, result text, etag text)
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    mine CONSTANT text := prune_set.set_name;
    why CONSTANT text := message();
    left_over set_member[]; -- with the present versions; a set_name of null: it is kept
    assignments text[];
    configs text[];
    nodes text[];
    used_kind text; used_name text; user_name text;
BEGIN
    left_over := ARRAY(
        SELECT ROW(m.kind, m.name, CASE WHEN m.version = v.version THEN mine END,
                   v.version)::set_member
        FROM set_member AS m
        LEFT JOIN node AS n ON m.kind = 'node' AND n.name = m.name
        LEFT JOIN config AS c ON m.kind = 'config' AND c.name = m.name
        LEFT JOIN assignment AS a ON m.kind = 'assignment' AND a.name = m.name
        CROSS JOIN LATERAL (VALUES (coalesce(n.version, c.version, a.version))) AS v (version)
        WHERE m.set_name = mine
          AND NOT EXISTS (SELECT FROM unnest(kinds, names) AS r (kind, name)
                          WHERE (r.kind, r.name) = (m.kind, m.name))
        ORDER BY m.kind, m.name);
    SELECT coalesce(array_agg(l.name) FILTER (WHERE l.kind = 'assignment'), '{}'),
           coalesce(array_agg(l.name) FILTER (WHERE l.kind = 'config'), '{}'),
           coalesce(array_agg(l.name) FILTER (WHERE l.kind = 'node'), '{}')
    INTO assignments, configs, nodes
    FROM unnest(left_over) AS l WHERE l.set_name IS NOT NULL;

    -- The audit trail then says with which set they were removed.
    PERFORM set_config('headwater.message',
                       concat_ws(': ', format('pruned from the set "%s"', mine), why), true);
    DELETE FROM assignment AS a WHERE a.name = ANY (assignments);
    -- The deletion of a node deletes the assignments to it. An assignment that is not the set's
    -- must not be deleted in that way.
    SELECT CASE WHEN a.config = ANY (configs) THEN 'config' ELSE 'node' END,
           CASE WHEN a.config = ANY (configs) THEN a.config ELSE a.node END, a.name
    INTO used_kind, used_name, user_name
    FROM assignment AS a WHERE a.config = ANY (configs) OR a.node = ANY (nodes)
    ORDER BY a.name LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION
            'the % "%" of the set "%" cannot be removed: the assignment "%" is about it',
            used_kind, used_name, mine, user_name
            USING ERRCODE = 'restrict_violation', CONSTRAINT = 'set_member_is_not_used',
                  SCHEMA = 'headwater', TABLE = used_kind,
                  HINT = format('Delete that assignment first, or mention the %s again.',
                                used_kind);
    END IF;
    DELETE FROM config AS c WHERE c.name = ANY (configs);
    DELETE FROM node AS n WHERE n.name = ANY (nodes);
    PERFORM set_config('headwater.message', coalesce(why, ''), true);

    RETURN QUERY
        SELECT l.kind, l.name, CASE WHEN l.set_name IS NULL THEN 'kept' ELSE 'deleted' END,
               CASE WHEN l.set_name IS NULL THEN l.version::text END
        FROM unnest(left_over) AS l ORDER BY l.kind, l.name;
END
$$;

-- apply() for a set: the resources of the document become members of the set. With prune, members
-- that the document does not list are removed. The answer has them behind those of the document, as
-- deleted or kept.
CREATE FUNCTION headwater.apply(document text, set_name text, prune boolean DEFAULT false)
RETURNS TABLE (kind text, name text, result text, etag text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    mine CONSTANT text := apply.set_name;
    kinds text[]; names text[]; results text[]; etags text[];
    place text; its_kind text; its_name text; its_set text;
BEGIN
    IF is_name(mine) IS NOT TRUE THEN
        PERFORM refuse_name('set', coalesce(mine, ''));
    END IF;
    PERFORM lock_head();
    BEGIN
        SELECT format('$.resources[%s]', e.ordinal - 1), m.kind, m.name, m.set_name
        INTO place, its_kind, its_name, its_set
        FROM json_array_elements(document::json -> 'resources') WITH ORDINALITY
            AS e (value, ordinal)
        JOIN set_member AS m ON (m.kind, m.name) = (e.value ->> 'kind', e.value ->> 'name')
        WHERE m.set_name <> mine
        ORDER BY e.ordinal LIMIT 1;
    EXCEPTION WHEN data_exception OR statement_too_complex THEN
        NULL; -- apply() will say what is wrong with the document
    END;
    IF its_set IS NOT NULL THEN
        RAISE EXCEPTION '%: the % "%" is of the set "%", so the set "%" cannot have it', place,
            its_kind, its_name, its_set, mine
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  CONSTRAINT = 'set_member_is_of_one_set', SCHEMA = 'headwater', TABLE = its_kind,
                  COLUMN = place,
                  HINT = format('Leave it to one of them. To hand it over: DELETE FROM '
                                'headwater.set_member WHERE (kind, name) = (%L, %L);',
                                its_kind, its_name);
    END IF;

    SELECT array_agg(a.kind ORDER BY a.ordinal), array_agg(a.name ORDER BY a.ordinal),
           array_agg(a.result ORDER BY a.ordinal), array_agg(a.etag ORDER BY a.ordinal)
    INTO kinds, names, results, etags
    FROM apply(document) WITH ORDINALITY AS a (kind, name, result, etag, ordinal);
    INSERT INTO set_member AS m (kind, name, set_name, version)
    SELECT r.kind, r.name, mine, r.etag::bigint
    FROM unnest(kinds, names, etags) AS r (kind, name, etag) WHERE r.etag IS NOT NULL
    ON CONFLICT (kind, name) DO UPDATE SET version = excluded.version
    WHERE m.version <> excluded.version;

    RETURN QUERY
        SELECT r.kind, r.name, r.result, r.etag
        FROM unnest(kinds, names, results, etags) WITH ORDINALITY
            AS r (kind, name, result, etag, ordinal)
        ORDER BY r.ordinal;
    IF prune THEN
        RETURN QUERY SELECT * FROM prune_set(mine, kinds, names);
    END IF;
END
$$;
COMMENT ON FUNCTION headwater.apply(text, text, boolean)
    IS 'The same for a named set, which may remove what it applied before and no longer mentions';

GRANT SELECT ON headwater.set_member
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT DELETE ON headwater.set_member TO headwater_dba; -- which takes a resource out of its set
GRANT EXECUTE ON FUNCTION headwater.apply(text), headwater.apply(text, text, boolean)
    TO headwater_dba, headwater_api;

COMMIT;
