-- Where a node's document comes from: its sources, and which of them each path is from.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (15, 'explain');

-- What the document is made of, lowest priority first. tie: another assignment that reaches the
-- node has the same priority, so that the names decided which comes later.
CREATE FUNCTION headwater.explain_sources(node text)
RETURNS TABLE (rank int, assignment text, config text, revision int, priority int, tie boolean)
LANGUAGE sql STABLE ROWS 10
SET search_path = pg_catalog, headwater, pg_temp
AS $$
    SELECT s.rank::int, a.name, s.source ->> 'config', (s.source ->> 'revision')::int, a.priority,
           EXISTS (SELECT FROM candidates(ARRAY[d.node]) AS o
                   JOIN node AS n ON n.name = d.node
                   WHERE (o.node = n.name OR n.labels @> o.selector)
                     AND o.priority = a.priority AND o.name <> a.name)
    FROM desired AS d
    CROSS JOIN jsonb_array_elements(d.sources) WITH ORDINALITY AS s (source, rank)
    JOIN assignment AS a ON a.name = s.source ->> 'assignment'
    WHERE d.node = explain_sources.node
    ORDER BY s.rank
$$;

-- Each path (a JSON Pointer, RFC 6901) of the document, and the last source that had a say about it:
-- for an object, the last that named it. deleted: it is not in the document, because that source
-- removed what others had put there. A document that is not a JSON object has the one path ''.
CREATE FUNCTION headwater.explain(node text)
RETURNS TABLE (path text, assignment text, config text, revision int, deleted boolean)
LANGUAGE sql STABLE ROWS 100
SET search_path = pg_catalog, headwater, pg_temp
AS $$
    WITH RECURSIVE source AS MATERIALIZED (
        SELECT s.*,
               CASE WHEN r.kind = 'opaque' THEN '""'
                    ELSE convert_from(bytes_of(r.content, r.encoding), 'UTF8')::jsonb END AS content
        FROM explain_sources(explain.node) AS s
        JOIN config_revision AS r ON r.config = s.config AND r.revision = s.revision
    ), member AS (
        SELECT s.rank, NULL::text AS parent, '' AS path, s.content AS value FROM source AS s
        UNION ALL
        SELECT m.rank, m.path,
               m.path || '/' || replace(replace(e.key, '~', '~0'), '/', '~1'), e.value
        FROM member AS m
        CROSS JOIN LATERAL jsonb_each(CASE jsonb_typeof(m.value)
                                      WHEN 'object' THEN m.value ELSE '{}' END) AS e
    ), said AS (
        -- The first document is taken as it is; in those that are merged over it null removes.
        SELECT m.*, m.rank > 1 AND m.value = 'null' AS is_removal,
               jsonb_typeof(m.value) = 'object' AS is_object
        FROM member AS m
    ), place AS MATERIALIZED (
        SELECT s.parent, s.path, max(s.rank) AS last,
               coalesce(max(s.rank) FILTER (WHERE NOT s.is_object), 0) AS last_replaced,
               coalesce(max(s.rank) FILTER (WHERE s.is_removal), 0) AS last_removed,
               coalesce(max(s.rank) FILTER (WHERE NOT s.is_removal), 0) AS last_set
        FROM said AS s GROUP BY s.parent, s.path
    ), standing AS (
        -- What was said of a member before its parent was replaced is void.
        SELECT p.*, 0 AS void FROM place AS p WHERE p.parent IS NULL
        UNION ALL
        SELECT p.*, greatest(s.void, s.last_replaced)
        FROM standing AS s JOIN place AS p ON p.parent = s.path
        WHERE p.last > greatest(s.void, s.last_replaced)
    )
    SELECT p.path, s.assignment, s.config, s.revision, p.last_removed = p.last
    FROM standing AS p JOIN source AS s ON s.rank = p.last
    WHERE (p.last_removed < p.last OR p.last_set > p.void)
      AND (p.parent IS NOT NULL OR p.last_replaced = p.last)
    ORDER BY p.path COLLATE "C"
$$;

COMMENT ON FUNCTION headwater.explain_sources(text)
    IS 'What a node''s document is made of, in the order of merging; where a name decided that order';
COMMENT ON FUNCTION headwater.explain(text)
    IS 'Which source each path of a node''s document is from, and which were removed by whom';

GRANT EXECUTE ON FUNCTION headwater.explain_sources(text), headwater.explain(text)
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;

COMMIT;
