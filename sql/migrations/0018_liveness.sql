-- Signs of life: which nodes were heard of, and which have fallen silent.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (18, 'liveness');

CREATE TABLE headwater.setting (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    silence  interval NOT NULL DEFAULT '5 minutes', -- after which a node that beats is unknown
    CONSTRAINT setting_silence_is_positive CHECK (silence >= interval '1 second')
);
INSERT INTO headwater.setting DEFAULT VALUES;

ALTER TABLE headwater.reported
    ADD COLUMN heartbeat real, -- seconds between signs of life, as the node says; null: none come
    ADD CONSTRAINT reported_heartbeat_is_positive CHECK (heartbeat > 0);

-- Nodes that were ever heard. Written when that changes, so that an idle fleet leaves no WAL.
CREATE TABLE headwater.liveness (
    node         text COLLATE "C" PRIMARY KEY,
    silent_since timestamptz, -- when it was heard last; null: it beats
    id           bigint GENERATED ALWAYS AS IDENTITY -- another with each change; in commit order
);
CREATE INDEX liveness_silent ON headwater.liveness (node) WHERE silent_since IS NOT NULL;
CREATE INDEX liveness_id ON headwater.liveness (id);

-- Nodes that beat. Written all the time: without WAL, and with room on the page for the new row. A
-- crash of the server empties it; hear() then begins anew.
CREATE UNLOGGED TABLE headwater.heard (
    node text COLLATE "C" PRIMARY KEY,
    at   timestamptz,    -- null: not since that crash
    tick bigint NOT NULL -- of heard_head, then
) WITH (fillfactor = 40);

-- How long has been listened, in milliseconds. Silence is measured by it, not by the clock: what
-- nobody listened to was no silence, and clocks jump.
CREATE UNLOGGED TABLE headwater.heard_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    tick     bigint NOT NULL
) WITH (fillfactor = 10);

-- Takes all reports or fails on the first bad one; says which were taken.
CREATE OR REPLACE FUNCTION headwater.take_reports(reports jsonb)
RETURNS TABLE (node text, accepted boolean, reason text)
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH report AS MATERIALIZED (
        SELECT i.position, e.kv_created, e.kv_revision, v.node, v.state,
               u.revision AS running_revision, u.digest AS running_digest, u.epoch AS running_epoch,
               u.lsn AS running_lsn, u.applied_at AS running_applied_at,
               f.revision AS failed_revision, f.digest AS failed_digest, f.epoch AS failed_epoch,
               f.lsn AS failed_lsn, f.stage AS failed_stage, left(f.error, 16384) AS failed_error,
               f.at AS failed_at, v.desired_revision, v.agent, v.boot_id, v.reported_at,
               nullif(v.held, 'null') AS held, nullif(v.drift, 'null') AS drift,
               v.heartbeat
        FROM jsonb_array_elements(reports) WITH ORDINALITY AS i (item, position)
        CROSS JOIN LATERAL jsonb_to_record(i.item)
            AS e (kv_created timestamptz, kv_revision bigint, value jsonb)
        CROSS JOIN LATERAL jsonb_to_record(e.value)
            AS v (node text, state text, running jsonb, failed jsonb, desired_revision bigint,
                  agent text, boot_id text, reported_at timestamptz, held jsonb, drift jsonb,
                  heartbeat real)
        CROSS JOIN LATERAL jsonb_to_record(coalesce(v.running, '{}'))
            AS u (revision bigint, digest text, epoch bigint, lsn pg_lsn, applied_at timestamptz)
        CROSS JOIN LATERAL jsonb_to_record(coalesce(v.failed, '{}'))
            AS f (revision bigint, digest text, epoch bigint, lsn pg_lsn, stage text, error text,
                  at timestamptz)
    ), taken AS (
        INSERT INTO reported AS r
            (node, state, running_revision, running_digest, running_epoch, running_lsn,
             running_applied_at, failed_revision, failed_digest, failed_epoch, failed_lsn,
             failed_stage, failed_error, failed_at, desired_revision, agent, boot_id, reported_at,
             held, drift, heartbeat, kv_created, kv_revision)
        SELECT DISTINCT ON (p.node)
             p.node, p.state, p.running_revision, p.running_digest, p.running_epoch, p.running_lsn,
             p.running_applied_at, p.failed_revision, p.failed_digest, p.failed_epoch, p.failed_lsn,
             p.failed_stage, p.failed_error, p.failed_at, p.desired_revision, p.agent, p.boot_id,
             p.reported_at, p.held, p.drift, p.heartbeat, p.kv_created, p.kv_revision
        FROM report AS p
        ORDER BY p.node, p.kv_created DESC, p.kv_revision DESC
        ON CONFLICT (node) DO UPDATE SET
            (state, running_revision, running_digest, running_epoch, running_lsn,
             running_applied_at, failed_revision, failed_digest, failed_epoch, failed_lsn,
             failed_stage, failed_error, failed_at, desired_revision, agent, boot_id, reported_at,
             held, drift, heartbeat, kv_created, kv_revision, received_at)
            = ROW (excluded.state, excluded.running_revision, excluded.running_digest,
             excluded.running_epoch, excluded.running_lsn, excluded.running_applied_at,
             excluded.failed_revision, excluded.failed_digest, excluded.failed_epoch,
             excluded.failed_lsn, excluded.failed_stage, excluded.failed_error, excluded.failed_at,
             excluded.desired_revision, excluded.agent, excluded.boot_id, excluded.reported_at,
             excluded.held, excluded.drift, excluded.heartbeat, excluded.kv_created,
             excluded.kv_revision, now())
        WHERE (excluded.kv_created, excluded.kv_revision) > (r.kv_created, r.kv_revision)
        RETURNING node, kv_created, kv_revision
    )
    SELECT p.node, t.node IS NOT NULL,
           CASE WHEN t.node IS NULL THEN 'not newer than what is stored' END
    FROM report AS p
    LEFT JOIN taken AS t ON (t.node, t.kv_created, t.kv_revision)
                          = (p.node, p.kv_created, p.kv_revision)
    ORDER BY p.position;
