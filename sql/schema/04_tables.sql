-- The tables. Operators write three of them: node, config and assignment. All others follow from
-- these, or from what nodes report, and only functions and triggers write them.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (4, 'tables');

-- The trigger that keeps a table as it is; its argument says why.
CREATE FUNCTION headwater.refuse_change() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% on headwater.% is refused: %', TG_OP, TG_TABLE_NAME, TG_ARGV[0]
        USING ERRCODE = 'object_not_in_prerequisite_state', SCHEMA = 'headwater',
              TABLE = TG_TABLE_NAME, CONSTRAINT = TG_TABLE_NAME || '_is_kept',
              HINT = CASE TG_TABLE_NAME
                  WHEN 'token' THEN 'headwater token revoke ends a token.'
                  ELSE 'Write to headwater.node, headwater.config and headwater.assignment: '
                       'what else there is, is kept by Headwater.' END;
END
$$;

-- ---- what operators write -----------------------------------------------------------------------

CREATE TABLE headwater.node (
    name        text COLLATE "C" PRIMARY KEY,
    labels      jsonb NOT NULL DEFAULT '{}',
    description text NOT NULL DEFAULT '',
    version     bigint NOT NULL, -- changelog.rev of the row's last change; a trigger sets it
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    CONSTRAINT node_name_is_legal CHECK (headwater.is_name(name)),
    CONSTRAINT node_labels_is_object CHECK (jsonb_typeof(labels) = 'object')
);
COMMENT ON TABLE headwater.node IS 'The fleet. Labels are what selectors look at';
CREATE INDEX node_labels ON headwater.node USING gin (labels jsonb_path_ops);

CREATE TABLE headwater.config (
    name        text COLLATE "C" PRIMARY KEY,
    content     text NOT NULL,
    encoding    text NOT NULL DEFAULT 'utf-8',
    media_type  text NOT NULL DEFAULT 'application/json',
    revision    int NOT NULL, -- a trigger adds 1 when content, encoding or media_type changes
    message     text NOT NULL DEFAULT '',
    version     bigint NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    updated_by  text NOT NULL,
    schema      jsonb, -- a JSON Schema that the content fits; null: none
    CONSTRAINT config_name_is_legal CHECK (headwater.is_name(name)),
    CONSTRAINT config_encoding_is_known CHECK (encoding IN ('utf-8', 'base64')),
    CONSTRAINT config_media_type_is_legal CHECK (headwater.is_media_type(media_type))
);
COMMENT ON TABLE headwater.config
    IS 'Documents and fragments of documents, in their latest revision';
COMMENT ON COLUMN headwater.config.schema
    IS 'JSON Schema (a subset, see docs/sql.md) that the content fits; null: none';

-- Every revision of every config is kept for good. There is no foreign key to config, because this
-- history stays when the config is deleted.
CREATE TABLE headwater.config_revision (
    config      text COLLATE "C",
    revision    int,
    content     text NOT NULL,
    encoding    text NOT NULL,
    media_type  text NOT NULL,
    kind        text NOT NULL, -- as kind_of() says: an object merges, value and opaque replace
    digest      text NOT NULL, -- of the decoded bytes
    size        int NOT NULL,  -- of the decoded bytes
    message     text NOT NULL,
    author      text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (config, revision),
    CONSTRAINT config_revision_kind_is_known CHECK (kind IN ('object', 'value', 'opaque')),
    CONSTRAINT config_revision_digest_is_legal CHECK (headwater.is_digest(digest))
);
COMMENT ON TABLE headwater.config_revision IS 'Every revision that config ever had; append-only';

