-- The audit trail: who changed what, when and why, by HTTP and by psql alike. A row for each row
-- that a statement changed for real; the triggers see whole statements.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (7, 'audit');

CREATE TABLE headwater.audit (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at               timestamptz NOT NULL DEFAULT now(), -- start of the transaction
    rev              bigint, -- of changelog; null where configuration did not change
    author           text NOT NULL,
    application_name text NOT NULL,
    message          text,
    kind             text NOT NULL,
    name             text COLLATE "C" NOT NULL,
    action           text NOT NULL,
    old_digest       text, -- null: it was not there
    new_digest       text, -- null: it is gone
    CONSTRAINT audit_kind_is_known 
        CHECK (kind IN ('node', 'config', 'assignment', 'token', 'proposal')),
    CONSTRAINT audit_action_is_known 
        CHECK (action IN ('create', 'update', 'delete', 'revoke', 'approve', 'reject'))
);
COMMENT ON TABLE headwater.audit
    IS 'Every change of a node, config, assignment or token: who, when, why; append-only';
CREATE INDEX audit_name ON headwater.audit (kind, name, id);

CREATE TRIGGER is_kept BEFORE UPDATE OR DELETE OR TRUNCATE
    ON headwater.audit FOR EACH STATEMENT
    EXECUTE FUNCTION headwater.refuse_change('it is history, which only grows');
ALTER TABLE headwater.audit ENABLE ALWAYS TRIGGER is_kept;

-- What a digest is of: all that an operator sets. A config's is that of its content, and known.
-- STABLE, as convert_to() is: then they are inlined.
CREATE FUNCTION headwater.node_digest(labels jsonb, description text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN headwater.digest_of(convert_to(
    jsonb_build_object('labels', labels, 'description', description)::text, 'UTF8'));

CREATE FUNCTION headwater.assignment_digest(config text, node text, selector jsonb, priority int,
                                            revision int) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN headwater.digest_of(convert_to(
    jsonb_build_object('config', config, 'node', node, 'selector', selector,
                       'priority', priority, 'revision', revision)::text, 'UTF8'));

CREATE FUNCTION headwater.config_digest(config text, revision int) RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT r.digest FROM headwater.config_revision AS r
    WHERE (r.config, r.revision) = (config_digest.config, config_digest.revision);
END;

-- One function for each table, record_<table>(), from one text: ~ is the table, and old and new are
-- the digests of a row before and after. They run last, when the changelog and the history have what
-- they refer to. The plan of a session's first statement serves all later ones, so it must be one that
-- is good for a row and for the whole fleet: sorted or hashed, never row by row.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN SELECT * FROM (VALUES
        ('node', 'node_digest(?.labels, ?.description)'),
        ('config', 'config_digest(?.name, ?.revision)'),
        ('assignment',
         'assignment_digest(?.config, ?.node, ?.selector, ?.priority, ?.revision)')
    ) AS w (relation, digest)
    LOOP
        EXECUTE replace(replace(replace($sql$
            CREATE FUNCTION headwater.record_~() RETURNS trigger
            LANGUAGE plpgsql SECURITY DEFINER
            SET search_path = pg_catalog, headwater, pg_temp
            SET plan_cache_mode = force_generic_plan
            SET enable_nestloop = off
            SET work_mem = '64MB'
            SET jit = off
            AS $body$
            DECLARE
                own CONSTANT bigint := (SELECT rev FROM own_rev);
                who CONSTANT text := author();
                application CONSTANT text := current_setting('application_name');
                why CONSTANT text := message();
            BEGIN
                IF TG_OP = 'INSERT' THEN
                    INSERT INTO audit (rev, author, application_name, message, kind, name, action,
                                       new_digest)
                    SELECT own, who, application, why, '~', a.name, 'create', <a>
                    FROM after_rows AS a ORDER BY a.name;
                ELSIF TG_OP = 'UPDATE' THEN
                    INSERT INTO audit (rev, author, application_name, message, kind, name, action,
                                       old_digest, new_digest)
                    SELECT own, who, application, why, '~', a.name, 'update', <b>, <a>
                    FROM after_rows AS a JOIN before_rows AS b USING (name)
                    WHERE a.* IS DISTINCT FROM b.* ORDER BY a.name;
                ELSIF TG_OP = 'DELETE' THEN
                    INSERT INTO audit (rev, author, application_name, message, kind, name, action,
                                       old_digest)
                    SELECT own, who, application, why, '~', b.name, 'delete', <b>
                    FROM before_rows AS b ORDER BY b.name;
                ELSE
                    INSERT INTO audit (rev, author, application_name, message, kind, name, action,
                                       old_digest)
                    SELECT own, who, application, why, '~', b.name, 'delete', <b>
                    FROM ~ AS b ORDER BY b.name;
                END IF;
                RETURN NULL;
            END
            $body$;
            CREATE TRIGGER record_insert AFTER INSERT
                ON headwater.~ REFERENCING NEW TABLE AS after_rows
                FOR EACH STATEMENT EXECUTE FUNCTION headwater.record_~();
            CREATE TRIGGER record_update AFTER UPDATE
                ON headwater.~ REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows
                FOR EACH STATEMENT EXECUTE FUNCTION headwater.record_~();
            CREATE TRIGGER record_delete AFTER DELETE
                ON headwater.~ REFERENCING OLD TABLE AS before_rows
                FOR EACH STATEMENT EXECUTE FUNCTION headwater.record_~();
            CREATE TRIGGER record_truncate BEFORE TRUNCATE
                ON headwater.~ FOR EACH STATEMENT EXECUTE FUNCTION headwater.record_~();
            ALTER TABLE headwater.~
                ENABLE ALWAYS TRIGGER record_insert, ENABLE ALWAYS TRIGGER record_update,
                ENABLE ALWAYS TRIGGER record_delete, ENABLE ALWAYS TRIGGER record_truncate;
            $sql$, '<a>', replace(wanted.digest, '?', 'a')),
                   '<b>', replace(wanted.digest, '?', 'b')), '~', wanted.relation);
    END LOOP;
END
$$;

GRANT SELECT ON headwater.audit
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION
    headwater.node_digest(jsonb, text), headwater.config_digest(text, int),
    headwater.assignment_digest(text, text, jsonb, int, int)
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;

COMMIT;
