-- What nodes propose: new content for a config, which a person approves or rejects.
--
-- A proposal is based on a revision of the config, the one that the node saw. It can be approved
-- only while that is the newest revision; when the config goes on, the proposals that wait on top
-- of the old revision are in conflict. What becomes of its proposals is told to the node by its row
-- of decided, which travels to NATS by the stream of changes, as the rows of desired do.

BEGIN;
SET LOCAL ROLE headwater_owner;
INSERT INTO headwater.migration (version, name) VALUES (12, 'proposals');

CREATE TABLE headwater.proposal (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node          text COLLATE "C" NOT NULL,
    ref           text COLLATE "C" NOT NULL, -- the node's name for it; a repetition has the same
    config        text COLLATE "C",          -- the config to change; null: it could not be read
    base_revision int,                       -- the revision of the config that the node saw
    content       text, -- null: it was refused, or decided on long ago
    encoding      text,
    media_type    text,
    digest        text, -- of the decoded bytes
    size          int,
    message       text NOT NULL DEFAULT '', -- why, in the words of the node
    state         text NOT NULL,
    proposed_at   timestamptz NOT NULL DEFAULT headwater.now(),
    decided_at    timestamptz,
    decided_by    text,
    reason        text NOT NULL DEFAULT '',
    revision      int,             -- the revision of the config that the approval made
    version       bigint NOT NULL, -- changelog.rev of its last change of state; a trigger sets it
    CONSTRAINT proposal_ref_is_unique UNIQUE (node, ref),
    CONSTRAINT proposal_state_is_known
        CHECK (state IN ('pending', 'approved', 'rejected', 'conflict', 'refused')),
    CONSTRAINT proposal_pending_is_whole
        CHECK (state <> 'pending' OR num_nulls(config, base_revision, content, encoding,
                                               media_type, digest, size) = 0)
);
COMMENT ON TABLE headwater.proposal
    IS 'What nodes propose, and what became of it; written by propose(), approve() and reject()';
CREATE INDEX proposal_node ON headwater.proposal (node, id);
CREATE INDEX proposal_pending ON headwater.proposal (config) WHERE state = 'pending';

-- What a node is told about its proposals, in one row. The stream of changes carries the row to the
-- node's key in NATS, so the row is stored whole at each UPDATE, as a row of desired is.
CREATE TABLE headwater.decided (
    node       text COLLATE "C" PRIMARY KEY,
    decisions  jsonb NOT NULL, -- as decisions_of() makes them
    changed_at timestamptz NOT NULL
);
COMMENT ON TABLE headwater.decided
    IS 'What each node is told about its proposals; kept by triggers on proposal';
ALTER TABLE headwater.decided
    ALTER COLUMN node SET STORAGE PLAIN,
    ALTER COLUMN decisions SET STORAGE MAIN;

CREATE TRIGGER whole_row BEFORE UPDATE ON headwater.decided FOR EACH ROW
    WHEN (pg_column_size(NEW.decisions) > 1000) EXECUTE FUNCTION headwater.whole_row();
ALTER TABLE headwater.decided ENABLE ALWAYS TRIGGER whole_row;

-- Limits for one node: the bytes of a content (512 KiB), the proposals that wait for a decision,
-- and the proposals within an hour. A node that proposes more than twice the last number is
-- ignored: not even a refusal is written.
CREATE FUNCTION headwater.proposal_size_limit() RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 524288;

CREATE FUNCTION headwater.proposal_pending_limit() RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 8;

CREATE FUNCTION headwater.proposal_rate_limit() RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 60;

-- ---- what a node is told ------------------------------------------------------------------------

