-- That tokens exist is a fact of its own.
--
-- While there was never a token, the HTTP interface serves loopback and asks for none. A table that
-- shows no rows does not say that there was never one: the rows may be hidden, left out of a copy, or
-- deleted by somebody who did not mean to open the service. So the first token leaves a mark, which
-- only forget_tokens() takes away.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (21, 'tokens');

CREATE TABLE headwater.token_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    required boolean NOT NULL -- there was a token, and forget_tokens() was not called since
);
COMMENT ON TABLE headwater.token_head
    IS 'Does the HTTP interface ask for tokens? One row, which the first token and forget_tokens() set';
INSERT INTO headwater.token_head (required) SELECT EXISTS (SELECT FROM headwater.token);

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

GRANT SELECT ON headwater.token_head TO headwater_dba, headwater_api;
GRANT EXECUTE ON FUNCTION headwater.forget_tokens() TO headwater_dba;

COMMIT;
