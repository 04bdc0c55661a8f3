-- The dry run: what would a transaction do to nodes, and did its author mean it?
--
-- Every statement brings desired up to date within its transaction. So the plan of a transaction
-- need not be predicted: it is made, read by plan() and warnings() in the same transaction, and
-- rolled back.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (10, 'plan');

-- The nodes whose revision differs from the one before this transaction. Writers take turns, so
-- this transaction's own rows of desired_history are the last ones, and are found from the end.
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
        -- A row of the history without a digest says that the node had nothing to run.
        LEFT JOIN LATERAL (SELECT l.* WHERE l.digest IS NOT NULL) AS b ON true
        LEFT JOIN desired AS d ON d.node = t.node
        WHERE b.revision IS DISTINCT FROM d.revision;
END
$$;
COMMENT ON FUNCTION headwater.planned() IS 'The same without the differences inside documents';

-- The same in the order of the nodes, no more than most of them, and with the differences where
-- both documents are JSON. The differences between two documents are computed once, for all nodes
-- that go from the one to the other.
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

-- ---- warnings -----------------------------------------------------------------------------------

-- Only JSON objects merge; everything else replaces what other assignments give. This lists where
-- an assignment of this transaction replaced the documents of others on nodes that change.
CREATE FUNCTION headwater.replaced_bases()
RETURNS TABLE (assignment text, config text, media_type text, node text, nodes bigint, lost text[])
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    own bigint;
BEGIN
    SELECT h.rev INTO own FROM changelog_head AS h
    WHERE h.xid = pg_current_xact_id_if_assigned() AND h.at = now();
    RETURN QUERY
        -- One node stands for all nodes with the same sources before and after.
        WITH alike AS MATERIALIZED (
            SELECT d.sources, min(d.node) AS node, count(*) AS nodes
            FROM planned() AS p JOIN desired AS d USING (node)
            LEFT JOIN LATERAL (
                SELECT h.sources FROM desired_history AS h
                WHERE h.node = p.node AND h.rev < own ORDER BY h.id DESC LIMIT 1) AS b ON true
            WHERE b.sources -> 0 ->> 'assignment' IS DISTINCT FROM d.sources -> 0 ->> 'assignment'
            GROUP BY d.sources, b.sources ORDER BY min(d.node) LIMIT 1000
        ), candidate AS MATERIALIZED (
            SELECT c.* FROM candidates(ARRAY(SELECT a.node FROM alike AS a)) AS c
        ), reached AS MATERIALIZED (
            SELECT a.node, c.name AS lost
            FROM alike AS a JOIN node AS n ON n.name = a.node
            JOIN candidate AS c ON c.node = n.name OR n.labels @> c.selector
            WHERE NOT a.sources @> jsonb_build_array(jsonb_build_object('assignment', c.name))
        )
        SELECT f.name, f.config, r.media_type, min(a.node), sum(a.nodes)::bigint,
               ARRAY(SELECT DISTINCT e.lost FROM reached AS e
                     WHERE e.node = ANY (array_agg(a.node)) ORDER BY e.lost)
        FROM alike AS a
        JOIN candidate AS f ON f.name = a.sources -> 0 ->> 'assignment'
        JOIN config_revision AS r ON r.config = f.config AND r.revision = f.revision
        WHERE EXISTS (SELECT FROM reached AS e WHERE e.node = a.node)
        GROUP BY f.name, f.config, r.media_type;
END
$$;
COMMENT ON FUNCTION headwater.replaced_bases()
    IS 'Where a document lost, in this transaction, what other assignments give to the node';

-- What this transaction did so far that its author may not have meant. The codes are for programs:
--   assignment-without-nodes   no node's labels contain the assignment's selector
--   assignment-without-effect  on each of its nodes, a later assignment replaces what it gives
--   base-replaced              on nodes that change, it replaces what other assignments give
CREATE FUNCTION headwater.warnings()
RETURNS TABLE (code text, kind text, name text, message text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    own bigint;
    written record;
    alike text[];
    looked int := 0;
BEGIN
    SELECT h.rev INTO own FROM changelog_head AS h
    WHERE h.xid = pg_current_xact_id_if_assigned() AND h.at = now();
    IF own IS NULL THEN
        RETURN;
    END IF;
    kind := 'assignment';
    FOR written IN
        SELECT a.*, NOT EXISTS (SELECT FROM node AS n WHERE n.labels @> a.selector)
                    AND a.selector IS NOT NULL AS is_empty
        FROM assignment AS a WHERE a.version = own ORDER BY a.name LOOP
        name := written.name;
        IF written.is_empty THEN
            -- Perhaps labels have the same text in another JSON type. Each such look goes through
            -- the whole fleet, so there are ten of them at most.
            looked := looked + 1;
            alike := CASE WHEN looked <= 10 THEN ARRAY(
                SELECT n.name FROM node AS n
                WHERE written.selector <> '{}' AND NOT EXISTS (
                    SELECT FROM jsonb_each_text(written.selector) AS s
                    WHERE n.labels ->> s.key IS DISTINCT FROM s.value)
                ORDER BY n.name) ELSE '{}' END;
            code := 'assignment-without-nodes';
            message := format('assignment "%s" reaches no node: ', name) || CASE
                WHEN NOT EXISTS (SELECT FROM node) THEN 'there is none yet'
                WHEN alike <> '{}' THEN
                    format('the labels of %s are of another type than its selector %s: 3 is a '
                           'number, "3" a string', some_names(alike), written.selector)
                ELSE format('no node''s labels contain its selector %s', written.selector) END;
            RETURN NEXT;
        ELSIF NOT EXISTS (
                SELECT FROM desired AS d JOIN node AS n ON n.name = d.node
                WHERE n.name = written.node AND d.sources
                    @> jsonb_build_array(jsonb_build_object('assignment', written.name)))
            AND NOT EXISTS (
                SELECT FROM desired AS d JOIN node AS n ON n.name = d.node
                WHERE n.labels @> written.selector AND d.sources
                    @> jsonb_build_array(jsonb_build_object('assignment', written.name))) THEN
            code := 'assignment-without-effect';
            message := format('assignment "%s" changes nothing: on each node that it reaches, an '
                              'assignment of higher priority replaces the whole document (only '
                              'JSON objects merge)', name);
            RETURN NEXT;
        END IF;
    END LOOP;
    RETURN QUERY
        SELECT 'base-replaced', 'assignment', b.assignment,
               format('assignment "%s" replaces the whole document of %s (config "%s" is %s, and '
                      'only JSON objects merge): %s no effect there', b.assignment,
                      CASE b.nodes WHEN 1 THEN format('node "%s"', b.node)
                                   ELSE format('%s nodes, such as "%s"', b.nodes, b.node) END,
                      b.config, b.media_type, some_names(b.lost)
                          || CASE cardinality(b.lost) WHEN 1 THEN ' has' ELSE ' have' END)
        FROM replaced_bases() AS b ORDER BY b.assignment;
END
$$;
COMMENT ON FUNCTION headwater.warnings()
    IS 'What this transaction did, so far, and hardly meant: assignments without nodes, bases lost';

GRANT EXECUTE ON FUNCTION
    headwater.planned(), headwater.plan(int), headwater.warnings(), headwater.replaced_bases()
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;

COMMIT;
