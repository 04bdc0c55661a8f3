-- Who takes part in replication: for one look at the system.

BEGIN;

-- What a session of another role does, and from where, is not for everyone. The function below may
-- see it, and shows no more of it than it is made for.
DO $$
BEGIN
    IF NOT pg_has_role('headwater_owner', 'pg_read_all_stats', 'USAGE') THEN
        GRANT pg_read_all_stats TO headwater_owner;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE WARNING 'since when and from where reconcilers are connected stays unknown: "%" may '
            'not let headwater_owner see it', current_user
            USING HINT = 'As a superuser: GRANT pg_read_all_stats TO headwater_owner;';
END
$$;

SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (21, 'system');

-- What may not be seen is null. A reconciler, leader or standby, has one session by the name
-- headwater-reconciler; whoever holds a slot of this database is here whatever its name is.
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

GRANT EXECUTE ON FUNCTION headwater.reconcilers()
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;

COMMIT;
