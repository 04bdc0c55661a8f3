-- The roles, the schema, and the table in which every migration records itself.
--
-- Each migration is one transaction. The files are applied in the order of their numbers, by
-- headwater-api migrate or by psql:
--     psql -v ON_ERROR_STOP=1 -f 0001_roles.sql
-- A file that was applied before stops at its first INSERT and changes nothing.

BEGIN;

DO $$
BEGIN
    IF current_setting('server_version_num')::int < 150000 THEN
        RAISE EXCEPTION 'Headwater needs PostgreSQL 15 or later; this server is %',
            current_setting('server_version')
            USING ERRCODE = 'feature_not_supported';
    END IF;
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'Headwater needs a database in UTF8; "%" is in %',
            current_database(), current_setting('server_encoding')
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0, '
                         'then migrate that one.';
    END IF;
END
$$;

-- Roles belong to the whole cluster, so another database may have made them already. A role that
-- exists is left as it is, so that an administrator's own settings and passwords survive.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('headwater_owner',      'NOLOGIN',           NULL,  NULL),
            ('headwater_dba',        'NOLOGIN',           NULL,  NULL),
            ('headwater_viewer',     'NOLOGIN',           NULL,  NULL),
            ('headwater_api',        'LOGIN',             '10s', '30s'),
            ('headwater_reconciler', 'LOGIN REPLICATION', '30s', '10min')
        ) AS role (name, attributes, lock_timeout, idle_timeout)
        WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role.name)
    LOOP
        EXECUTE format('CREATE ROLE %I %s', wanted.name, wanted.attributes);
        IF wanted.lock_timeout IS NOT NULL THEN
            -- A forgotten transaction would hold the lock for which all writers wait.
            EXECUTE format('ALTER ROLE %I SET lock_timeout = %L', wanted.name, wanted.lock_timeout);
            EXECUTE format('ALTER ROLE %I SET idle_in_transaction_session_timeout = %L',
                           wanted.name, wanted.idle_timeout);
        END IF;
    END LOOP;

    IF NOT (SELECT rolreplication OR rolsuper FROM pg_roles
            WHERE rolname = 'headwater_reconciler') THEN
        ALTER ROLE headwater_reconciler REPLICATION;
    END IF;
    -- Every migration creates its objects as headwater_owner, so this session must be a member.
    IF NOT pg_has_role(current_user, 'headwater_owner', 'USAGE') THEN
        EXECUTE format('GRANT headwater_owner TO %I', current_user);
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN
        RAISE EXCEPTION 'another migration in this cluster is making the same roles'
            USING ERRCODE = 'object_in_use', HINT = 'Run this file again.';
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the roles of Headwater are incomplete, and "%" may not complete them: %',
            current_user, SQLERRM
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('Migrate as a superuser, or have one run: '
                                'CREATE ROLE headwater_owner; '
                                'CREATE ROLE headwater_dba; CREATE ROLE headwater_viewer; '
                                'CREATE ROLE headwater_api LOGIN; '
                                'CREATE ROLE headwater_reconciler LOGIN REPLICATION; '
                                'GRANT headwater_owner TO %I;', current_user);
END
$$;

-- Commands reach the reconciler as logical messages (0014_replication.sql). PostgreSQL lets
-- everyone write such messages, and whoever may write them can forge commands, so we take this
-- right from PUBLIC. Only a superuser, who owns pg_logical_emit_message(), can do that.
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

-- PostgreSQL hides from ordinary roles what sessions of other roles do, and from where. The
-- function reconcilers() runs as headwater_owner and needs to see it; it shows only the
-- reconcilers.
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

CREATE SCHEMA IF NOT EXISTS headwater AUTHORIZATION headwater_owner;

SET LOCAL ROLE headwater_owner;

CREATE TABLE IF NOT EXISTS headwater.migration (
    version    int PRIMARY KEY,
    name       text NOT NULL,
    checksum   text, -- sha256 of the file's bytes, in hex; null when it was applied with psql
    applied_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO headwater.migration (version, name) VALUES (1, 'roles');

COMMENT ON SCHEMA headwater
    IS 'Configuration of a fleet: what each node should run, and what it runs';
COMMENT ON TABLE headwater.migration IS 'The migrations that this database has';

-- PostgreSQL lets everyone execute a new function. Here only those to whom it is granted may, and
-- that holds for the functions of later migrations as well.
ALTER DEFAULT PRIVILEGES FOR ROLE headwater_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

GRANT USAGE ON SCHEMA headwater
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT SELECT ON headwater.migration
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;

COMMIT;
