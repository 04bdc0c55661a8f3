-- Positions, and epochs.
--
-- A position (pg_lsn) means something in the log of one server only. A dump that is restored brings
-- rows with positions of the server that it came from, and to compare those with positions of the
-- new server gives nonsense. So this remembers which changes were made on which server. What was
-- made elsewhere is before every position of the present server.
--
-- An epoch stands for one history of the database (docs/protocol.md). What a node says of an older
-- epoch says nothing about a change of a newer one, even where it names the same revision: in the
-- history that was lost, that number stood for something else.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (25, 'epochs');

CREATE TABLE headwater.epoch (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    first_rev      bigint NOT NULL, -- of changelog: a change from this one on is of this row …
    first_reported bigint NOT NULL, -- … and so is a row of reported_history from this id on
    system_id      bigint,          -- of the server's cluster; null: the owner may not ask for it
    timeline       bigint NOT NULL,
    -- The server's word that it is another one, or has been promoted, has neither of these. A
    -- leader's word, for its slot, has both.
    slot           text,
    epoch          bigint,
    began_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT epoch_has_slot CHECK ((slot IS NULL) = (epoch IS NULL)),
    CONSTRAINT epoch_is_positive CHECK (epoch > 0)
);
COMMENT ON TABLE headwater.epoch
    IS 'On which server, and in which epoch, changes were made; append-only';
CREATE TRIGGER is_kept BEFORE UPDATE OR DELETE OR TRUNCATE
    ON headwater.epoch FOR EACH STATEMENT
    EXECUTE FUNCTION headwater.refuse_change('it is history, which only grows');
ALTER TABLE headwater.epoch ENABLE ALWAYS TRIGGER is_kept;

-- The identifier of this server's cluster. Null where the owner may not ask, as in a hardened
-- database: then there is nothing to compare, and all positions count as this server's.
CREATE FUNCTION headwater.system_id() RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') THEN
        RETURN (SELECT system_identifier FROM pg_control_system());
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION headwater.system_id() IS 'The system identifier of this server''s cluster';

-- Notes where changes were first made on a server other than before, or behind a promotion.
CREATE FUNCTION headwater.note_server(next_rev bigint) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    -- A file of the log is named after its timeline, in eight hexadecimal digits.
    line CONSTANT bigint :=
        ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint;
    last epoch;
BEGIN
    SELECT * INTO last FROM epoch AS e ORDER BY e.id DESC LIMIT 1;
    IF (last.system_id, last.timeline) IS DISTINCT FROM (system_id(), line) THEN
        INSERT INTO epoch (first_rev, first_reported, system_id, timeline)
        SELECT next_rev, coalesce(max(r.id), 0) + 1, system_id(), line
        FROM reported_history AS r;
    END IF;
END
$$;
COMMENT ON FUNCTION headwater.note_server(bigint)
    IS 'Notes that from this rev of changelog on, changes are made on the present server';

CREATE FUNCTION headwater.changelog_after() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    PERFORM note_server(min(a.rev)) FROM after_rows AS a;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION headwater.changelog_after()
    IS 'Of changelog: sees to it that the server of a change is known';
CREATE TRIGGER note_server AFTER INSERT ON headwater.changelog
    REFERENCING NEW TABLE AS after_rows FOR EACH STATEMENT
    EXECUTE FUNCTION headwater.changelog_after();
ALTER TABLE headwater.changelog ENABLE ALWAYS TRIGGER note_server;

