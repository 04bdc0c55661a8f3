-- Integers of apply() are integers however they are written.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (26, 'integers');

-- Is the text of a JSON number an integer of 32 bits? JSON has one kind of number, so 1.0 and 1e3
-- are integers as 1 is. A number of that size needs no long exponent.
CREATE FUNCTION headwater.is_integer_of_32_bits(number text) RETURNS boolean
LANGUAGE sql IMMUTABLE STRICT
RETURN CASE WHEN length(number) <= 100 AND number ~ '^-?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]{1,2})?$'
    THEN number::numeric = trunc(number::numeric)
         AND number::numeric BETWEEN -2147483648 AND 2147483647
    ELSE false END;

CREATE OR REPLACE FUNCTION headwater.read_resource(item json, ordinal int) RETURNS headwater.resource
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    path CONSTANT text := format('$.resources[%s]', ordinal);
    kind CONSTANT text := CASE json_typeof(item) WHEN 'object' THEN item ->> 'kind' END;
    r resource;
    place text;
    known text[] := '{kind,name,if_match,delete}';
    seen text[] := '{}';
    m record;
BEGIN
    IF json_typeof(item) <> 'object' THEN
        PERFORM refuse_body(path, 'must be an object, not ' || json_typeof(item));
    ELSIF kind IS NULL OR kind NOT IN ('node', 'config', 'assignment') THEN
        PERFORM refuse_body(path || '.kind', 'must be "node", "config" or "assignment"');
    END IF;
    known := known || CASE kind
        WHEN 'node' THEN '{labels,description}'::text[]
        WHEN 'config' THEN '{content,text,base64,media_type,schema}'
        ELSE '{config,node,selector,priority,revision}' END;
    FOR m IN
        SELECT e.key, e.value, json_typeof(e.value) AS type, CASE
                   WHEN e.key IN ('content', 'schema') THEN NULL
                   WHEN e.key = 'delete' THEN 'boolean'
                   WHEN e.key IN ('labels', 'selector') THEN 'object'
                   WHEN e.key IN ('priority', 'revision') THEN 'number'
                   ELSE 'string' END AS wanted
        FROM json_each(item) AS e LOOP
        place := path || CASE WHEN m.key ~ '^[A-Za-z_]\w*$' THEN '.' || m.key
                              ELSE '[' || to_json(left(m.key, 200)) || ']' END;
        IF m.key <> ALL (known) THEN
            PERFORM refuse_body(place, format('there is no such member of a %s', kind));
        ELSIF m.key = ANY (seen) THEN
            PERFORM refuse_body(place, 'is given twice');
        ELSIF m.type <> m.wanted AND (m.type <> 'null' OR m.key = 'name') THEN
            PERFORM refuse_body(place, format('must be of type %s, not %s', m.wanted, m.type));
        ELSIF m.wanted = 'number' AND m.type = 'number'
            AND NOT is_integer_of_32_bits(m.value::text) THEN
            PERFORM refuse_body(place, 'must be an integer of 32 bits');
        END IF;
        seen := seen || m.key;
    END LOOP;
    place := path;
    r.ordinal := ordinal;
    r.kind := kind;
    r.name := item ->> 'name';
    IF r.name IS NULL THEN
        PERFORM refuse_body(path || '.name', 'is missing');
    END IF;
    r.is_delete := coalesce((item ->> 'delete')::boolean, false);
    r.if_match := item ->> 'if_match';
    IF r.is_delete THEN
        RETURN r;
    END IF;
    r.labels := coalesce((item ->> 'labels')::jsonb, '{}');
    r.description := coalesce(item ->> 'description', '');
    IF kind = 'config' THEN
        IF (item -> 'content' IS NOT NULL)::int + (item ->> 'text' IS NOT NULL)::int
                + (item ->> 'base64' IS NOT NULL)::int <> 1 THEN
            PERFORM refuse_body(path, 'needs one of content, text and base64');
        END IF;
        r.member := CASE WHEN item -> 'content' IS NOT NULL THEN 'content'
                         WHEN item ->> 'text' IS NOT NULL THEN 'text' ELSE 'base64' END;
        r.content := CASE r.member WHEN 'content' THEN btrim((item -> 'content')::text, E' \t\r\n')
                                   ELSE item ->> r.member END;
        r.encoding := CASE r.member WHEN 'base64' THEN 'base64' ELSE 'utf-8' END;
        r.media_type := coalesce(item ->> 'media_type', CASE r.member
            WHEN 'content' THEN 'application/json' WHEN 'text' THEN 'text/plain'
            ELSE 'application/octet-stream' END);
        IF r.member = 'content' AND NOT is_json_type(r.media_type) THEN
            PERFORM refuse_body(path || '.content',
                                format('is JSON, and %s is not: give it as text', r.media_type));
        END IF;
        r.has_schema := item -> 'schema' IS NOT NULL;
        r.schema := CASE WHEN json_typeof(item -> 'schema') <> 'null'
                         THEN (item -> 'schema')::jsonb END;
    ELSIF kind = 'assignment' THEN
        r.config := item ->> 'config';
        IF r.config IS NULL THEN
            PERFORM refuse_body(path || '.config', 'is missing');
        END IF;
        r.node := item ->> 'node';
        r.selector := (item ->> 'selector')::jsonb;
        r.priority := coalesce((item ->> 'priority')::numeric::int, 0);
        r.revision := (item ->> 'revision')::numeric::int;
    END IF;
    RETURN r;
EXCEPTION WHEN untranslatable_character OR invalid_text_representation
          OR statement_too_complex THEN
    PERFORM refuse_body(coalesce(place, path), SQLERRM);
END
$$;

COMMIT;
