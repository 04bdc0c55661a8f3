-- What nodes say besides: that new configuration waits, and that someone changed their output.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (14, 'agent');

ALTER TABLE headwater.reported
    ADD COLUMN held jsonb,  -- {"since", "reason", "waiting"}; null: not held
    ADD COLUMN drift jsonb, -- {"at", "healed", "error"}; null: none since the last change
    ADD CONSTRAINT reported_held_is_object CHECK (jsonb_typeof(held) = 'object'),
    ADD CONSTRAINT reported_drift_is_object CHECK (jsonb_typeof(drift) = 'object');

-- Takes all reports or fails on the first bad one; says which were taken.
CREATE OR REPLACE FUNCTION headwater.take_reports(reports jsonb)
RETURNS TABLE (node text, accepted boolean, reason text)
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH report AS MATERIALIZED (
        SELECT i.position, e.kv_created, e.kv_revision, v.node, v.state,
               u.revision AS running_revision, u.digest AS running_digest, u.epoch AS running_epoch,
               u.lsn AS running_lsn, u.applied_at AS running_applied_at,
               f.revision AS failed_revision, f.digest AS failed_digest, f.epoch AS failed_epoch,
               f.lsn AS failed_lsn, f.stage AS failed_stage, left(f.error, 16384) AS failed_error,
               f.at AS failed_at, v.desired_revision, v.agent, v.boot_id, v.reported_at,
               nullif(v.held, 'null') AS held, nullif(v.drift, 'null') AS drift
        FROM jsonb_array_elements(reports) WITH ORDINALITY AS i (item, position)
        CROSS JOIN LATERAL jsonb_to_record(i.item)
            AS e (kv_created timestamptz, kv_revision bigint, value jsonb)
        CROSS JOIN LATERAL jsonb_to_record(e.value)
            AS v (node text, state text, running jsonb, failed jsonb, desired_revision bigint,
                  agent text, boot_id text, reported_at timestamptz, held jsonb, drift jsonb)
        CROSS JOIN LATERAL jsonb_to_record(coalesce(v.running, '{}'))
            AS u (revision bigint, digest text, epoch bigint, lsn pg_lsn, applied_at timestamptz)
        CROSS JOIN LATERAL jsonb_to_record(coalesce(v.failed, '{}'))
            AS f (revision bigint, digest text, epoch bigint, lsn pg_lsn, stage text, error text,
                  at timestamptz)
    ), taken AS (
        INSERT INTO reported AS r
            (node, state, running_revision, running_digest, running_epoch, running_lsn,
             running_applied_at, failed_revision, failed_digest, failed_epoch, failed_lsn,
             failed_stage, failed_error, failed_at, desired_revision, agent, boot_id, reported_at,
             held, drift, kv_created, kv_revision)
        SELECT DISTINCT ON (p.node)
             p.node, p.state, p.running_revision, p.running_digest, p.running_epoch, p.running_lsn,
             p.running_applied_at, p.failed_revision, p.failed_digest, p.failed_epoch, p.failed_lsn,
             p.failed_stage, p.failed_error, p.failed_at, p.desired_revision, p.agent, p.boot_id,
             p.reported_at, p.held, p.drift, p.kv_created, p.kv_revision
        FROM report AS p
        ORDER BY p.node, p.kv_created DESC, p.kv_revision DESC
        ON CONFLICT (node) DO UPDATE SET
            (state, running_revision, running_digest, running_epoch, running_lsn,
             running_applied_at, failed_revision, failed_digest, failed_epoch, failed_lsn,
             failed_stage, failed_error, failed_at, desired_revision, agent, boot_id, reported_at,
             held, drift, kv_created, kv_revision, received_at)
            = ROW (excluded.state, excluded.running_revision, excluded.running_digest,
             excluded.running_epoch, excluded.running_lsn, excluded.running_applied_at,
             excluded.failed_revision, excluded.failed_digest, excluded.failed_epoch,
             excluded.failed_lsn, excluded.failed_stage, excluded.failed_error, excluded.failed_at,
             excluded.desired_revision, excluded.agent, excluded.boot_id, excluded.reported_at,
             excluded.held, excluded.drift, excluded.kv_created, excluded.kv_revision, now())
        WHERE (excluded.kv_created, excluded.kv_revision) > (r.kv_created, r.kv_revision)
        RETURNING node, kv_created, kv_revision
    )
    SELECT p.node, t.node IS NOT NULL,
           CASE WHEN t.node IS NULL THEN 'not newer than what is stored' END
    FROM report AS p
    LEFT JOIN taken AS t ON (t.node, t.kv_created, t.kv_revision)
                          = (p.node, p.kv_created, p.kv_revision)
    ORDER BY p.position;
END
$$;

CREATE OR REPLACE VIEW headwater.fleet AS
SELECT n.name AS node, n.labels,
       d.revision AS desired_revision, d.digest AS desired_digest,
       r.running_revision AS reported_revision, r.running_digest AS reported_digest,
       s.state,
       CASE WHEN s.state = 'in_sync' OR d.node IS NULL THEN interval '0'
            ELSE greatest(interval '0', clock_timestamp() - d.changed_at) END AS lag,
       CASE WHEN s.state = 'failed'
            THEN concat_ws(': ', r.failed_stage, r.failed_error) END AS error,
       d.changed_at AS desired_changed_at,
       r.running_applied_at AS applied_at,
       r.held, r.drift
FROM headwater.node AS n
LEFT JOIN headwater.desired AS d ON d.node = n.name
LEFT JOIN headwater.reported AS r ON r.node = n.name
CROSS JOIN LATERAL (SELECT CASE
    WHEN r.node IS NULL THEN 'unknown'
    WHEN d.node IS NULL THEN 'in_sync'
    WHEN r.running_revision = d.revision AND r.running_digest = d.digest THEN 'in_sync'
    WHEN r.state IN ('failed', 'rejected')
        AND r.failed_revision = d.revision AND r.failed_digest = d.digest THEN 'failed'
    ELSE 'pending' END AS state) AS s;

COMMIT;
