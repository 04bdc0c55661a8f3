-- Who may do what, and the doors to the reconciler.

BEGIN;

-- pg_logical_emit_message() belongs to the superuser. Left to everyone, it would let anyone forge
-- commands to the reconciler.
DO $$
DECLARE
    door regprocedure;
    owner regrole;
BEGIN
    FOR door, owner IN
        SELECT oid, proowner FROM pg_proc
        WHERE proname = 'pg_logical_emit_message' AND pronamespace = 'pg_catalog'::regnamespace
    LOOP
        IF NOT pg_has_role(current_user, owner, 'USAGE') THEN
            RAISE WARNING '% stays open to everyone: "%" may not change that', door, current_user
                USING HINT = format('As a superuser: REVOKE EXECUTE ON FUNCTION %1$s FROM PUBLIC; '
                                    'GRANT EXECUTE ON FUNCTION %1$s TO headwater_owner;', door);
        ELSE
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', door);
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO headwater_owner', door);
        END IF;
    END LOOP;
END
$$;

SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (7, 'access');

-- Commands travel in the stream of changes, in order with the data.
CREATE FUNCTION headwater.resync() RETURNS pg_lsn
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$ SELECT pg_logical_emit_message(true, 'headwater', '{"command":"resync"}') $$;

CREATE FUNCTION headwater.heartbeat() RETURNS pg_lsn
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$ SELECT pg_logical_emit_message(true, 'headwater', '{"command":"heartbeat"}') $$;

COMMENT ON FUNCTION headwater.resync()
    IS 'Tells the reconciler to compare NATS with the database, whole';
COMMENT ON FUNCTION headwater.heartbeat() IS 'Moves the stream on when nothing else does';
COMMENT ON FUNCTION headwater.recompute()
    IS 'Computes desired anew; the number of rows that were wrong';
COMMENT ON FUNCTION headwater.report(jsonb) IS 'Takes reports of nodes into reported, newest only';

GRANT SELECT ON
    headwater.node, headwater.config, headwater.config_revision, headwater.assignment,
    headwater.changelog, headwater.changelog_head, headwater.blob, headwater.desired,
    headwater.desired_history, headwater.reported, headwater.fleet
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION
    headwater.candidates(text[]), headwater.resolve(text[]), headwater.document(jsonb),
    headwater.desired_drift()
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;

GRANT INSERT, UPDATE, DELETE, TRUNCATE ON
    headwater.node, headwater.config, headwater.assignment
    TO headwater_dba;
GRANT EXECUTE ON FUNCTION headwater.recompute(), headwater.resync(), headwater.heartbeat()
    TO headwater_dba;

GRANT INSERT, UPDATE, DELETE ON
    headwater.node, headwater.config, headwater.assignment
    TO headwater_api;

GRANT EXECUTE ON FUNCTION headwater.report(jsonb), headwater.heartbeat(), headwater.resync()
    TO headwater_reconciler;

COMMIT;
