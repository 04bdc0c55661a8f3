-- The audit trail: who changed what, when and why, by HTTP and by psql alike. Each row of node,
-- config and assignment that a statement really changes leaves one row here. The triggers are
-- statement triggers, which see all changed rows at once: for a large statement they cost far less
-- than row triggers do.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (7, 'audit');

CREATE TABLE headwater.audit (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at               timestamptz NOT NULL DEFAULT now(), -- start of the transaction
    rev              bigint, -- of changelog; null for what does not change configuration
    author           text NOT NULL,
    application_name text NOT NULL,
    message          text,
    kind             text NOT NULL,
    name             text COLLATE "C" NOT NULL,
    action           text NOT NULL,
    old_digest       text, -- null: there was nothing before
    new_digest       text, -- null: there is nothing any more
    CONSTRAINT audit_kind_is_known
        CHECK (kind IN ('node', 'config', 'assignment', 'token', 'proposal', 'instance')),
    CONSTRAINT audit_action_is_known
        CHECK (action IN ('create', 'update', 'delete', 'revoke', 'approve', 'reject', 'choose'))
);
COMMENT ON TABLE headwater.audit
    IS 'Every change of a node, config, assignment, token or proposal: who, when, why; append-only';
CREATE INDEX audit_name ON headwater.audit (kind, name, id);

CREATE TRIGGER is_kept BEFORE UPDATE OR DELETE OR TRUNCATE
    ON headwater.audit FOR EACH STATEMENT
    EXECUTE FUNCTION headwater.refuse_change('it is history, which only grows');
ALTER TABLE headwater.audit ENABLE ALWAYS TRIGGER is_kept;

-- A digest covers everything that an operator sets. That of a config is the digest of its content,
-- which config_revision has already. The functions are STABLE because convert_to() is: the planner
-- inlines a function only when it promises no more than its body does.
CREATE FUNCTION headwater.node_digest(labels jsonb, description text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN headwater.digest_of(convert_to(
    jsonb_build_object('labels', labels, 'description', description)::text, 'UTF8'));
COMMENT ON FUNCTION headwater.node_digest(jsonb, text) IS 'The digest that audit has of a node';

CREATE FUNCTION headwater.assignment_digest(config text, node text, selector jsonb, priority int,
                                            revision int) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN headwater.digest_of(convert_to(
    jsonb_build_object('config', config, 'node', node, 'selector', selector,
                       'priority', priority, 'revision', revision)::text, 'UTF8'));
COMMENT ON FUNCTION headwater.assignment_digest(text, text, jsonb, int, int)
    IS 'The digest that audit has of an assignment';

CREATE FUNCTION headwater.config_digest(config text, revision int) RETURNS text
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT r.digest FROM headwater.config_revision AS r
    WHERE (r.config, r.revision) = (config_digest.config, config_digest.revision);
END;
COMMENT ON FUNCTION headwater.config_digest(text, int)
    IS 'The digest that audit has of a revision of a config';

-- record_node(), record_config() and record_assignment() are made from one text, in which ~ stands
-- for the table, and <b> and <a> for the digests of a row before and after. By their names their
-- triggers fire last, when changelog and config_revision have the rows to which these refer. A
-- session keeps the plan of its first statement, so the plan must serve one row as well as the
-- whole fleet. Therefore it joins by sorting or hashing, never row by row (enable_nestloop).
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
