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
    node           text COLLATE "C" PRIMARY KEY,
    silent_since   timestamptz, -- when it was heard last; null: it is not silent
    id             bigint GENERATED ALWAYS AS IDENTITY, -- each change gives the row the next number
    conflict       text[], -- instances that are alive at once; null: none, or one
    conflict_since timestamptz,
    set_aside      text[] -- instances that are not meant, as choose_instance() said
);
COMMENT ON TABLE headwater.liveness IS 'Nodes that were ever heard, and since when they are silent';
CREATE INDEX liveness_silent ON headwater.liveness (node) WHERE silent_since IS NOT NULL;
CREATE INDEX liveness_id ON headwater.liveness (id);

-- The nodes that give signs of life. Its rows change every few seconds, so more than half of each
-- page stays free for their new versions. After a crash has emptied it, hear() fills it from
-- liveness.
CREATE UNLOGGED TABLE headwater.heard (
    node     text COLLATE "C" PRIMARY KEY,
    at       timestamptz,     -- null: it was not heard since the server crashed
    tick     bigint NOT NULL, -- heard_head.tick at that time
    instance text             -- that was heard last; null: it is not known, or an old agent's
) WITH (fillfactor = 40);
COMMENT ON TABLE headwater.heard IS 'Nodes that beat, and when they were heard last; unlogged';

-- For how many milliseconds a reconciler has listened so far; one row.
CREATE UNLOGGED TABLE headwater.heard_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    tick     bigint NOT NULL
) WITH (fillfactor = 10);
COMMENT ON TABLE headwater.heard_head IS 'For how long has been listened; unlogged';

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
    headwater.instance, headwater.unknown_heard, headwater.unknown_head, headwater.unknown_node
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT UPDATE (silence, report_rate) ON headwater.setting TO headwater_dba;
GRANT EXECUTE ON FUNCTION
    headwater.heard_at(text), headwater.unknown_limit(), headwater.unknown_names(),
    headwater.unknown_count()
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION headwater.hear(text[], bigint, text[]) TO headwater_reconciler;
GRANT EXECUTE ON FUNCTION headwater.choose_instance(text, text) TO headwater_dba, headwater_api;

COMMIT;
