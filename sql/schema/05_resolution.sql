-- From assignments to documents.
--
-- Resolution finds the sources of each node: the revisions of configs that its assignments give to
-- it, in the order of priority. document() merges sources into one document. Materialisation writes
-- the result to desired, within the transaction that changed a node, a config or an assignment, so
-- that desired is right before that transaction commits.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (5, 'resolution');

-- ---- resolution ---------------------------------------------------------------------------------

-- The argument scope is a set of nodes: an array of names, or null for all nodes. The planner needs
-- different plans for some nodes and for all of them. Therefore functions such as candidates() have
-- one statement for each of the two.

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

-- The assignments that may reach a node of the set: those that name it, and all with a selector.
CREATE FUNCTION headwater.candidates(scope text[])
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
COMMENT ON FUNCTION headwater.candidates(text[])
    IS 'The assignments that may reach one of these nodes; null: any node';

-- Returns each distinct combination of sources that nodes of the set have, with those nodes. A
-- fleet of 100,000 nodes usually has few combinations, and a document is then merged once for each
-- of them and not once for each node. Sources come in the order of merging: the lowest priority
-- first, and by the name of the assignment where priorities are equal. Content that is not a JSON
-- object replaces everything before it, and so does content that follows something that is not
-- JSON. What is replaced has no part in the document, so it is not listed. A node without a source
-- is left out.
CREATE FUNCTION headwater.resolve(scope text[]) RETURNS TABLE (sources jsonb, nodes text[])
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH scoped AS MATERIALIZED (
        SELECT n.name, n.labels FROM unnest(scope) AS s (name) JOIN headwater.node AS n USING (name)
    ), candidate AS MATERIALIZED (
        SELECT a.*, row_number() OVER (ORDER BY a.priority, a.name COLLATE "C")::int AS rank
        FROM headwater.candidates(scope) AS a
    ), matched AS (
        SELECT s.name AS node, c.rank FROM candidate AS c JOIN scoped AS s ON s.name = c.node
        UNION ALL
        SELECT n.name, c.rank FROM candidate AS c JOIN headwater.node AS n ON n.name = c.node
        WHERE scope IS NULL
        UNION ALL
        -- For a set, each selector is tried on its nodes. For all nodes, the index on labels finds
        -- the nodes of each selector.
        SELECT s.name, c.rank FROM candidate AS c JOIN scoped AS s ON s.labels @> c.selector
        WHERE c.selector IS NOT NULL
        UNION ALL
        SELECT n.name, c.rank FROM candidate AS c JOIN headwater.node AS n ON n.labels @> c.selector
        WHERE scope IS NULL
    ), combination AS MATERIALIZED (
        SELECT d.ranks, array_agg(d.node) AS nodes
        FROM (SELECT m.node, array_agg(m.rank ORDER BY m.rank) AS ranks
              FROM matched AS m GROUP BY m.node) AS d
        GROUP BY d.ranks
    ), link AS (
        SELECT k.ranks, c.*,
               c.kind = 'opaque' AND lead(c.kind) OVER later IS NOT NULL
               OR coalesce(bool_or(c.kind <> 'object') OVER later, false) AS is_replaced
        FROM combination AS k
        CROSS JOIN unnest(k.ranks) AS element (rank)
        JOIN candidate AS c USING (rank)
        WINDOW later AS (PARTITION BY k.ranks ORDER BY c.rank
                         ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)
    )
    SELECT s.sources, k.nodes
    FROM (SELECT l.ranks,
                 jsonb_agg(jsonb_build_object('config', l.config, 'revision', l.revision,
                                              'assignment', l.name) ORDER BY l.rank) AS sources
          FROM link AS l WHERE NOT l.is_replaced GROUP BY l.ranks) AS s
    JOIN combination AS k USING (ranks);
END;
COMMENT ON FUNCTION headwater.resolve(text[])
    IS 'Computes which combinations of sources these nodes have; null: all nodes';

-- The document that sources make. Revisions never change, so the same sources always give the same
-- bytes. A single source gives its own bytes, untouched. Several are merged, and the result is the
-- text form of jsonb.
CREATE FUNCTION headwater.document(sources jsonb, OUT media_type text, OUT encoding text,
                                   OUT content text, OUT digest text, OUT size int)
