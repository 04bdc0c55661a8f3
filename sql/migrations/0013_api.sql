-- What the HTTP interface keeps in the database: access tokens, and answers to writes that may be
-- sent twice.

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
            WHEN t.expires_at <= now() THEN 'expired' ELSE 'active' END AS state,
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
    IF now() + valid <= now() THEN
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
    VALUES (id, name, role, sha256(convert_to(token, 'UTF8')), author(), now() + valid);
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
    PERFORM pg_notify('headwater_token', '');
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

-- ---- idempotency keys ---------------------------------------------------------------------------

-- A client that lost the connection does not know whether its write was done. It sends the write
-- again with the same key, which it chose. The answer is stored under that key in the transaction
-- of the write itself, so the second request finds either both or neither: a write is done once,
-- and answered as often as it is asked for.
CREATE TABLE headwater.idempotency (
    principal  text COLLATE "C", -- who asked, as in changelog.author; everyone has keys of his own
    key        text COLLATE "C",
    request    text NOT NULL,    -- the digest of the request that came with the key
    status     int,              -- this and the next three are the answer
    etag       text,
    location   text,
    body       text,
    created_at timestamptz NOT NULL DEFAULT now(),
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
RETURNS TABLE (state text, status int, etag text, location text, body text, lsn pg_lsn)
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
        lsn := pg_current_wal_insert_lsn();
    END IF;
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION headwater.claim_idempotency_key(text, text)
    IS 'Begins a write that may be sent twice: is its key new, or what was the answer?';

CREATE FUNCTION headwater.keep_answer(key text, status int, etag text, location text, body text)
RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
    UPDATE idempotency
    SET status = keep_answer.status, etag = keep_answer.etag, location = keep_answer.location,
        body = keep_answer.body
    WHERE principal = author() AND idempotency.key = keep_answer.key
      AND idempotency.status IS NULL
$$;
COMMENT ON FUNCTION headwater.keep_answer(text, int, text, text, text)
    IS 'Keeps the answer to a write whose key was claimed';

GRANT SELECT ON headwater.token, headwater.idempotency TO headwater_dba, headwater_api;
GRANT SELECT ON headwater.token_info TO headwater_dba, headwater_api, headwater_viewer;
GRANT EXECUTE ON FUNCTION
    headwater.create_token(text, text, interval), headwater.revoke_token(text)
    TO headwater_dba, headwater_api;
GRANT EXECUTE ON FUNCTION
    headwater.note_token_use(text[]), headwater.claim_idempotency_key(text, text),
    headwater.keep_answer(text, int, text, text, text)
    TO headwater_api;

COMMIT;
