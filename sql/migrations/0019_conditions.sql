-- What the HTTP interface asks before and after a write: does the condition hold under which it is
-- to be made, which change came of it, and what became of that change on the nodes.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (19, 'conditions');

-- ---- before a write -----------------------------------------------------------------------------

-- The first statement of every write of one resource by HTTP. It takes the writers' lock and keeps
-- it to the end of the transaction, so what it finds is what the write will find: the condition and
-- the write cannot be parted. The arguments are
--   kind, name        node, config, assignment, proposal (its name is its id), token, or schema,
--                     whose name and version are those of its config
--   is_of_something   the write is about a resource that is there: a missing one is no_data_found,
--                     whatever the conditions say (RFC 9110 section 13.2.1)
--   if_match          the version must be one of these; null: any
--   must_exist        the resource must be there (If-Match: *)
--   must_not_exist    it must not (If-None-Match: *)
-- Returns the version, which is null where there is no resource.
CREATE FUNCTION headwater.check_precondition(kind text, name text, is_of_something boolean,
                                             if_match bigint[], must_exist boolean,
                                             must_not_exist boolean) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    its_version bigint;
    is_there boolean;
    of_config CONSTANT boolean := kind = 'schema';
    what CONSTANT text := CASE WHEN of_config THEN 'config' ELSE kind END;
    its_name CONSTANT text := check_precondition.name;
BEGIN
    IF kind = 'token' THEN
        -- A token can be revoked while a writer of configuration holds everybody else up.
        PERFORM FROM token AS t WHERE t.name = its_name FOR UPDATE;
        is_there := FOUND;
    ELSE
        PERFORM lock_head();
        CASE kind
        WHEN 'node' THEN
            SELECT n.version INTO its_version FROM node AS n WHERE n.name = its_name;
        WHEN 'assignment' THEN
            SELECT a.version INTO its_version FROM assignment AS a WHERE a.name = its_name;
        WHEN 'proposal' THEN
            SELECT p.version INTO its_version FROM proposal AS p WHERE p.id = its_name::bigint;
        ELSE
            SELECT c.version, NOT of_config OR c.schema IS NOT NULL INTO its_version, is_there
            FROM config AS c WHERE c.name = its_name;
        END CASE;
        is_there := its_version IS NOT NULL AND coalesce(is_there, true);
    END IF;
    IF NOT is_there AND (is_of_something OR (of_config AND its_version IS NULL)) THEN
        IF of_config AND its_version IS NOT NULL THEN
            RAISE EXCEPTION 'config "%" has no schema', its_name
                USING ERRCODE = 'no_data_found', SCHEMA = 'headwater', TABLE = what;
        END IF;
        RAISE EXCEPTION 'there is no % "%"', what, left(its_name, 200)
            USING ERRCODE = 'no_data_found', SCHEMA = 'headwater', TABLE = what,
                  HINT = format('GET /v1/%ss lists those that there are.', what);
    END IF;
    IF (if_match IS NOT NULL AND (its_version = ANY (if_match)) IS NOT TRUE)
        OR (must_exist AND NOT is_there) OR (must_not_exist AND is_there) THEN
        RAISE EXCEPTION '%', CASE
                WHEN NOT is_there THEN format('If-Match: there is no %s "%s"', kind, its_name)
                WHEN its_version IS NULL THEN format('the %s "%s" is there', kind, its_name)
                ELSE format('the %s "%s" is there in version "%s"', kind, its_name, its_version) END
            USING ERRCODE = 'object_not_in_prerequisite_state', CONSTRAINT = 'precondition_holds',
                  SCHEMA = 'headwater', TABLE = what,
                  HINT = CASE WHEN its_version IS NULL THEN 'Read what there is.' ELSE
                         'Read it again, and name that version if the change still fits.' END;
    END IF;
    RETURN its_version;
END
$$;
COMMENT ON FUNCTION headwater.check_precondition(text, text, boolean, bigint[], boolean, boolean)
    IS 'Begins a write by HTTP: takes the writers'' lock, and refuses the write where its '
       'condition does not hold';

-- ---- after a write ------------------------------------------------------------------------------

-- The rev of the change that this transaction has made so far; null: it has changed nothing.
CREATE FUNCTION headwater.own_change() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
    SELECT h.rev FROM changelog_head AS h
    WHERE h.xid = pg_current_xact_id_if_assigned() AND h.at = now()
