-- Agents that share a name.
--
-- Two machines that run as the same node (a copied disk, a restored machine beside the first, a
-- mistake in a file) overwrote each other's report for ever. Each running agent now has a name of
-- its own, its instance, which is in its signs of life and in its reports. hear() and report() find
-- out that two of one node are alive, the view fleet then says conflict, and choose_instance() says
-- which of them is meant.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (15, 'instances');

-- ---- tables -------------------------------------------------------------------------------------

ALTER TABLE headwater.reported
    ADD COLUMN instance text, -- the agent's, which it draws at each start; null: an old agent
    ADD CONSTRAINT reported_instance_is_legal CHECK (headwater.is_name(instance));
-- {"instances", "since"} where a conflict begins, with "until" where it ends; null: a report
ALTER TABLE headwater.reported_history ADD COLUMN conflict jsonb;
ALTER TABLE headwater.liveness
    ADD COLUMN conflict text[], -- instances that are alive at once; null: none, or one
    ADD COLUMN conflict_since timestamptz,
    ADD COLUMN set_aside text[]; -- instances that are not meant, as choose_instance() said
-- The instance that was heard last; null: it is not known, or an old agent's.
ALTER TABLE headwater.heard ADD COLUMN instance text;
ALTER TABLE headwater.audit
    DROP CONSTRAINT audit_kind_is_known, DROP CONSTRAINT audit_action_is_known,
    ADD CONSTRAINT audit_kind_is_known
        CHECK (kind IN ('node', 'config', 'assignment', 'token', 'proposal', 'instance')),
    ADD CONSTRAINT audit_action_is_known
        CHECK (action IN ('create', 'update', 'delete', 'revoke', 'approve', 'reject', 'choose'));

-- Agents that share a node's name. A running agent calls itself by an instance, a name that it draws
-- at its start, so two that run at once are told apart even if their disks are copies of each other.
-- This table has rows only of nodes at which another instance appeared, and only as long as one of
-- the two was heard in the time that setting.silence gives. So an idle fleet has no rows here.
--
-- What a restart looks like: the old instance, then the new one, and the old one never again. What
-- two agents look like: the older instance comes back after the newer one had appeared, and then both
-- are heard again. Both steps are asked for, because the old instance's last messages may arrive
-- late, by another connection than the new one's. A machine that is put back to an earlier moment of
-- its life, its memory included, looks like a restart as well.
CREATE UNLOGGED TABLE headwater.instance (
    node       text COLLATE "C",
    instance   text COLLATE "C",
    first_tick bigint NOT NULL, -- heard_head.tick when it appeared …
    back_tick  bigint,          -- … when it was first heard after a newer one had appeared …
    tick       bigint NOT NULL, -- … and when it was heard last
    at         timestamptz NOT NULL,
    PRIMARY KEY (node, instance)
) WITH (fillfactor = 50);
COMMENT ON TABLE headwater.instance
    IS 'Agents of nodes that have had more than one lately; at most 8 a node; unlogged';

-- ---- agents that share a name -------------------------------------------------------------------

