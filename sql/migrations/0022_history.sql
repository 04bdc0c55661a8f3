-- One history: what config says and what is kept of it agree; numbers are bounded when they are
-- written; the writers' lock is taken once a transaction, however many savepoints it has; columns that
-- somebody adds can be written; and a transaction that is prepared may leave out its notification.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (22, 'history');

-- ---- the writers' lock --------------------------------------------------------------------------

-- These name the transaction that holds the row's lock. A lock that is taken anew in every
-- subtransaction costs more each time; and where the one that took it is rolled back, this goes back
-- with it.
ALTER TABLE headwater.changelog_head ADD COLUMN locked_xid xid8, ADD COLUMN locked_at timestamptz;

CREATE OR REPLACE FUNCTION headwater.lock_head() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    hidden text;
BEGIN
    IF EXISTS (SELECT FROM changelog_head AS h
               WHERE h.locked_xid = pg_current_xact_id_if_assigned() AND h.locked_at = now()) THEN
        RETURN;
    END IF;
    UPDATE changelog_head SET locked_xid = pg_current_xact_id(), locked_at = now();
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the row of headwater.changelog_head is gone: no write can be ordered'
            USING ERRCODE = 'data_corrupted',
                  HINT = 'INSERT INTO headwater.changelog_head (rev) '
                         'SELECT coalesce(max(rev), 0) FROM headwater.changelog;';
    END IF;
    -- Documents are worked out from these tables by their owner, from whom row level security hides
    -- nothing unless it is forced.
    hidden := (SELECT r.relation FROM (VALUES
                   ('headwater.node'), ('headwater.config'), ('headwater.config_revision'),
                   ('headwater.assignment'), ('headwater.blob'), ('headwater.desired'),
                   ('headwater.desired_history'), ('headwater.changelog')) AS r (relation)
               WHERE row_security_active(r.relation) LIMIT 1);
    IF hidden IS NOT NULL THEN
        RAISE EXCEPTION 'row level security is forced on the owner of %: rows that are hidden would '
                        'be taken for rows that are not there', hidden
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY;', hidden);
    END IF;
END
$$;

-- ---- numbers ------------------------------------------------------------------------------------

-- A number keeps its value when documents merge, and is then written out in decimal digits: 1e131071
-- would be one with 131072 of them. Every number of IEEE 754 with 64 bits stays below this limit.
CREATE FUNCTION headwater.number_limit() RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 400;
COMMENT ON FUNCTION headwater.number_limit()
    IS 'How many characters a number in JSON has at most when it is written out';

