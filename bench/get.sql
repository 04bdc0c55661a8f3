-- pgbench: what headwater-api sends for GET /v1/nodes/{name}.
\set number random(1, 1000)
SELECT name, labels, description, version, created_at, updated_at FROM headwater.node WHERE name = 'n' || :number;
