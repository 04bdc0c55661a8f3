-- Named sets: what was applied together from files, so that what the files no longer mention can be
-- removed, and nothing else. And an apply of what was exported changes nothing.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (22, 'sets');

-- A resource is of one set at most.
CREATE TABLE headwater.set_member (
    kind     text COLLATE "C",
    name     text COLLATE "C",
    set_name text COLLATE "C" NOT NULL,
    version  bigint NOT NULL, -- as the set applied it; of another version it was changed since
    PRIMARY KEY (kind, name),
    CONSTRAINT set_member_kind_is_known CHECK (kind IN ('node', 'config', 'assignment')),
    CONSTRAINT set_member_set_is_legal CHECK (headwater.is_name(set_name))
);
CREATE INDEX set_member_set_name ON headwater.set_member (set_name);

-- What goes leaves its set, whoever removes it: one of the same name that comes later is another.
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

-- Removes the members of a set that are not among these resources. One that has another version than
-- the set gave it was changed by someone else: it is kept, and stays a member.
CREATE FUNCTION headwater.prune_set(set_name text, kinds text[], names text[])
RETURNS TABLE (kind text, name text, result text, etag text)
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    mine CONSTANT text := prune_set.set_name;
    why CONSTANT text := message();
    left_over set_member[]; -- in the version that is there
    assignments text[];
    configs text[];
    nodes text[];
    used_kind text; used_name text; user_name text;
BEGIN
    left_over := ARRAY(
        SELECT ROW(m.kind, m.name, CASE WHEN m.version = v.version THEN mine END, v.version)::set_member
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

    -- The audit trail says which set they went with.
    PERFORM set_config('headwater.message',
                       concat_ws(': ', format('pruned from the set "%s"', mine), why), true);
    DELETE FROM assignment AS a WHERE a.name = ANY (assignments);
    -- An assignment goes with its node: one that is not the set's must not.
    SELECT CASE WHEN a.config = ANY (configs) THEN 'config' ELSE 'node' END,
           CASE WHEN a.config = ANY (configs) THEN a.config ELSE a.node END, a.name
    INTO used_kind, used_name, user_name
    FROM assignment AS a WHERE a.config = ANY (configs) OR a.node = ANY (nodes)
    ORDER BY a.name LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the % "%" of the set "%" cannot be removed: the assignment "%" is about it',
            used_kind, used_name, mine, user_name
            USING ERRCODE = 'restrict_violation', CONSTRAINT = 'set_member_is_not_used',
                  SCHEMA = 'headwater', TABLE = used_kind,
                  HINT = format('Delete that assignment first, or mention the %s again.', used_kind);
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

-- apply() for a set: what the document mentions becomes the set's; with prune, what the set applied
-- before and the document does not mention is removed. Answers that as well, behind the document's
-- own: deleted, or kept.
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
        FROM json_array_elements(document::json -> 'resources') WITH ORDINALITY AS e (value, ordinal)
        JOIN set_member AS m ON (m.kind, m.name) = (e.value ->> 'kind', e.value ->> 'name')
        WHERE m.set_name <> mine
        ORDER BY e.ordinal LIMIT 1;
    EXCEPTION WHEN data_exception OR statement_too_complex THEN
        NULL; -- apply() says what is wrong with it
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

-- The same bytes in the other encoding are the same content: files are sent as text where they can be.
CREATE FUNCTION headwater.is_same_content(old_content text, old_encoding text,
                                          new_content text, new_encoding text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE
    WHEN old_encoding = new_encoding THEN old_content = new_content
    WHEN old_encoding = 'base64'
        THEN old_content = translate(encode(convert_to(new_content, 'UTF8'), 'base64'), E'\n', '')
    ELSE new_content = translate(encode(convert_to(old_content, 'UTF8'), 'base64'), E'\n', '') END;

-- As it was, but what differs in its encoding alone does not change.
CREATE OR REPLACE FUNCTION headwater.write_resources(items headwater.resource[]) RETURNS int[]
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

COMMENT ON TABLE headwater.set_member
    IS 'Which named set of files a node, config or assignment was applied from; at most one';
COMMENT ON FUNCTION headwater.apply(text, text, boolean)
    IS 'The same for a named set, which may remove what it applied before and no longer mentions';

GRANT SELECT ON headwater.set_member
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT DELETE ON headwater.set_member TO headwater_dba; -- to let go of what a set has
GRANT EXECUTE ON FUNCTION headwater.apply(text, text, boolean) TO headwater_dba, headwater_api;

COMMIT;