-- Called by the leader, again and again; only news are written. What the server noted since this
-- slot's leader spoke last was made in the epoch that it names now.
CREATE FUNCTION headwater.begin_epoch(slot text, epoch bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    said CONSTANT bigint := (SELECT max(e.id) FROM epoch AS e WHERE e.slot = begin_epoch.slot);
BEGIN
    PERFORM note_server(h.rev + 1) FROM changelog_head AS h;
    INSERT INTO epoch (first_rev, first_reported, system_id, timeline, slot, epoch)
    SELECT e.first_rev, e.first_reported, e.system_id, e.timeline, begin_epoch.slot,
           begin_epoch.epoch
    FROM epoch AS e WHERE e.id > coalesce(said, 0) AND e.epoch IS NULL
    ORDER BY e.id;
    IF FOUND THEN
        RETURN true;
    END IF;
    INSERT INTO epoch (first_rev, first_reported, system_id, timeline, slot, epoch)
    SELECT h.rev + 1, e.first_reported, e.system_id, e.timeline, e.slot, begin_epoch.epoch
    FROM epoch AS e, changelog_head AS h WHERE e.id = said AND e.epoch <> begin_epoch.epoch;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION headwater.begin_epoch(text, bigint)
    IS 'The word of a slot''s leader that changes are of this epoch now; true: it was news';

-- What is older than these has positions of another server's log, and is before every position of
-- this one.
CREATE FUNCTION headwater.log_begin(OUT rev bigint, OUT reported_id bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    here CONSTANT bigint := system_id();
    away CONSTANT bigint := (SELECT max(e.id) FROM epoch AS e WHERE e.system_id <> here);
BEGIN
    rev := 0;
    reported_id := 0;
    IF away IS NOT NULL THEN
        -- Where nothing was changed here yet, nothing is of this server.
        SELECT coalesce(min(e.first_rev), 9223372036854775807),
               coalesce(min(e.first_reported), 9223372036854775807)
        INTO log_begin.rev, log_begin.reported_id
        FROM epoch AS e WHERE e.id > away;
    END IF;
END
$$;
COMMENT ON FUNCTION headwater.log_begin()
    IS 'The first rev of changelog, and the first id of reported_history, whose positions are of '
       'this server''s log';

-- A node that speaks of an older epoch than this has not got the change. Null: nothing is known of
-- that. The largest number: the change was made on a server, or behind a promotion, of which no
-- leader has spoken yet. A leader that names a lower epoch than before has another bucket, for
-- which the higher one means nothing; and of two slots with a bucket each, either will do.
CREATE FUNCTION headwater.needed_epoch(rev bigint) RETURNS bigint
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    IF EXISTS (SELECT FROM headwater.epoch AS e
               WHERE e.epoch IS NULL AND e.first_rev <= needed_epoch.rev
                 AND e.id > (SELECT max(s.id) FROM headwater.epoch AS s
                             WHERE s.epoch IS NOT NULL)) THEN
        RETURN 9223372036854775807;
    END IF;
    RETURN (SELECT min(l.epoch)
            FROM (SELECT e.slot, max(e.id) AS id FROM headwater.epoch AS e
                  WHERE e.epoch IS NOT NULL AND e.first_rev <= needed_epoch.rev
                  GROUP BY e.slot) AS c
            JOIN headwater.epoch AS l ON l.slot = c.slot AND l.id >= c.id);
END
$$;
COMMENT ON FUNCTION headwater.needed_epoch(bigint)
    IS 'The oldest epoch in which a node can have got a change';

-- Does what a node says of a revision speak of this database's? The same number stood for something
-- else in a history that was lost. An older agent names no epoch, and one that could not read the
-- document has no digest of it.
CREATE FUNCTION headwater.is_known(node text, revision bigint, digest text, epoch bigint)
RETURNS boolean
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    made CONSTANT bigint := (
        SELECT min(h.rev) FROM headwater.desired_history AS h
        WHERE h.node = is_known.node AND h.revision = is_known.revision
          AND (is_known.digest IS NULL OR h.digest = is_known.digest));
BEGIN
    RETURN made IS NOT NULL
        AND (is_known.epoch IS NULL
             OR is_known.epoch >= coalesce(headwater.needed_epoch(made), 0));
END
$$;
COMMENT ON FUNCTION headwater.is_known(text, bigint, text, bigint)
    IS 'Is a revision that a node names, with its digest and epoch, one of this database?';

-- desired_at() and reported_at() for a position: rows of another server are before it.
DO $do$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT * FROM (VALUES ('desired', 'digest', 'rev', 'rev'),
                              ('reported', 'state', 'id', 'reported_id'))
            AS t (name, present, own, first)
    LOOP
        EXECUTE replace(replace(replace(replace(replace($sql$
            CREATE OR REPLACE FUNCTION headwater.<name>_at(node text, at <type>)
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
            $sql$, '<name>', item.name), '<type>', 'pg_lsn'),
            '<now>', 'pg_current_wal_insert_lsn()'),
            '<is_past>', format('(h.wal_lsn <= at OR h.%s < (SELECT l.%s FROM log_begin() AS l))',
                                item.own, item.first)),
            '<present>', item.present);
    END LOOP;
END
$do$;

-- What became of changes on the nodes. A position stands for all that was changed up to it, and a
-- change (a rev of changelog) for itself: then it is about the nodes whose document it changed.
-- Each node has a target, the revision that it should have got:
--   of a position  that of its row of desired; where that row is younger than the position, that of
--                  the last row at or before it, so that a later change holds nobody up
--   of a change    the one that the change gave it
-- A node that runs its target or a later revision has applied it. One that could not, and says so,
-- has failed. Everything else is pending, and so is a node with two agents, of which nobody knows
-- which one ran it. A node that is gone, or has nothing to run any more, is not waited for.
-- What a node says of a history that was lost counts for nothing (is_known()), and a row with a
-- position of another server's log is before every position of this one.
CREATE OR REPLACE FUNCTION headwater.judge_waits(positions pg_lsn[], changes bigint[])
RETURNS TABLE (lsn pg_lsn, change bigint, ahead boolean, newest text, nodes bigint,
               applied bigint, failed bigint, pending bigint, failed_nodes jsonb,
               pending_nodes jsonb)
LANGUAGE sql STABLE
SET jit = off
BEGIN ATOMIC
    WITH asked AS MATERIALIZED (
        SELECT a.lsn, a.change, row_number() OVER () AS id
        FROM (SELECT DISTINCT p.lsn, NULL::bigint AS change FROM unnest(positions) AS p (lsn)
              UNION ALL
              SELECT DISTINCT NULL::pg_lsn, c.change FROM unnest(changes) AS c (change)) AS a
    ), newest AS MATERIALIZED (
        -- From this epoch on, whatever was changed is spoken of.
        SELECT h.rev, pg_current_wal_insert_lsn() AS lsn, log.rev AS first_rev,
               coalesce(greatest(headwater.needed_epoch(9223372036854775807),
                                 (SELECT max(e.epoch) FROM headwater.epoch AS e)), 0) AS epoch
        FROM headwater.changelog_head AS h CROSS JOIN headwater.log_begin() AS log
    ), target AS (
        SELECT a.id, d.node, d.revision, d.digest, d.revision AS last_revision,
               d.digest AS last_digest
        FROM asked AS a JOIN headwater.desired AS d ON d.wal_lsn <= a.lsn
        UNION ALL
        SELECT a.id, d.node, h.revision, h.digest, d.revision, d.digest
        FROM asked AS a JOIN headwater.desired AS d ON d.wal_lsn > a.lsn CROSS JOIN newest AS n
        CROSS JOIN LATERAL (
            SELECT h.revision, h.digest FROM headwater.desired_history AS h
            WHERE h.node = d.node AND (h.wal_lsn <= a.lsn OR h.rev < n.first_rev)
            ORDER BY h.id DESC LIMIT 1) AS h
        WHERE h.digest IS NOT NULL
        UNION ALL
        SELECT a.id, d.node, h.revision, h.digest, d.revision, d.digest
        FROM asked AS a
        CROSS JOIN LATERAL (
            SELECT DISTINCT ON (h.node) h.node, h.revision, h.digest
            FROM headwater.desired_history AS h WHERE h.rev = a.change
            ORDER BY h.node, h.id DESC) AS h
        JOIN headwater.desired AS d ON d.node = h.node
        -- A row of the history may differ from the one before in its sources alone.
        WHERE h.digest IS NOT NULL AND h.revision IS DISTINCT FROM (
            SELECT b.revision FROM headwater.desired_history AS b
            WHERE b.node = h.node AND b.rev < a.change ORDER BY b.id DESC LIMIT 1)
    ), judged AS MATERIALIZED (
        SELECT t.id, t.node, t.revision, r.failed_stage AS stage, r.failed_error AS error,
               CASE WHEN v.conflict IS NOT NULL THEN 'pending'
                    WHEN r.running_epoch >= n.epoch
                        AND ((r.running_revision = t.revision AND r.running_digest = t.digest)
                             OR (r.running_revision = t.last_revision
                                 AND r.running_digest = t.last_digest)) THEN 'applied'
                    WHEN (r.running_revision > t.revision OR (r.running_revision = t.revision
                        AND r.running_digest = t.digest))
                        AND headwater.is_known(t.node, r.running_revision, r.running_digest,
                                               r.running_epoch) THEN 'applied'
                    WHEN r.state IN ('failed', 'rejected') AND r.failed_revision >= t.revision
                        AND headwater.is_known(t.node, r.failed_revision, r.failed_digest,
                                               r.failed_epoch) THEN 'failed'
                    ELSE 'pending' END AS state
        FROM target AS t CROSS JOIN newest AS n
        LEFT JOIN headwater.reported AS r ON r.node = t.node
        LEFT JOIN headwater.liveness AS v ON v.node = t.node
    )
    SELECT a.lsn, a.change, coalesce(a.lsn > n.lsn, a.change > n.rev),
           CASE WHEN a.lsn IS NOT NULL THEN n.lsn::text ELSE n.rev::text END,
           count(j.node), count(*) FILTER (WHERE j.state = 'applied'),
           count(*) FILTER (WHERE j.state = 'failed'), count(*) FILTER (WHERE j.state = 'pending'),
           (SELECT jsonb_agg(jsonb_build_object('node', f.node, 'revision', f.revision,
                       'stage', f.stage, 'error', left(f.error, 1000)) ORDER BY f.node)
            FROM (SELECT o.* FROM judged AS o WHERE o.id = a.id AND o.state = 'failed'
                  ORDER BY o.node LIMIT 20) AS f),
           (SELECT jsonb_agg(f.node ORDER BY f.node)
            FROM (SELECT o.node FROM judged AS o WHERE o.id = a.id AND o.state = 'pending'
                  ORDER BY o.node LIMIT 20) AS f)
    FROM asked AS a CROSS JOIN newest AS n LEFT JOIN judged AS j ON j.id = a.id
    GROUP BY a.id, a.lsn, a.change, n.lsn, n.rev;
END;

GRANT SELECT ON headwater.epoch
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION
    headwater.log_begin(), headwater.needed_epoch(bigint),
    headwater.is_known(text, bigint, text, bigint)
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION headwater.begin_epoch(text, bigint) TO headwater_reconciler;

COMMIT;