END
$$;

-- Whether a node beats is part of what it reports.
ALTER TABLE headwater.reported_history ADD COLUMN heartbeat real;

CREATE OR REPLACE FUNCTION headwater.record_reported() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
SET enable_nestloop = off -- a plan for few rows would be kept for many
SET jit = off
AS $$
DECLARE
    columns CONSTANT text :=
        'node, state, running_revision, running_digest, running_epoch, running_lsn, '
        'running_applied_at, failed_revision, failed_digest, failed_epoch, failed_lsn, '
        'failed_stage, failed_error, failed_at, desired_revision, agent, boot_id, reported_at, '
        'held, drift, received_at, heartbeat';
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO reported_history (node) SELECT b.node FROM before_rows AS b ORDER BY b.node;
    ELSIF TG_OP = 'INSERT' THEN
        EXECUTE format('INSERT INTO reported_history (%1$s) SELECT %1$s FROM after_rows '
                       'ORDER BY node', columns);
    ELSE
        EXECUTE format(
            'INSERT INTO reported_history (%1$s) SELECT a.* '
            'FROM (SELECT %1$s FROM after_rows) AS a JOIN before_rows AS b USING (node) '
            'WHERE (a.state, a.running_revision, a.running_digest, a.running_epoch, '
            'a.running_lsn, a.running_applied_at, a.failed_revision, a.failed_digest, '
            'a.failed_epoch, a.failed_lsn, a.failed_stage, a.failed_error, a.failed_at, a.held, '
            'a.drift, a.heartbeat) '
            'IS DISTINCT FROM (b.state, b.running_revision, b.running_digest, b.running_epoch, '
            'b.running_lsn, b.running_applied_at, b.failed_revision, b.failed_digest, '
            'b.failed_epoch, b.failed_lsn, b.failed_stage, b.failed_error, b.failed_at, b.held, '
            'b.drift, b.heartbeat) '
            'ORDER BY node', columns);
    END IF;
    RETURN NULL;
END
$$;

-- What hear() reads whole, as all else there goes by keys.
CREATE FUNCTION headwater.heard_before(tick bigint) RETURNS SETOF text
LANGUAGE sql STABLE ROWS 10
SET search_path = pg_catalog, headwater, pg_temp
SET enable_seqscan = on
AS $$ SELECT h.node FROM heard AS h WHERE h.tick < heard_before.tick $$;

