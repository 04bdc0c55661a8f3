-- Access tokens of the HTTP interface. What is kept of a token is its SHA-256: the database cannot
-- tell it to anyone, nor can a copy of the database be used to get in.

BEGIN;

SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (9, 'tokens');

-- A revoked token stays, so that its name means the same one for ever.
CREATE TABLE headwater.token (
    id           text COLLATE "C" PRIMARY KEY, -- part of the token's text, and no secret
    name         text COLLATE "C" NOT NULL,
    role         text NOT NULL,
    hash         bytea NOT NULL, -- SHA-256 of the token's text
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text NOT NULL,
    expires_at   timestamptz, -- null: never
    revoked_at   timestamptz,
    last_used_at timestamptz, -- within a minute
    CONSTRAINT token_id_is_legal CHECK (id ~ '^[0-9a-f]{16}$'),
    CONSTRAINT token_name_is_unique UNIQUE (name),
    CONSTRAINT token_name_is_legal CHECK (headwater.is_name(name)),
    CONSTRAINT token_role_is_known CHECK (role IN ('viewer', 'operator', 'approver', 'admin')),
    CONSTRAINT token_hash_is_sha256 CHECK (length(hash) = 32)
);

CREATE VIEW headwater.token_info AS
SELECT t.name, t.id, t.role,
       CASE WHEN t.revoked_at IS NOT NULL THEN 'revoked'
            WHEN t.expires_at <= now() THEN 'expired' ELSE 'active' END AS state,
       t.created_at, t.created_by, t.expires_at, t.revoked_at, t.last_used_at
FROM headwater.token AS t;

-- Random bits from the server's strong source: 122 of each UUID, folded into 256.
CREATE FUNCTION headwater.random_bytes() RETURNS bytea
LANGUAGE sql VOLATILE
RETURN sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
           || uuid_send(gen_random_uuid()));

-- Returns the token, which nobody can find out later.
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
    -- Two first ones at once: the later one sees the other.
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

-- For good. False: it was revoked before.
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

-- The API tells which tokens were used, now and then.
CREATE FUNCTION headwater.note_token_use(ids text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$ UPDATE token AS t SET last_used_at = now() WHERE t.id = ANY (ids) $$;

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

COMMENT ON TABLE headwater.token
    IS 'Access tokens of the HTTP interface, by their SHA-256; written by create_token() and '
       'revoke_token()';
COMMENT ON VIEW headwater.token_info IS 'Tokens without their hashes';
COMMENT ON FUNCTION headwater.create_token(text, text, interval)
    IS 'Makes an access token; returns its text, which is kept nowhere';
COMMENT ON FUNCTION headwater.revoke_token(text) IS 'Ends an access token, for good';

GRANT SELECT ON headwater.token TO headwater_dba, headwater_api;
GRANT SELECT ON headwater.token_info TO headwater_dba, headwater_api, headwater_viewer;
GRANT EXECUTE ON FUNCTION
    headwater.create_token(text, text, interval), headwater.revoke_token(text)
    TO headwater_dba, headwater_api;
GRANT EXECUTE ON FUNCTION headwater.note_token_use(text[]) TO headwater_api;

COMMIT;
