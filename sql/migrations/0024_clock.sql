-- One clock: whatever SQL decides by the time of day asks headwater.now().

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (24, 'clock');

-- ---- time ---------------------------------------------------------------------------------------

-- What is decided in SQL by the time of day asks headwater.now(). The offset is for tests of deadlines,
-- which then need not wait; nobody but the owner may set it.
CREATE TABLE headwater.clock (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    shift    interval NOT NULL
);
COMMENT ON TABLE headwater.clock IS 'How far headwater.now() is ahead of the server''s clock; one row';
INSERT INTO headwater.clock (shift) VALUES ('0');

CREATE FUNCTION headwater.now() RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$ SELECT clock_timestamp() + coalesce((SELECT c.shift FROM clock AS c), interval '0') $$;
COMMENT ON FUNCTION headwater.now()
    IS 'The time by which is decided: the server''s clock, and the offset in headwater.clock';

GRANT SELECT ON headwater.clock
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION headwater.now() TO PUBLIC;

ALTER TABLE headwater.idempotency ALTER COLUMN created_at SET DEFAULT headwater.now();
ALTER TABLE headwater.proposal ALTER COLUMN proposed_at SET DEFAULT headwater.now();

CREATE OR REPLACE VIEW headwater.token_info AS
SELECT t.name, t.id, t.role,
       CASE WHEN t.revoked_at IS NOT NULL THEN 'revoked'
            WHEN t.expires_at <= headwater.now() THEN 'expired' ELSE 'active' END AS state,
       t.created_at, t.created_by, t.expires_at, t.revoked_at, t.last_used_at
FROM headwater.token AS t;

CREATE OR REPLACE FUNCTION headwater.create_token(name text, role text, valid interval DEFAULT NULL)
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

CREATE OR REPLACE FUNCTION headwater.claim_idempotency_key(key text, request text)
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