$$;
COMMENT ON FUNCTION headwater.own_change()
    IS 'The rev of the change that this transaction makes; null while it has changed nothing';

-- The answer to a write that is sent twice names the change that the first one made.
ALTER TABLE headwater.idempotency ADD COLUMN change bigint;

DROP FUNCTION headwater.claim_idempotency_key(text, text);
CREATE FUNCTION headwater.claim_idempotency_key(key text, request text)
RETURNS TABLE (state text, status int, etag text, location text, body text, change bigint,
               lsn pg_lsn)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    mine idempotency;
    too_old CONSTANT timestamptz := now() - interval '24 hours';
BEGIN
    SELECT i.* INTO mine FROM idempotency AS i
    WHERE i.principal = author() AND i.key = claim_idempotency_key.key AND i.created_at >= too_old;
    IF NOT FOUND THEN
        -- The other transaction releases this lock after its row became visible. So we look again
        -- once we have the lock.
        IF NOT pg_try_advisory_xact_lock(
                hashtextextended(author() || E'\n' || claim_idempotency_key.key, 0)) THEN
            state := 'in use';
            RETURN NEXT;
            RETURN;
        END IF;
        -- Each write removes some old keys, at most 100, and skips those that others are removing.
        DELETE FROM idempotency WHERE ctid = ANY (ARRAY(
            SELECT i.ctid FROM idempotency AS i WHERE i.created_at < too_old
            ORDER BY i.created_at LIMIT 100 FOR UPDATE SKIP LOCKED));
        DELETE FROM idempotency AS i
        WHERE i.principal = author() AND i.key = claim_idempotency_key.key
          AND i.created_at < too_old;
        SELECT i.* INTO mine FROM idempotency AS i
        WHERE i.principal = author() AND i.key = claim_idempotency_key.key;
    END IF;
    IF NOT FOUND THEN
        INSERT INTO idempotency (principal, key, request)
        VALUES (author(), claim_idempotency_key.key, claim_idempotency_key.request);
        state := 'new';
    ELSIF mine.request <> claim_idempotency_key.request THEN
        state := 'reused';
    ELSE
        state := 'kept';
        status := mine.status;
        etag := mine.etag;
        location := mine.location;
        body := mine.body;
        change := mine.change;
        lsn := pg_current_wal_insert_lsn();
    END IF;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION headwater.claim_idempotency_key(text, text)
    IS 'Begins a write that may be sent twice: is its key new, or what was the answer?';

-- Returns the change that the write made, as own_change() does.
DROP FUNCTION headwater.keep_answer(text, int, text, text, text);
CREATE FUNCTION headwater.keep_answer(key text, status int, etag text, location text, body text)
RETURNS bigint
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
    UPDATE idempotency
    SET status = keep_answer.status, etag = keep_answer.etag, location = keep_answer.location,
        body = keep_answer.body, change = own_change()
    WHERE principal = author() AND idempotency.key = keep_answer.key
      AND idempotency.status IS NULL
    RETURNING change
$$;
COMMENT ON FUNCTION headwater.keep_answer(text, int, text, text, text)
    IS 'Keeps the answer to a write whose key was claimed';

-- ---- what became of it --------------------------------------------------------------------------

CREATE INDEX desired_history_rev ON headwater.desired_history (rev);