-- Writes into liveness which instances of these nodes are in conflict. The begin of a conflict and
-- its end go into the history of reports, each once, and notify whoever listens. A conflict that
-- choose_instance() has settled lasts until the chosen agent's report is there.
CREATE FUNCTION headwater.judge_instances(nodes text[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    change record;
    is_told boolean := false;
BEGIN
    FOR change IN
        SELECT u.node, v.conflict AS before, v.conflict_since AS since,
               CASE WHEN p.names IS NULL AND r.instance = ANY (v.set_aside)
                    THEN ARRAY(SELECT i.instance FROM instance AS i WHERE i.node = u.node
                               UNION SELECT r.instance ORDER BY 1)
                    ELSE p.names END AS after
        FROM (SELECT DISTINCT w.node FROM unnest(nodes) AS w (node)) AS u
        LEFT JOIN liveness AS v ON v.node = u.node
        LEFT JOIN reported AS r ON r.node = u.node
        CROSS JOIN LATERAL (
            SELECT array_agg(DISTINCT x.name ORDER BY x.name) AS names
            FROM instance AS i
            JOIN instance AS j ON j.node = i.node AND j.instance <> i.instance
            CROSS JOIN LATERAL (VALUES (i.instance), (j.instance)) AS x (name)
            WHERE i.node = u.node AND j.first_tick >= i.first_tick AND i.tick > j.first_tick
            AND i.tick > i.back_tick AND j.tick > i.back_tick
            AND NOT coalesce(ARRAY[i.instance, j.instance] && v.set_aside, false)) AS p
        ORDER BY u.node
    LOOP
        CONTINUE WHEN change.before IS NOT DISTINCT FROM change.after;
        INSERT INTO liveness AS v (node, conflict, conflict_since)
        VALUES (change.node, change.after, now())
        ON CONFLICT (node) DO UPDATE
        SET conflict = excluded.conflict, id = DEFAULT,
            conflict_since = CASE WHEN excluded.conflict IS NOT NULL
                                  THEN coalesce(v.conflict_since, now()) END;
        IF num_nulls(change.before, change.after) = 1 THEN
            is_told := true;
            INSERT INTO reported_history
                (node, state, running_revision, running_digest, running_epoch, running_lsn,
                 running_applied_at, failed_revision, failed_digest, failed_epoch, failed_lsn,
                 failed_stage, failed_error, failed_at, desired_revision, agent, boot_id,
                 reported_at, held, drift, received_at, heartbeat, conflict)
            SELECT r.node, r.state, r.running_revision, r.running_digest, r.running_epoch,
                   r.running_lsn, r.running_applied_at, r.failed_revision, r.failed_digest,
                   r.failed_epoch, r.failed_lsn, r.failed_stage, r.failed_error, r.failed_at,
                   r.desired_revision, r.agent, r.boot_id, r.reported_at, r.held, r.drift,
                   r.received_at, r.heartbeat,
                   jsonb_strip_nulls(jsonb_build_object(
                       'instances', coalesce(change.after, change.before),
                       'since', coalesce(change.since, now()),
                       'until', CASE WHEN change.after IS NULL THEN now() END))
            FROM reported AS r WHERE r.node = change.node;
        END IF;
    END LOOP;
    IF is_told THEN
        PERFORM pg_notify('headwater_reported', '');
    END IF;
END
$$;

-- Notes that these instances were heard now, and which one each node had before (null: that is not
-- known). Whoever invents names pushes out those that were heard longest ago, beyond eight at a node.
-- As those who write reports do, whoever writes here first takes the lock on reported_head.
CREATE FUNCTION headwater.note_instances(nodes text[], instances text[], befores text[])
RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    now_tick CONSTANT bigint := coalesce((SELECT h.tick FROM heard_head AS h), 0);
BEGIN
    PERFORM FROM reported_head FOR NO KEY UPDATE;
    INSERT INTO instance (node, instance, first_tick, tick, at)
    SELECT u.node, u.before, coalesce(h.tick, now_tick), coalesce(h.tick, now_tick),
           coalesce(h.at, now())
    FROM unnest(nodes, befores) AS u (node, before) LEFT JOIN heard AS h ON h.node = u.node
    WHERE u.before IS NOT NULL
    ON CONFLICT DO NOTHING;
    INSERT INTO instance AS i (node, instance, first_tick, tick, at)
    SELECT DISTINCT u.node, u.instance, now_tick, now_tick, now()
    FROM unnest(nodes, instances) AS u (node, instance)
    WHERE is_name(u.instance)
    ON CONFLICT (node, instance) DO UPDATE
    SET tick = now_tick, at = now(),
        back_tick = coalesce(i.back_tick,
            (SELECT now_tick WHERE EXISTS (
                SELECT FROM instance AS o WHERE o.node = i.node AND o.instance <> i.instance
                AND o.first_tick >= i.first_tick AND o.first_tick < now_tick)));
    DELETE FROM instance AS i USING (
        SELECT o.node, o.instance,
               row_number() OVER (PARTITION BY o.node ORDER BY o.tick DESC, o.first_tick) AS place
        FROM instance AS o WHERE o.node = ANY (nodes)) AS r
    WHERE r.place > 8 AND i.node = r.node AND i.instance = r.instance;
    PERFORM judge_instances(nodes);
END
$$;

-- Forgets instances that were not heard for setting.silence, or for four times as long where the
-- node gives no signs of life, so that only its reports tell. The last one of a node goes with them:
-- that node is then as any other.
CREATE FUNCTION headwater.forget_instances(now_tick bigint, silence_ms bigint) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
SET jit = off
AS $$
DECLARE
    gone record;
BEGIN
    IF NOT EXISTS (SELECT FROM instance AS i WHERE i.tick < now_tick - silence_ms) THEN
        RETURN;
    END IF;
    PERFORM FROM reported_head FOR NO KEY UPDATE;
    WITH old AS (
        DELETE FROM instance AS i USING (
            SELECT o.node, o.instance FROM instance AS o LEFT JOIN reported AS r ON r.node = o.node
            WHERE o.tick < now_tick - silence_ms * CASE WHEN r.node IS NOT NULL
                                                   AND r.heartbeat IS NULL THEN 4 ELSE 1 END
            AND o.tick < now_tick - 3000 * coalesce(r.heartbeat, 0)) AS o
        WHERE i.node = o.node AND i.instance = o.instance
        RETURNING i.node, i.instance
    )
    SELECT array_agg(o.node) AS nodes, array_agg(o.instance) AS instances INTO gone FROM old AS o;
    IF gone.nodes IS NULL THEN
        RETURN;
    END IF;
    UPDATE liveness AS v
    SET set_aside = nullif(ARRAY(
            SELECT s.name FROM unnest(v.set_aside) AS s (name)
            WHERE (v.node, s.name) NOT IN (
                SELECT u.node, u.instance
                FROM unnest(gone.nodes, gone.instances) AS u (node, instance))), '{}')
    WHERE v.set_aside IS NOT NULL AND v.node = ANY (gone.nodes);
    DELETE FROM instance AS i
    WHERE i.node = ANY (gone.nodes)
    AND NOT EXISTS (SELECT FROM instance AS o
                    WHERE o.node = i.node AND o.instance <> i.instance)
    AND NOT EXISTS (SELECT FROM liveness AS v
                    WHERE v.node = i.node AND i.instance = ANY (v.set_aside));
    PERFORM judge_instances(gone.nodes);
END
$$;

-- Says which of the agents that share a node's name is meant. What the others report, and their
-- signs of life, count no more, until they are started again or fall silent. Returns their names.
CREATE FUNCTION headwater.choose_instance(node text, instance text) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    alive text[];
    others text[];
BEGIN
    PERFORM FROM node AS n WHERE n.name = choose_instance.node;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no node "%"', choose_instance.node
            USING ERRCODE = 'no_data_found', SCHEMA = 'headwater', TABLE = 'node';
    END IF;
    PERFORM FROM reported_head FOR NO KEY UPDATE;
    alive := ARRAY(
        SELECT i.instance FROM instance AS i WHERE i.node = choose_instance.node
        UNION SELECT h.instance FROM heard AS h
              WHERE h.node = choose_instance.node AND h.instance IS NOT NULL
        ORDER BY 1);
    IF choose_instance.instance IS NULL OR choose_instance.instance <> ALL (alive) THEN
        RAISE EXCEPTION 'node "%" has no agent "%" that is alive', choose_instance.node,
            choose_instance.instance
            USING ERRCODE = 'no_data_found', CONSTRAINT = 'instance_is_alive',
                  SCHEMA = 'headwater', TABLE = 'instance',
                  HINT = CASE WHEN cardinality(alive) = 0 THEN 'None is.'
                              ELSE 'Alive: ' || array_to_string(alive, ', ') || '.' END;
    END IF;
    others := array_remove(alive, choose_instance.instance);
    INSERT INTO liveness AS v (node, set_aside)
    VALUES (choose_instance.node, nullif(others, '{}'))
    ON CONFLICT ON CONSTRAINT liveness_pkey DO UPDATE
    SET set_aside = excluded.set_aside, id = DEFAULT;
    PERFORM judge_instances(ARRAY[choose_instance.node]);
    INSERT INTO audit (author, application_name, message, kind, name, action)
    VALUES (author(), current_setting('application_name'),
            concat_ws(': ', choose_instance.instance, message()), 'instance',
            choose_instance.node, 'choose');
    RETURN others;
END
$$;
COMMENT ON FUNCTION headwater.choose_instance(text, text)
    IS 'Says which of the agents that share a node''s name is meant; the others count no more';

-- ---- signs of life and reports ------------------------------------------------------------------

DROP FUNCTION headwater.hear(text[], bigint);
-- The reconciler calls this every few seconds: it listened for listened_ms since its last call, and
-- heard these nodes in that time. The function finds out who has fallen silent, and who is unknown.
-- It also removes nodes that were deleted; a trigger on node could do that, but then writers of
-- nodes would wait for this. A node is in the list once for each instance that gave a sign of life
-- for it; an old agent has none, which is null.
CREATE FUNCTION headwater.hear(nodes text[], listened_ms bigint, instances text[] DEFAULT NULL)
RETURNS void
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
    change record;
    counted record;
BEGIN
    UPDATE heard_head SET tick = tick + greatest(listened_ms, 0) RETURNING tick INTO now_tick;
    IF NOT FOUND THEN
        now_tick := 0;
        INSERT INTO heard_head (tick) VALUES (now_tick) ON CONFLICT DO NOTHING;
        INSERT INTO heard (node, tick)
        SELECT v.node, now_tick FROM liveness AS v WHERE v.silent_since IS NULL
        ON CONFLICT DO NOTHING;
        -- Who was in conflict is unknown as well, and will be found again where it is still so.
        PERFORM FROM reported_head FOR NO KEY UPDATE;
        PERFORM judge_instances(ARRAY(
            SELECT v.node FROM liveness AS v WHERE v.conflict IS NOT NULL));
    END IF;

    -- At most nodes the agent is the one that was heard before, and nothing is to be noted.
    SELECT array_agg(u.node) AS nodes, array_agg(u.instance) AS instances,
           array_agg(h.instance) AS befores
    INTO change
    FROM unnest(nodes, instances) AS u (node, instance) LEFT JOIN heard AS h ON h.node = u.node
    WHERE u.instance IS NOT NULL AND (h.instance <> u.instance
        OR EXISTS (SELECT FROM instance AS i WHERE i.node = u.node)
        OR EXISTS (SELECT FROM liveness AS v WHERE v.node = u.node AND v.set_aside IS NOT NULL));
    IF change.nodes IS NOT NULL THEN
        PERFORM note_instances(change.nodes, change.instances, change.befores);
        -- What an agent that was set aside says is no sign of life of its node.
        SELECT array_agg(u.node) AS nodes, array_agg(u.instance) AS instances
        INTO counted
        FROM unnest(nodes, instances) AS u (node, instance)
        WHERE NOT EXISTS (SELECT FROM liveness AS v
                          WHERE v.node = u.node AND u.instance = ANY (v.set_aside));
        nodes := coalesce(counted.nodes, '{}');
        instances := counted.instances;
    END IF;
    SELECT extract(epoch FROM s.silence) * 1000 INTO limit_ms FROM setting AS s;
    PERFORM forget_instances(now_tick, limit_ms);

    UPDATE heard AS h SET at = now(), tick = now_tick, instance = coalesce(u.instance, h.instance)
    FROM unnest(nodes, instances) AS u (node, instance) WHERE h.node = u.node;
    WITH fresh AS (
        INSERT INTO heard AS h (node, at, tick, instance)
        SELECT n.name, now(), now_tick, u.instance
        FROM unnest(nodes, instances) AS u (node, instance) JOIN node AS n ON n.name = u.node
        WHERE NOT EXISTS (SELECT FROM heard AS o WHERE o.node = u.node)
        ON CONFLICT DO NOTHING RETURNING h.node
    )
    INSERT INTO liveness AS v (node) SELECT f.node FROM fresh AS f
    ON CONFLICT (node) DO UPDATE SET silent_since = NULL, id = DEFAULT;
    IF FOUND THEN
        DELETE FROM liveness AS v WHERE v.silent_since IS NOT NULL
            AND NOT EXISTS (SELECT FROM node AS n WHERE n.name = v.node);
    END IF;

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
COMMENT ON FUNCTION headwater.hear(text[], bigint, text[])
    IS 'Takes signs of life of nodes, and finds out who has fallen silent and who shares a name';

-- Takes all reports, or fails at the first bad one; says which were taken. A report is newer than
-- the stored one when its bucket was created later, or when its revision within the same bucket is
-- larger. The report of an agent that choose_instance() has set aside is not taken.
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
               v.heartbeat, v.instance,
               coalesce(v.instance = ANY ((SELECT l.set_aside FROM liveness AS l
                                           WHERE l.node = v.node)::text[]), false) AS is_set_aside
        FROM jsonb_array_elements(reports) WITH ORDINALITY AS i (item, position)
        CROSS JOIN LATERAL jsonb_to_record(i.item)
            AS e (kv_created timestamptz, kv_revision bigint, value jsonb)
        CROSS JOIN LATERAL jsonb_to_record(e.value)
            AS v (node text, state text, running jsonb, failed jsonb, desired_revision bigint,
                  agent text, boot_id text, reported_at timestamptz, held jsonb, drift jsonb,
                  heartbeat real, instance text)
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
             held, drift, heartbeat, instance, kv_created, kv_revision)
        SELECT DISTINCT ON (p.node)
             p.node, p.state, p.running_revision, p.running_digest, p.running_epoch, p.running_lsn,
             p.running_applied_at, p.failed_revision, p.failed_digest, p.failed_epoch, p.failed_lsn,
             p.failed_stage, p.failed_error, p.failed_at, p.desired_revision, p.agent, p.boot_id,
             p.reported_at, p.held, p.drift, p.heartbeat, p.instance, p.kv_created, p.kv_revision
        FROM report AS p
        WHERE NOT p.is_set_aside
        ORDER BY p.node, p.kv_created DESC, p.kv_revision DESC
        ON CONFLICT (node) DO UPDATE SET
            (state, running_revision, running_digest, running_epoch, running_lsn,
             running_applied_at, failed_revision, failed_digest, failed_epoch, failed_lsn,
             failed_stage, failed_error, failed_at, desired_revision, agent, boot_id, reported_at,
             held, drift, heartbeat, instance, kv_created, kv_revision, received_at)
            = ROW (excluded.state, excluded.running_revision, excluded.running_digest,
             excluded.running_epoch, excluded.running_lsn, excluded.running_applied_at,
             excluded.failed_revision, excluded.failed_digest, excluded.failed_epoch,
             excluded.failed_lsn, excluded.failed_stage, excluded.failed_error, excluded.failed_at,
             excluded.desired_revision, excluded.agent, excluded.boot_id, excluded.reported_at,
             excluded.held, excluded.drift, excluded.heartbeat, excluded.instance,
             excluded.kv_created, excluded.kv_revision, now())
        WHERE (excluded.kv_created, excluded.kv_revision) > (r.kv_created, r.kv_revision)
        RETURNING node, kv_created, kv_revision
    )
    SELECT p.node, t.node IS NOT NULL,
           CASE WHEN p.is_set_aside THEN 'another agent was chosen for this node'
                WHEN t.node IS NULL THEN 'not newer than what is stored' END
    FROM report AS p
    LEFT JOIN taken AS t ON (t.node, t.kv_created, t.kv_revision)
                          = (p.node, p.kv_created, p.kv_revision)
    ORDER BY p.position;
