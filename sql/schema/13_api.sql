-- What the HTTP interface keeps in the database, access tokens and answers to writes that may be
-- sent twice, and what it asks there before and after a write.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (13, 'api');

-- ---- tokens -------------------------------------------------------------------------------------

-- Of a token, only its SHA-256 is kept. Nobody who reads the database, or a copy of it, can get in
-- with what he finds.

-- A revoked token stays in the table, so that its name always means the same token.
CREATE TABLE headwater.token (
    id           text COLLATE "C" PRIMARY KEY, -- a part of the token's text that is not secret
    name         text COLLATE "C" NOT NULL,
    role         text NOT NULL,
    hash         bytea NOT NULL, -- SHA-256 of the token's text
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text NOT NULL,
    expires_at   timestamptz, -- null: never
    revoked_at   timestamptz,
    last_used_at timestamptz, -- to within a minute
    CONSTRAINT token_id_is_legal CHECK (id ~ '^[0-9a-f]{16}$'),
    CONSTRAINT token_name_is_unique UNIQUE (name),
    CONSTRAINT token_name_is_legal CHECK (headwater.is_name(name)),
    CONSTRAINT token_role_is_known CHECK (role IN ('viewer', 'operator', 'approver', 'admin')),
    CONSTRAINT token_hash_is_sha256 CHECK (length(hash) = 32)
);
COMMENT ON TABLE headwater.token
    IS 'Access tokens of the HTTP interface, by their SHA-256; written by create_token() and '
       'revoke_token()';

CREATE VIEW headwater.token_info AS
SELECT t.name, t.id, t.role,
       CASE WHEN t.revoked_at IS NOT NULL THEN 'revoked'
            WHEN t.expires_at <= headwater.now() THEN 'expired' ELSE 'active' END AS state,
       t.created_at, t.created_by, t.expires_at, t.revoked_at, t.last_used_at
FROM headwater.token AS t;
COMMENT ON VIEW headwater.token_info IS 'Tokens without their hashes';

-- 32 random bytes. PostgreSQL's core has one strong source of randomness that SQL can use: each
-- UUID has 122 random bits, so three of them fill 256.
CREATE FUNCTION headwater.random_bytes() RETURNS bytea
LANGUAGE sql VOLATILE
RETURN sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
           || uuid_send(gen_random_uuid()));

