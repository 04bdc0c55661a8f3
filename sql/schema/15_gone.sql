-- Nodes that are gone.
--
-- A node that was deleted leaves keys in NATS: the mark of its deletion, what it was told last, and
-- what it reported last. Agents that are away at the time must find the mark, so the keys stay for a
-- time of grace. Then the reconciler purges them: this table says which nodes it is about, and
-- whether that was done.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (18, 'gone');

CREATE TABLE headwater.gone (
    node      text COLLATE "C" PRIMARY KEY,
    gone_at   timestamptz NOT NULL,
    purged_at timestamptz -- when its keys were purged from NATS; null: not yet
);
COMMENT ON TABLE headwater.gone
    IS 'Nodes that were deleted, and when their keys were purged from NATS; kept by triggers on node';
CREATE INDEX gone_unpurged ON headwater.gone (gone_at) WHERE purged_at IS NULL;
GRANT SELECT ON headwater.gone
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;

CREATE FUNCTION headwater.node_gone() RETURNS trigger
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

CREATE TRIGGER gone_insert AFTER INSERT
    ON headwater.node REFERENCING NEW TABLE AS after_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headwater.node_gone();
CREATE TRIGGER gone_delete AFTER DELETE
    ON headwater.node REFERENCING OLD TABLE AS before_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headwater.node_gone();
CREATE TRIGGER gone_truncate BEFORE TRUNCATE
    ON headwater.node FOR EACH STATEMENT EXECUTE FUNCTION headwater.node_gone();
ALTER TABLE headwater.node
    ENABLE ALWAYS TRIGGER gone_insert, ENABLE ALWAYS TRIGGER gone_delete,
    ENABLE ALWAYS TRIGGER gone_truncate;

-- Notes that the keys of the nodes in purged are purged now, and returns the next nodes, at most so
-- many, that have been gone for the time of grace. With anew it forgets first what was purged: NATS
-- has come back from a backup, and old keys with it. A node that was made again meanwhile, or
-- deleted again, is none of those that are noted.
CREATE FUNCTION headwater.purge_gone(purged text[], anew boolean, grace interval, most int)
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
COMMENT ON FUNCTION headwater.purge_gone(text[], boolean, interval, int)
    IS 'For the reconciler: notes whose keys were purged; the next deleted nodes whose keys may go';
REVOKE EXECUTE ON FUNCTION headwater.purge_gone(text[], boolean, interval, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION headwater.purge_gone(text[], boolean, interval, int)
    TO headwater_reconciler;

-- Those that were deleted before this table came.
INSERT INTO headwater.gone (node, gone_at)
SELECT h.node, max(h.changed_at) FROM headwater.desired_history AS h
WHERE NOT EXISTS (SELECT FROM headwater.node AS n WHERE n.name = h.node)
GROUP BY h.node;

COMMIT;