CREATE TABLE headwater.assignment (
    name        text COLLATE "C" PRIMARY KEY,
    config      text COLLATE "C" NOT NULL,
    node        text COLLATE "C", -- this one node,
    selector    jsonb,            -- or every node whose labels contain this; {} selects all nodes
    priority    int NOT NULL DEFAULT 0,
    revision    int,              -- null: the latest one
    version     bigint NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    CONSTRAINT assignment_name_is_legal CHECK (headwater.is_name(name)),
    CONSTRAINT assignment_target_is_one CHECK (num_nonnulls(node, selector) = 1),
    CONSTRAINT assignment_selector_is_object CHECK (jsonb_typeof(selector) = 'object'),
    CONSTRAINT assignment_config_exists FOREIGN KEY (config) REFERENCES headwater.config,
    CONSTRAINT assignment_node_exists FOREIGN KEY (node) REFERENCES headwater.node
        ON DELETE CASCADE,
    CONSTRAINT assignment_revision_exists FOREIGN KEY (config, revision)
        REFERENCES headwater.config_revision
);
COMMENT ON TABLE headwater.assignment
    IS 'Which config goes to which nodes, and in which order they merge';
CREATE INDEX assignment_config ON headwater.assignment (config, revision);
CREATE INDEX assignment_node ON headwater.assignment (node) WHERE node IS NOT NULL;
CREATE INDEX assignment_selector ON headwater.assignment (name) WHERE selector IS NOT NULL;

-- ---- the log of changes -------------------------------------------------------------------------

CREATE TABLE headwater.changelog (
    rev              bigint PRIMARY KEY,
    -- A database that was restored from a backup uses a rev again, but with another nonce.
    nonce            uuid NOT NULL DEFAULT gen_random_uuid(),
    xid              xid8 NOT NULL,
    author           text NOT NULL,
    application_name text NOT NULL,
    at               timestamptz NOT NULL, -- start of the transaction
    message          text
);
COMMENT ON TABLE headwater.changelog
    IS 'One row per transaction that changed configuration; append-only';

-- This table has one row. All writers take its lock, which puts them in one order (lock_head() says
-- more). The columns xid and at name the transaction that took rev, the last two the one that locked
-- the row.
CREATE TABLE headwater.changelog_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    rev      bigint NOT NULL DEFAULT 0,
    xid      xid8,
    at       timestamptz,
    locked_xid xid8,
    locked_at  timestamptz
) WITH (fillfactor = 10);
COMMENT ON TABLE headwater.changelog_head IS 'The last rev; its row lock serialises writers';
INSERT INTO headwater.changelog_head DEFAULT VALUES;

-- ---- what nodes should run ----------------------------------------------------------------------

CREATE TABLE headwater.blob (
    digest     text COLLATE "C" PRIMARY KEY,
    encoding   text NOT NULL,
    content    text NOT NULL,
    size       int NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT blob_digest_is_legal CHECK (headwater.is_digest(digest)),
    CONSTRAINT blob_size_limit CHECK (size BETWEEN 0 AND headwater.size_limit())
);
COMMENT ON TABLE headwater.blob IS 'The documents that nodes fetch, by digest; append-only';

-- The stream of changes carries this table to the reconciler. It has no foreign key to node,
-- because TRUNCATE node CASCADE would then empty it without a row in the stream. Half of each page
-- stays free, so that the new versions of rows fit on their pages when the whole fleet changes, and
-- no index does.
CREATE TABLE headwater.desired (
    node       text COLLATE "C" PRIMARY KEY,
    revision   bigint NOT NULL, -- grows by 1 when digest or media_type changes
    digest     text COLLATE "C" NOT NULL,
    size       int NOT NULL,
    media_type text NOT NULL,
    sources    jsonb NOT NULL, -- [{"config", "revision", "assignment"}], lowest priority first
    changed_at timestamptz NOT NULL,
    wal_lsn    pg_lsn NOT NULL, -- at or before the commit that made this revision
    -- The node's entry in NATS lists all sources, and must stay well below 1 MiB.
    CONSTRAINT desired_sources_limit CHECK (jsonb_array_length(sources) <= 1024)
) WITH (fillfactor = 50);
COMMENT ON TABLE headwater.desired
    IS 'What each node should run; kept by triggers, in the writer''s transaction';

-- A value stored out of line is missing in the logical stream when an UPDATE does not change it. So
-- the short columns always stay in the row. The sources are compressed and kept in the row where
-- possible, and whatever UPDATE touches a large row makes all of it anew: a value that was read and
-- written again is no pointer any more.
ALTER TABLE headwater.desired
    ALTER COLUMN node SET STORAGE PLAIN,
    ALTER COLUMN digest SET STORAGE PLAIN,
    ALTER COLUMN media_type SET STORAGE PLAIN,
    ALTER COLUMN sources SET STORAGE MAIN;