LANGUAGE plpgsql STABLE STRICT
SET search_path = pg_catalog, headwater, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    source jsonb;
    revision config_revision;
    patch jsonb;
    merged jsonb;
BEGIN
    FOR source IN SELECT * FROM jsonb_array_elements(sources) LOOP
        SELECT r.* INTO STRICT revision FROM config_revision AS r
        WHERE r.config = source ->> 'config' AND r.revision = (source ->> 'revision')::int;
        media_type := revision.media_type;
        IF jsonb_array_length(sources) = 1 THEN
            encoding := revision.encoding;
            content := revision.content;
            digest := revision.digest;
            size := revision.size;
            RETURN;
        END IF;
        patch := convert_from(bytes_of(revision.content, revision.encoding), 'UTF8');
        merged := CASE WHEN merged IS NULL THEN patch ELSE merge_patch(merged, patch) END;
    END LOOP;
    content := merged::text;
    encoding := 'utf-8';
    size := octet_length(content);
    IF size > size_limit() THEN
        RAISE EXCEPTION
            'the merged document of % sources is % bytes; the limit is 16 MiB (% bytes)',
            jsonb_array_length(sources), size, size_limit()
            USING ERRCODE = 'program_limit_exceeded', CONSTRAINT = 'desired_size_limit',
                  TABLE = 'desired', SCHEMA = 'headwater', DETAIL = format('Sources: %s', sources);
    END IF;
    digest := digest_of(convert_to(content, 'UTF8'));
END
$$;
COMMENT ON FUNCTION headwater.document(jsonb)
    IS 'The document that sources make when they are merged';

-- ---- the writers' lock and the log of changes ---------------------------------------------------

-- All transactions that change configuration take turns. Each of them locks the one row of
-- changelog_head before anything else, and holds it to its end. Two writers can therefore never
-- work out a node's document from configuration that the other one is changing, they cannot
-- deadlock with each other, and the numbers in changelog.rev have the order of the commits. Under
-- READ COMMITTED the next writer waits, and then sees everything that this one wrote. Under
-- REPEATABLE READ it gets a serialization failure, and its client has to try again.
-- A transaction takes the lock once, and leaves its name in the row (locked_xid, locked_at): a lock
-- that is taken anew in every subtransaction costs more each time. Where the subtransaction that took
-- it is rolled back, the name goes back with the lock.
CREATE FUNCTION headwater.lock_head() RETURNS void
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

-- The rev of this transaction: the one that it took, or the one that it will take once it changes
-- something. The answer is right only while the transaction holds the lock.
CREATE VIEW headwater.own_rev AS
SELECT CASE WHEN h.xid = pg_current_xact_id() AND h.at = now() THEN h.rev ELSE h.rev + 1 END AS rev
FROM headwater.changelog_head AS h;

-- The author of a change is the session's user. Only headwater_api may name somebody else, because
-- it writes on behalf of the people who use it.
CREATE FUNCTION headwater.author() RETURNS text
LANGUAGE sql STABLE
RETURN coalesce(
    CASE WHEN pg_has_role(session_user, 'headwater_api', 'MEMBER') THEN
        nullif(left(current_setting('headwater.author', true), 256), '') END,
    session_user);

CREATE FUNCTION headwater.message() RETURNS text
LANGUAGE sql STABLE
RETURN nullif(left(current_setting('headwater.message', true), 4096), '');

-- To be called whenever something really changes. The first call of a transaction takes a rev and
-- writes the row of changelog; later ones do nothing.
CREATE FUNCTION headwater.log_change() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    own bigint := (SELECT rev FROM own_rev);
BEGIN
    UPDATE changelog_head SET rev = own, xid = pg_current_xact_id(), at = now() WHERE rev < own;
    IF FOUND THEN
        INSERT INTO changelog (rev, xid, author, application_name, at, message)
        VALUES (own, pg_current_xact_id(), author(), current_setting('application_name'), now(),
                message());
    END IF;
END
$$;

