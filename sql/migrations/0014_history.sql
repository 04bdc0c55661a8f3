-- What nodes reported before, how things stood at a time or a position, and word of every change.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (14, 'history');

-- ---- what was reported --------------------------------------------------------------------------

CREATE TABLE headwater.reported_history (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- in the order of commits
    node               text COLLATE "C" NOT NULL,
    state              text, -- null: the report went, with its node
    running_revision   bigint,
    running_digest     text,
    running_epoch      bigint,
    running_lsn        pg_lsn,
    running_applied_at timestamptz,
    failed_revision    bigint,
    failed_digest      text,
    failed_epoch       bigint,
    failed_lsn         pg_lsn,
    failed_stage       text,
    failed_error       text,
    failed_at          timestamptz,
    desired_revision   bigint,
    agent              text,
    boot_id            text,
    reported_at        timestamptz,
    received_at        timestamptz,
    recorded_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    wal_lsn            pg_lsn NOT NULL DEFAULT pg_current_wal_insert_lsn() -- at or before the commit
);
CREATE INDEX reported_history_node ON headwater.reported_history (node, id);

-- One row, never changed. Whoever writes reported holds its lock to the end of the transaction, so
-- that ids of reported_history become visible in their order: a reader who has seen one has seen
-- all before it. Those of desired_history do for the lock on changelog_head.
CREATE TABLE headwater.reported_head (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row));
INSERT INTO headwater.reported_head DEFAULT VALUES;

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

CREATE FUNCTION headwater.record_reported() RETURNS trigger
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
        'received_at';
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
            'a.failed_epoch, a.failed_lsn, a.failed_stage, a.failed_error, a.failed_at) '
            'IS DISTINCT FROM (b.state, b.running_revision, b.running_digest, b.running_epoch, '
            'b.running_lsn, b.running_applied_at, b.failed_revision, b.failed_digest, '
            'b.failed_epoch, b.failed_lsn, b.failed_stage, b.failed_error, b.failed_at) '
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

CREATE TRIGGER is_kept BEFORE UPDATE OR DELETE OR TRUNCATE
    ON headwater.reported_history FOR EACH STATEMENT
    EXECUTE FUNCTION headwater.refuse_change('it is history, which only grows');
ALTER TABLE headwater.reported_history ENABLE ALWAYS TRIGGER is_kept;
CREATE TRIGGER is_kept BEFORE DELETE OR TRUNCATE
    ON headwater.reported_head FOR EACH STATEMENT
    EXECUTE FUNCTION headwater.refuse_change('whoever writes reports waits for its one row');
ALTER TABLE headwater.reported_head ENABLE ALWAYS TRIGGER is_kept;

-- The history begins with what is known now.
INSERT INTO headwater.reported_history
    (node, state, running_revision, running_digest, running_epoch, running_lsn, running_applied_at,
     failed_revision, failed_digest, failed_epoch, failed_lsn, failed_stage, failed_error,
     failed_at, desired_revision, agent, boot_id, reported_at, received_at, recorded_at)
SELECT r.node, r.state, r.running_revision, r.running_digest, r.running_epoch, r.running_lsn,
       r.running_applied_at, r.failed_revision, r.failed_digest, r.failed_epoch, r.failed_lsn,
       r.failed_stage, r.failed_error, r.failed_at, r.desired_revision, r.agent, r.boot_id,
       r.reported_at, r.received_at, r.received_at
FROM headwater.reported AS r ORDER BY r.received_at, r.node;

-- ---- word of every change -----------------------------------------------------------------------

CREATE FUNCTION headwater.notify_desired() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM after_rows) THEN
        PERFORM pg_notify('headwater_desired', '');
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER notify AFTER INSERT
    ON headwater.desired_history REFERENCING NEW TABLE AS after_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headwater.notify_desired();
ALTER TABLE headwater.desired_history ENABLE ALWAYS TRIGGER notify;

-- At most most changes behind the two ids, older ones first: the ids of a kind come in their order,
-- whatever the clock did. labels are the node's of today. last_desired and last_reported, of every
-- row, are how far the history goes; there is one row, without a kind, when nothing is behind.
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
                    'error', left(h.failed_error, 1000), 'lsn', h.wal_lsn,
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

-- ---- as of then ---------------------------------------------------------------------------------

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

DO $do$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT * FROM (VALUES ('desired', 'digest', 'changed_at'),
                              ('reported', 'state', 'recorded_at')) AS t (name, present, time)
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
                          WHERE h.node = <name>_at.node AND h.<when> <= at
                          ORDER BY h.id DESC LIMIT 1) AS last
                    WHERE last.<present> IS NOT NULL;
            END
            $$
            $sql$, '<name>', item.name), '<type>', item.type), '<now>', item.now),
            '<when>', CASE item.type WHEN 'pg_lsn' THEN 'wal_lsn' ELSE item.time END),
            '<present>', item.present);
    END LOOP;
END
$do$;

COMMENT ON TABLE headwater.reported_history
    IS 'Every change of what a node reported: state, running, failed; append-only';
COMMENT ON TABLE headwater.reported_head IS 'Its row lock puts those who write reports in one order';
COMMENT ON FUNCTION headwater.events_after(bigint, bigint, int)
    IS 'What changed in desired_history and reported_history behind two ids, a page at a time';
COMMENT ON FUNCTION headwater.desired_at(text, timestamptz)
    IS 'What a node should have run at a time: its row of desired_history, or none';
COMMENT ON FUNCTION headwater.desired_at(text, pg_lsn)
    IS 'What a node should have run at a position: its row of desired_history, or none';
COMMENT ON FUNCTION headwater.reported_at(text, timestamptz)
    IS 'What a node had reported by a time: its row of reported_history, or none';
COMMENT ON FUNCTION headwater.reported_at(text, pg_lsn)
    IS 'What a node had reported by a position: its row of reported_history, or none';

GRANT SELECT ON headwater.reported_history, headwater.reported_head
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION
    headwater.events_after(bigint, bigint, int), headwater.refuse_future(text, text),
    headwater.desired_at(text, timestamptz), headwater.desired_at(text, pg_lsn),
    headwater.reported_at(text, timestamptz), headwater.reported_at(text, pg_lsn)
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;

COMMIT;