CREATE FUNCTION headwater.whole_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    RETURN jsonb_populate_record(NEW, to_jsonb(NEW));
END
$$;

-- Only what is larger than this may be out of line; the smaller ones, nearly all, cost no call.
CREATE TRIGGER whole_row BEFORE UPDATE ON headwater.desired FOR EACH ROW
    WHEN (pg_column_size(NEW.sources) > 1000) EXECUTE FUNCTION headwater.whole_row();
ALTER TABLE headwater.desired ENABLE ALWAYS TRIGGER whole_row;

CREATE TABLE headwater.desired_history (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node       text COLLATE "C" NOT NULL,
    revision   bigint NOT NULL,
    digest     text COLLATE "C", -- null: the row of desired went, which had this revision
    media_type text,
    size       int,
    sources    jsonb NOT NULL,
    rev        bigint NOT NULL, -- of changelog
    changed_at timestamptz NOT NULL,
    wal_lsn    pg_lsn NOT NULL
);
COMMENT ON TABLE headwater.desired_history IS 'Every change of desired; append-only';
CREATE INDEX desired_history_node ON headwater.desired_history (node, id);
CREATE INDEX desired_history_rev ON headwater.desired_history (rev);

-- ---- what nodes run -----------------------------------------------------------------------------

-- There is no foreign key to node, because a report may come before its node is registered.
CREATE TABLE headwater.reported (
    node               text COLLATE "C" PRIMARY KEY,
    state              text NOT NULL,
    running_revision   bigint,
    running_digest     text,
    running_epoch      bigint,
    running_lsn        pg_lsn,
    running_applied_at timestamptz,
    failed_revision    bigint,
    failed_digest      text,
    failed_epoch       bigint,
    failed_lsn         pg_lsn,
    failed_stage       text,
    failed_error       text,
    failed_at          timestamptz,
    desired_revision   bigint,
    agent              text,
    boot_id            text,
    reported_at        timestamptz,
    kv_created         timestamptz NOT NULL, -- when the bucket was made; a new one counts from 1
    kv_revision        bigint NOT NULL,
    received_at        timestamptz NOT NULL DEFAULT now(),
    held               jsonb, -- {"since", "reason", "waiting"}; null: the node holds nothing back
    drift              jsonb, -- {"at", "healed", "error"}; null: none since the last apply
    heartbeat          real,  -- seconds between two signs of life; null: the node gives none
    instance           text,  -- the agent's, which it draws at each start; null: an old agent
    paced_until        timestamptz, -- from then on the history owes the node its whole room
    left_out           bigint NOT NULL DEFAULT 0, -- changes since the last row of the history
    free_revision      bigint, -- the newest that was recorded though there was no room
    CONSTRAINT reported_node_is_legal CHECK (headwater.is_name(node)),
    CONSTRAINT reported_state_is_known CHECK (state IN ('applied', 'failed', 'rejected')),
    CONSTRAINT reported_running_digest_is_legal CHECK (headwater.is_digest(running_digest)),
    CONSTRAINT reported_failed_digest_is_legal CHECK (headwater.is_digest(failed_digest)),
    CONSTRAINT reported_instance_is_legal CHECK (headwater.is_name(instance)),
    CONSTRAINT reported_kv_revision_is_positive CHECK (kv_revision > 0),
    CONSTRAINT reported_held_is_object CHECK (jsonb_typeof(held) = 'object'),
    CONSTRAINT reported_drift_is_object CHECK (jsonb_typeof(drift) = 'object'),
    CONSTRAINT reported_heartbeat_is_positive CHECK (heartbeat > 0)
);
COMMENT ON TABLE headwater.reported IS 'What each node said last; written by headwater.report()';
CREATE INDEX reported_left_out ON headwater.reported (node) WHERE left_out > 0;

