-- The triggers on node, config and assignment. They are what makes psql as safe as the API.
--
-- A statement goes through four stages. Before it, a statement trigger takes the writers' lock.
-- Before each row, a row trigger refuses what is illegal and fills in the columns that are not the
-- writer's (version, revision, times). After the statement, a trigger that sees all changed rows at
-- once writes the log and brings desired up to date. Last of all, audit (0007_audit.sql) records
-- each changed row.
--
-- PostgreSQL fires the triggers of one event in the order of their names; the names are chosen for
-- that. All are ENABLE ALWAYS, so that session_replication_role turns none off, save two that only
-- give foreign keys better messages.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (6, 'writers');

-- ---- before: one writer at a time ---------------------------------------------------------------

-- Every statement takes the writers' lock before it locks any row. That is why writers cannot
-- deadlock with each other. A TRUNCATE is the exception: it locks its table before any trigger
-- fires.
CREATE FUNCTION headwater.before_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    has_rows boolean;
BEGIN
    PERFORM lock_head();
    IF TG_OP = 'TRUNCATE' THEN
        -- After the TRUNCATE nobody could tell whether there were rows.
        EXECUTE format('SELECT EXISTS (SELECT FROM headwater.%I)', TG_TABLE_NAME) INTO has_rows;
        IF has_rows THEN
            PERFORM log_change();
        END IF;
        IF TG_TABLE_NAME = 'node' AND has_rows THEN
            DELETE FROM reported AS r USING node AS n WHERE n.name = r.node;
        END IF;
    END IF;
    RETURN NULL;
END
$$;

-- ---- before each row: what is refused, and the columns that are not the writer's ----------------

