-- What a transaction would do to nodes, asked from within it: plan().

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
-- "omitted" names it. What is beyond the 200 is told by a last entry {"path": "", "omitted": "more"}.
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

COMMIT;