-- ---- materialisation ----------------------------------------------------------------------------

-- The rows of desired of the set of nodes, and the place of each, by which they are updated.
CREATE FUNCTION headwater.desired_of(scope text[])
RETURNS TABLE (place tid, node text, revision bigint, digest text, size int, media_type text,
               sources jsonb)
LANGUAGE plpgsql STABLE ROWS 100
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF scope IS NULL THEN
        RETURN QUERY
            SELECT d.ctid, d.node, d.revision, d.digest, d.size, d.media_type, d.sources
            FROM desired AS d;
    ELSE
        RETURN QUERY
            SELECT d.ctid, d.node, d.revision, d.digest, d.size, d.media_type, d.sources
            FROM unnest(scope) AS s (node) JOIN desired AS d USING (node);
    END IF;
END
$$;

-- One document, what it is made of, and the nodes that should run it.
CREATE TYPE headwater.outcome AS (
    sources    jsonb,
    nodes      text[],
    digest     text,
    media_type text,
    size       int
);

-- Brings desired up to date for the set of nodes, and returns how many rows changed. The caller
-- holds the writers' lock. It works in two statements: the first makes the documents, one for each
-- combination of sources, and stores those that are new in blob; the second compares the outcome
-- with desired and writes only the rows that differ, with a row of desired_history for each.
CREATE FUNCTION headwater.materialise(scope text[]) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
SET plan_cache_mode = auto
SET work_mem = '64MB'
SET jit = off
SET enable_nestloop = on
AS $$
DECLARE
    own bigint := (SELECT rev FROM own_rev);
    at timestamptz := clock_timestamp();
    lsn pg_lsn := pg_current_wal_insert_lsn();
    outcomes outcome[];
    changes bigint;
BEGIN
    -- Above about a quarter of the fleet, working out all nodes costs less than working out so
    -- many.
    IF cardinality(scope) > 1000 AND cardinality(scope) > (SELECT count(*) FROM node) / 4 THEN
        scope := NULL;
    END IF;
    -- For few nodes, the session's cached plan is good enough, and a new one would cost more than
    -- it saves. For many nodes, a plan that knows the present size of the tables is worth its cost.
    -- The setting is undone when the function returns.
    PERFORM set_config('plan_cache_mode', CASE WHEN cardinality(scope) <= 100
                       THEN 'force_generic_plan' ELSE 'force_custom_plan' END, true);

    WITH made AS MATERIALIZED (
        SELECT r.sources, r.nodes, d.* FROM resolve(scope) AS r CROSS JOIN document(r.sources) AS d
    ), stored AS (
        INSERT INTO blob (digest, encoding, content, size)
        SELECT DISTINCT ON (m.digest) m.digest, m.encoding, m.content, m.size FROM made AS m
        ON CONFLICT DO NOTHING
    )
    SELECT array_agg(ROW (m.sources, m.nodes, m.digest, m.media_type, m.size)::outcome)
    INTO outcomes
    FROM made AS m;

    WITH changed AS MATERIALIZED (
        SELECT coalesce(w.node, d.node) AS node, w.sources, w.digest, w.media_type, w.size,
               d.place, d.node IS NULL AS is_new, w.node IS NULL AS is_gone,
               (w.digest, w.media_type) IS DISTINCT FROM (d.digest, d.media_type) AS is_revision,
               CASE WHEN w.node IS NULL THEN d.revision
                    WHEN d.node IS NULL THEN 1 + coalesce(
                        (SELECT h.revision FROM desired_history AS h
                         WHERE h.node = w.node ORDER BY h.id DESC LIMIT 1), 0)
                    WHEN (w.digest, w.media_type) = (d.digest, d.media_type) THEN d.revision
                    ELSE d.revision + 1 END AS revision
        FROM (SELECT n.node, o.sources, o.digest, o.media_type, o.size
              FROM unnest(outcomes) AS o CROSS JOIN unnest(o.nodes) AS n (node)) AS w
        FULL JOIN desired_of(scope) AS d ON d.node = w.node
        WHERE (w.digest, w.media_type, w.size, w.sources)
            IS DISTINCT FROM (d.digest, d.media_type, d.size, d.sources)
        ORDER BY node -- as the indexes are, so that each of their pages is visited once
    ), removed AS (
        DELETE FROM desired AS d USING changed AS c WHERE c.is_gone AND d.ctid = c.place
    ), updated AS (
        -- This sets all columns, changed or not, so that the stream never lacks one.
        UPDATE desired AS d
        SET revision = c.revision, digest = c.digest, size = c.size, media_type = c.media_type,
            sources = c.sources,
            changed_at = CASE WHEN c.is_revision THEN at ELSE d.changed_at END,
            wal_lsn = CASE WHEN c.is_revision THEN lsn ELSE d.wal_lsn END
        FROM changed AS c WHERE NOT c.is_new AND NOT c.is_gone AND d.ctid = c.place
    ), inserted AS (
        INSERT INTO desired (node, revision, digest, size, media_type, sources, changed_at, wal_lsn)
        SELECT c.node, c.revision, c.digest, c.size, c.media_type, c.sources, at, lsn
        FROM changed AS c WHERE c.is_new
    )
    INSERT INTO desired_history
        (node, revision, digest, media_type, size, sources, rev, changed_at, wal_lsn)
    SELECT c.node, c.revision, c.digest, c.media_type, c.size, coalesce(c.sources, '[]'), own, at,
           lsn
    FROM changed AS c;
    GET DIAGNOSTICS changes = ROW_COUNT;
    IF changes > 0 THEN
        PERFORM log_change();
    END IF;
    RETURN changes;
