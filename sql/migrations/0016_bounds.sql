-- What nodes write is bounded.
--
-- A node may report what it likes, as often as it likes, and reported_history only grows. So the
-- history takes a bounded number of rows of one node: a number at once, and then
-- setting.report_rate a minute. What comes beyond that is counted, and waits: a newer report takes
-- its place, and when there is room again, settle_reports() writes one row with the newest, which
-- says how many had none of their own (left_out). The newest report always stands in reported, at
-- once.
--
-- A change of how the node stands (its state, and revision and digest of what runs and of what
-- failed) has room where other changes have none any more, a reserve of report_reserve() rows. A
-- report that says for the first time what became of the revision that the node should run is
-- recorded in any case: there are no more of those than revisions, which people make.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (16, 'bounds');

ALTER TABLE headwater.setting
    -- Rows a minute that reported_history takes of one node, for long.
    ADD COLUMN report_rate int NOT NULL DEFAULT 12,
    ADD CONSTRAINT setting_report_rate_is_sane CHECK (report_rate BETWEEN 1 AND 6000);
GRANT UPDATE (report_rate) ON headwater.setting TO headwater_dba;

ALTER TABLE headwater.reported
    ADD COLUMN paced_until   timestamptz, -- from then on the history owes the node its whole room
    ADD COLUMN left_out      bigint NOT NULL DEFAULT 0, -- changes since the last row of the history
    ADD COLUMN free_revision bigint; -- the newest that was recorded though there was no room
CREATE INDEX reported_left_out ON headwater.reported (node) WHERE left_out > 0;

ALTER TABLE headwater.reported_history
    ADD COLUMN left_out bigint NOT NULL DEFAULT 0; -- changes before this one without a row
COMMENT ON TABLE headwater.reported_history
    IS 'Changes of what a node reported: state, running, failed, held, drift; append-only';

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
    at CONSTANT timestamptz := clock_timestamp();
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
CREATE OR REPLACE FUNCTION headwater.record_reported() RETURNS trigger
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
    at CONSTANT timestamptz := clock_timestamp();
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

-- As before, and an event says how many changes before it have none.
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

GRANT EXECUTE ON FUNCTION headwater.settle_reports() TO headwater_reconciler;

COMMIT;
