-- What is refused says what to do; what is done, and was hardly meant, is told: warnings().

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (23, 'messages');

-- At most five of the names, in quotes, and how many more there are.
CREATE FUNCTION headwater.some_names(names text[]) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT string_agg(format('"%s"', n.name), ', ' ORDER BY n.number)
        FROM unnest(names[1:5]) WITH ORDINALITY AS n (name, number))
    || CASE WHEN cardinality(names) > 5 THEN format(' and %s more', cardinality(names) - 5)
            ELSE '' END;

-- ---- foreign keys, in words ---------------------------------------------------------------------

-- PostgreSQL's own check comes right behind, and finds what this does not: it has the locks.
CREATE FUNCTION headwater.explain_reference() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    names text[];
BEGIN
    IF NOT EXISTS (SELECT FROM config AS c WHERE c.name = NEW.config) THEN
        names := ARRAY(SELECT c.name FROM config AS c ORDER BY c.name);
        RAISE EXCEPTION 'assignment "%": there is no config "%"', NEW.name, left(NEW.config, 200)
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'assignment_config_exists',
                  SCHEMA = 'headwater', TABLE = 'assignment', COLUMN = 'config',
                  DETAIL = coalesce('There are: ' || some_names(names) || '.',
                                    'There is none at all yet.'),
                  HINT = 'Create the config first, or in the same transaction.';
    ELSIF NOT EXISTS (SELECT FROM node AS n WHERE n.name = NEW.node) AND NEW.node IS NOT NULL THEN
        names := ARRAY(SELECT n.name FROM node AS n ORDER BY n.name LIMIT 1000);
        RAISE EXCEPTION 'assignment "%": there is no node "%"', NEW.name, left(NEW.node, 200)
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'assignment_node_exists',
                  SCHEMA = 'headwater', TABLE = 'assignment', COLUMN = 'node',
                  DETAIL = coalesce('There are: ' || some_names(names) || '.',
                                    'There is none at all yet.'),
                  HINT = 'Create the node first, or in the same transaction; for nodes to come, '
                         'give a selector instead of the node.';
    ELSIF NEW.revision IS NOT NULL AND NOT EXISTS (
            SELECT FROM config_revision AS r
            WHERE (r.config, r.revision) = (NEW.config, NEW.revision)) THEN
        RAISE EXCEPTION 'assignment "%": config "%" has no revision %', NEW.name, NEW.config,
                        NEW.revision
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'assignment_revision_exists',
                  SCHEMA = 'headwater', TABLE = 'assignment', COLUMN = 'revision',
                  DETAIL = (SELECT format('It has revisions %s to %s.', min(r.revision),
                                          max(r.revision))
                            FROM config_revision AS r WHERE r.config = NEW.config),
                  HINT = 'Leave the revision out, and the assignment follows the newest.';
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION headwater.explain_use() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    users CONSTANT text[] :=
        ARRAY(SELECT a.name FROM assignment AS a WHERE a.config = OLD.name ORDER BY a.name);
BEGIN
    IF users <> '{}' AND NOT EXISTS (SELECT FROM config AS c WHERE c.name = OLD.name) THEN
        RAISE EXCEPTION 'config "%" is in use: % % to it', OLD.name,
                        CASE WHEN cardinality(users) = 1 THEN 'assignment ' ELSE 'assignments ' END
                            || some_names(users),
                        CASE WHEN cardinality(users) = 1 THEN 'refers' ELSE 'refer' END
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'assignment_config_exists',
                  SCHEMA = 'headwater', TABLE = 'assignment',
                  HINT = 'Delete what refers to it, or give it another config, first or in the '
                         'same transaction.';
    END IF;
    RETURN NULL;
END
$$;

-- Triggers fire in the order of their names, and PostgreSQL's are called RI_...: so the capital.
-- Like them, they are off where session_replication_role is replica.
CREATE TRIGGER "Explain_reference" AFTER INSERT OR UPDATE OF config, node, revision
    ON headwater.assignment FOR EACH ROW EXECUTE FUNCTION headwater.explain_reference();
CREATE TRIGGER "Explain_use" AFTER DELETE
    ON headwater.config FOR EACH ROW EXECUTE FUNCTION headwater.explain_use();

-- ---- history, and bodies ------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION headwater.refuse_change() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% on headwater.% is refused: %', TG_OP, TG_TABLE_NAME, TG_ARGV[0]
        USING ERRCODE = 'object_not_in_prerequisite_state', SCHEMA = 'headwater',
              TABLE = TG_TABLE_NAME, CONSTRAINT = TG_TABLE_NAME || '_is_kept',
              HINT = CASE TG_TABLE_NAME
                  WHEN 'token' THEN 'headwater token revoke ends a token.'
                  ELSE 'Write to headwater.node, headwater.config and headwater.assignment: '
                       'what else there is, is kept by Headwater.' END;
END
$$;