END
$$;

-- Brings desired up to date for the nodes that assignments with these targets and selectors reach.
CREATE FUNCTION headwater.materialise_targets(targets text[], selectors jsonb[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
SET enable_nestloop = on
AS $$
BEGIN
    IF '{}' = ANY (selectors) THEN
        PERFORM materialise(NULL);
    ELSE
        targets := ARRAY(
            SELECT t.name FROM unnest(targets) AS t (name) WHERE t.name IS NOT NULL
            UNION
            SELECT n.name FROM unnest(selectors) AS s (selector)
            JOIN node AS n ON n.labels @> s.selector);
        IF targets <> '{}' THEN
            PERFORM materialise(targets);
        END IF;
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
CREATE FUNCTION headwater.recompute() RETURNS bigint
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

-- Lists the nodes whose row of desired differs from what a computation from scratch gives, or whose
-- document is missing in blob. There should be none.
CREATE FUNCTION headwater.desired_drift()
RETURNS TABLE (node text, digest text, right_digest text, sources jsonb, right_sources jsonb,
               has_blob boolean)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH wanted AS (
        SELECT n.node, r.sources, m.digest, m.media_type, m.size
        FROM headwater.resolve(NULL) AS r
        CROSS JOIN headwater.document(r.sources) AS m
        CROSS JOIN unnest(r.nodes) AS n (node)
    )
    SELECT coalesce(w.node, d.node), d.digest, w.digest, d.sources, w.sources, b.digest IS NOT NULL
    FROM wanted AS w
    FULL JOIN headwater.desired AS d ON d.node = w.node
    LEFT JOIN headwater.blob AS b ON b.digest = d.digest
    WHERE (w.digest, w.media_type, w.size, w.sources)
        IS DISTINCT FROM (d.digest, d.media_type, d.size, d.sources)
       OR b.digest IS NULL;
END;
COMMENT ON FUNCTION headwater.desired_drift()
    IS 'Rows of desired that a computation from scratch would change; none when all is right';

-- ---- where a document comes from ----------------------------------------------------------------

-- The sources of a node's document, lowest priority first. The column tie says that another
-- assignment which reaches the node has the same priority, so that the names decided their order.
CREATE FUNCTION headwater.explain_sources(node text)
RETURNS TABLE (rank int, assignment text, config text, revision int, priority int, tie boolean)
LANGUAGE sql STABLE ROWS 10
SET search_path = pg_catalog, headwater, pg_temp
AS $$
    SELECT s.rank::int, a.name, s.source ->> 'config', (s.source ->> 'revision')::int, a.priority,
           EXISTS (SELECT FROM candidates(ARRAY[d.node]) AS o
                   JOIN node AS n ON n.name = d.node
                   WHERE (o.node = n.name OR n.labels @> o.selector)
                     AND o.priority = a.priority AND o.name <> a.name)
    FROM desired AS d
    CROSS JOIN jsonb_array_elements(d.sources) WITH ORDINALITY AS s (source, rank)
    JOIN assignment AS a ON a.name = s.source ->> 'assignment'
    WHERE d.node = explain_sources.node
    ORDER BY s.rank
$$;
COMMENT ON FUNCTION headwater.explain_sources(text)
    IS 'What a node''s document is made of, in the order of merging, and where a name decided it';

-- Lists each path of the document (a JSON Pointer, RFC 6901) with the last source that decided
-- about it; for an object, that is the last source which named it. The column deleted says that the
-- path is not in the document, because this source removed what earlier ones had put there. A
-- document that is not a JSON object has one path, ''.
CREATE FUNCTION headwater.explain(node text)
RETURNS TABLE (path text, assignment text, config text, revision int, deleted boolean)
LANGUAGE sql STABLE ROWS 100
SET search_path = pg_catalog, headwater, pg_temp
AS $$
    WITH RECURSIVE source AS MATERIALIZED (
        SELECT s.*,
               CASE WHEN r.kind = 'opaque' THEN '""'
                    ELSE convert_from(bytes_of(r.content, r.encoding), 'UTF8')::jsonb END AS content
        FROM explain_sources(explain.node) AS s
        JOIN config_revision AS r ON r.config = s.config AND r.revision = s.revision
    ), member AS (
        SELECT s.rank, NULL::text AS parent, '' AS path, s.content AS value FROM source AS s
        UNION ALL
        SELECT m.rank, m.path,
               m.path || '/' || replace(replace(e.key, '~', '~0'), '/', '~1'), e.value
        FROM member AS m
        CROSS JOIN LATERAL jsonb_each(CASE jsonb_typeof(m.value)
                                      WHEN 'object' THEN m.value ELSE '{}' END) AS e
    ), said AS (
        -- The first document is taken as it is. In the ones merged over it, null removes a member.
        SELECT m.*, m.rank > 1 AND m.value = 'null' AS is_removal,
               jsonb_typeof(m.value) = 'object' AS is_object
        FROM member AS m
    ), place AS MATERIALIZED (
        SELECT s.parent, s.path, max(s.rank) AS last,
               coalesce(max(s.rank) FILTER (WHERE NOT s.is_object), 0) AS last_replaced,
               coalesce(max(s.rank) FILTER (WHERE s.is_removal), 0) AS last_removed,
               coalesce(max(s.rank) FILTER (WHERE NOT s.is_removal), 0) AS last_set
        FROM said AS s GROUP BY s.parent, s.path
    ), standing AS (
        -- When a parent is replaced, everything that earlier sources said of its members is void.
        SELECT p.*, 0 AS void FROM place AS p WHERE p.parent IS NULL
        UNION ALL
        SELECT p.*, greatest(s.void, s.last_replaced)
        FROM standing AS s JOIN place AS p ON p.parent = s.path
        WHERE p.last > greatest(s.void, s.last_replaced)
    )
    SELECT p.path, s.assignment, s.config, s.revision, p.last_removed = p.last
    FROM standing AS p JOIN source AS s ON s.rank = p.last
    WHERE (p.last_removed < p.last OR p.last_set > p.void)
      AND (p.parent IS NOT NULL OR p.last_replaced = p.last)
    ORDER BY p.path COLLATE "C"
$$;
COMMENT ON FUNCTION headwater.explain(text)
    IS 'Which source each path of a node''s document is from, and which were removed by whom';

GRANT EXECUTE ON FUNCTION
    headwater.candidates(text[]), headwater.resolve(text[]), headwater.document(jsonb),
    headwater.is_coming(text, int, bigint, xid), headwater.history_drift(),
    headwater.desired_drift(), headwater.explain_sources(text), headwater.explain(text)
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION headwater.recompute() TO headwater_dba;

COMMIT;