CREATE OR REPLACE FUNCTION headwater.propose(proposals jsonb)
RETURNS TABLE (node text, ref text, id bigint, state text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    item record;
    p proposal;
    recent bigint;
BEGIN
    IF EXISTS (SELECT FROM jsonb_to_recordset(proposals) AS i (node text, ref text)
               WHERE NOT EXISTS (SELECT FROM proposal AS k
                                 WHERE (k.node, k.ref) = (i.node, i.ref))) THEN
        PERFORM lock_head();
    END IF;
    FOR item IN
        SELECT * FROM jsonb_to_recordset(proposals)
            AS i (node text, ref text, config text, base_revision int, content text,
                  encoding text, media_type text, message text, problem text)
    LOOP
        SELECT k.* INTO p FROM proposal AS k WHERE (k.node, k.ref) = (item.node, item.ref);
        IF NOT FOUND THEN
            recent := (SELECT count(*) FROM proposal AS k WHERE k.node = item.node
                       AND k.proposed_at > headwater.now() - interval '1 hour');
            IF NOT EXISTS (SELECT FROM node AS n WHERE n.name = item.node) THEN
                p.state := 'unknown';
            ELSIF recent >= 2 * proposal_rate_limit() THEN
                p.state := 'ignored';
            ELSE
                p := jsonb_populate_record(NULL::proposal, to_jsonb(item) - 'problem');
                p.message := left(coalesce(p.message, ''), 1024);
                p.reason := '';
                p := judge_proposal(p, item.problem, recent);
                INSERT INTO proposal
                    (node, ref, config, base_revision, content, encoding, media_type, digest,
                     size, message, state, decided_at, decided_by, reason)
                VALUES
                    (p.node, p.ref, p.config, p.base_revision, p.content, p.encoding,
                     p.media_type, p.digest, p.size, p.message, p.state, p.decided_at,
                     p.decided_by, left(p.reason, 4096))
                RETURNING * INTO p;
                -- The newest 200 proposals of a node are kept, the newest 16 with their content.
                DELETE FROM proposal AS k
                WHERE k.node = item.node AND k.state <> 'pending'
                  AND k.id < (SELECT o.id FROM proposal AS o WHERE o.node = item.node
                              ORDER BY o.id DESC OFFSET 199 LIMIT 1);
                UPDATE proposal AS k SET content = NULL
                WHERE k.node = item.node AND k.state <> 'pending' AND k.content IS NOT NULL
                  AND k.id < (SELECT o.id FROM proposal AS o WHERE o.node = item.node
                              ORDER BY o.id DESC OFFSET 15 LIMIT 1);
            END IF;
        END IF;
        node := item.node;
        ref := item.ref;
        id := p.id;
        state := p.state;
        RETURN NEXT;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION headwater.pace_reported() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    each CONSTANT interval := (SELECT interval '1 minute' / s.report_rate FROM setting AS s);
    stands CONSTANT boolean :=
        (OLD.state, OLD.running_revision, OLD.running_digest, OLD.failed_revision,
         OLD.failed_digest)
        IS NOT DISTINCT FROM
        (NEW.state, NEW.running_revision, NEW.running_digest, NEW.failed_revision,
         NEW.failed_digest);
    at CONSTANT timestamptz := headwater.now();
    -- After the clock was set back, or the rate raised, nobody waits longer than for his reserve.
    paced CONSTANT timestamptz :=
        greatest(at, least(coalesce(OLD.paced_until, at), at + each * report_reserve()));
    judged bigint;
BEGIN
    IF paced - at <= each * (CASE WHEN stands THEN report_burst() ELSE report_reserve() END - 1)
    THEN
        NEW.paced_until := paced + each;
        NEW.left_out := 0;
        RETURN NEW;
    END IF;
    IF NOT stands THEN
        SELECT d.revision INTO judged FROM desired AS d
        WHERE d.node = NEW.node AND d.revision > coalesce(OLD.free_revision, 0)
          AND ((d.revision, d.digest) = (NEW.running_revision, NEW.running_digest)
               OR (d.revision, d.digest) = (NEW.failed_revision, NEW.failed_digest));
        IF FOUND THEN
            NEW.free_revision := judged;
            NEW.left_out := 0;
            RETURN NEW;
        END IF;
    END IF;
    NEW.paced_until := paced;
    NEW.left_out := OLD.left_out + 1;
    RETURN NEW;
END
$$;

CREATE OR REPLACE FUNCTION headwater.settle_reports()
RETURNS TABLE (node text, left_out bigint, nodes bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
SET enable_seqscan = off -- of a whole fleet, few wait
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    each CONSTANT interval := (SELECT interval '1 minute' / s.report_rate FROM setting AS s);
    at CONSTANT timestamptz := headwater.now();
    -- A time that is further off than this is of a clock that was set back since, or of a lower rate.
    latest CONSTANT timestamptz := at + each * report_reserve();
    -- Whoever is paced until then has no room now.
    barred CONSTANT tstzrange := tstzrange(at + each * (report_burst() - 1), latest, '(]');
    settled CONSTANT text[] := ARRAY(
        SELECT r.node FROM reported AS r WHERE r.left_out > 0 AND NOT r.paced_until <@ barred
        ORDER BY r.node LIMIT 1000);
BEGIN
    IF cardinality(settled) > 0 THEN
        UPDATE reported AS r
        SET left_out = 0,
            paced_until = greatest(at, CASE WHEN r.paced_until <= latest THEN r.paced_until END)
                          + each
        WHERE r.node = ANY (settled) AND r.left_out > 0 AND NOT r.paced_until <@ barred;
    END IF;
    RETURN QUERY
        SELECT r.node, r.left_out, count(*) OVER () FROM reported AS r WHERE r.left_out > 0
        ORDER BY r.left_out DESC LIMIT 20;
END
$$;

CREATE OR REPLACE FUNCTION headwater.node_gone() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        DELETE FROM gone AS g USING after_rows AS a WHERE g.node = a.name;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO gone (node, gone_at) SELECT b.name, headwater.now() FROM before_rows AS b
        ON CONFLICT (node) DO UPDATE SET gone_at = excluded.gone_at, purged_at = NULL;
    ELSE
        INSERT INTO gone (node, gone_at) SELECT n.name, headwater.now() FROM node AS n
        ON CONFLICT (node) DO UPDATE SET gone_at = excluded.gone_at, purged_at = NULL;
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION headwater.purge_gone(purged text[], anew boolean, grace interval, most int)
RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    before CONSTANT timestamptz := headwater.now() - grace;
BEGIN
    IF anew THEN
        UPDATE gone AS g SET purged_at = NULL WHERE g.purged_at IS NOT NULL;
    END IF;
    UPDATE gone AS g SET purged_at = headwater.now()
    WHERE g.node = ANY (purged) AND g.purged_at IS NULL AND g.gone_at < before;
    RETURN QUERY
        SELECT g.node FROM gone AS g WHERE g.purged_at IS NULL AND g.gone_at < before
        ORDER BY g.gone_at LIMIT most;
END
$$;

COMMIT;
