-- Signs of life: which nodes were heard, which have fallen silent, and who is not registered.
--
-- An agent gives a sign of life every few seconds. The leading reconciler gathers them and calls
-- hear(), with the time for which it has listened since its last call. The sum of these times is a
-- clock of its own (heard_head.tick), and silence is measured by it: while nobody listens, no node
-- falls silent, and a jump of the server's clock does no harm. The tables that are written all the
-- time are unlogged, so that an idle fleet writes no WAL. A crash of the server empties them, and
-- every node then has the whole time again.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (8, 'liveness');

-- ---- tables -------------------------------------------------------------------------------------

CREATE TABLE headwater.setting (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- A node that gives signs of life is unknown when none came for so long.
    silence  interval NOT NULL DEFAULT '5 minutes',
    -- Rows a minute that reported_history takes of one node, for long.
    report_rate int NOT NULL DEFAULT 12,
    CONSTRAINT setting_silence_is_positive CHECK (silence >= interval '1 second'),
    CONSTRAINT setting_report_rate_is_sane CHECK (report_rate BETWEEN 1 AND 6000)
);
COMMENT ON TABLE headwater.setting IS 'What holds for the whole fleet; one row';
INSERT INTO headwater.setting DEFAULT VALUES;

-- The nodes that were ever heard. It is written only when a node is heard for the first time, falls
-- silent, or comes back.
CREATE TABLE headwater.liveness (
    node         text COLLATE "C" PRIMARY KEY,
    silent_since timestamptz, -- when it was heard last; null: it is not silent
    id           bigint GENERATED ALWAYS AS IDENTITY -- each change gives the row the next number
);
COMMENT ON TABLE headwater.liveness IS 'Nodes that were ever heard, and since when they are silent';
CREATE INDEX liveness_silent ON headwater.liveness (node) WHERE silent_since IS NOT NULL;
CREATE INDEX liveness_id ON headwater.liveness (id);

-- The nodes that give signs of life. Its rows change every few seconds, so more than half of each
-- page stays free for their new versions. After a crash has emptied it, hear() fills it from
-- liveness.
CREATE UNLOGGED TABLE headwater.heard (
    node text COLLATE "C" PRIMARY KEY,
    at   timestamptz,    -- null: it was not heard since the server crashed
    tick bigint NOT NULL -- heard_head.tick at that time
) WITH (fillfactor = 40);
COMMENT ON TABLE headwater.heard IS 'Nodes that beat, and when they were heard last; unlogged';

-- For how many milliseconds a reconciler has listened so far; one row.
CREATE UNLOGGED TABLE headwater.heard_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    tick     bigint NOT NULL
) WITH (fillfactor = 10);
COMMENT ON TABLE headwater.heard_head IS 'For how long has been listened; unlogged';

-- The names that gave a sign of life, or reported, and belong to no node. Anybody whom NATS lets in
-- can invent such names. Therefore their number has a limit, and they write no WAL. A crash of the
-- server empties the list, and those who are alive come back by their next sign of life.
CREATE UNLOGGED TABLE headwater.unknown_heard (
    name       text COLLATE "C" PRIMARY KEY,
    first_seen timestamptz NOT NULL,
    last_seen  timestamptz NOT NULL, -- to within ten seconds
    tick       bigint NOT NULL       -- heard_head.tick at that time
) WITH (fillfactor = 50);
COMMENT ON TABLE headwater.unknown_heard
    IS 'Names that were heard or reported and are no node''s; at most unknown_limit(); unlogged';

-- One row, whose lock lets one transaction at a time write the list: two together could go beyond
-- its limit.
CREATE UNLOGGED TABLE headwater.unknown_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    left_out bigint NOT NULL DEFAULT 0 -- how often a name was left out since the list is full
) WITH (fillfactor = 10);
COMMENT ON TABLE headwater.unknown_head
    IS 'How often a name found no place in unknown_heard; its row lock puts writers in one order';

-- ---- who is not registered ----------------------------------------------------------------------

CREATE FUNCTION headwater.unknown_limit() RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 1000;
COMMENT ON FUNCTION headwater.unknown_limit() IS 'How many names unknown_node lists at most';

-- Takes names that gave a sign of life, and lists those that belong to no node. Names that were
-- registered meanwhile, or were silent for setting.silence, leave the list.
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

-- A hot standby cannot read unlogged tables, and fails when it plans to. In PL/pgSQL the statement
-- is planned only when it is reached.
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
COMMENT ON FUNCTION headwater.unknown_names()
    IS 'The names of unknown_node, and when they were heard; none on a server in recovery';

CREATE VIEW headwater.unknown_node AS
SELECT u.name COLLATE "C" AS name, u.first_seen, u.last_seen,
       left(r.agent, 200) AS agent, r.state AS reported_state,
       r.running_revision AS reported_revision, r.running_digest AS reported_digest
FROM headwater.unknown_names() AS u
LEFT JOIN headwater.reported AS r ON r.node = u.name;
COMMENT ON VIEW headwater.unknown_node
    IS 'Who is alive and not registered: an agent with another name than its node, or a new one';

-- Says in one row how many names the list has, how many it may have, and what was left out.
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
COMMENT ON FUNCTION headwater.unknown_count()
    IS 'How many names unknown_node lists, whether it is full, and what was left out since';

-- ---- signs of life ------------------------------------------------------------------------------

-- The one question of hear() that must read the table heard as a whole. All others go by keys, so
-- hear() itself forbids sequential scans.
CREATE FUNCTION headwater.heard_before(tick bigint) RETURNS SETOF text
LANGUAGE sql STABLE ROWS 10
SET search_path = pg_catalog, headwater, pg_temp
SET enable_seqscan = on
AS $$ SELECT h.node FROM heard AS h WHERE h.tick < heard_before.tick $$;

-- The reconciler calls this every few seconds: it listened for listened_ms since its last call, and
-- heard these nodes in that time. The function finds out who has fallen silent, and who is unknown.
-- It also removes nodes that were deleted; a trigger on node could do that, but then writers of
-- nodes would wait for this.
CREATE FUNCTION headwater.hear(nodes text[], listened_ms bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
SET enable_seqscan = off -- the tables grow to a whole fleet before their rows are counted
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
    -- A node that was not heard for too long is silent if it was to be heard: its report says that
    -- it gives signs of life, or it has not reported yet. Any other, and one that was deleted, is
    -- forgotten.
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
COMMENT ON FUNCTION headwater.hear(text[], bigint)
    IS 'Takes signs of life of nodes, and finds out who has fallen silent';

-- As unknown_names(), this answers nothing on a hot standby, which cannot read unlogged tables.
CREATE FUNCTION headwater.heard_at(node text) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN NULL;
    END IF;
    RETURN (SELECT h.at FROM heard AS h WHERE h.node = heard_at.node);
END
$$;
COMMENT ON FUNCTION headwater.heard_at(text)
    IS 'When a node that beats was heard last; null on a server in recovery';

GRANT SELECT ON
    headwater.setting, headwater.liveness, headwater.heard, headwater.heard_head,
    headwater.unknown_heard, headwater.unknown_head, headwater.unknown_node
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT UPDATE (silence, report_rate) ON headwater.setting TO headwater_dba;
GRANT EXECUTE ON FUNCTION
    headwater.heard_at(text), headwater.unknown_limit(), headwater.unknown_names(),
    headwater.unknown_count()
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION headwater.hear(text[], bigint) TO headwater_reconciler;

COMMIT;
