-- From assignments to documents: which sources a node has, what they make, and how desired follows.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (4, 'resolution');

-- The sources of each of the nodes (null: of all), lowest priority first, equal ones by the name of
-- the assignment. Sources are listed from the last one on that replaces all before it: what is not
-- a JSON object, or follows something that is not JSON. Nodes without a source have no row.
CREATE FUNCTION headwater.resolve(nodes text[]) RETURNS TABLE (node text, sources jsonb)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH candidate AS MATERIALIZED (
        SELECT a.name, a.node, a.selector, r.config, r.revision, r.kind,
               row_number() OVER (ORDER BY a.priority, a.name)::int AS rank
        FROM headwater.assignment AS a
        JOIN headwater.config AS c ON c.name = a.config
        JOIN headwater.config_revision AS r
            ON r.config = a.config AND r.revision = coalesce(a.revision, c.revision)
        WHERE a.selector IS NOT NULL OR nodes IS NULL OR a.node = ANY (nodes)
    ), matched AS (
        SELECT n.name AS node, c.rank
        FROM candidate AS c JOIN headwater.node AS n ON n.name = c.node
        WHERE nodes IS NULL OR n.name = ANY (nodes)
        UNION ALL
        SELECT n.name, c.rank
        FROM candidate AS c JOIN headwater.node AS n ON n.labels @> c.selector
        WHERE nodes IS NULL OR n.name = ANY (nodes)
    ), combined AS MATERIALIZED (
        SELECT m.node, array_agg(m.rank ORDER BY m.rank) AS ranks FROM matched AS m GROUP BY m.node
    ), link AS (
        SELECT k.ranks, c.*,
               c.kind = 'opaque' AND lead(c.kind) OVER later IS NOT NULL
               OR coalesce(bool_or(c.kind <> 'object') OVER later, false) AS is_replaced
        FROM (SELECT DISTINCT d.ranks FROM combined AS d) AS k
        CROSS JOIN unnest(k.ranks) AS element (rank)
        JOIN candidate AS c USING (rank)
        WINDOW later AS (PARTITION BY k.ranks ORDER BY c.rank
                         ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)
    ), combination AS (
        SELECT l.ranks,
               jsonb_agg(jsonb_build_object('config', l.config, 'revision', l.revision,
                                            'assignment', l.name) ORDER BY l.rank) AS sources
        FROM link AS l WHERE NOT l.is_replaced GROUP BY l.ranks
    )
    SELECT d.node, k.sources FROM combined AS d JOIN combination AS k USING (ranks);
END;

-- The document that sources make. Revisions never change: the same sources give the same bytes for
-- ever. A single source is its bytes untouched; several are merged into jsonb's text.
CREATE FUNCTION headwater.document(sources jsonb, OUT media_type text, OUT encoding text,
                                   OUT content text, OUT digest text, OUT size int)
LANGUAGE plpgsql STABLE STRICT
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    last jsonb := sources -> -1;
BEGIN
    IF jsonb_array_length(sources) = 1 THEN
        SELECT r.media_type, r.encoding, r.content, r.digest, r.size
        INTO STRICT media_type, encoding, content, digest, size
        FROM config_revision AS r
        WHERE r.config = last ->> 'config' AND r.revision = (last ->> 'revision')::int;
        RETURN;
    END IF;

    SELECT merge_patches(convert_from(bytes_of(r.content, r.encoding), 'UTF8')::jsonb
                         ORDER BY s.position)::text,
           (array_agg(r.media_type ORDER BY s.position DESC))[1]
    INTO STRICT content, media_type
    FROM jsonb_array_elements(sources) WITH ORDINALITY AS s (source, position)
    JOIN config_revision AS r
        ON r.config = s.source ->> 'config' AND r.revision = (s.source ->> 'revision')::int;
    encoding := 'utf-8';
    size := octet_length(content);
    IF size > size_limit() THEN
        RAISE EXCEPTION 'the merged document of % sources is % bytes; the limit is 16 MiB (% bytes)',
            jsonb_array_length(sources), size, size_limit()
            USING ERRCODE = 'program_limit_exceeded', CONSTRAINT = 'desired_size_limit',
                  TABLE = 'desired', SCHEMA = 'headwater', DETAIL = format('Sources: %s', sources);
    END IF;
    digest := digest_of(convert_to(content, 'UTF8'));
END
$$;

-- ---- the log of changes -------------------------------------------------------------------------

-- Every writer comes through here first. Under READ COMMITTED the next writer waits and then sees
-- all of this one's rows; under REPEATABLE READ it gets a serialization failure and tries again.
CREATE FUNCTION headwater.lock_head() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    PERFORM FROM changelog_head FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the row of headwater.changelog_head is gone: no write can be ordered'
            USING ERRCODE = 'data_corrupted',
                  HINT = 'INSERT INTO headwater.changelog_head (rev) '
                         'SELECT coalesce(max(rev), 0) FROM headwater.changelog;';
    END IF;
END
$$;

-- The rev that this transaction has, or will have once it changes something. Needs the lock.
CREATE FUNCTION headwater.own_rev() RETURNS bigint
LANGUAGE sql
BEGIN ATOMIC
    SELECT CASE WHEN h.xid = pg_current_xact_id() AND h.at = now() THEN h.rev ELSE h.rev + 1 END
    FROM headwater.changelog_head AS h;
END;

-- Who is writing. The API speaks for the people who use it, and nobody else does.
CREATE FUNCTION headwater.author() RETURNS text
LANGUAGE sql STABLE
RETURN coalesce(
    CASE WHEN pg_has_role(session_user, 'headwater_api', 'MEMBER') THEN
        nullif(left(current_setting('headwater.author', true), 256), '') END,
    session_user);

