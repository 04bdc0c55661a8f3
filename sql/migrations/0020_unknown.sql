-- Nodes that nobody registered, and nodes that nobody gave anything to run.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (20, 'unknown');

-- ---- who is not registered -----------------------------------------------------------------------

-- Names that were heard or that reported, and are no node's. Anybody whom NATS lets in can invent
-- them, so there is a most, and no WAL. A crash of the server empties it; the living come back.
CREATE UNLOGGED TABLE headwater.unknown_heard (
    name       text COLLATE "C" PRIMARY KEY,
    first_seen timestamptz NOT NULL,
    last_seen  timestamptz NOT NULL, -- to within ten seconds
    tick       bigint NOT NULL       -- of heard_head, then
) WITH (fillfactor = 50);

-- Its row lock keeps those who write the list apart, or together they could go beyond the most.
CREATE UNLOGGED TABLE headwater.unknown_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    left_out bigint NOT NULL DEFAULT 0 -- times that a name found no place since there was one
) WITH (fillfactor = 10);

CREATE FUNCTION headwater.unknown_limit() RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 1000;

-- These names gave a sign of life: keeps those that are no node's. Names that were registered, or
-- were silent for as long as a node may be, go.
CREATE FUNCTION headwater.note_unknown(names text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    strangers CONSTANT text[] := ARRAY(
        SELECT DISTINCT u.name COLLATE "C" FROM unnest(names) AS u (name)
        WHERE NOT EXISTS (SELECT FROM node AS n WHERE n.name = u.name OFFSET 0)
        AND is_name(u.name));
    fresh text[];
    now_tick bigint;
    silence_ms bigint;
    room int;
BEGIN
    IF cardinality(strangers) = 0 AND NOT EXISTS (SELECT FROM unknown_heard) THEN
        RETURN;
    END IF;
    INSERT INTO unknown_head DEFAULT VALUES ON CONFLICT DO NOTHING;
    PERFORM FROM unknown_head FOR UPDATE;
    now_tick := coalesce((SELECT h.tick FROM heard_head AS h), 0);
    SELECT extract(epoch FROM s.silence) * 1000 INTO silence_ms FROM setting AS s;

    DELETE FROM unknown_heard AS u WHERE u.tick < now_tick - silence_ms
        OR EXISTS (SELECT FROM node AS n WHERE n.name = u.name);
    UPDATE unknown_heard AS u SET last_seen = now(), tick = now_tick
    WHERE u.name = ANY (strangers) AND u.tick <= now_tick - least(10000, silence_ms / 4);

    fresh := ARRAY(SELECT s.name FROM unnest(strangers) AS s (name)
                   WHERE NOT EXISTS (SELECT FROM unknown_heard AS u WHERE u.name = s.name));
    room := greatest(0, unknown_limit() - (SELECT count(*) FROM unknown_heard));
    INSERT INTO unknown_heard (name, first_seen, last_seen, tick)
    SELECT f.name, now(), now(), now_tick FROM unnest(fresh) AS f (name) LIMIT room;
    UPDATE unknown_head AS h
    SET left_out = CASE WHEN cardinality(fresh) < room THEN 0
                        ELSE h.left_out + cardinality(fresh) - room END
    WHERE cardinality(fresh) > room OR h.left_out > 0 AND cardinality(fresh) < room;
END
$$;

-- A server that only follows another one has no unlogged tables, and must not plan to read one.
CREATE FUNCTION headwater.unknown_names()
RETURNS TABLE (name text, first_seen timestamptz, last_seen timestamptz)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF NOT pg_is_in_recovery() THEN
        RETURN QUERY SELECT u.name, u.first_seen, u.last_seen FROM unknown_heard AS u
            WHERE NOT EXISTS (SELECT FROM node AS n WHERE n.name = u.name);
    END IF;
END
$$;

CREATE VIEW headwater.unknown_node AS
SELECT u.name COLLATE "C" AS name, u.first_seen, u.last_seen,
       left(r.agent, 200) AS agent, r.state AS reported_state,
       r.running_revision AS reported_revision, r.running_digest AS reported_digest
FROM headwater.unknown_names() AS u
LEFT JOIN headwater.reported AS r ON r.node = u.name;

-- How the list stands; one row.
CREATE FUNCTION headwater.unknown_count()
RETURNS TABLE (names int, most int, is_full boolean, left_out bigint)
LANGUAGE plpgsql STABLE ROWS 1
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    most := unknown_limit();
    names := (SELECT count(*) FROM unknown_names());
    is_full := names >= most;
    left_out := 0;
    IF is_full THEN
        left_out := coalesce((SELECT h.left_out FROM unknown_head AS h), 0);
    END IF;
    RETURN NEXT;
END
$$;

-- The reconciler's door for signs of life: these nodes were heard in the time that it went on
-- listening. Finds out who has fallen silent, and who is unknown. Nodes that were deleted go the
-- same way, so that no writer of nodes ever waits for this.
CREATE OR REPLACE FUNCTION headwater.hear(nodes text[], listened_ms bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
SET enable_seqscan = off -- the tables grow from nothing to a fleet before anyone counts rows
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    now_tick bigint;
    limit_ms bigint;
BEGIN
    UPDATE heard_head SET tick = tick + greatest(listened_ms, 0) RETURNING tick INTO now_tick;
    IF NOT FOUND THEN
        now_tick := 0;
        INSERT INTO heard_head (tick) VALUES (now_tick) ON CONFLICT DO NOTHING;
        INSERT INTO heard (node, tick)
        SELECT v.node, now_tick FROM liveness AS v WHERE v.silent_since IS NULL
        ON CONFLICT DO NOTHING;
    END IF;

    UPDATE heard AS h SET at = now(), tick = now_tick
    FROM unnest(nodes) AS u (node) WHERE h.node = u.node;
    WITH fresh AS (
        INSERT INTO heard AS h (node, at, tick)
        SELECT n.name, now(), now_tick
        FROM unnest(nodes) AS u (node) JOIN node AS n ON n.name = u.node
        WHERE NOT EXISTS (SELECT FROM heard AS o WHERE o.node = u.node)
        ON CONFLICT DO NOTHING RETURNING h.node
    )
    INSERT INTO liveness AS v (node) SELECT f.node FROM fresh AS f
    ON CONFLICT (node) DO UPDATE SET silent_since = NULL, id = DEFAULT;
    IF FOUND THEN
        DELETE FROM liveness AS v WHERE v.silent_since IS NOT NULL
            AND NOT EXISTS (SELECT FROM node AS n WHERE n.name = v.node);
    END IF;

    SELECT extract(epoch FROM s.silence) * 1000 INTO limit_ms FROM setting AS s;
    -- One that has not reported beats, for it was heard. One whose report does not say so is let go:
    -- it beats no more; and so is one that was deleted.
    WITH gone AS (
        DELETE FROM heard AS h USING (
            SELECT c.node, CASE WHEN r.node IS NOT NULL THEN r.heartbeat IS NOT NULL
                                ELSE EXISTS (SELECT FROM node AS n WHERE n.name = c.node)
                                END AS beats
            FROM heard_before(now_tick - limit_ms) AS b (node)
            JOIN heard AS c ON c.node = b.node
            LEFT JOIN reported AS r ON r.node = c.node
            WHERE c.tick < now_tick - 3000 * coalesce(r.heartbeat, 0)
        ) AS g WHERE h.node = g.node
        RETURNING h.node, h.at, g.beats
    ), forgotten AS (
        DELETE FROM liveness AS v USING gone AS g WHERE v.node = g.node AND NOT g.beats
    )
    UPDATE liveness AS v SET silent_since = coalesce(g.at, now()), id = DEFAULT
    FROM gone AS g WHERE v.node = g.node AND g.beats;

    PERFORM note_unknown(nodes);
END
$$;

-- Only reports that this transaction took: what is read again after a restart is no sign of life.
-- OFFSET 0: name by name, by keys.
CREATE FUNCTION headwater.note_reporters(reports jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    strangers CONSTANT text[] := ARRAY(
        SELECT w.node
        FROM (SELECT i.item #>> '{value,node}' AS node
              FROM jsonb_array_elements(reports) AS i (item) OFFSET 0) AS w
        WHERE NOT EXISTS (SELECT FROM node AS n WHERE n.name = w.node OFFSET 0)
        AND EXISTS (SELECT FROM reported AS r
                    WHERE r.node = w.node AND r.received_at = now() OFFSET 0));
BEGIN
    IF cardinality(strangers) > 0 THEN
        PERFORM note_unknown(strangers);
    END IF;
END
$$;

-- The reconciler's door. reports is an array of {"kv_created", "kv_revision", "value"}, value being
-- what the node wrote. Only newer reports are taken; one that is malformed does not hold up others.
-- Answers a row for each report, in order. Those of no node's are a sign of life of the unknown.
CREATE OR REPLACE FUNCTION headwater.report(reports jsonb)
RETURNS TABLE (node text, accepted boolean, reason text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
SET timezone = 'UTC'
AS $$
#variable_conflict use_column
DECLARE
    item jsonb;
BEGIN
    BEGIN
        RETURN QUERY SELECT * FROM take_reports(reports);
        PERFORM note_reporters(reports);
        RETURN;
    EXCEPTION WHEN data_exception OR integrity_constraint_violation THEN
        IF jsonb_typeof(reports) <> 'array' THEN
            RAISE;
        END IF;
    END;
    -- One of them is bad: find out which.
    FOR item IN SELECT * FROM jsonb_array_elements(reports) LOOP
        BEGIN
            RETURN QUERY SELECT * FROM take_reports(jsonb_build_array(item));
            PERFORM note_reporters(jsonb_build_array(item));
        EXCEPTION WHEN data_exception OR integrity_constraint_violation THEN
            node := item -> 'value' ->> 'node';
            accepted := false;
            reason := SQLERRM;
            RETURN NEXT;
        END;
    END LOOP;
END
$$;

-- ---- who has nothing to run ----------------------------------------------------------------------

-- Whoever was heard or reported, and is to run nothing, is unassigned: what it may still run is
-- nobody's wish.
CREATE OR REPLACE VIEW headwater.fleet AS
SELECT n.name AS node, n.labels,
       d.revision AS desired_revision, d.digest AS desired_digest,
       r.running_revision AS reported_revision, r.running_digest AS reported_digest,
       CASE WHEN v.silent_since IS NOT NULL AND (r.node IS NULL OR r.heartbeat IS NOT NULL)
            THEN 'unknown' ELSE s.state END AS state,
       CASE WHEN s.state = 'in_sync' OR d.node IS NULL THEN interval '0'
            ELSE greatest(interval '0', clock_timestamp() - d.changed_at) END AS lag,
       CASE WHEN s.state = 'failed'
            THEN concat_ws(': ', r.failed_stage, r.failed_error) END AS error,
       d.changed_at AS desired_changed_at,
       r.running_applied_at AS applied_at,
       r.held, r.drift,
       s.state AS reported_state,
       coalesce(v.silent_since, headwater.heard_at(n.name)) AS last_seen
FROM headwater.node AS n
LEFT JOIN headwater.desired AS d ON d.node = n.name
LEFT JOIN headwater.reported AS r ON r.node = n.name
LEFT JOIN headwater.liveness AS v ON v.node = n.name
CROSS JOIN LATERAL (SELECT CASE
    WHEN d.node IS NULL AND num_nonnulls(r.node, v.node) > 0 THEN 'unassigned'
    WHEN r.node IS NULL THEN 'unknown'
    WHEN r.running_revision = d.revision AND r.running_digest = d.digest THEN 'in_sync'
    WHEN r.state IN ('failed', 'rejected')
        AND r.failed_revision = d.revision AND r.failed_digest = d.digest THEN 'failed'
    ELSE 'pending' END AS state) AS s;

COMMENT ON TABLE headwater.unknown_heard
    IS 'Names that were heard or reported and are no node''s; at most unknown_limit(); unlogged';
COMMENT ON TABLE headwater.unknown_head
    IS 'How often a name found no place in unknown_heard; its row lock puts writers in one order';
COMMENT ON VIEW headwater.unknown_node
    IS 'Who is alive and not registered: an agent with another name than its node, or a new one';
COMMENT ON FUNCTION headwater.unknown_limit() IS 'How many names unknown_node lists at most';
COMMENT ON FUNCTION headwater.unknown_names()
    IS 'The names of unknown_node, and when they were heard; none on a server in recovery';
COMMENT ON FUNCTION headwater.unknown_count()
    IS 'How many names unknown_node lists, whether it is full, and what was left out since';

GRANT SELECT ON headwater.unknown_heard, headwater.unknown_head, headwater.unknown_node
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION
    headwater.unknown_limit(), headwater.unknown_names(), headwater.unknown_count()
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;

COMMIT;
