-- +goose Up

-- Retention drops months of windows. A window that came late has a high revision,
-- and raising the floor to it would send everybody who follows the log back to a
-- snapshot. So a bucket that was committed lately leaves an event of kind 6 in its
-- place, without content, until it is old enough to be forgotten. A release before
-- takes such an event for another history, and sends who comes to it to a snapshot.

-- Raises the floor to a revision of which nothing before is needed, if leader is the
-- newest term; false, and nothing changed, if it is not.
-- +goose StatementBegin
CREATE FUNCTION raise_floor(leader bigint, revision bigint, chain bytea) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE log SET floor = greatest(floor, $2), floor_chain = CASE WHEN $2 > floor THEN $3 ELSE floor_chain END
    WHERE term = leader;
    RETURN FOUND;
END
$$;
-- +goose StatementEnd

-- As drop_month with two arguments, which the release before calls. Buckets that
-- were committed after forget leave an event.
-- +goose StatementBegin
CREATE FUNCTION drop_month(leader bigint, first bigint, forget timestamptz) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '1s' AS $$
DECLARE
    name   text := to_char(to_timestamp(first) AT TIME ZONE 'UTC', '"bucket_"YYYY_MM');
    newest record;
BEGIN
    LOCK TABLE ONLY bucket IN ACCESS EXCLUSIVE MODE;
    -- Only what is a partition, not a table that somebody detached and kept.
    IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'bucket'::regclass AND inhrelid = to_regclass(name)) THEN
        RETURN EXISTS (SELECT FROM log WHERE term = leader);
    END IF;
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', name);
    EXECUTE format('SELECT revision, chain FROM %I WHERE committed_at <= $1 ORDER BY revision DESC LIMIT 1', name) INTO newest USING forget;
    IF NOT raise_floor(leader, newest.revision, newest.chain) THEN
        RETURN false;
    END IF;
    EXECUTE format('INSERT INTO event (kind, revision, dataset, scope_kind, scope_id, window_start, window_end, committed_at,
            sample_interval, row_count, finality, origin, variant, chain, checksum, payload)
        SELECT 6, revision, dataset, scope_kind, scope_id, window_start, window_end, committed_at,
            sample_interval, row_count, finality, origin, variant, chain, sha256(''''::bytea), ''''::bytea FROM %I WHERE committed_at > $1', name) USING forget;
    EXECUTE format('DROP TABLE %I', name);
    RETURN true;
END
$$;
-- +goose StatementEnd

-- Removes events of kind 6 that were committed at or before forget, and raises the
-- floor to the newest of them, if leader is the newest term.
-- +goose StatementBegin
CREATE FUNCTION forget_dropped(leader bigint, forget timestamptz) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '1s' AS $$
DECLARE
    newest record;
BEGIN
    SELECT e.revision, e.chain FROM event e WHERE e.kind = 6 AND e.committed_at <= forget ORDER BY e.revision DESC LIMIT 1 INTO newest;
    IF NOT raise_floor(leader, newest.revision, newest.chain) THEN
        RETURN false;
    END IF;
    DELETE FROM event e WHERE e.kind = 6 AND e.committed_at <= forget;
    RETURN true;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION raise_floor(bigint, bigint, bytea) SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION drop_month(bigint, bigint, timestamptz) SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION forget_dropped(bigint, timestamptz) SET search_path = %I, pg_temp', current_schema());
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION raise_floor(bigint, bigint, bytea), drop_month(bigint, bigint, timestamptz), forget_dropped(bigint, timestamptz) FROM PUBLIC;

-- Who could drop months still can.
-- +goose StatementBegin
DO $$
DECLARE
    writer text;
BEGIN
    FOR writer IN SELECT DISTINCT a.grantee::regrole::text FROM pg_proc p, aclexplode(p.proacl) a
        WHERE p.oid = 'drop_month(bigint, bigint)'::regprocedure AND a.privilege_type = 'EXECUTE' AND a.grantee <> 0
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION drop_month(bigint, bigint, timestamptz), forget_dropped(bigint, timestamptz) TO %s', writer);
    END LOOP;
END
$$;
-- +goose StatementEnd

UPDATE schema SET version = 3, oldest_compatible = 1;