END
$$;

-- Takes reports, and notes who is unknown and whose agent is another one than before. Only what this
-- transaction takes is a sign of life: after a restart the reconciler reads all reports again.
CREATE FUNCTION headwater.take_and_note(reports jsonb)
RETURNS TABLE (node text, accepted boolean, reason text)
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
SET enable_seqscan = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    change record;
BEGIN
    SELECT array_agg(w.node) AS nodes, array_agg(w.instance) AS instances,
           array_agg(w.before) AS befores
    INTO change
    FROM (SELECT v.node, v.instance, coalesce(h.instance, r.instance) AS before
          FROM (SELECT i.item #>> '{value,node}' AS node, i.item #>> '{value,instance}' AS instance
                FROM jsonb_array_elements(reports) AS i (item) OFFSET 0) AS v
          JOIN node AS n ON n.name = v.node
          LEFT JOIN heard AS h ON h.node = v.node
          LEFT JOIN reported AS r ON r.node = v.node
          WHERE v.instance IS NOT NULL) AS w
    WHERE w.before <> w.instance OR EXISTS (SELECT FROM instance AS i WHERE i.node = w.node);
    RETURN QUERY SELECT * FROM take_reports(reports);
    PERFORM note_reporters(reports);
    IF change.nodes IS NOT NULL THEN
        SELECT array_agg(w.node) AS nodes, array_agg(w.instance) AS instances,
               array_agg(w.before) AS befores
        INTO change
        FROM unnest(change.nodes, change.instances, change.befores) AS w (node, instance, before)
        JOIN reported AS r ON r.node = w.node
        WHERE r.instance = w.instance AND r.received_at = now();
    END IF;
    IF change.nodes IS NOT NULL THEN
        PERFORM note_instances(change.nodes, change.instances, change.befores);
    END IF;
