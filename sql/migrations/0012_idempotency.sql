-- A request that is sent twice is done once: the answers to writes, by the key that the client
-- chose.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (12, 'idempotency');

CREATE TABLE headwater.idempotency (
    principal  text COLLATE "C", -- who asked, as changelog.author; keys of others are other keys
    key        text COLLATE "C",
    request    text NOT NULL,    -- digest of the request that came with it
    status     int,              -- the answer, put there before the COMMIT of what was asked for
    etag       text,
    location   text,
    body       text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (principal, key),
    CONSTRAINT idempotency_key_is_legal CHECK (key ~ '^[ -~]{1,255}$'),
    CONSTRAINT idempotency_request_is_legal CHECK (headwater.is_digest(request))
);
CREATE INDEX idempotency_created_at ON headwater.idempotency (created_at);

COMMENT ON TABLE headwater.idempotency IS 'Answers to writes of the last 24 hours, by key';

-- To be called before the write, in its transaction. state is
--   new     go on, keep_answer(), COMMIT
--   kept    it was done before, this is its answer, and a position behind its commit
--   reused  the key came with another request
--   in use  a transaction with the key has not ended: nobody waits for it here
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
        -- The lock ends with the transaction, after its row can be seen: so look again behind it.
        IF NOT pg_try_advisory_xact_lock(
                hashtextextended(author() || E'\n' || claim_idempotency_key.key, 0)) THEN
            state := 'in use';
            RETURN NEXT;
            RETURN;
        END IF;
        -- Who writes also clears away, a bounded number, and does not wait for others who do.
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

GRANT SELECT ON headwater.idempotency TO headwater_dba, headwater_api;
GRANT EXECUTE ON FUNCTION headwater.claim_idempotency_key(text, text),
    headwater.keep_answer(text, int, text, text, text)
    TO headwater_api;

COMMIT;