-- Makes a token and returns its text, which nobody can find out later.
CREATE FUNCTION headwater.create_token(name text, role text, valid interval DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    id CONSTANT text := encode(substr(random_bytes(), 1, 8), 'hex');
    token CONSTANT text := 'hwt_' || id || '_'
        || rtrim(translate(encode(random_bytes(), 'base64'), '+/', '-_'), '=');
BEGIN
    IF NOT is_name(name) THEN
        PERFORM refuse_name('token', name);
    END IF;
    IF role NOT IN ('viewer', 'operator', 'approver', 'admin') THEN
        RAISE EXCEPTION 'token "%": there is no role "%"', name, left(role, 200)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'token_role_is_known',
                  SCHEMA = 'headwater', TABLE = 'token', COLUMN = 'role',
                  DETAIL = 'The roles are viewer, operator, approver and admin.';
    END IF;
    IF valid <= interval '0' THEN
        RAISE EXCEPTION 'token "%": would have expired already', name
            USING ERRCODE = 'check_violation', CONSTRAINT = 'token_valid_is_positive',
                  SCHEMA = 'headwater', TABLE = 'token', COLUMN = 'expires_at',
                  DETAIL = format('It would be valid for %s.', valid);
    END IF;
    -- When two sessions make the first token at once, the later one must see the other's.
    LOCK TABLE token IN SHARE ROW EXCLUSIVE MODE;
    IF role <> 'admin' AND NOT EXISTS (SELECT FROM token_info AS i WHERE i.state = 'active') THEN
        RAISE EXCEPTION 'token "%": the first one must have the role admin, not %', name, role
            USING ERRCODE = 'check_violation', CONSTRAINT = 'token_first_is_admin',
                  SCHEMA = 'headwater', TABLE = 'token', COLUMN = 'role',
                  DETAIL = 'With a token there, every call needs one, and only an admin makes '
                           'others.';
    END IF;
    INSERT INTO token (id, name, role, hash, created_by, expires_at)
    VALUES (id, name, role, sha256(convert_to(token, 'UTF8')), author(), headwater.now() + valid);
    RETURN token;
END
$$;
COMMENT ON FUNCTION headwater.create_token(text, text, interval)
    IS 'Makes an access token; returns its text, which is kept nowhere';

-- Revokes a token for good; returns false when it was revoked before.
CREATE FUNCTION headwater.revoke_token(name text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    UPDATE token AS t SET revoked_at = now()
    WHERE t.name = revoke_token.name AND t.revoked_at IS NULL;
    IF FOUND THEN
        RETURN true;
    END IF;
    IF NOT EXISTS (SELECT FROM token AS t WHERE t.name = revoke_token.name) THEN
        RAISE EXCEPTION 'there is no token "%"', left(name, 200)
            USING ERRCODE = 'no_data_found',
                  HINT = 'SELECT * FROM headwater.token_info lists them.';
    END IF;
    RETURN false;
END
$$;
COMMENT ON FUNCTION headwater.revoke_token(text) IS 'Ends an access token, for good';

-- The API calls this now and then with the tokens that were used.
CREATE FUNCTION headwater.note_token_use(ids text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$ UPDATE token AS t SET last_used_at = now() WHERE t.id = ANY (ids) $$;
COMMENT ON FUNCTION headwater.note_token_use(text[])
    IS 'Records that these tokens were used just now';

CREATE FUNCTION headwater.notify_token() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    PERFORM notify('headwater_token');
    RETURN NULL;
END
$$;

CREATE TRIGGER notify AFTER INSERT OR DELETE OR TRUNCATE
        OR UPDATE OF id, name, role, hash, expires_at, revoked_at
    ON headwater.token FOR EACH STATEMENT EXECUTE FUNCTION headwater.notify_token();
ALTER TABLE headwater.token ENABLE ALWAYS TRIGGER notify;

-- The audit trail says who made a token, and who revoked it. What a token may do is in token_info.
CREATE FUNCTION headwater.record_token() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    INSERT INTO audit (author, application_name, message, kind, name, action)
    VALUES (author(), current_setting('application_name'), message(), 'token',
            CASE TG_OP WHEN 'DELETE' THEN OLD.name ELSE NEW.name END,
            CASE WHEN TG_OP = 'INSERT' THEN 'create'
                 WHEN TG_OP = 'DELETE' THEN 'delete'
                 WHEN OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL THEN 'revoke'
                 ELSE 'update' END);
    RETURN NULL;
END
$$;

CREATE TRIGGER record_row AFTER INSERT OR DELETE
        OR UPDATE OF id, name, role, hash, expires_at, revoked_at
    ON headwater.token FOR EACH ROW EXECUTE FUNCTION headwater.record_token();
CREATE TRIGGER is_kept BEFORE TRUNCATE
    ON headwater.token FOR EACH STATEMENT
    EXECUTE FUNCTION headwater.refuse_change('what happens to a token is recorded one by one');
ALTER TABLE headwater.token ENABLE ALWAYS TRIGGER record_row, ENABLE ALWAYS TRIGGER is_kept;

-- ---- that tokens exist is a fact of its own -----------------------------------------------------

-- While there was never a token, the HTTP interface serves loopback and asks for none. A table that
-- shows no rows does not say that there was never one: the rows may be hidden, left out of a copy, or
-- deleted by somebody who did not mean to open the service. So the first token leaves a mark, which
-- only forget_tokens() takes away.
CREATE TABLE headwater.token_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    required boolean NOT NULL -- there was a token, and forget_tokens() was not called since
);
COMMENT ON TABLE headwater.token_head
    IS 'Does the HTTP interface ask for tokens? One row, which the first token and forget_tokens() set';
INSERT INTO headwater.token_head (required) VALUES (false);

CREATE TRIGGER is_kept BEFORE DELETE OR TRUNCATE
    ON headwater.token_head FOR EACH STATEMENT
    EXECUTE FUNCTION headwater.refuse_change('without its row nobody is let in');
ALTER TABLE headwater.token_head ENABLE ALWAYS TRIGGER is_kept;

CREATE FUNCTION headwater.require_tokens() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    UPDATE token_head AS h SET required = true
    WHERE NOT h.required AND EXISTS (SELECT FROM token);
    RETURN NULL;
END
$$;

CREATE TRIGGER required AFTER INSERT
    ON headwater.token FOR EACH STATEMENT EXECUTE FUNCTION headwater.require_tokens();
ALTER TABLE headwater.token ENABLE ALWAYS TRIGGER required;

CREATE FUNCTION headwater.forget_tokens() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    gone bigint;
BEGIN
    LOCK TABLE token IN SHARE ROW EXCLUSIVE MODE;
    DELETE FROM token;
    GET DIAGNOSTICS gone = ROW_COUNT;
    UPDATE token_head SET required = false;
    RETURN gone;
END
$$;
COMMENT ON FUNCTION headwater.forget_tokens()
    IS 'Deletes all access tokens, whereupon the HTTP interface serves loopback without; how many';
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

-- ---- idempotency keys ---------------------------------------------------------------------------

-- A client that lost the connection does not know whether its write was done. It sends the write
-- again with the same key, which it chose. The answer is stored under that key in the transaction
-- of the write itself, so the second request finds either both or neither: a write is done once,
-- and answered as often as it is asked for.
CREATE TABLE headwater.idempotency (
    principal  text COLLATE "C", -- who asked, as in changelog.author; everyone has keys of his own
    key        text COLLATE "C",
    request    text NOT NULL,    -- the digest of the request that came with the key
    status     int,              -- this, the next three and change are the answer
    etag       text,
    location   text,
    body       text,
    created_at timestamptz NOT NULL DEFAULT headwater.now(),
    change     bigint,
    PRIMARY KEY (principal, key),
    CONSTRAINT idempotency_key_is_legal CHECK (key ~ '^[ -~]{1,255}$'),
    CONSTRAINT idempotency_request_is_legal CHECK (headwater.is_digest(request))
);
COMMENT ON TABLE headwater.idempotency IS 'Answers to writes of the last 24 hours, by key';
CREATE INDEX idempotency_created_at ON headwater.idempotency (created_at);

-- To be called in the transaction of the write, before the write. The state says what to do:
--   new     do the write, call keep_answer(), and commit
--   kept    the write was done before; this is its answer, with a position behind its commit
--   reused  the key came before with another request
--   in use  another transaction with this key has not ended, and this one does not wait for it
CREATE FUNCTION headwater.claim_idempotency_key(key text, request text)
RETURNS TABLE (state text, status int, etag text, location text, body text, change bigint,
               lsn pg_lsn)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    mine idempotency;
    too_old CONSTANT timestamptz := headwater.now() - interval '24 hours';
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

-- What became of changes on the nodes. A position stands for all that was changed up to it, and a
-- change (a rev of changelog) for itself: then it is about the nodes whose document it changed.
-- Each node has a target, the revision that it should have got:
--   of a position  that of its row of desired; where that row is younger than the position, that of
--                  the last row at or before it, so that a later change holds nobody up
--   of a change    the one that the change gave it
-- A node that runs its target or a later revision has applied it. One that could not, and says so,
-- has failed. Everything else is pending, and so is a node with two agents, of which nobody knows
-- which one ran it. A node that is gone, or has nothing to run any more, is not waited for.
-- What a node says of a history that was lost counts for nothing (is_known()), and a row with a
-- position of another server's log is before every position of this one.
CREATE FUNCTION headwater.judge_waits(positions pg_lsn[], changes bigint[])
RETURNS TABLE (lsn pg_lsn, change bigint, ahead boolean, newest text, nodes bigint,
               applied bigint, failed bigint, pending bigint, failed_nodes jsonb,
               pending_nodes jsonb)
LANGUAGE sql STABLE
SET jit = off
BEGIN ATOMIC
    WITH asked AS MATERIALIZED (
        SELECT a.lsn, a.change, row_number() OVER () AS id
        FROM (SELECT DISTINCT p.lsn, NULL::bigint AS change FROM unnest(positions) AS p (lsn)
              UNION ALL
              SELECT DISTINCT NULL::pg_lsn, c.change FROM unnest(changes) AS c (change)) AS a
    ), newest AS MATERIALIZED (
        -- From this epoch on, whatever was changed is spoken of.
        SELECT h.rev, pg_current_wal_insert_lsn() AS lsn, log.rev AS first_rev,
               coalesce(greatest(headwater.needed_epoch(9223372036854775807),
                                 (SELECT max(e.epoch) FROM headwater.epoch AS e)), 0) AS epoch
        FROM headwater.changelog_head AS h CROSS JOIN headwater.log_begin() AS log
    ), target AS (
        SELECT a.id, d.node, d.revision, d.digest, d.revision AS last_revision,
               d.digest AS last_digest
        FROM asked AS a JOIN headwater.desired AS d ON d.wal_lsn <= a.lsn
        UNION ALL
        SELECT a.id, d.node, h.revision, h.digest, d.revision, d.digest
        FROM asked AS a JOIN headwater.desired AS d ON d.wal_lsn > a.lsn CROSS JOIN newest AS n
        CROSS JOIN LATERAL (
            SELECT h.revision, h.digest FROM headwater.desired_history AS h
            WHERE h.node = d.node AND (h.wal_lsn <= a.lsn OR h.rev < n.first_rev)
            ORDER BY h.id DESC LIMIT 1) AS h
        WHERE h.digest IS NOT NULL
        UNION ALL
        SELECT a.id, d.node, h.revision, h.digest, d.revision, d.digest
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
                    WHEN r.running_epoch >= n.epoch
                        AND ((r.running_revision = t.revision AND r.running_digest = t.digest)
                             OR (r.running_revision = t.last_revision
                                 AND r.running_digest = t.last_digest)) THEN 'applied'
                    WHEN (r.running_revision > t.revision OR (r.running_revision = t.revision
                        AND r.running_digest = t.digest))
                        AND headwater.is_known(t.node, r.running_revision, r.running_digest,
                                               r.running_epoch) THEN 'applied'
                    WHEN r.state IN ('failed', 'rejected') AND r.failed_revision >= t.revision
                        AND headwater.is_known(t.node, r.failed_revision, r.failed_digest,
                                               r.failed_epoch) THEN 'failed'
                    ELSE 'pending' END AS state
        FROM target AS t CROSS JOIN newest AS n
        LEFT JOIN headwater.reported AS r ON r.node = t.node
        LEFT JOIN headwater.liveness AS v ON v.node = t.node
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

GRANT SELECT ON headwater.token, headwater.token_head, headwater.idempotency TO headwater_dba, headwater_api;
GRANT SELECT ON headwater.token_info TO headwater_dba, headwater_api, headwater_viewer;
GRANT EXECUTE ON FUNCTION
    headwater.create_token(text, text, interval), headwater.revoke_token(text)
    TO headwater_dba, headwater_api;
GRANT EXECUTE ON FUNCTION headwater.forget_tokens() TO headwater_dba;
GRANT EXECUTE ON FUNCTION
    headwater.note_token_use(text[]), headwater.claim_idempotency_key(text, text),
    headwater.keep_answer(text, int, text, text, text),
    headwater.check_precondition(text, text, boolean, bigint[], boolean, boolean)
    TO headwater_api;
GRANT EXECUTE ON FUNCTION headwater.own_change(), headwater.judge_waits(pg_lsn[], bigint[])
    TO headwater_dba, headwater_api, headwater_viewer;

COMMIT;