CREATE FUNCTION headwater.refuse_rename(kind text, old_name text, new_name text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% "%" cannot be renamed', kind, old_name
        USING ERRCODE = 'check_violation', CONSTRAINT = kind || '_name_is_fixed',
              SCHEMA = 'headwater', TABLE = kind, COLUMN = 'name',
              HINT = format('Create "%s" and delete "%s", in one transaction if need be.',
                            new_name, old_name);
END
$$;

CREATE FUNCTION headwater.node_before_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    NEW.created_at := now();
    IF TG_OP = 'UPDATE' THEN
        IF NEW.name <> OLD.name THEN
            PERFORM refuse_rename('node', OLD.name, NEW.name);
        END IF;
        IF (NEW.labels, NEW.description) IS NOT DISTINCT FROM (OLD.labels, OLD.description) THEN
            -- A column that somebody added may be written all the same.
            NEW.labels := OLD.labels;
            NEW.description := OLD.description;
            NEW.version := OLD.version;
            NEW.created_at := OLD.created_at;
            NEW.updated_at := OLD.updated_at;
            RETURN NEW;
        END IF;
        NEW.created_at := OLD.created_at;
    END IF;
    IF NOT is_name(NEW.name) THEN
        PERFORM refuse_name('node', NEW.name);
    END IF;
    IF length(NEW.labels::text) > number_limit() AND long_number(NEW.labels) IS NOT NULL THEN
        PERFORM refuse_number('node', NEW.name, '/labels' || long_number(NEW.labels));
    END IF;
    NEW.version := (SELECT rev FROM own_rev);
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE FUNCTION headwater.assignment_before_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    NEW.created_at := now();
    IF TG_OP = 'UPDATE' THEN
        IF NEW.name <> OLD.name THEN
            PERFORM refuse_rename('assignment', OLD.name, NEW.name);
        END IF;
        IF (NEW.config, NEW.node, NEW.selector, NEW.priority, NEW.revision) IS NOT DISTINCT FROM
            (OLD.config, OLD.node, OLD.selector, OLD.priority, OLD.revision) THEN
            NEW.selector := OLD.selector;
            NEW.version := OLD.version;
            NEW.created_at := OLD.created_at;
            NEW.updated_at := OLD.updated_at;
            RETURN NEW;
        END IF;
        NEW.created_at := OLD.created_at;
    END IF;
    IF NOT is_name(NEW.name) THEN
        PERFORM refuse_name('assignment', NEW.name);
    END IF;
    IF length(NEW.selector::text) > number_limit() AND long_number(NEW.selector) IS NOT NULL THEN
        PERFORM refuse_number('assignment', NEW.name, '/selector' || long_number(NEW.selector));
    END IF;
    IF num_nonnulls(NEW.node, NEW.selector) <> 1 THEN
        RAISE EXCEPTION 'assignment "%" needs either a node or a selector', NEW.name
            USING ERRCODE = 'check_violation', CONSTRAINT = 'assignment_target_is_one',
                  SCHEMA = 'headwater', TABLE = 'assignment',
                  DETAIL = format('It has %s.', CASE WHEN NEW.node IS NULL THEN 'neither'
                                                     ELSE 'both' END),
                  HINT = 'The selector ''{}'' means every node.';
    END IF;
    NEW.version := (SELECT rev FROM own_rev);
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE FUNCTION headwater.config_before_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    bytes bytea;
    -- Did the statement set the message? The trigger before_message marks an UPDATE that did.
    is_explicit boolean := TG_OP = 'INSERT' OR NEW.version IS NULL;
    is_content boolean := true;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.name <> OLD.name THEN
            PERFORM refuse_rename('config', OLD.name, NEW.name);
        END IF;
    END IF;
    IF NOT is_name(NEW.name) THEN
        PERFORM refuse_name('config', NEW.name);
    END IF;
    IF NOT is_media_type(NEW.media_type) THEN
        RAISE EXCEPTION 'config "%": media type "%" is not legal',
            NEW.name, left(NEW.media_type, 300)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'config_media_type_is_legal',
                  SCHEMA = 'headwater', TABLE = 'config', COLUMN = 'media_type',
                  DETAIL = 'A media type is type/subtype, then perhaps ;name=value, at most 255 '
                           'characters (RFC 6838).';
    END IF;
    IF NEW.encoding = 'base64' THEN
        BEGIN
            bytes := decode(NEW.content, 'base64');
        EXCEPTION WHEN data_exception THEN
            RAISE EXCEPTION 'config "%": content is not valid base64: %', NEW.name, SQLERRM
                USING ERRCODE = 'check_violation', CONSTRAINT = 'config_content_is_base64',
                      SCHEMA = 'headwater', TABLE = 'config', COLUMN = 'content',
                      HINT = 'The encoding is base64 (RFC 4648 section 4); text has utf-8.';
        END;
        NEW.content := translate(encode(bytes, 'base64'), E'\n', '');
    END IF;
    IF coalesce(length(bytes), octet_length(NEW.content)) > size_limit() THEN
        RAISE EXCEPTION 'config "%": content is % bytes; the limit is 16 MiB (% bytes)',
            NEW.name, coalesce(length(bytes), octet_length(NEW.content)), size_limit()
            USING ERRCODE = 'program_limit_exceeded', CONSTRAINT = 'config_size_limit',
                  SCHEMA = 'headwater', TABLE = 'config', COLUMN = 'content';
    END IF;

    IF TG_OP = 'UPDATE' THEN
        is_content := (NEW.content, NEW.encoding, NEW.media_type)
                      IS DISTINCT FROM (OLD.content, OLD.encoding, OLD.media_type);
        NEW.created_at := OLD.created_at;
        IF NEW.version = -1 THEN
            -- recompute(): the history has another content under this number.
            NEW.revision := 1 + greatest(OLD.revision, (SELECT max(r.revision)
                FROM config_revision AS r WHERE r.config = NEW.name));
            NEW.version := (SELECT rev FROM own_rev);
            RETURN NEW;
        END IF;
        NEW.revision := OLD.revision + is_content::int;
        IF NOT is_content AND (NEW.message, NEW.schema)
                IS NOT DISTINCT FROM (OLD.message, OLD.schema) THEN
            NEW.content := OLD.content;
            NEW.version := OLD.version;
            NEW.updated_at := OLD.updated_at;
            NEW.updated_by := OLD.updated_by;
            RETURN NEW;
        END IF;
    ELSE
        NEW.created_at := now();
        NEW.revision := 1 + coalesce(
            (SELECT max(r.revision) FROM config_revision AS r WHERE r.config = NEW.name), 0);
    END IF;
    -- The message of the previous revision does not describe this one.
    IF is_content AND (NOT is_explicit OR NEW.message = '') THEN
        NEW.message := coalesce(message(), '');
    END IF;
    NEW.version := (SELECT rev FROM own_rev);
    NEW.updated_at := now();
    NEW.updated_by := author();
    RETURN NEW;
END
$$;

-- Fires only for an UPDATE that sets message, and tells config_before_row() so by a null in
-- version. A writer cannot set version, so that column is free to carry the mark.
CREATE FUNCTION headwater.config_message_is_set() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    NEW.version := NULL;
    RETURN NEW;
END
$$;

CREATE FUNCTION headwater.config_before_schema() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF NEW.schema IS NULL OR (TG_OP = 'UPDATE' AND (NEW.schema, NEW.content, NEW.encoding,
            NEW.media_type) IS NOT DISTINCT FROM (OLD.schema, OLD.content, OLD.encoding,
            OLD.media_type)) THEN
        RETURN NEW;
    END IF;
    IF NOT is_json_type(NEW.media_type) THEN
        RAISE EXCEPTION 'config "%" has a schema, so it must be JSON, not %', NEW.name,
            NEW.media_type
            USING ERRCODE = 'check_violation', CONSTRAINT = 'config_schema_needs_json',
                  SCHEMA = 'headwater', TABLE = 'config',
                  HINT = 'Remove the schema first: a schema describes JSON alone.';
    END IF;
    IF TG_OP = 'INSERT' OR NEW.schema IS DISTINCT FROM OLD.schema THEN
        PERFORM check_schema(NEW.schema);
    END IF;
    -- This refuses what is not JSON at all.
    PERFORM kind_of(NEW.name, NEW.content, NEW.encoding, NEW.media_type);
    PERFORM check_content(NEW.name,
        convert_from(bytes_of(NEW.content, NEW.encoding), 'UTF8')::jsonb, NEW.schema);
    RETURN NEW;
END
$$;

-- Refuses what a CHECK constraint would refuse next, with a better message. The arguments are the
-- constraint, the column, what is wrong, and a hint.
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

-- ---- after: desired follows ---------------------------------------------------------------------

CREATE FUNCTION headwater.node_after() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
SET enable_nestloop = off
SET jit = off
AS $$
DECLARE
    nodes text[];
    is_change boolean;
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT array_agg(a.name), count(*) > 0 INTO nodes, is_change FROM after_rows AS a;
    ELSIF TG_OP = 'DELETE' THEN
        SELECT array_agg(b.name), count(*) > 0 INTO nodes, is_change FROM before_rows AS b;
        IF EXISTS (SELECT FROM reported AS r WHERE r.node = ANY (nodes)) THEN
            DELETE FROM reported AS r WHERE r.node = ANY (nodes);
        END IF;
    ELSE
        SELECT array_agg(a.name) FILTER (WHERE a.labels <> b.labels),
               coalesce(bool_or(a.labels <> b.labels OR a.description <> b.description), false)
        INTO nodes, is_change
        FROM after_rows AS a JOIN before_rows AS b USING (name);
    END IF;
    IF is_change THEN
        PERFORM log_change();
    END IF;
    IF nodes IS NOT NULL THEN
        PERFORM materialise(nodes);
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION headwater.assignment_after() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
SET enable_nestloop = off
SET jit = off
AS $$
DECLARE
    targets text[];
    selectors jsonb[];
    is_change boolean;
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT array_agg(a.node), array_agg(DISTINCT a.selector), count(*) > 0
        INTO targets, selectors, is_change
        FROM after_rows AS a;
    ELSIF TG_OP = 'DELETE' THEN
        SELECT array_agg(b.node), array_agg(DISTINCT b.selector), count(*) > 0
        INTO targets, selectors, is_change
        FROM before_rows AS b;
    ELSE
        SELECT array_agg(e.node), array_agg(DISTINCT e.selector), count(*) > 0
        INTO targets, selectors, is_change
        FROM after_rows AS a JOIN before_rows AS b USING (name)
        CROSS JOIN LATERAL (VALUES (a.node, a.selector), (b.node, b.selector)) AS e (node, selector)
        WHERE (a.config, a.node, a.selector, a.priority, a.revision)
            IS DISTINCT FROM (b.config, b.node, b.selector, b.priority, b.revision);
    END IF;
    IF is_change THEN
        PERFORM log_change();
        PERFORM materialise_targets(targets, selectors);
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION headwater.config_after() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
SET enable_nestloop = off
SET jit = off
AS $$
DECLARE
    configs text[]; -- those with a new revision, and those that were deleted
    targets text[];
    selectors jsonb[];
    is_change boolean;
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT array_agg(a.name), count(*) > 0 INTO configs, is_change FROM after_rows AS a;
    ELSIF TG_OP = 'DELETE' THEN
        SELECT array_agg(b.name), count(*) > 0 INTO configs, is_change FROM before_rows AS b;
    ELSE
        SELECT array_agg(a.name) FILTER (WHERE a.revision <> b.revision),
               coalesce(bool_or(a.revision <> b.revision OR a.message <> b.message), false)
        INTO configs, is_change
        FROM after_rows AS a JOIN before_rows AS b USING (name);
    END IF;
    IF is_change THEN
        PERFORM log_change();
    END IF;
    IF configs IS NULL THEN
        RETURN NULL;
    END IF;

    INSERT INTO config_revision
        (config, revision, content, encoding, media_type, kind, digest, size, message, author)
    SELECT c.name, c.revision, c.content, c.encoding, c.media_type,
           kind_of(c.name, c.content, c.encoding, c.media_type),
           digest_of(d.bytes), length(d.bytes), c.message, c.updated_by
    FROM config AS c CROSS JOIN LATERAL bytes_of(c.content, c.encoding) AS d (bytes)
    WHERE c.name = ANY (configs);

    SELECT array_agg(a.node), array_agg(DISTINCT a.selector) INTO targets, selectors
    FROM assignment AS a WHERE a.config = ANY (configs) AND a.revision IS NULL;
    PERFORM materialise_targets(targets, selectors);
    RETURN NULL;
END
$$;

-- A change of the schema alone makes no new revision of the config. But it makes a new version of
-- its row, and a version is a rev, so the changelog needs a row.
CREATE FUNCTION headwater.config_schema_after() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
SET enable_nestloop = off
AS $$
BEGIN
    IF EXISTS (SELECT FROM after_rows AS a JOIN before_rows AS b USING (name)
               WHERE a.schema IS DISTINCT FROM b.schema) THEN
        PERFORM log_change();
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION headwater.after_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    PERFORM materialise(NULL);
    RETURN NULL;
END
$$;

-- ---- after: foreign keys, in words --------------------------------------------------------------

-- PostgreSQL checks foreign keys right after these triggers. Its check is the one that counts,
-- since it takes the locks that exclude a concurrent DELETE; these only give the usual cases a
-- better message.
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

-- ---- the triggers -------------------------------------------------------------------------------

DO $$
DECLARE
    relation text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['node', 'config', 'assignment'] LOOP
        EXECUTE replace($sql$
            CREATE TRIGGER before_write BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
                ON headwater.% FOR EACH STATEMENT EXECUTE FUNCTION headwater.before_write();
            CREATE TRIGGER before_row BEFORE INSERT OR UPDATE
                ON headwater.% FOR EACH ROW EXECUTE FUNCTION headwater.%_before_row();
            CREATE TRIGGER after_insert AFTER INSERT
                ON headwater.% REFERENCING NEW TABLE AS after_rows
                FOR EACH STATEMENT EXECUTE FUNCTION headwater.%_after();
            CREATE TRIGGER after_update AFTER UPDATE
                ON headwater.% REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows
                FOR EACH STATEMENT EXECUTE FUNCTION headwater.%_after();
            CREATE TRIGGER after_delete AFTER DELETE
                ON headwater.% REFERENCING OLD TABLE AS before_rows
                FOR EACH STATEMENT EXECUTE FUNCTION headwater.%_after();
            CREATE TRIGGER after_truncate AFTER TRUNCATE
                ON headwater.% FOR EACH STATEMENT EXECUTE FUNCTION headwater.after_truncate();
            ALTER TABLE headwater.%
                ENABLE ALWAYS TRIGGER before_write, ENABLE ALWAYS TRIGGER before_row,
                ENABLE ALWAYS TRIGGER after_insert, ENABLE ALWAYS TRIGGER after_update,
                ENABLE ALWAYS TRIGGER after_delete, ENABLE ALWAYS TRIGGER after_truncate;
            $sql$, '%', relation);
    END LOOP;
END
$$;

-- By its name, this trigger fires before before_row, which reads the mark.
CREATE TRIGGER before_message BEFORE UPDATE OF message
    ON headwater.config FOR EACH ROW EXECUTE FUNCTION headwater.config_message_is_set();
ALTER TABLE headwater.config ENABLE ALWAYS TRIGGER before_message;

-- By its name, this trigger fires after before_row, which has put the content into its stored form.
CREATE TRIGGER before_schema BEFORE INSERT OR UPDATE
    ON headwater.config FOR EACH ROW EXECUTE FUNCTION headwater.config_before_schema();

CREATE TRIGGER after_update_schema AFTER UPDATE
    ON headwater.config REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headwater.config_schema_after();
ALTER TABLE headwater.config
    ENABLE ALWAYS TRIGGER before_schema, ENABLE ALWAYS TRIGGER after_update_schema;

-- PostgreSQL's own triggers for foreign keys are called RI_..., and these must fire before them, so
-- their names begin with a capital E. Like PostgreSQL's, they do not fire where
-- session_replication_role is replica.
CREATE TRIGGER "Explain_reference" AFTER INSERT OR UPDATE OF config, node, revision
    ON headwater.assignment FOR EACH ROW EXECUTE FUNCTION headwater.explain_reference();
CREATE TRIGGER "Explain_use" AFTER DELETE
    ON headwater.config FOR EACH ROW EXECUTE FUNCTION headwater.explain_use();

CREATE TRIGGER explain_labels BEFORE INSERT OR UPDATE ON headwater.node
    FOR EACH ROW WHEN (jsonb_typeof(NEW.labels) <> 'object')
    EXECUTE FUNCTION headwater.explain_check(
        'node_labels_is_object', 'labels', 'labels is not a JSON object',
        'An object such as ''{"site": "north"}''; without labels it is ''{}''.');
ALTER TABLE headwater.node ENABLE ALWAYS TRIGGER explain_labels;

CREATE TRIGGER explain_encoding BEFORE INSERT OR UPDATE ON headwater.config
    FOR EACH ROW WHEN (NEW.encoding NOT IN ('utf-8', 'base64'))
    EXECUTE FUNCTION headwater.explain_check(
        'config_encoding_is_known', 'encoding', 'encoding is neither utf-8 nor base64',
        'utf-8 is text as it is, which is what there is without the column; base64 is bytes.');
ALTER TABLE headwater.config ENABLE ALWAYS TRIGGER explain_encoding;

CREATE TRIGGER explain_selector BEFORE INSERT OR UPDATE ON headwater.assignment
    FOR EACH ROW WHEN (jsonb_typeof(NEW.selector) <> 'object')
    EXECUTE FUNCTION headwater.explain_check(
        'assignment_selector_is_object', 'selector', 'selector is not a JSON object',
        'An object such as ''{"site": "north"}''; ''{}'' is every node.');
ALTER TABLE headwater.assignment ENABLE ALWAYS TRIGGER explain_selector;

COMMIT;