END
$$;

-- The reconciler calls this with an array of {"kv_created", "kv_revision", "value"}, where value is
-- what the node wrote. It takes reports that are newer than the stored ones, and a malformed report
-- does not hold up the others. Returns one row for each report, in order.
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
        RETURN QUERY SELECT * FROM take_and_note(reports);
        RETURN;
    EXCEPTION WHEN data_exception OR integrity_constraint_violation THEN
        IF jsonb_typeof(reports) <> 'array' THEN
            RAISE;
        END IF;
    END;
    -- At least one of them is bad. One by one, they show which.
    FOR item IN SELECT * FROM jsonb_array_elements(reports) LOOP
        BEGIN
            RETURN QUERY SELECT * FROM take_and_note(jsonb_build_array(item));
        EXCEPTION WHEN data_exception OR integrity_constraint_violation THEN
            node := item -> 'value' ->> 'node';
            accepted := false;
            reason := SQLERRM;
            RETURN NEXT;
        END;
    END LOOP;
END
$$;

-- ---- the fleet and its events -------------------------------------------------------------------

-- One row a node. A node that was heard or reported, and should run nothing, is unassigned: it may
-- still run something, but nobody wants it to. Where several agents have the node's name, state and
-- error say so, and what was reported is of the one whose report came last. docs/sql.md has the
-- table of states.
CREATE OR REPLACE VIEW headwater.fleet AS
SELECT n.name AS node, n.labels,
       d.revision AS desired_revision, d.digest AS desired_digest,
       r.running_revision AS reported_revision, r.running_digest AS reported_digest,
       CASE WHEN v.conflict IS NOT NULL THEN 'conflict'
            WHEN v.silent_since IS NOT NULL AND (r.node IS NULL OR r.heartbeat IS NOT NULL)
            THEN 'unknown' ELSE s.state END AS state,
       CASE WHEN s.state = 'in_sync' OR d.node IS NULL THEN interval '0'
            ELSE greatest(interval '0', clock_timestamp() - d.changed_at) END AS lag,
       CASE WHEN v.conflict IS NOT NULL
            THEN 'agents of the same name: ' || array_to_string(v.conflict, ', ')
            WHEN s.state = 'failed'
            THEN concat_ws(': ', r.failed_stage, r.failed_error) END AS error,
       d.changed_at AS desired_changed_at,
       r.running_applied_at AS applied_at,
       r.held, r.drift,
       s.state AS reported_state,
       coalesce(v.silent_since, headwater.heard_at(n.name)) AS last_seen,
       r.instance,
       CASE WHEN v.conflict IS NOT NULL
            THEN jsonb_build_object('since', v.conflict_since, 'instances', v.conflict)
            END AS conflict
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