CREATE OR REPLACE FUNCTION headwater.refuse_body(path text, problem text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    -- What can be done about it, which depends on the problem alone.
    advice CONSTANT text := CASE
        WHEN problem LIKE 'needs one of content%' THEN
            'Exactly one: content is any JSON, text is taken as it is, base64 is bytes.'
        WHEN problem LIKE 'is JSON, and % is not%' THEN
            'Or leave media_type out, or give a type of JSON such as application/json.'
        WHEN problem LIKE '%no such member of a node' THEN
            'A node has name, labels and description.'
        WHEN problem LIKE '%no such member of a config' THEN
            'A config has name, media_type, schema, and one of content, text and base64.'
        WHEN problem LIKE '%no such member of a assignment' THEN
            'An assignment has name, config, node or selector, priority and revision.'
        WHEN path ~ '\.(labels|selector)$' AND problem LIKE 'must be of type object%' THEN
            'An object such as {"site": "north"}.'
        END;
BEGIN
    IF advice IS NULL THEN
        RAISE EXCEPTION '%: %', path, problem
            USING ERRCODE = 'invalid_parameter_value', CONSTRAINT = 'apply_body_is_legal',
                  COLUMN = path;
    END IF;
    RAISE EXCEPTION '%: %', path, problem
        USING ERRCODE = 'invalid_parameter_value', CONSTRAINT = 'apply_body_is_legal',
              COLUMN = path, HINT = advice;
END
$$;

-- ---- checks, in words ---------------------------------------------------------------------------

-- Before the constraint of the name of the first argument would say less; the second is the column.
CREATE FUNCTION headwater.explain_check() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% "%": %', TG_TABLE_NAME, NEW.name, TG_ARGV[2]
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_ARGV[0], SCHEMA = 'headwater',
              TABLE = TG_TABLE_NAME, COLUMN = TG_ARGV[1], HINT = TG_ARGV[3];
END
$$;

CREATE TRIGGER explain_labels BEFORE INSERT OR UPDATE ON headwater.node
    FOR EACH ROW WHEN (jsonb_typeof(NEW.labels) <> 'object')
    EXECUTE FUNCTION headwater.explain_check(
        'node_labels_is_object', 'labels', 'labels is not a JSON object',
        'An object such as ''{"site": "north"}''; without labels it is ''{}''.');
CREATE TRIGGER explain_encoding BEFORE INSERT OR UPDATE ON headwater.config
    FOR EACH ROW WHEN (NEW.encoding NOT IN ('utf-8', 'base64'))
    EXECUTE FUNCTION headwater.explain_check(
        'config_encoding_is_known', 'encoding', 'encoding is neither utf-8 nor base64',
        'utf-8 is text as it is, which is what there is without the column; base64 is bytes.');
CREATE TRIGGER explain_selector BEFORE INSERT OR UPDATE ON headwater.assignment
    FOR EACH ROW WHEN (jsonb_typeof(NEW.selector) <> 'object')
    EXECUTE FUNCTION headwater.explain_check(
        'assignment_selector_is_object', 'selector', 'selector is not a JSON object',
        'An object such as ''{"site": "north"}''; ''{}'' is every node.');
ALTER TABLE headwater.node ENABLE ALWAYS TRIGGER explain_labels;
ALTER TABLE headwater.config ENABLE ALWAYS TRIGGER explain_encoding;
ALTER TABLE headwater.assignment ENABLE ALWAYS TRIGGER explain_selector;

-- ---- warnings -----------------------------------------------------------------------------------

-- About nodes on which the document of this transaction has lost what lies below: only JSON objects
-- merge, everything else replaces.
CREATE FUNCTION headwater.replaced_bases()
RETURNS TABLE (assignment text, config text, media_type text, node text, nodes bigint, lost text[])
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    own bigint;
BEGIN
    SELECT h.rev INTO own FROM changelog_head AS h
    WHERE h.xid = pg_current_xact_id_if_assigned() AND h.at = now();
    RETURN QUERY
        -- One node stands for all that have the same sources, and had the same ones.
        WITH alike AS MATERIALIZED (
            SELECT d.sources, min(d.node) AS node, count(*) AS nodes
            FROM planned() AS p JOIN desired AS d USING (node)
            LEFT JOIN LATERAL (
                SELECT h.sources FROM desired_history AS h
                WHERE h.node = p.node AND h.rev < own ORDER BY h.id DESC LIMIT 1) AS b ON true
            WHERE b.sources -> 0 ->> 'assignment' IS DISTINCT FROM d.sources -> 0 ->> 'assignment'
            GROUP BY d.sources, b.sources ORDER BY min(d.node) LIMIT 1000
        ), candidate AS MATERIALIZED (
            SELECT c.* FROM candidates(ARRAY(SELECT a.node FROM alike AS a)) AS c
        ), reached AS MATERIALIZED (
            SELECT a.node, c.name AS lost
            FROM alike AS a JOIN node AS n ON n.name = a.node
            JOIN candidate AS c ON c.node = n.name OR n.labels @> c.selector
            WHERE NOT a.sources @> jsonb_build_array(jsonb_build_object('assignment', c.name))
        )
        SELECT f.name, f.config, r.media_type, min(a.node), sum(a.nodes)::bigint,
               ARRAY(SELECT DISTINCT e.lost FROM reached AS e
                     WHERE e.node = ANY (array_agg(a.node)) ORDER BY e.lost)
        FROM alike AS a
        JOIN candidate AS f ON f.name = a.sources -> 0 ->> 'assignment'
        JOIN config_revision AS r ON r.config = f.config AND r.revision = f.revision
        WHERE EXISTS (SELECT FROM reached AS e WHERE e.node = a.node)
        GROUP BY f.name, f.config, r.media_type;
END
$$;

-- What this transaction has done so far and hardly meant. code is for programs:
--   assignment-without-nodes   its selector is in no node's labels
--   assignment-without-effect  on each of its nodes a later assignment replaces what it gives
--   base-replaced              it replaces, on nodes that change, what others give to them
CREATE FUNCTION headwater.warnings()
RETURNS TABLE (code text, kind text, name text, message text)
LANGUAGE plpgsql STABLE ROWS 10
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    own bigint;
    written record;
    alike text[];
    looked int := 0;
BEGIN
    SELECT h.rev INTO own FROM changelog_head AS h
    WHERE h.xid = pg_current_xact_id_if_assigned() AND h.at = now();
    IF own IS NULL THEN
        RETURN;
    END IF;
    kind := 'assignment';
    FOR written IN
        SELECT a.*, NOT EXISTS (SELECT FROM node AS n WHERE n.labels @> a.selector)
                    AND a.selector IS NOT NULL AS is_empty
        FROM assignment AS a WHERE a.version = own ORDER BY a.name LOOP
        name := written.name;
        IF written.is_empty THEN
            -- The same words in another type; it is the whole fleet to look at, each time.
            looked := looked + 1;
            alike := CASE WHEN looked <= 10 THEN ARRAY(
                SELECT n.name FROM node AS n
                WHERE written.selector <> '{}' AND NOT EXISTS (
                    SELECT FROM jsonb_each_text(written.selector) AS s
                    WHERE n.labels ->> s.key IS DISTINCT FROM s.value)
                ORDER BY n.name) ELSE '{}' END;
            code := 'assignment-without-nodes';
            message := format('assignment "%s" reaches no node: ', name) || CASE
                WHEN NOT EXISTS (SELECT FROM node) THEN 'there is none yet'
                WHEN alike <> '{}' THEN
                    format('the labels of %s are of another type than its selector %s: 3 is a '
                           'number, "3" a string', some_names(alike), written.selector)
                ELSE format('no node''s labels contain its selector %s', written.selector) END;
            RETURN NEXT;
        ELSIF NOT EXISTS (
                SELECT FROM desired AS d JOIN node AS n ON n.name = d.node
                WHERE n.name = written.node AND d.sources
                    @> jsonb_build_array(jsonb_build_object('assignment', written.name)))
            AND NOT EXISTS (
                SELECT FROM desired AS d JOIN node AS n ON n.name = d.node
                WHERE n.labels @> written.selector AND d.sources
                    @> jsonb_build_array(jsonb_build_object('assignment', written.name))) THEN
            code := 'assignment-without-effect';
            message := format('assignment "%s" changes nothing: on each node that it reaches, an '
                              'assignment of higher priority replaces the whole document (only '
                              'JSON objects merge)', name);
            RETURN NEXT;
        END IF;
    END LOOP;
    RETURN QUERY
        SELECT 'base-replaced', 'assignment', b.assignment,
               format('assignment "%s" replaces the whole document of %s (config "%s" is %s, and '
                      'only JSON objects merge): %s no effect there', b.assignment,
                      CASE b.nodes WHEN 1 THEN format('node "%s"', b.node)
                                   ELSE format('%s nodes, such as "%s"', b.nodes, b.node) END,
                      b.config, b.media_type, some_names(b.lost)
                          || CASE cardinality(b.lost) WHEN 1 THEN ' has' ELSE ' have' END)
        FROM replaced_bases() AS b ORDER BY b.assignment;
END
$$;

COMMENT ON FUNCTION headwater.warnings()
    IS 'What this transaction did, so far, and hardly meant: assignments without nodes, bases lost';
COMMENT ON FUNCTION headwater.replaced_bases()
    IS 'Where a document lost, in this transaction, what other assignments give to the node';
COMMENT ON FUNCTION headwater.some_names(text[]) IS 'Five of the names, for a message';

GRANT EXECUTE ON FUNCTION headwater.warnings(), headwater.replaced_bases(),
    headwater.some_names(text[])
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;

COMMIT;
