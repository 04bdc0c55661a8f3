-- Commands to the reconciler, and who takes part in replication.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (14, 'replication');

-- A command is a logical message: a record in the write-ahead log without a table. It reaches the
-- reconciler by the stream of changes, in order with the data, so that a resync covers exactly what
-- was committed before it.
CREATE FUNCTION headwater.resync() RETURNS pg_lsn
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$ SELECT pg_logical_emit_message(true, 'headwater', '{"command":"resync"}') $$;
COMMENT ON FUNCTION headwater.resync()
    IS 'Tells the reconciler to compare NATS with the database, whole';

CREATE FUNCTION headwater.heartbeat() RETURNS pg_lsn
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$ SELECT pg_logical_emit_message(true, 'headwater', '{"command":"heartbeat"}') $$;
COMMENT ON FUNCTION headwater.heartbeat() IS 'Moves the stream on when nothing else does';

-- A command as resync() is. This function checks what the database can tell. Whether the archive
-- slot reaches back to from_lsn is found out by the reconciler, which reads from that slot.
CREATE FUNCTION headwater.replay(from_lsn pg_lsn, to_lsn pg_lsn DEFAULT NULL) RETURNS pg_lsn
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    log_end CONSTANT pg_lsn := pg_current_wal_insert_lsn();
BEGIN
    IF from_lsn IS NULL THEN
        RAISE EXCEPTION 'replay() needs a position to begin at'
            USING ERRCODE = 'null_value_not_allowed',
                  HINT = 'headwater-cdc status shows how far back the archive slot reaches; '
                         'headwater-cdc replay --from takes a time as well.';
    ELSIF from_lsn > log_end THEN
        RAISE EXCEPTION 'the log ends at %, before % where the replay would begin',
                        log_end, from_lsn
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Give a position of this server''s own log, from changelog or '
                         'headwater-cdc status.';
    ELSIF to_lsn > log_end THEN
        RAISE EXCEPTION 'the log ends at %, before % where the replay would end', log_end, to_lsn
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Leave the end out to replay everything.';
    ELSIF to_lsn < from_lsn THEN
        RAISE EXCEPTION 'the replay would end at %, before % where it begins', to_lsn, from_lsn
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Give the older position first.';
    END IF;
    RETURN pg_logical_emit_message(true, 'headwater',
        format('{"command":"replay","from":"%s","to":%s}', from_lsn,
               coalesce('"' || to_lsn || '"', 'null')));
END
$$;
COMMENT ON FUNCTION headwater.replay(pg_lsn, pg_lsn)
    IS 'Tells the reconciler to send once more what was committed between two positions';

-- Every reconciler, the leader and those that stand by, has one session with the application name
-- headwater-reconciler. Whoever else holds a replication slot of this database is listed as well.
-- What headwater_owner may not see is null.
CREATE FUNCTION headwater.reconcilers()
RETURNS TABLE (pid int, application text, role text, address text, connected_at timestamptz,
               slot text, state text)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 10
SET search_path = pg_catalog, headwater, pg_temp
AS $$
    SELECT a.pid, a.application_name, a.usename,
           coalesce(host(a.client_addr), CASE WHEN a.client_port = -1 THEN 'local' END),
           a.backend_start, s.slot_name, r.state
    FROM pg_stat_activity AS a
    LEFT JOIN pg_replication_slots AS s ON s.active_pid = a.pid AND s.database = a.datname
    LEFT JOIN pg_stat_replication AS r ON r.pid = a.pid
    WHERE a.datname = current_database()
      AND (s.slot_name IS NOT NULL OR a.application_name = 'headwater-reconciler')
    ORDER BY s.slot_name NULLS LAST, a.pid
$$;
COMMENT ON FUNCTION headwater.reconcilers()
    IS 'Sessions of reconcilers, and of whoever else holds a slot of this database';

GRANT EXECUTE ON FUNCTION
    headwater.resync(), headwater.heartbeat(), headwater.replay(pg_lsn, pg_lsn)
    TO headwater_dba, headwater_reconciler;
GRANT EXECUTE ON FUNCTION headwater.reconcilers()
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;

COMMIT;