-- What became of changes on the nodes. A position stands for all that was changed up to it, and a
-- change (a rev of changelog) for itself: then it is about the nodes whose document it changed.
-- Each node has a target, the revision that it should have got:
--   of a position  that of its row of desired; where that row is younger than the position, that of
--                  the last row at or before it, so that a later change holds nobody up
--   of a change    the one that the change gave it
-- A node that runs its target or a later revision has applied it. One that could not, and says so,
-- has failed. Everything else is pending, and so is a node with two agents, of which nobody knows
-- which one ran it. A node that is gone, or has nothing to run any more, is not waited for.
CREATE FUNCTION headwater.judge_waits(positions pg_lsn[], changes bigint[])
RETURNS TABLE (lsn pg_lsn, change bigint, ahead boolean, newest text, nodes bigint,
               applied bigint, failed bigint, pending bigint, failed_nodes jsonb,
               pending_nodes jsonb)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH asked AS MATERIALIZED (
        SELECT a.lsn, a.change, row_number() OVER () AS id
        FROM (SELECT DISTINCT p.lsn, NULL::bigint AS change FROM unnest(positions) AS p (lsn)
              UNION ALL
              SELECT DISTINCT NULL::pg_lsn, c.change FROM unnest(changes) AS c (change)) AS a
    ), target AS (
        SELECT a.id, d.node, d.revision, d.digest
        FROM asked AS a JOIN headwater.desired AS d ON d.wal_lsn <= a.lsn
        UNION ALL
        SELECT a.id, d.node, h.revision, h.digest
        FROM asked AS a JOIN headwater.desired AS d ON d.wal_lsn > a.lsn
        CROSS JOIN LATERAL (
            SELECT h.revision, h.digest FROM headwater.desired_history AS h
            WHERE h.node = d.node AND h.wal_lsn <= a.lsn ORDER BY h.id DESC LIMIT 1) AS h
        WHERE h.digest IS NOT NULL
        UNION ALL
        SELECT a.id, d.node, h.revision, h.digest
        FROM asked AS a
        CROSS JOIN LATERAL (
            SELECT DISTINCT ON (h.node) h.node, h.revision, h.digest
            FROM headwater.desired_history AS h WHERE h.rev = a.change
            ORDER BY h.node, h.id DESC) AS h
        JOIN headwater.desired AS d ON d.node = h.node
        -- A row of the history may differ from the one before in its sources alone.
        WHERE h.digest IS NOT NULL AND h.revision IS DISTINCT FROM (
            SELECT b.revision FROM headwater.desired_history AS b
            WHERE b.node = h.node AND b.rev < a.change ORDER BY b.id DESC LIMIT 1)
    ), judged AS MATERIALIZED (
        SELECT t.id, t.node, t.revision, r.failed_stage AS stage, r.failed_error AS error,
               CASE WHEN v.conflict IS NOT NULL THEN 'pending'
                    WHEN r.running_revision > t.revision OR (r.running_revision = t.revision
                        AND r.running_digest = t.digest) THEN 'applied'
                    WHEN r.state IN ('failed', 'rejected') AND r.failed_revision >= t.revision
                        THEN 'failed'
                    ELSE 'pending' END AS state
        FROM target AS t
        LEFT JOIN headwater.reported AS r ON r.node = t.node
        LEFT JOIN headwater.liveness AS v ON v.node = t.node
    ), newest AS MATERIALIZED (
        SELECT h.rev, pg_current_wal_insert_lsn() AS lsn FROM headwater.changelog_head AS h
    )
    SELECT a.lsn, a.change, coalesce(a.lsn > n.lsn, a.change > n.rev),
           CASE WHEN a.lsn IS NOT NULL THEN n.lsn::text ELSE n.rev::text END,
           count(j.node), count(*) FILTER (WHERE j.state = 'applied'),
           count(*) FILTER (WHERE j.state = 'failed'), count(*) FILTER (WHERE j.state = 'pending'),
           (SELECT jsonb_agg(jsonb_build_object('node', f.node, 'revision', f.revision,
                       'stage', f.stage, 'error', left(f.error, 1000)) ORDER BY f.node)
            FROM (SELECT o.* FROM judged AS o WHERE o.id = a.id AND o.state = 'failed'
                  ORDER BY o.node LIMIT 20) AS f),
           (SELECT jsonb_agg(f.node ORDER BY f.node)
            FROM (SELECT o.node FROM judged AS o WHERE o.id = a.id AND o.state = 'pending'
                  ORDER BY o.node LIMIT 20) AS f)
    FROM asked AS a CROSS JOIN newest AS n LEFT JOIN judged AS j ON j.id = a.id
    GROUP BY a.id, a.lsn, a.change, n.lsn, n.rev;
END;
COMMENT ON FUNCTION headwater.judge_waits(pg_lsn[], bigint[])
    IS 'How many nodes have applied, and how many failed, what was changed up to each of these '
       'positions, and by each of these changes; at most 20 of the others are named';

GRANT EXECUTE ON FUNCTION
    headwater.check_precondition(text, text, boolean, bigint[], boolean, boolean),
    headwater.claim_idempotency_key(text, text),
    headwater.keep_answer(text, int, text, text, text)
    TO headwater_api;
GRANT EXECUTE ON FUNCTION headwater.own_change(), headwater.judge_waits(pg_lsn[], bigint[])
    TO headwater_dba, headwater_api, headwater_viewer;

COMMIT;
