-- What a dump, a restore or a hand has left otherwise than the migrations made it: triggers that do not
-- always fire, tables that are not logged, privileges that are lost. defects() names it, with the
-- statement that mends it; headwater-api migrate runs these.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (23, 'defects');

-- Who may do what, as the migrations gave it: headwater-api migrate notes it when it has applied some.
CREATE TABLE headwater.granted (
    object    text, -- as GRANT has it: "TABLE headwater.node"
    grantee   text COLLATE "C",
    privilege text, -- "SELECT", or of a column "UPDATE (silence)"
    PRIMARY KEY (object, grantee, privilege)
);
COMMENT ON TABLE headwater.granted
    IS 'The privileges that the migrations gave, for defects(); written by note_granted()';

-- Who may do what now, of the roles of Headwater. A function without a list of privileges is open to
-- everyone.
CREATE VIEW headwater.privilege AS
SELECT o.object, g.rolname::text AS grantee, o.privilege
FROM (
    SELECT 'SCHEMA headwater' AS object, e.grantee, e.privilege_type AS privilege
    FROM pg_namespace AS n CROSS JOIN LATERAL aclexplode(n.nspacl) AS e
    WHERE n.nspname = 'headwater'
    UNION ALL
    SELECT format('TABLE headwater.%I', c.relname), e.grantee, e.privilege_type
    FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS e
    WHERE c.relnamespace = 'headwater'::regnamespace AND c.relkind IN ('r', 'v')
    UNION ALL
    SELECT format('TABLE headwater.%I', c.relname), e.grantee,
           format('%s (%I)', e.privilege_type, a.attname)
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
    CROSS JOIN LATERAL aclexplode(a.attacl) AS e
    WHERE c.relnamespace = 'headwater'::regnamespace
    UNION ALL
    SELECT format('FUNCTION %I.%I(%s)', n.nspname, p.proname,
                  pg_get_function_identity_arguments(p.oid)), e.grantee, e.privilege_type
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    CROSS JOIN LATERAL aclexplode(p.proacl) AS e
    WHERE n.nspname = 'headwater'
       OR n.nspname = 'pg_catalog' AND p.proname = 'pg_logical_emit_message'
) AS o
JOIN pg_roles AS g ON g.oid = o.grantee
WHERE g.rolname LIKE 'headwater\_%' AND (g.rolname <> 'headwater_owner' OR o.object LIKE '%pg_catalog%');
COMMENT ON VIEW headwater.privilege IS 'Who of Headwater''s roles may do what now, as granted has it';

CREATE FUNCTION headwater.note_granted() RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
    DELETE FROM granted;
    INSERT INTO granted (object, grantee, privilege)
    SELECT DISTINCT p.object, p.grantee, p.privilege FROM privilege AS p
$$;

