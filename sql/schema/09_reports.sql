-- What nodes report.
--
-- The reconciler reads reports from NATS and hands them to report(), which stores the newest report
-- of each node in reported. Triggers keep changes in reported_history, a bounded number of each node,
-- and notify whoever listens. The view fleet sets what a node reported beside what it should run. Both histories can
-- be asked how things stood at an earlier time or position.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (9, 'reports');

-- ---- taking reports -----------------------------------------------------------------------------

-- Takes all reports, or fails at the first bad one; says which were taken. A report is newer than
-- the stored one when its bucket was created later, or when its revision within the same bucket is
-- larger. The report of an agent that choose_instance() has set aside is not taken.
CREATE FUNCTION headwater.take_reports(reports jsonb)
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

-- A report from an unregistered node is a sign of life of an unknown name. That holds only for
-- reports which this transaction took: after a restart the reconciler reads all reports again, and
-- old ones say nothing about life. OFFSET 0 makes the planner look up each name by its key.
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
CREATE FUNCTION headwater.report(reports jsonb)
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
COMMENT ON FUNCTION headwater.report(jsonb) IS 'Takes reports of nodes into reported, newest only';

-- ---- the history of reports ---------------------------------------------------------------------

-- Takes the lock on reported_head, which puts those who write reports in one order.
CREATE FUNCTION headwater.reported_before_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    PERFORM FROM reported_head FOR NO KEY UPDATE;
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO reported_history (node) SELECT r.node FROM reported AS r ORDER BY r.node;
    END IF;
    RETURN NULL;
END
$$;

-- How many rows the history takes of one node at once: of any changes, and of those of how the node
-- stands. The difference is kept for these.
CREATE FUNCTION headwater.report_burst() RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 20;

CREATE FUNCTION headwater.report_reserve() RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 240;

-- Decides whether a changed report gets a row of the history: left_out is 0 if it does, otherwise
-- it counts. What a node has used up is one time, paced_until, which each row moves on by what
-- stands between two rows at the rate.
CREATE FUNCTION headwater.pace_reported() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    each CONSTANT interval := (SELECT interval '1 minute' / s.report_rate FROM setting AS s);
    stands CONSTANT boolean :=
        (OLD.state, OLD.running_revision, OLD.running_digest, OLD.failed_revision,
         OLD.failed_digest)
        IS NOT DISTINCT FROM
        (NEW.state, NEW.running_revision, NEW.running_digest, NEW.failed_revision,
         NEW.failed_digest);
    at CONSTANT timestamptz := headwater.now();
    -- After the clock was set back, or the rate raised, nobody waits longer than for his reserve.
    paced CONSTANT timestamptz :=
        greatest(at, least(coalesce(OLD.paced_until, at), at + each * report_reserve()));
    judged bigint;
BEGIN
    IF paced - at <= each * (CASE WHEN stands THEN report_burst() ELSE report_reserve() END - 1)
    THEN
        NEW.paced_until := paced + each;
        NEW.left_out := 0;
        RETURN NEW;
    END IF;
    IF NOT stands THEN
        SELECT d.revision INTO judged FROM desired AS d
        WHERE d.node = NEW.node AND d.revision > coalesce(OLD.free_revision, 0)
          AND ((d.revision, d.digest) = (NEW.running_revision, NEW.running_digest)
               OR (d.revision, d.digest) = (NEW.failed_revision, NEW.failed_digest));
        IF FOUND THEN
            NEW.free_revision := judged;
            NEW.left_out := 0;
            RETURN NEW;
        END IF;
    END IF;
    NEW.paced_until := paced;
    NEW.left_out := OLD.left_out + 1;
    RETURN NEW;
END
$$;