-- The decisions about the node's newest 32 proposals, newest last: [{"ref", "id", "config",
-- "base_revision", "state", …}]. That is more than can wait, and more than an agent keeps.
CREATE FUNCTION headwater.decisions_of(node text) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'ref', n.ref, 'id', n.id, 'config', n.config, 'base_revision', n.base_revision,
               'state', n.state, 'reason', left(n.reason, 500), 'revision', n.revision,
               'decided_at', to_char(n.decided_at AT TIME ZONE 'UTC',
                                     'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) ORDER BY n.id), '[]')
    FROM (SELECT p.* FROM proposal AS p WHERE p.node = decisions_of.node
          ORDER BY p.id DESC LIMIT 32) AS n
$$;

CREATE FUNCTION headwater.proposal_before_row() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    NEW.version := (SELECT rev FROM own_rev);
    RETURN NEW;
END
$$;

-- A change of what a node is told gets a row of the changelog, as a change of desired does. The rev
-- gives both their place in one order.
CREATE FUNCTION headwater.proposal_after() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    INSERT INTO decided AS d (node, decisions, changed_at)
    SELECT n.node, decisions_of(n.node), clock_timestamp()
    FROM (SELECT DISTINCT a.node FROM after_rows AS a) AS n
    ON CONFLICT (node) DO UPDATE
    SET decisions = excluded.decisions, changed_at = excluded.changed_at
    WHERE d.decisions IS DISTINCT FROM excluded.decisions;
    IF FOUND THEN
        PERFORM log_change();
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER before_write BEFORE INSERT OR UPDATE OR DELETE
    ON headwater.proposal FOR EACH STATEMENT EXECUTE FUNCTION headwater.before_write();
CREATE TRIGGER before_row BEFORE INSERT OR UPDATE OF state, revision
    ON headwater.proposal FOR EACH ROW EXECUTE FUNCTION headwater.proposal_before_row();
CREATE TRIGGER after_insert AFTER INSERT
    ON headwater.proposal REFERENCING NEW TABLE AS after_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headwater.proposal_after();
CREATE TRIGGER after_update AFTER UPDATE
    ON headwater.proposal REFERENCING NEW TABLE AS after_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headwater.proposal_after();
CREATE TRIGGER is_kept BEFORE TRUNCATE
    ON headwater.proposal FOR EACH STATEMENT
    EXECUTE FUNCTION headwater.refuse_change('nodes are told what became of each');
CREATE TRIGGER is_kept BEFORE TRUNCATE
    ON headwater.decided FOR EACH STATEMENT
    EXECUTE FUNCTION headwater.refuse_change('it follows from proposal');
ALTER TABLE headwater.proposal
    ENABLE ALWAYS TRIGGER before_write, ENABLE ALWAYS TRIGGER before_row,
    ENABLE ALWAYS TRIGGER after_insert, ENABLE ALWAYS TRIGGER after_update,
    ENABLE ALWAYS TRIGGER is_kept;
ALTER TABLE headwater.decided ENABLE ALWAYS TRIGGER is_kept;

-- ---- when the config goes on, or the node goes --------------------------------------------------

CREATE FUNCTION headwater.stale_base(config text, base int, newest int) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN newest IS NULL THEN format('config "%s" is gone', config)
    ELSE format('it is based on revision %s of config "%s", which is at revision %s',
                base, config, newest) END;

-- When a config gets another revision or is deleted, the proposals that wait on top of an older one
-- are in conflict, and their nodes are told.
CREATE FUNCTION headwater.config_proposals() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        IF EXISTS (SELECT FROM proposal AS p WHERE p.state = 'pending') THEN
            UPDATE proposal AS p
            SET state = 'conflict', decided_at = now(), decided_by = author(),
                reason = stale_base(p.config, p.base_revision, NULL)
            WHERE p.state = 'pending';
        END IF;
    ELSIF EXISTS (SELECT FROM before_rows AS b JOIN proposal AS p ON p.config = b.name
                  WHERE p.state = 'pending') THEN
        UPDATE proposal AS p
        SET state = 'conflict', decided_at = now(), decided_by = author(),
            reason = stale_base(p.config, p.base_revision, c.revision)
        FROM before_rows AS b LEFT JOIN config AS c ON c.name = b.name
        WHERE p.config = b.name AND p.state = 'pending'
          AND c.revision IS DISTINCT FROM p.base_revision;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER proposals_update AFTER UPDATE
    ON headwater.config REFERENCING OLD TABLE AS before_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headwater.config_proposals();
CREATE TRIGGER proposals_delete AFTER DELETE
    ON headwater.config REFERENCING OLD TABLE AS before_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headwater.config_proposals();
CREATE TRIGGER proposals_truncate AFTER TRUNCATE
    ON headwater.config FOR EACH STATEMENT EXECUTE FUNCTION headwater.config_proposals();
ALTER TABLE headwater.config
    ENABLE ALWAYS TRIGGER proposals_update, ENABLE ALWAYS TRIGGER proposals_delete,
    ENABLE ALWAYS TRIGGER proposals_truncate;

-- The deletion of a node deletes what it proposed, and what it was told.
CREATE FUNCTION headwater.node_proposals() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM proposal;
        DELETE FROM decided;
    ELSE
        DELETE FROM proposal AS p USING before_rows AS b WHERE p.node = b.name;
        DELETE FROM decided AS d USING before_rows AS b WHERE d.node = b.name;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER proposals_delete AFTER DELETE
    ON headwater.node REFERENCING OLD TABLE AS before_rows
    FOR EACH STATEMENT EXECUTE FUNCTION headwater.node_proposals();
CREATE TRIGGER proposals_truncate AFTER TRUNCATE
    ON headwater.node FOR EACH STATEMENT EXECUTE FUNCTION headwater.node_proposals();
ALTER TABLE headwater.node
    ENABLE ALWAYS TRIGGER proposals_delete, ENABLE ALWAYS TRIGGER proposals_truncate;

-- ---- taking proposals ---------------------------------------------------------------------------

-- Says why this content cannot become the config's; null when nothing about the content speaks
-- against it.
CREATE FUNCTION headwater.proposal_problem(config headwater.config, content text, encoding text,
                                           media_type text) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    bytes bytea;
BEGIN
    bytes := bytes_of(content, encoding);
    IF bytes IS NULL OR encoding NOT IN ('utf-8', 'base64') THEN
        RETURN 'it has no content, or one in an encoding that is neither utf-8 nor base64';
    ELSIF length(bytes) > proposal_size_limit() THEN
        RETURN format('content is %s bytes; the limit is 512 KiB (%s bytes)', length(bytes),
                      proposal_size_limit());
    ELSIF NOT is_media_type(media_type) THEN
        RETURN format('media type "%s" is not legal', left(media_type, 300));
    ELSIF config.schema IS NOT NULL AND NOT is_json_type(media_type) THEN
        RETURN format('config "%s" has a schema, so it must be JSON, not %s', config.name,
                      media_type);
    END IF;
    PERFORM kind_of(config.name, content, encoding, media_type);
    IF config.schema IS NOT NULL THEN
        PERFORM check_content(config.name, convert_from(bytes, 'UTF8')::jsonb, config.schema);
    END IF;
    RETURN NULL;
EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded
            OR statement_too_complex THEN
    RETURN SQLERRM;
END
$$;

-- Decides in which state a new proposal begins, and why. The argument problem says why it could not
-- be read, and recent how many the node made within an hour.
CREATE FUNCTION headwater.judge_proposal(INOUT p headwater.proposal, problem text, recent bigint)
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    target config;
BEGIN
    SELECT c.* INTO target FROM config AS c WHERE c.name = p.config;
    p.media_type := coalesce(p.media_type, target.media_type);
    p.state := 'refused';
    IF problem IS NOT NULL THEN
        p.reason := problem;
    ELSIF num_nulls(p.config, p.base_revision) > 0 THEN
        p.reason := 'it names no config, or no revision that it is based on';
    ELSIF recent >= proposal_rate_limit() THEN
        p.reason := format('more than %s proposals within an hour; try again later',
                           proposal_rate_limit());
    ELSIF (SELECT count(*) FROM proposal AS o WHERE o.node = p.node AND o.state = 'pending')
          >= proposal_pending_limit() THEN
        p.reason := format('%s proposals of this node wait for a decision; that is the limit',
                           proposal_pending_limit());
    ELSIF NOT EXISTS (SELECT FROM node AS n JOIN assignment AS a
                      ON a.node = n.name OR n.labels @> a.selector
                      WHERE n.name = p.node AND a.config = p.config) THEN
        p.reason := format('no assignment gives config "%s" to this node', p.config);
    ELSE
        p.reason := coalesce(proposal_problem(target, p.content, p.encoding, p.media_type), '');
        IF p.reason = '' AND target.revision <> p.base_revision THEN
            p.state := 'conflict';
            p.reason := stale_base(p.config, p.base_revision, target.revision);
        ELSIF p.reason = '' THEN
            p.state := 'pending';
        END IF;
    END IF;
    IF p.state = 'refused' THEN
        p.content := NULL;
        p.media_type := left(p.media_type, 255);
    ELSE
        p.digest := digest_of(bytes_of(p.content, p.encoding));
        p.size := length(bytes_of(p.content, p.encoding));
    END IF;
    IF p.state <> 'pending' THEN
        p.decided_at := now();
        p.decided_by := author();
    END IF;
END
$$;

-- The reconciler calls this with an array of {"node", "ref", "config", "base_revision", "content",
-- "encoding", "media_type", "message", "problem"}. A media_type of null means that of the config,
-- and problem says why a proposal could not be read. Each pair of node and ref is taken once.
-- Returns a row for each proposal, in order, with its id and state. One without an id was not
-- taken, and may come again: its state is unknown (there is no such node) or ignored (the node
-- proposes far too much).
CREATE FUNCTION headwater.propose(proposals jsonb)
RETURNS TABLE (node text, ref text, id bigint, state text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    item record;
    p proposal;
    recent bigint;
BEGIN
    IF EXISTS (SELECT FROM jsonb_to_recordset(proposals) AS i (node text, ref text)
               WHERE NOT EXISTS (SELECT FROM proposal AS k
                                 WHERE (k.node, k.ref) = (i.node, i.ref))) THEN
        PERFORM lock_head();
    END IF;
    FOR item IN
        SELECT * FROM jsonb_to_recordset(proposals)
            AS i (node text, ref text, config text, base_revision int, content text,
                  encoding text, media_type text, message text, problem text)
    LOOP
        SELECT k.* INTO p FROM proposal AS k WHERE (k.node, k.ref) = (item.node, item.ref);
        IF NOT FOUND THEN
            recent := (SELECT count(*) FROM proposal AS k WHERE k.node = item.node
                       AND k.proposed_at > headwater.now() - interval '1 hour');
            IF NOT EXISTS (SELECT FROM node AS n WHERE n.name = item.node) THEN
                p.state := 'unknown';
            ELSIF recent >= 2 * proposal_rate_limit() THEN
                p.state := 'ignored';
            ELSE
                p := jsonb_populate_record(NULL::proposal, to_jsonb(item) - 'problem');
                p.message := left(coalesce(p.message, ''), 1024);
                p.reason := '';
                p := judge_proposal(p, item.problem, recent);
                INSERT INTO proposal
                    (node, ref, config, base_revision, content, encoding, media_type, digest,
                     size, message, state, decided_at, decided_by, reason)
                VALUES
                    (p.node, p.ref, p.config, p.base_revision, p.content, p.encoding,
                     p.media_type, p.digest, p.size, p.message, p.state, p.decided_at,
                     p.decided_by, left(p.reason, 4096))
                RETURNING * INTO p;
                -- The newest 200 proposals of a node are kept, the newest 16 with their content.
                DELETE FROM proposal AS k
                WHERE k.node = item.node AND k.state <> 'pending'
                  AND k.id < (SELECT o.id FROM proposal AS o WHERE o.node = item.node
                              ORDER BY o.id DESC OFFSET 199 LIMIT 1);
                UPDATE proposal AS k SET content = NULL
                WHERE k.node = item.node AND k.state <> 'pending' AND k.content IS NOT NULL
                  AND k.id < (SELECT o.id FROM proposal AS o WHERE o.node = item.node
                              ORDER BY o.id DESC OFFSET 15 LIMIT 1);
            END IF;
        END IF;
        node := item.node;
        ref := item.ref;
        id := p.id;
        state := p.state;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION headwater.propose(jsonb)
    IS 'Takes proposals of nodes into proposal, each (node, ref) once';

-- ---- deciding -----------------------------------------------------------------------------------

-- Returns the proposal, and locks it. One that does not wait for a decision is refused.
CREATE FUNCTION headwater.pending_proposal(id bigint) RETURNS headwater.proposal
LANGUAGE plpgsql
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    p proposal;
BEGIN
    PERFORM lock_head();
    SELECT k.* INTO p FROM proposal AS k WHERE k.id = pending_proposal.id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no proposal %', id
            USING ERRCODE = 'no_data_found',
                  HINT = 'SELECT * FROM headwater.proposal lists them.';
    ELSIF p.state = 'conflict' THEN
        RAISE EXCEPTION 'proposal % is in conflict: %', id, p.reason
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  CONSTRAINT = 'proposal_base_is_newest', SCHEMA = 'headwater',
                  TABLE = 'proposal',
                  HINT = 'The node was told, and may propose again on top of what there is.';
    ELSIF p.state <> 'pending' THEN
        RAISE EXCEPTION 'proposal % is % already, by % at %', id, p.state, p.decided_by,
            p.decided_at
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  CONSTRAINT = 'proposal_is_pending', SCHEMA = 'headwater', TABLE = 'proposal',
                  HINT = 'A proposal is decided on once.';
    END IF;
    RETURN p;
END
$$;

-- Makes the proposed content the config's next revision, and returns that. It is refused when the
-- config went on since the node saw it.
CREATE FUNCTION headwater.approve(id bigint, reason text DEFAULT '') RETURNS int
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    p CONSTANT proposal := pending_proposal(id);
    before CONSTANT text := current_setting('headwater.message', true);
    why CONSTANT text := concat_ws(': ', format('proposal %s of node %s', p.id, p.node),
                                   nullif(approve.reason, ''), nullif(p.message, ''));
    made int;
BEGIN
    -- This comes before the change of the config, which puts all proposals that wait into conflict.
    UPDATE proposal AS k
    SET state = 'approved', decided_at = now(), decided_by = author(),
        reason = left(coalesce(approve.reason, ''), 4096)
    WHERE k.id = p.id;
    IF message() IS NULL THEN
        PERFORM set_config('headwater.message', why, true);
    END IF;
    UPDATE config AS c
    SET content = p.content, encoding = p.encoding, media_type = p.media_type, message = why
    WHERE c.name = p.config AND c.revision = p.base_revision
    RETURNING c.revision INTO made;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'proposal % is in conflict: %', p.id, stale_base(p.config, p.base_revision,
            (SELECT c.revision FROM config AS c WHERE c.name = p.config))
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  CONSTRAINT = 'proposal_base_is_newest', SCHEMA = 'headwater',
                  TABLE = 'proposal';
    END IF;
    UPDATE proposal AS k SET revision = made WHERE k.id = p.id;
    INSERT INTO audit (rev, author, application_name, message, kind, name, action, new_digest)
    VALUES ((SELECT rev FROM own_rev), author(), current_setting('application_name'), message(),
            'proposal', p.id::text, 'approve', p.digest);
    PERFORM set_config('headwater.message', coalesce(before, ''), true);
    RETURN made;
END
$$;
COMMENT ON FUNCTION headwater.approve(bigint, text)
    IS 'Makes a proposal the next revision of its config; refused where its base is not the newest';

CREATE FUNCTION headwater.reject(id bigint, reason text DEFAULT '') RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, headwater, pg_temp
AS $$
DECLARE
    p CONSTANT proposal := pending_proposal(id);
BEGIN
    UPDATE proposal AS k
    SET state = 'rejected', decided_at = now(), decided_by = author(),
        reason = left(coalesce(reject.reason, ''), 4096)
    WHERE k.id = p.id;
    INSERT INTO audit (rev, author, application_name, message, kind, name, action)
    VALUES ((SELECT rev FROM own_rev), author(), current_setting('application_name'),
            coalesce(message(), nullif(left(reject.reason, 4096), '')), 'proposal', p.id::text,
            'reject');
END
$$;
COMMENT ON FUNCTION headwater.reject(bigint, text) IS 'Ends a proposal without a change';

GRANT SELECT ON headwater.proposal, headwater.decided
    TO headwater_dba, headwater_api, headwater_reconciler, headwater_viewer;
GRANT EXECUTE ON FUNCTION headwater.approve(bigint, text), headwater.reject(bigint, text)
    TO headwater_dba, headwater_api;
GRANT EXECUTE ON FUNCTION headwater.propose(jsonb) TO headwater_reconciler;

COMMIT;