CREATE TABLE headwater.reported_history (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- see reported_head
    node               text COLLATE "C" NOT NULL,
    state              text, -- null: the report was deleted with its node
    running_revision   bigint,
    running_digest     text,
    running_epoch      bigint,
    running_lsn        pg_lsn,
    running_applied_at timestamptz,
    failed_revision    bigint,
    failed_digest      text,
    failed_epoch       bigint,
    failed_lsn         pg_lsn,
    failed_stage       text,
    failed_error       text,
    failed_at          timestamptz,
    desired_revision   bigint,
    agent              text,
    boot_id            text,
    reported_at        timestamptz,
    held               jsonb,
    drift              jsonb,
    received_at        timestamptz,
    recorded_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- A position at or before the commit.
    wal_lsn            pg_lsn NOT NULL DEFAULT pg_current_wal_insert_lsn(),
    heartbeat          real,
    -- {"instances", "since"} where a conflict begins, with "until" where it ends; null: a report
    conflict           jsonb,
    left_out           bigint NOT NULL DEFAULT 0 -- changes before this one without a row
);
COMMENT ON TABLE headwater.reported_history
    IS 'Changes of what a node reported: state, running, failed, held, drift; append-only';
CREATE INDEX reported_history_node ON headwater.reported_history (node, id);

-- This table has one row, which never changes. Whoever writes reported holds the row's lock to the
-- end of the transaction. Therefore the ids of reported_history become visible in their order: a
-- reader who has seen an id has seen all smaller ones. The lock on changelog_head does the same for
-- desired_history.
CREATE TABLE headwater.reported_head (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row));
COMMENT ON TABLE headwater.reported_head
    IS 'Its row lock puts those who write reports in one order';
INSERT INTO headwater.reported_head DEFAULT VALUES;

-- ---- history stays ------------------------------------------------------------------------------

-- The triggers of this project are ENABLE ALWAYS: they fire also where session_replication_role is
-- replica.
DO $$
DECLARE
    relation text;
BEGIN
    FOREACH relation IN ARRAY ARRAY['config_revision', 'desired_history', 'reported_history',
                                    'changelog', 'blob'] LOOP
        EXECUTE replace($sql$
            CREATE TRIGGER is_kept BEFORE UPDATE OR DELETE OR TRUNCATE
                ON headwater.% FOR EACH STATEMENT
                EXECUTE FUNCTION headwater.refuse_change('it is history, which only grows');
            ALTER TABLE headwater.% ENABLE ALWAYS TRIGGER is_kept;
            $sql$, '%', relation);
    END LOOP;
END
$$;

CREATE TRIGGER is_kept BEFORE DELETE OR TRUNCATE
    ON headwater.changelog_head FOR EACH STATEMENT
    EXECUTE FUNCTION headwater.refuse_change('all writers wait for its one row');
ALTER TABLE headwater.changelog_head ENABLE ALWAYS TRIGGER is_kept;

CREATE TRIGGER is_kept BEFORE DELETE OR TRUNCATE
    ON headwater.reported_head FOR EACH STATEMENT
    EXECUTE FUNCTION headwater.refuse_change('whoever writes reports waits for its one row');
ALTER TABLE headwater.reported_head ENABLE ALWAYS TRIGGER is_kept;

CREATE TRIGGER is_kept BEFORE TRUNCATE
    ON headwater.desired FOR EACH STATEMENT
    EXECUTE FUNCTION headwater.refuse_change('it follows from node, config and assignment');
ALTER TABLE headwater.desired ENABLE ALWAYS TRIGGER is_kept;

GRANT SELECT ON
    headwater.node, headwater.config, headwater.config_revision, headwater.assignment,
    headwater.changelog, headwater.changelog_head, headwater.blob, headwater.desired,
    headwater.desired_history, headwater.reported, headwater.reported_history,
    headwater.reported_head
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT INSERT, UPDATE, DELETE, TRUNCATE ON
    headwater.node, headwater.config, headwater.assignment
    TO headwater_dba;
GRANT INSERT, UPDATE, DELETE ON
    headwater.node, headwater.config, headwater.assignment
    TO headwater_api;

COMMIT;
