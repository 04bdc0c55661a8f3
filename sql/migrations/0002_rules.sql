-- The rules that need no table: names, media types, digests, and JSON Merge Patch.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (2, 'rules');

-- The bodies that follow are bound when they are created (RETURN ...): no search_path reaches them,
-- and constraints can inline them.

-- A legal name is a legal NATS key and allows host names.
CREATE FUNCTION headwater.is_name(name text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN name ~ '^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$' AND char_length(name) <= 128;

-- RFC 6838 section 4.2 (type/subtype), RFC 9110 section 5.6.6 (parameters).
CREATE FUNCTION headwater.is_media_type(media_type text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN char_length(media_type) <= 255
    AND media_type ~ ('^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}'
        || '/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}'
        || '([ \t]*;[ \t]*[A-Za-z0-9!#$%&''*+.^_`|~-]+='
        || '([A-Za-z0-9!#$%&''*+.^_`|~-]+|"([\t !#-\[\]-~]|\\[\t -~])*"))*$');

-- application/json, and every type with the suffix +json (RFC 6839).
CREATE FUNCTION headwater.is_json_type(media_type text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN media_type ~* '^(application/json|[^;]+\+json)[ \t]*(;|$)';

CREATE FUNCTION headwater.is_digest(digest text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN digest ~ '^sha256:[0-9a-f]{64}$';

CREATE FUNCTION headwater.digest_of(bytes bytea) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN 'sha256:' || encode(sha256(bytes), 'hex');

-- The bytes that a node gets.
CREATE FUNCTION headwater.bytes_of(content text, encoding text) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN CASE encoding WHEN 'base64' THEN decode(content, 'base64')
                     ELSE convert_to(content, 'UTF8') END;

-- 16 MiB, of a config and of a merged document.
CREATE FUNCTION headwater.size_limit() RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 16777216;

-- RFC 7396 section 2. Members that the patch does not name stay as they are, also null ones.
CREATE FUNCTION headwater.merge_patch(target jsonb, patch jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF jsonb_typeof(patch) <> 'object' THEN
        RETURN patch;
    END IF;
    IF jsonb_typeof(target) <> 'object' THEN
        target := '{}';
    END IF;
    -- Without nulls and objects in it, a patch overwrites: what || does, and much faster.
    IF NOT jsonb_path_exists(patch, 'strict $.* ? (@ == null || @.type() == "object")') THEN
        RETURN target || patch;
    END IF;
    RETURN (
        SELECT coalesce(jsonb_object_agg(key, CASE
                   WHEN p.value IS NULL THEN t.value
                   WHEN jsonb_typeof(p.value) = 'object' THEN
                       merge_patch(coalesce(t.value, 'null'), p.value)
                   ELSE p.value END), '{}')
        FROM jsonb_each(target) AS t FULL JOIN jsonb_each(patch) AS p USING (key)
        WHERE p.value IS DISTINCT FROM 'null');
END
$$;

-- Constraints are checked with the writer's rights, and these tell nobody anything.
GRANT EXECUTE ON FUNCTION
    headwater.is_name(text), headwater.is_media_type(text), headwater.is_json_type(text),
    headwater.is_digest(text), headwater.digest_of(bytea), headwater.bytes_of(text, text),
    headwater.size_limit(), headwater.merge_patch(jsonb, jsonb)
    TO PUBLIC;

COMMIT;
