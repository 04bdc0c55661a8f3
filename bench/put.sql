-- pgbench: what headwater-api sends for PUT /v1/nodes/{name}: one transaction, in a pipeline.
\set number random(1, 1000)
\set change random(1, 1000000000)
\startpipeline
SELECT set_config('headwater.author', 'bench', true), set_config('headwater.message', '', true);
INSERT INTO headwater.node AS n (name, labels, description) VALUES ('pgbench-' || :client_id || '-' || :number, '{"site":"a"}'::jsonb, 'change ' || :change) ON CONFLICT (name) DO UPDATE SET labels = excluded.labels, description = excluded.description WHERE NOT false AND (n.labels, n.description) IS DISTINCT FROM (excluded.labels, excluded.description) RETURNING created_at = updated_at AS created;
SELECT name, labels, description, version, created_at, updated_at FROM headwater.node WHERE name = 'pgbench-' || :client_id || '-' || :number;
\endpipeline
SELECT pg_current_wal_insert_lsn();