-- The JSON Pointer to a number that is longer than that, or null.
CREATE FUNCTION headwater.long_number(document jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH RECURSIVE part (path, value) AS (
        SELECT '', document
        UNION ALL
        SELECT headwater.json_pointer(p.path, m.token), m.value
        FROM part AS p
        CROSS JOIN LATERAL (
            SELECT key AS token, e.value
            FROM jsonb_each(CASE jsonb_typeof(p.value) WHEN 'object' THEN p.value END) AS e
            UNION ALL
            SELECT (position - 1)::text, e.value
            FROM jsonb_array_elements(CASE jsonb_typeof(p.value) WHEN 'array' THEN p.value END)
                WITH ORDINALITY AS e (value, position)) AS m
        WHERE jsonb_typeof(p.value) IN ('object', 'array')
    )
    SELECT p.path FROM part AS p
    WHERE jsonb_typeof(p.value) = 'number' AND length(p.value::text) > headwater.number_limit()
    ORDER BY p.path COLLATE "C" LIMIT 1;
END;
COMMENT ON FUNCTION headwater.long_number(jsonb)
    IS 'The JSON Pointer to the first number that number_limit() does not allow; null: there is none';

CREATE FUNCTION headwater.refuse_number(kind text, name text, path text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% "%": the number at "%" has more than % characters when it is written out',
                    kind, name, path, number_limit()
        USING ERRCODE = 'check_violation', CONSTRAINT = kind || '_number_limit',
              SCHEMA = 'headwater', TABLE = kind, COLUMN = path,
              DETAIL = 'The path is a JSON Pointer (RFC 6901). When documents merge, numbers are '
                       'written out: 1e400 is one of 401 digits.',
              HINT = 'Every number of 64 bits (IEEE 754) fits; a longer one can be a string.';
END
$$;

-- Refuses numbers that are too long, and content that is too large once its numbers are written out.
-- A number can only be longer than its text where an exponent has two digits or more, and only be too
-- long where it has three, or where many digits stand in a row. So most contents are not taken apart.
CREATE FUNCTION headwater.check_numbers(config text, content text, document jsonb) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    path text;
    size bigint := octet_length(content);
BEGIN
    IF content ~ '[0-9][eE][-+]?[0-9]{3}'
            OR strpos(translate(content, '123456789', '000000000'), repeat('0', 150)) > 0 THEN
        path := long_number(document);
        IF path IS NOT NULL THEN
            PERFORM refuse_number('config', config, path);
        END IF;
    END IF;
    -- At worst, 1e399 is 80 times longer. What looks like an exponent may be part of a string, so the
    -- numbers are looked at where that could be too much.
    IF size > size_limit() / 80 AND size_limit() < size + (
            SELECT coalesce(sum(CASE length(e.digits[1]) WHEN 2 THEN e.digits[1]::int
                                                         ELSE number_limit() END), 0)
            FROM regexp_matches(content, '[0-9][eE][-+]?([0-9]{2,})', 'g') AS e (digits)) THEN
        size := size + (SELECT coalesce(sum(length(n.value::text)), 0)
                        FROM jsonb_path_query(document, 'strict $.** ? (@.type() == "number")')
                            AS n (value));
        IF size > size_limit() THEN
            RAISE EXCEPTION 'config "%": content is about % bytes when its numbers are written out; '
                            'the limit is 16 MiB (% bytes)', config, size, size_limit()
                USING ERRCODE = 'check_violation', CONSTRAINT = 'config_size_limit',
                      SCHEMA = 'headwater', TABLE = 'config', COLUMN = 'content';
        END IF;
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION headwater.kind_of(config text, content text, encoding text, media_type text)
RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    document jsonb;
    what text;
    detail text;
    context text;
BEGIN
    IF NOT is_json_type(media_type) THEN
        RETURN 'opaque';
    END IF;
    content := convert_from(bytes_of(content, encoding), 'UTF8');
    document := content;
    PERFORM check_numbers(config, content, document);
    RETURN CASE jsonb_typeof(document) WHEN 'object' THEN 'object' ELSE 'value' END;
EXCEPTION WHEN data_exception OR program_limit_exceeded OR statement_too_complex THEN
    GET STACKED DIAGNOSTICS what = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
                            context = PG_EXCEPTION_CONTEXT;
    RAISE EXCEPTION 'config "%": content is not valid JSON: %', config, what
        USING ERRCODE = 'check_violation', CONSTRAINT = 'config_content_is_json',
              SCHEMA = 'headwater', TABLE = 'config', COLUMN = 'content',
              DETAIL = concat_ws(' ', nullif(detail, ''),
                                 substring(context from 'JSON data, line[^\n]*')),
              HINT = format('The media type is %s; other types take any content.', media_type);
END
$$;

-- ---- notifications ------------------------------------------------------------------------------

-- LISTEN and PREPARE TRANSACTION exclude each other: PostgreSQL prepares no transaction that has sent
-- a notification. Who prepares says SET LOCAL headwater.notify = 'off'; those who listen then find
-- out a little later, when they look by themselves.
CREATE FUNCTION headwater.notify(channel text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF current_setting('headwater.notify', true) IS DISTINCT FROM 'off' THEN
        PERFORM pg_notify(channel, '');
    END IF;
END
$$;
COMMENT ON FUNCTION headwater.notify(text)
    IS 'Wakes those who LISTEN, save in a transaction that SET LOCAL headwater.notify = off';

CREATE OR REPLACE FUNCTION headwater.notify_desired() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM after_rows) THEN
        PERFORM notify('headwater_desired');
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION headwater.notify_reported() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    PERFORM notify('headwater_reported');
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION headwater.notify_token() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    PERFORM notify('headwater_token');
    RETURN NULL;
END
$$;

-- ---- rows ---------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION headwater.node_before_row() RETURNS trigger
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

CREATE OR REPLACE FUNCTION headwater.assignment_before_row() RETURNS trigger
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

CREATE OR REPLACE FUNCTION headwater.config_before_row() RETURNS trigger
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

-- ---- the history follows ------------------------------------------------------------------------

-- Is a revision that the history lacks only about to come? That is so within the statement
-- that changes the config, until config_after() has run. Any other is refused: what it gives to nodes
-- must not be left out for want of a row.
CREATE FUNCTION headwater.is_coming(config text, revision int, version bigint, xmin xid)
RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM changelog_head AS h
               WHERE is_coming.version = h.rev + CASE
                         WHEN h.xid = pg_current_xact_id_if_assigned() AND h.at = now() THEN 0
                         ELSE 1 END
                 AND age(is_coming.xmin) <= age(pg_current_xact_id_if_assigned()::xid)) THEN
        RETURN false;
    END IF;
    RAISE EXCEPTION 'config "%" has revision %, and headwater.config_revision does not have it',
                    config, revision
        USING ERRCODE = 'data_corrupted', CONSTRAINT = 'config_revision_exists',
              SCHEMA = 'headwater', TABLE = 'config_revision',
              DETAIL = 'Somebody wrote past the triggers: by a subscription, or while they were '
                       'disabled.',
              HINT = 'SELECT headwater.recompute(); makes the history follow what config says.';
END
$$;
COMMENT ON FUNCTION headwater.is_coming(text, int, bigint, xid)
    IS 'Refuses a revision that the history lacks; false where it is about to get it';

CREATE OR REPLACE FUNCTION headwater.candidates(scope text[])
RETURNS TABLE (name text, node text, selector jsonb, priority int, config text, revision int,
               kind text)
LANGUAGE plpgsql STABLE ROWS 100
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    IF scope IS NULL THEN
        RETURN QUERY
            SELECT a.name, a.node, a.selector, a.priority, a.config, r.revision, r.kind
            FROM assignment AS a
            JOIN config AS c ON c.name = a.config
            LEFT JOIN config_revision AS r
                ON r.config = a.config AND r.revision = coalesce(a.revision, c.revision)
            WHERE r.config IS NOT NULL
               OR is_coming(a.config, coalesce(a.revision, c.revision), c.version, c.xmin);
    ELSE
        RETURN QUERY
            SELECT a.name, a.node, a.selector, a.priority, a.config, r.revision, r.kind
            FROM (SELECT e.* FROM assignment AS e WHERE e.selector IS NOT NULL
                  UNION ALL
                  SELECT e.* FROM unnest(scope) AS s (node) JOIN assignment AS e USING (node)) AS a
            JOIN config AS c ON c.name = a.config
            LEFT JOIN config_revision AS r
                ON r.config = a.config AND r.revision = coalesce(a.revision, c.revision)
            WHERE r.config IS NOT NULL
               OR is_coming(a.config, coalesce(a.revision, c.revision), c.version, c.xmin);
    END IF;
END
$$;

-- Where the tables that operators write and what is kept of them disagree, because somebody wrote
-- past the triggers. There should be nothing.
CREATE FUNCTION headwater.history_drift() RETURNS TABLE (relation text, name text, problem text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
    SELECT 'config', c.name, CASE WHEN r.config IS NULL
               THEN format('config_revision does not have its revision %s', c.revision)
               ELSE format('config_revision has another content for its revision %s', c.revision)
               END
    FROM config AS c
    LEFT JOIN config_revision AS r ON r.config = c.name AND r.revision = c.revision
    WHERE (r.content, r.encoding, r.media_type)
        IS DISTINCT FROM (c.content, c.encoding, c.media_type)
    UNION ALL
    SELECT 'desired', coalesce(d.node, h.node), CASE
               WHEN d.node IS NULL THEN 'it has no row, and desired_history gives it one'
               ELSE 'desired_history has another revision or digest as its newest' END
    FROM desired AS d
    FULL JOIN (SELECT DISTINCT ON (l.node) l.node, l.revision, l.digest
               FROM desired_history AS l ORDER BY l.node, l.id DESC) AS h ON h.node = d.node
    WHERE (d.revision, d.digest) IS DISTINCT FROM (h.revision, h.digest)
      AND num_nonnulls(d.digest, h.digest) > 0
$$;
COMMENT ON FUNCTION headwater.history_drift()
    IS 'Where config, desired and their histories disagree; none when all is right';

-- For repairs: makes the history follow what config says, and works out all nodes anew. It takes no
-- document away because a row of the history is missing, and changes nothing where all is right.
CREATE OR REPLACE FUNCTION headwater.recompute() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    wrong bigint;
    missing bigint;
BEGIN
    PERFORM lock_head();
    INSERT INTO config_revision
        (config, revision, content, encoding, media_type, kind, digest, size, message, author)
    SELECT c.name, c.revision, c.content, c.encoding, c.media_type,
           kind_of(c.name, c.content, c.encoding, c.media_type),
           digest_of(d.bytes), length(d.bytes), c.message, c.updated_by
    FROM config AS c CROSS JOIN LATERAL bytes_of(c.content, c.encoding) AS d (bytes)
    WHERE NOT EXISTS (SELECT FROM config_revision AS r
                      WHERE r.config = c.name AND r.revision = c.revision);
    GET DIAGNOSTICS missing = ROW_COUNT;
    IF missing > 0 THEN
        PERFORM log_change();
    END IF;
    -- A row that is there stays, so that config gets the next number.
    UPDATE config AS c SET version = -1
    FROM config_revision AS r
    WHERE r.config = c.name AND r.revision = c.revision
      AND (r.content, r.encoding, r.media_type)
          IS DISTINCT FROM (c.content, c.encoding, c.media_type);
    GET DIAGNOSTICS wrong = ROW_COUNT;
    RETURN missing + wrong + materialise(NULL);
END
$$;
COMMENT ON FUNCTION headwater.recompute()
    IS 'Makes history and desired follow node, config and assignment; how many rows were wrong';

GRANT EXECUTE ON FUNCTION headwater.number_limit(), headwater.notify(text) TO PUBLIC;
GRANT EXECUTE ON FUNCTION
    headwater.long_number(jsonb), headwater.is_coming(text, int, bigint, xid), headwater.history_drift()
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;

COMMIT;
