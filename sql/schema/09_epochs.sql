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
INSERT INTO headwater.migration (version, name) VALUES (22, 'epochs');

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

GRANT SELECT ON headwater.epoch
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION
    headwater.log_begin(), headwater.needed_epoch(bigint),
    headwater.is_known(text, bigint, text, bigint)
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION headwater.begin_epoch(text, bigint) TO headwater_reconciler;

COMMIT;