-- What can be told from the catalog alone, which costs little. The column mend is null where a person
-- has to decide.
CREATE FUNCTION headwater.catalog_defects()
RETURNS TABLE (kind text, object text, problem text, mend text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
    -- Those that give foreign keys better messages are like these, and do not always fire.
    SELECT 'trigger', format('headwater.%I.%I', c.relname, t.tgname),
           CASE t.tgenabled WHEN 'D' THEN 'it is disabled'
               ELSE 'it does not fire where session_replication_role says otherwise' END,
           format('ALTER TABLE headwater.%I ENABLE %s TRIGGER %I', c.relname,
                  CASE w.enabled WHEN 'A' THEN 'ALWAYS' ELSE '' END, t.tgname)
    FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
    JOIN pg_proc AS p ON p.oid = t.tgfoid
    CROSS JOIN LATERAL (SELECT CASE WHEN t.tgisinternal OR t.tgname LIKE 'Explain\_%' THEN 'O'
                                    ELSE 'A' END AS enabled) AS w
    WHERE c.relnamespace = 'headwater'::regnamespace AND t.tgenabled <> w.enabled::"char"
      AND (t.tgisinternal OR p.pronamespace = 'headwater'::regnamespace)
    UNION ALL
    SELECT 'table', format('headwater.%I', c.relname), 'it is unlogged: a crash empties it, and the '
               'log has nothing of it', format('ALTER TABLE headwater.%I SET LOGGED', c.relname)
    FROM pg_class AS c
    WHERE c.relnamespace = 'headwater'::regnamespace AND c.relkind = 'r' AND c.relpersistence = 'u'
      AND c.relname NOT IN ('heard', 'heard_head', 'instance', 'unknown_heard', 'unknown_head')
    UNION ALL
    SELECT 'table', format('headwater.%I', c.relname), 'it has no replica identity: the log does not '
               'say which rows change',
           format('ALTER TABLE headwater.%I REPLICA IDENTITY DEFAULT', c.relname)
    FROM pg_class AS c
    WHERE c.relnamespace = 'headwater'::regnamespace AND c.relkind = 'r' AND c.relreplident = 'n'
    UNION ALL
    SELECT 'table', format('headwater.%I', c.relname), 'row level security is on: what it hides from '
               'a role is an error there', NULL
    FROM pg_class AS c
    WHERE c.relnamespace = 'headwater'::regnamespace AND c.relrowsecurity
    UNION ALL
    SELECT 'privilege', g.object,
           format('%s does not have %s', g.grantee, g.privilege)
               || CASE WHEN to_regrole(g.grantee) IS NULL THEN ': there is no such role' ELSE '' END,
           format('GRANT %s ON %s TO %I', g.privilege, g.object, g.grantee)
    FROM granted AS g
    WHERE NOT EXISTS (SELECT FROM privilege AS p
                      WHERE (p.object, p.grantee, p.privilege)
                          = (g.object, g.grantee, g.privilege))
    UNION ALL
    SELECT 'privilege', s.object, 'everyone may execute it',
           format('REVOKE EXECUTE ON %s FROM PUBLIC', s.object)
    FROM (SELECT format('FUNCTION %I.%I(%s)', n.nspname, p.proname,
                        pg_get_function_identity_arguments(p.oid)) AS object
          FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
          WHERE n.nspname = 'headwater' AND p.proacl IS NULL
             OR n.nspname = 'pg_catalog' AND p.proname = 'pg_logical_emit_message'
                AND has_function_privilege('public', p.oid, 'EXECUTE')) AS s
    UNION ALL
    SELECT 'privilege', 'DEFAULT PRIVILEGES of headwater_owner',
           'everyone may execute the functions of later migrations',
           'ALTER DEFAULT PRIVILEGES FOR ROLE headwater_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC'
    WHERE NOT EXISTS (SELECT FROM pg_default_acl AS d
                      WHERE d.defaclrole = 'headwater_owner'::regrole AND d.defaclobjtype = 'f'
                        AND d.defaclnamespace = 0)
    ORDER BY 1, 2, 3
$$;
COMMENT ON FUNCTION headwater.catalog_defects()
    IS 'What the catalog has otherwise than the migrations made it, and what mends it; nothing';

CREATE FUNCTION headwater.defects() RETURNS TABLE (kind text, object text, problem text, mend text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
    SELECT * FROM catalog_defects()
    UNION ALL
    SELECT 'rows', format('headwater.%I %s', h.relation, h.name), h.problem,
           'SELECT headwater.recompute()' FROM history_drift() AS h
$$;
COMMENT ON FUNCTION headwater.defects()
    IS 'Everything that is otherwise than it should be, rows included, and what mends it; nothing';

-- Runs what mends, with the rights of the caller, who is the owner or a superuser, until there is
-- nothing left that can be mended; what could not be has an error. Triggers come before rows.
CREATE FUNCTION headwater.mend()
RETURNS TABLE (kind text, object text, problem text, mend text, error text)
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    found CONSTANT jsonb := (SELECT jsonb_agg(to_jsonb(d) ORDER BY d.kind = 'rows') FROM defects() AS d);
    done text[] := '{}';
BEGIN
    FOR kind, object, problem, mend IN
        SELECT * FROM jsonb_to_recordset(found) AS d (kind text, object text, problem text, mend text)
    LOOP
        error := NULL;
        IF mend IS NULL THEN
            error := 'a person has to decide about it';
        ELSIF mend <> ALL (done) THEN
            BEGIN
                EXECUTE mend;
                done := done || mend;
            EXCEPTION WHEN OTHERS THEN
                error := SQLERRM;
            END;
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

GRANT SELECT ON headwater.granted, headwater.privilege
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION headwater.catalog_defects(), headwater.defects()
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;

SELECT headwater.note_granted();

COMMIT;