-- Returns what changed after the two ids, older changes first, and no more than most of them. The
-- changes of one kind come in the order of their ids, even when the clock was set back between
-- them. The labels are the node's present ones. Each row says in last_desired and last_reported how
-- far the histories go; when there are no changes, there is one row with these two and without a
-- kind.
CREATE OR REPLACE FUNCTION headwater.events_after(desired_id bigint, reported_id bigint, most int)
RETURNS TABLE (kind text, id bigint, node text, labels jsonb, data jsonb, last_desired bigint,
               last_reported bigint)
LANGUAGE sql STABLE ROWS 100
SET search_path = pg_catalog, headwater, pg_temp
SET timezone = 'UTC'
AS $$
    WITH event AS (
        (SELECT 'desired' AS kind, h.id, h.node, max(h.changed_at) OVER (ORDER BY h.id) AS at,
                jsonb_build_object(
                    'node', h.node, 'revision', h.revision, 'digest', h.digest, 'size', h.size,
                    'media_type', h.media_type, 'rev', h.rev, 'lsn', h.wal_lsn,
                    'at', to_char(h.changed_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) AS data
         FROM (SELECT d.* FROM desired_history AS d WHERE d.id > desired_id
               ORDER BY d.id LIMIT most) AS h)
        UNION ALL
        (SELECT 'reported', h.id, h.node, max(h.recorded_at) OVER (ORDER BY h.id),
                jsonb_build_object(
                    'node', h.node, 'state', h.state, 'running_revision', h.running_revision,
                    'running_digest', h.running_digest, 'failed_revision', h.failed_revision,
                    'failed_digest', h.failed_digest, 'stage', h.failed_stage,
                    'error', left(h.failed_error, 1000), 'held', h.held, 'drift', h.drift,
                    'conflict', h.conflict, 'lsn', h.wal_lsn,
                    'at', to_char(h.recorded_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
         FROM (SELECT r.* FROM reported_history AS r WHERE r.id > reported_id
               ORDER BY r.id LIMIT most) AS h)
    )
    SELECT e.kind, e.id, e.node, n.labels, e.data, l.last_desired, l.last_reported
    FROM (SELECT coalesce((SELECT max(d.id) FROM desired_history AS d), 0) AS last_desired,
                 coalesce((SELECT max(r.id) FROM reported_history AS r), 0) AS last_reported) AS l
    LEFT JOIN (SELECT f.* FROM event AS f ORDER BY f.at, f.kind, f.id LIMIT most) AS e ON true
    LEFT JOIN node AS n ON n.name = e.node
    ORDER BY e.at, e.kind, e.id
$$;

GRANT SELECT ON headwater.instance
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION headwater.hear(text[], bigint, text[]) TO headwater_reconciler;
GRANT EXECUTE ON FUNCTION headwater.choose_instance(text, text) TO headwater_dba, headwater_api;

COMMIT;