-- The reconciler's door for signs of life: these nodes were heard in the time that it went on
-- listening. Finds out who has fallen silent. Nodes that were deleted go the same way, so that no
-- writer of nodes ever waits for this.
CREATE FUNCTION headwater.hear(nodes text[], listened_ms bigint) RETURNS void
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
    -- A node that does not say that it beats is let go: it has no report, or beats no more.
    WITH gone AS (
        DELETE FROM heard AS h USING (
            SELECT c.node, r.heartbeat IS NOT NULL AS beats
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
END
$$;

-- A server that only follows another one has no unlogged tables, and must not plan to read one.
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

CREATE OR REPLACE VIEW headwater.fleet AS
SELECT n.name AS node, n.labels,
       d.revision AS desired_revision, d.digest AS desired_digest,
       r.running_revision AS reported_revision, r.running_digest AS reported_digest,
       CASE WHEN v.silent_since IS NOT NULL AND r.heartbeat IS NOT NULL
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
    WHEN r.node IS NULL THEN 'unknown'
    WHEN d.node IS NULL THEN 'in_sync'
    WHEN r.running_revision = d.revision AND r.running_digest = d.digest THEN 'in_sync'
    WHEN r.state IN ('failed', 'rejected')
        AND r.failed_revision = d.revision AND r.failed_digest = d.digest THEN 'failed'
    ELSE 'pending' END AS state) AS s;

-- How far the histories go that a node's state follows from; of the audit trail only what is written
-- under the lock of changelog_head, whose ids are in the order of commits.
CREATE FUNCTION headwater.fleet_ids()
RETURNS TABLE (desired_id bigint, reported_id bigint, audit_id bigint, liveness_id bigint)
LANGUAGE sql STABLE ROWS 1
SET search_path = pg_catalog, headwater, pg_temp
AS $$
    SELECT coalesce((SELECT max(d.id) FROM desired_history AS d), 0),
           coalesce((SELECT max(r.id) FROM reported_history AS r), 0),
           coalesce((SELECT max(a.id) FROM audit AS a
                     WHERE a.kind IN ('node', 'config', 'assignment')), 0),
           coalesce((SELECT max(v.id) FROM liveness AS v), 0)
$$;

-- The nodes whose state may be another one than when the histories went as far as that; a state of
-- null: the node is gone. What it costs depends on how many they are, not on the fleet.
CREATE FUNCTION headwater.fleet_changes(desired_id bigint, reported_id bigint, audit_id bigint,
                                        liveness_id bigint)
RETURNS TABLE (node text, state text, desired_changed_at timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, headwater, pg_temp
SET plan_cache_mode = force_custom_plan -- for as many as there are, this time
SET jit = off
AS $$
DECLARE
    changed CONSTANT text[] := ARRAY(
        SELECT d.node FROM desired_history AS d WHERE d.id > fleet_changes.desired_id
        UNION SELECT r.node FROM reported_history AS r WHERE r.id > fleet_changes.reported_id
        UNION SELECT a.name FROM audit AS a WHERE a.id > fleet_changes.audit_id AND a.kind = 'node'
        UNION SELECT v.node FROM liveness AS v WHERE v.id > fleet_changes.liveness_id);
BEGIN
    IF cardinality(changed) < 10000 THEN -- by keys, each
        RETURN QUERY
            SELECT c.node, f.state, f.desired_changed_at
            FROM unnest(changed) AS c (node)
            LEFT JOIN LATERAL (SELECT l.state, l.desired_changed_at FROM fleet AS l
                               WHERE l.node = c.node OFFSET 0) AS f ON true;
    ELSE
        RETURN QUERY
            SELECT c.node, f.state, f.desired_changed_at
            FROM unnest(changed) AS c (node) LEFT JOIN fleet AS f ON f.node = c.node;
    END IF;
END
$$;

COMMENT ON TABLE headwater.setting IS 'What holds for the whole fleet; one row';
COMMENT ON TABLE headwater.liveness IS 'Nodes that were ever heard, and since when they are silent';
COMMENT ON TABLE headwater.heard IS 'Nodes that beat, and when they were heard last; unlogged';
COMMENT ON TABLE headwater.heard_head IS 'For how long has been listened; unlogged';
COMMENT ON FUNCTION headwater.hear(text[], bigint)
    IS 'Takes signs of life of nodes, and finds out who has fallen silent';
COMMENT ON FUNCTION headwater.heard_at(text)
    IS 'When a node that beats was heard last; null on a server in recovery';

COMMENT ON FUNCTION headwater.fleet_ids() IS 'How far the histories go that the fleet follows from';
COMMENT ON FUNCTION headwater.fleet_changes(bigint, bigint, bigint, bigint)
    IS 'The nodes whose state may have changed since the histories went as far as these ids';

GRANT SELECT ON headwater.setting, headwater.liveness, headwater.heard, headwater.heard_head
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT UPDATE (silence) ON headwater.setting TO headwater_dba;
GRANT EXECUTE ON FUNCTION
    headwater.heard_at(text), headwater.fleet_ids(),
    headwater.fleet_changes(bigint, bigint, bigint, bigint)
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION headwater.hear(text[], bigint) TO headwater_reconciler;

COMMIT;
