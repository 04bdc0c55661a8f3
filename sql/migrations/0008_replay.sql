-- Sending once more what was sent before, from the log that the archive slot keeps.

BEGIN;

SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (8, 'replay');

-- A command like resync() and heartbeat(). What can be seen here is checked here; whether the
-- archive slot reaches back to from_lsn is known to whom reads it.
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

GRANT EXECUTE ON FUNCTION headwater.replay(pg_lsn, pg_lsn) TO headwater_dba, headwater_reconciler;

COMMIT;