CREATE FUNCTION headwater.message() RETURNS text
LANGUAGE sql STABLE
RETURN nullif(left(current_setting('headwater.message', true), 4096), '');

-- Something changes for real: once per transaction this takes a rev and writes its changelog row.
CREATE FUNCTION headwater.log_change() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    own bigint := own_rev();
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

-- Makes desired of the nodes (null: of all) what it should be; says how many rows changed. Needs
-- the lock. Merging is done once per distinct combination of sources, whatever the number of nodes.
CREATE FUNCTION headwater.materialise(nodes text[]) RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
SET plan_cache_mode = force_custom_plan
SET jit = off
AS $$
DECLARE
    own bigint := own_rev();
    at timestamptz := clock_timestamp();
    lsn pg_lsn := pg_current_wal_insert_lsn();
    changes bigint;
BEGIN
    WITH resolved AS MATERIALIZED (
        SELECT r.node, r.sources FROM resolve(nodes) AS r
    ), made AS MATERIALIZED (
        SELECT s.sources, d.*
        FROM (SELECT DISTINCT r.sources FROM resolved AS r) AS s
        CROSS JOIN LATERAL document(s.sources) AS d
    ), stored AS (
        INSERT INTO blob (digest, encoding, content, size)
        SELECT DISTINCT ON (m.digest) m.digest, m.encoding, m.content, m.size FROM made AS m
        ON CONFLICT DO NOTHING
        RETURNING digest
    ), changed AS MATERIALIZED (
        SELECT coalesce(w.node, d.node) AS node, w.sources, w.digest, w.media_type, w.size,
               d.node IS NULL AS is_new, w.node IS NULL AS is_gone,
               (w.digest, w.media_type) IS DISTINCT FROM (d.digest, d.media_type) AS is_revision,
               CASE WHEN w.node IS NULL THEN d.revision
                    WHEN d.node IS NULL THEN 1 + coalesce(
                        (SELECT h.revision FROM desired_history AS h
                         WHERE h.node = w.node ORDER BY h.id DESC LIMIT 1), 0)
                    WHEN (w.digest, w.media_type) = (d.digest, d.media_type) THEN d.revision
                    ELSE d.revision + 1 END AS revision
        FROM (SELECT r.node, r.sources, m.digest, m.media_type, m.size
              FROM resolved AS r JOIN made AS m USING (sources)
              -- Blobs first: whoever reads the stream has the document before its use.
              WHERE (SELECT count(*) FROM stored) >= 0) AS w
        FULL JOIN (SELECT * FROM desired AS e WHERE nodes IS NULL OR e.node = ANY (nodes)) AS d
            ON d.node = w.node
        WHERE (w.digest, w.media_type, w.size, w.sources)
            IS DISTINCT FROM (d.digest, d.media_type, d.size, d.sources)
    ), removed AS (
        DELETE FROM desired AS d USING changed AS c WHERE c.is_gone AND d.node = c.node
    ), updated AS (
        -- All columns, always: the stream then never lacks one.
        UPDATE desired AS d
        SET revision = c.revision, digest = c.digest, size = c.size, media_type = c.media_type,
            sources = c.sources,
            changed_at = CASE WHEN c.is_revision THEN at ELSE d.changed_at END,
            wal_lsn = CASE WHEN c.is_revision THEN lsn ELSE d.wal_lsn END
        FROM changed AS c WHERE NOT c.is_new AND NOT c.is_gone AND d.node = c.node
    ), inserted AS (
        INSERT INTO desired (node, revision, digest, size, media_type, sources, changed_at, wal_lsn)
        SELECT c.node, c.revision, c.digest, c.size, c.media_type, c.sources, at, lsn
        FROM changed AS c WHERE c.is_new
    )
    INSERT INTO desired_history
        (node, revision, digest, media_type, size, sources, rev, changed_at, wal_lsn)
    SELECT c.node, c.revision, c.digest, c.media_type, c.size, coalesce(c.sources, '[]'), own, at, lsn
    FROM changed AS c;
    GET DIAGNOSTICS changes = ROW_COUNT;
    IF changes > 0 THEN
        PERFORM log_change();
    END IF;
    RETURN changes;
END
$$;

-- For repair: computes everything anew. Changes nothing when all is right.
CREATE FUNCTION headwater.recompute() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    PERFORM lock_head();
    RETURN materialise(NULL);
END
$$;

-- Nodes whose desired row, or its blob, is not what a computation from scratch gives: none.
CREATE FUNCTION headwater.desired_drift()
RETURNS TABLE (node text, digest text, right_digest text, sources jsonb, right_sources jsonb,
               has_blob boolean)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH resolved AS MATERIALIZED (
        SELECT r.node, r.sources FROM headwater.resolve(NULL) AS r
    ), made AS MATERIALIZED (
        SELECT s.sources, m.digest, m.media_type, m.size
        FROM (SELECT DISTINCT r.sources FROM resolved AS r) AS s
        CROSS JOIN LATERAL headwater.document(s.sources) AS m
    ), wanted AS (
        SELECT r.node, r.sources, m.digest, m.media_type, m.size
        FROM resolved AS r JOIN made AS m USING (sources)
    )
    SELECT coalesce(w.node, d.node), d.digest, w.digest, d.sources, w.sources, b.digest IS NOT NULL
    FROM wanted AS w
    FULL JOIN headwater.desired AS d ON d.node = w.node
    LEFT JOIN headwater.blob AS b ON b.digest = d.digest
    WHERE (w.digest, w.media_type, w.size, w.sources)
        IS DISTINCT FROM (d.digest, d.media_type, d.size, d.sources)
       OR b.digest IS NULL;
END;

COMMIT;
