-- +goose Up

-- ListBuckets with as_restated looks up the newest restatement of each bucket of a page.
CREATE INDEX event_restated ON event (dataset, window_start, scope_kind, scope_id, revision) WHERE kind = 5;

-- Replaces the restatements of windows that end at or before a time, up to which
-- retention has dropped the buckets, by events of kind 6, if leader is the newest term;
-- false, and nothing changed, if it is not. forget_dropped removes those that are old
-- enough.
-- +goose StatementBegin
CREATE FUNCTION drop_restatements(leader bigint, before bigint) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '1s' AS $$
BEGIN
    IF NOT raise_floor(leader, 0, ''::bytea) THEN -- which leaves the floor, and holds the term
        RETURN false;
    END IF;
    WITH gone AS (DELETE FROM event e WHERE e.kind = 5 AND e.window_end <= before RETURNING e.*)
    INSERT INTO event (kind, revision, dataset, scope_kind, scope_id, window_start, window_end, committed_at,
            sample_interval, row_count, finality, origin, variant, chain, checksum, payload)
        SELECT 6, revision, dataset, scope_kind, scope_id, window_start, window_end, committed_at,
            sample_interval, row_count, finality, origin, variant, chain, sha256(''::bytea), ''::bytea FROM gone;
    RETURN true;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION drop_restatements(bigint, bigint) SET search_path = %I, pg_temp', current_schema());
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION drop_restatements(bigint, bigint) FROM PUBLIC;

-- Who could drop months still can.
-- +goose StatementBegin
DO $$
DECLARE
    writer text;
BEGIN
    FOR writer IN SELECT DISTINCT a.grantee::regrole::text FROM pg_proc p, aclexplode(p.proacl) a
        WHERE p.oid = 'drop_month(bigint, bigint, timestamptz)'::regprocedure AND a.privilege_type = 'EXECUTE' AND a.grantee <> 0
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION drop_restatements(bigint, bigint) TO %s', writer);
    END LOOP;
END
$$;
-- +goose StatementEnd

CREATE OR REPLACE VIEW event_view AS
SELECT revision,
       CASE kind WHEN 2 THEN 'dataset version' WHEN 3 THEN 'gap decision' WHEN 4 THEN 'state' WHEN 5 THEN 'restatement' WHEN 6 THEN 'dropped' WHEN 7 THEN 'audit event' END AS kind,
       dataset,
       CASE scope_kind WHEN 1 THEN 'zone' WHEN 2 THEN 'account' END AS scope,
       encode(scope_id, 'hex') AS scope_id,
       CASE WHEN window_start <> 0 THEN to_timestamp(window_start) END AS window_start,
       committed_at,
       octet_length(payload) AS payload_bytes,
       sha256(payload) = checksum AS intact
FROM event;

UPDATE schema SET version = 4, oldest_compatible = 1;