CREATE TRIGGER pace BEFORE UPDATE ON headwater.reported FOR EACH ROW
    WHEN ((OLD.state, OLD.running_revision, OLD.running_digest, OLD.running_epoch, OLD.running_lsn,
           OLD.running_applied_at, OLD.failed_revision, OLD.failed_digest, OLD.failed_epoch,
           OLD.failed_lsn, OLD.failed_stage, OLD.failed_error, OLD.failed_at, OLD.held, OLD.drift,
           OLD.heartbeat)
          IS DISTINCT FROM
          (NEW.state, NEW.running_revision, NEW.running_digest, NEW.running_epoch, NEW.running_lsn,
           NEW.running_applied_at, NEW.failed_revision, NEW.failed_digest, NEW.failed_epoch,
           NEW.failed_lsn, NEW.failed_stage, NEW.failed_error, NEW.failed_at, NEW.held, NEW.drift,
           NEW.heartbeat))
    EXECUTE FUNCTION headwater.pace_reported();
ALTER TABLE headwater.reported ENABLE ALWAYS TRIGGER pace;

-- Keeps a row for each change of state, running_..., failed_..., held, drift or heartbeat for which
-- pace_reported() found room, and for what settle_reports() settles. A report that differs from the
-- one before in other columns only leaves none.
CREATE FUNCTION headwater.record_reported() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
SET enable_nestloop = off -- the session would keep a plan for few rows also for many
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
        INSERT INTO reported_history (node, left_out)
        SELECT b.node, b.left_out FROM before_rows AS b ORDER BY b.node;
    ELSIF TG_OP = 'INSERT' THEN
        EXECUTE format('INSERT INTO reported_history (%1$s) SELECT %1$s FROM after_rows '
                       'ORDER BY node', columns);
    ELSE
        EXECUTE format(
            'INSERT INTO reported_history (%1$s, left_out) SELECT a.*, b.left_out '
            'FROM (SELECT %1$s FROM after_rows WHERE left_out = 0) AS a '
            'JOIN before_rows AS b USING (node) '
            'WHERE b.left_out > 0 OR '
            '(a.state, a.running_revision, a.running_digest, a.running_epoch, '
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

CREATE TRIGGER before_write BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON headwater.reported FOR EACH STATEMENT EXECUTE FUNCTION headwater.reported_before_write();
CREATE TRIGGER record_insert AFTER INSERT
    ON headwater.reported REFERENCING NEW TABLE AS after_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headwater.record_reported();
CREATE TRIGGER record_update AFTER UPDATE
    ON headwater.reported REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headwater.record_reported();
CREATE TRIGGER record_delete AFTER DELETE
    ON headwater.reported REFERENCING OLD TABLE AS before_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headwater.record_reported();
ALTER TABLE headwater.reported
    ENABLE ALWAYS TRIGGER before_write, ENABLE ALWAYS TRIGGER record_insert,
    ENABLE ALWAYS TRIGGER record_update, ENABLE ALWAYS TRIGGER record_delete;

-- Writes the newest report of each node of which changes wait, and for which there is room again,
-- into the history, a thousand at a time. Returns some of those that still wait, those with the
-- most changes first, and in each row how many there are. The reconciler calls it every few seconds
-- while any may wait.
CREATE FUNCTION headwater.settle_reports()
RETURNS TABLE (node text, left_out bigint, nodes bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
SET enable_seqscan = off -- of a whole fleet, few wait
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    each CONSTANT interval := (SELECT interval '1 minute' / s.report_rate FROM setting AS s);
    at CONSTANT timestamptz := headwater.now();
    -- A time that is further off than this is of a clock that was set back since, or of a lower rate.
    latest CONSTANT timestamptz := at + each * report_reserve();
    -- Whoever is paced until then has no room now.
    barred CONSTANT tstzrange := tstzrange(at + each * (report_burst() - 1), latest, '(]');
    settled CONSTANT text[] := ARRAY(
        SELECT r.node FROM reported AS r WHERE r.left_out > 0 AND NOT r.paced_until <@ barred
        ORDER BY r.node LIMIT 1000);
BEGIN
    IF cardinality(settled) > 0 THEN
        UPDATE reported AS r
        SET left_out = 0,
            paced_until = greatest(at, CASE WHEN r.paced_until <= latest THEN r.paced_until END)
                          + each
        WHERE r.node = ANY (settled) AND r.left_out > 0 AND NOT r.paced_until <@ barred;
    END IF;
    RETURN QUERY
        SELECT r.node, r.left_out, count(*) OVER () FROM reported AS r WHERE r.left_out > 0
        ORDER BY r.left_out DESC LIMIT 20;
END
$$;
COMMENT ON FUNCTION headwater.settle_reports()
    IS 'Writes into the history what waits there for room, and says who still does';

-- ---- the fleet ----------------------------------------------------------------------------------

-- One row a node. A node that was heard or reported, and should run nothing, is unassigned: it may
-- still run something, but nobody wants it to. Where several agents have the node's name, state and
-- error say so, and what was reported is of the one whose report came last. docs/sql.md has the
-- table of states.
CREATE VIEW headwater.fleet AS
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
COMMENT ON VIEW headwater.fleet
    IS 'Each node: what it should run, what it runs, and whether they agree';

-- The newest ids of the histories from which a node's state follows. Of the audit trail, only the
-- kinds count that are written under the writers' lock, because only their ids become visible in
-- their order.
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
COMMENT ON FUNCTION headwater.fleet_ids() IS 'How far the histories go that the fleet follows from';

-- Lists the nodes whose state may have changed since the histories had these newest ids, with their
-- present state; null means that the node was deleted. The cost depends on the number of these
-- nodes, not on the size of the fleet.
CREATE FUNCTION headwater.fleet_changes(desired_id bigint, reported_id bigint, audit_id bigint,
                                        liveness_id bigint)
RETURNS TABLE (node text, state text, desired_changed_at timestamptz)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, headwater, pg_temp
SET plan_cache_mode = force_custom_plan -- the number of nodes differs from call to call
SET jit = off
AS $$
DECLARE
    changed CONSTANT text[] := ARRAY(
        SELECT d.node FROM desired_history AS d WHERE d.id > fleet_changes.desired_id
        UNION SELECT r.node FROM reported_history AS r WHERE r.id > fleet_changes.reported_id
        UNION SELECT a.name FROM audit AS a WHERE a.id > fleet_changes.audit_id AND a.kind = 'node'
        UNION SELECT v.node FROM liveness AS v WHERE v.id > fleet_changes.liveness_id);
BEGIN
    IF cardinality(changed) < 10000 THEN -- each of them is looked up by its key
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
COMMENT ON FUNCTION headwater.fleet_changes(bigint, bigint, bigint, bigint)
    IS 'The nodes whose state may have changed since the histories went as far as these ids';

-- ---- notifications and events -------------------------------------------------------------------

CREATE FUNCTION headwater.notify_reported() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    PERFORM notify('headwater_reported');
    RETURN NULL;
END
$$;

CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON headwater.reported FOR EACH STATEMENT EXECUTE FUNCTION headwater.notify_reported();
ALTER TABLE headwater.reported ENABLE ALWAYS TRIGGER notify;

CREATE FUNCTION headwater.notify_desired() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM after_rows) THEN
        PERFORM notify('headwater_desired');
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER notify AFTER INSERT
    ON headwater.desired_history REFERENCING NEW TABLE AS after_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headwater.notify_desired();
ALTER TABLE headwater.desired_history ENABLE ALWAYS TRIGGER notify;

-- Returns what changed after the two ids, older changes first, and no more than most of them. The
-- changes of one kind come in the order of their ids, even when the clock was set back between
-- them. The labels are the node's present ones. Each row says in last_desired and last_reported how
-- far the histories go; when there are no changes, there is one row with these two and without a
-- kind.
CREATE FUNCTION headwater.events_after(desired_id bigint, reported_id bigint, most int)
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
                || CASE WHEN h.left_out > 0 THEN jsonb_build_object('left_out', h.left_out)
                        ELSE '{}' END
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
COMMENT ON FUNCTION headwater.events_after(bigint, bigint, int)
    IS 'What changed in desired_history and reported_history behind two ids, a page at a time';

-- ---- how things stood at an earlier time --------------------------------------------------------

CREATE FUNCTION headwater.refuse_future(wanted text, now text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% is ahead: the database is at %', wanted, now
        USING ERRCODE = 'invalid_parameter_value', CONSTRAINT = 'position_is_past',
              SCHEMA = 'headwater', HINT = 'What will be is not known yet.';
END
$$;
COMMENT ON FUNCTION headwater.refuse_future(text, text)
    IS 'Refuses a time or a position that is still to come, for desired_at() and reported_at()';

-- desired_at() and reported_at(), each for a time and for a position, are made from one text: the
-- last row of the node's history at or before that point, unless it says that there was nothing.
-- Rows with positions of another server's log are before every position of this one.
DO $do$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT * FROM (VALUES ('desired', 'digest', 'changed_at', 'rev', 'rev'),
                              ('reported', 'state', 'recorded_at', 'id', 'reported_id'))
            AS t (name, present, time, own, first)
        CROSS JOIN (VALUES ('timestamptz', 'clock_timestamp()'),
                           ('pg_lsn', 'pg_current_wal_insert_lsn()')) AS p (type, now)
    LOOP
        EXECUTE replace(replace(replace(replace(replace($sql$
            CREATE FUNCTION headwater.<name>_at(node text, at <type>)
            RETURNS SETOF headwater.<name>_history
            LANGUAGE plpgsql STABLE ROWS 1
            SET search_path = pg_catalog, headwater, pg_temp
            AS $$
            BEGIN
                IF at > <now> THEN
                    PERFORM refuse_future(at::text, (<now>)::text);
                END IF;
                RETURN QUERY
                    SELECT last.*
                    FROM (SELECT h.* FROM <name>_history AS h
                          WHERE h.node = <name>_at.node AND <is_past>
                          ORDER BY h.id DESC LIMIT 1) AS last
                    WHERE last.<present> IS NOT NULL;
            END
            $$
            $sql$, '<name>', item.name), '<type>', item.type), '<now>', item.now),
            '<is_past>', CASE item.type
                WHEN 'pg_lsn'
                THEN format('(h.wal_lsn <= at OR h.%s < (SELECT l.%s FROM log_begin() AS l))',
                            item.own, item.first)
                ELSE format('h.%s <= at', item.time) END),
            '<present>', item.present);
    END LOOP;
END
$do$;
COMMENT ON FUNCTION headwater.desired_at(text, timestamptz)
    IS 'What a node should have run at a time: its row of desired_history, or none';
COMMENT ON FUNCTION headwater.desired_at(text, pg_lsn)
    IS 'What a node should have run at a position: its row of desired_history, or none';
COMMENT ON FUNCTION headwater.reported_at(text, timestamptz)
    IS 'What a node had reported by a time: its row of reported_history, or none';
COMMENT ON FUNCTION headwater.reported_at(text, pg_lsn)
    IS 'What a node had reported by a position: its row of reported_history, or none';

GRANT SELECT ON headwater.fleet
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION
    headwater.fleet_ids(), headwater.fleet_changes(bigint, bigint, bigint, bigint),
    headwater.events_after(bigint, bigint, int), headwater.refuse_future(text, text),
    headwater.desired_at(text, timestamptz), headwater.desired_at(text, pg_lsn),
    headwater.reported_at(text, timestamptz), headwater.reported_at(text, pg_lsn)
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION headwater.report(jsonb), headwater.settle_reports()
    TO headwater_reconciler;

COMMIT;
