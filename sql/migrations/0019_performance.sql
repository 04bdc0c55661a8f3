-- What cost much and need not.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (19, 'performance');

-- The same answers. A counted repetition makes a large automaton, which took 50 µs to run: for each
-- report twice, and most of what it cost to store one.
CREATE OR REPLACE FUNCTION headwater.is_digest(digest text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN digest ~ '^sha256:[0-9a-f]+$' AND octet_length(digest) = 71;

COMMIT;
