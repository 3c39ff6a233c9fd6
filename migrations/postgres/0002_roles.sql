-- +goose Up

-- Only a table's owner can add or drop its partitions. These two functions do it
-- with the owner's rights and nothing else, so that the collector's own role
-- owns nothing (collector migrate --grant-writer). The release before goes on
-- without them, as the owner.

-- Adds the partition of bucket for the month of UTC that begins at first, in
-- Unix seconds. CREATE TABLE … PARTITION OF would lock bucket against everybody;
-- ATTACH PARTITION lets reads and appends go on, and finds in the check that
-- there is nothing to scan.
-- +goose StatementBegin
CREATE FUNCTION add_month(first bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '1s' AS $$
DECLARE
    month timestamp := to_timestamp(first) AT TIME ZONE 'UTC';
    until bigint    := extract(epoch FROM month + interval '1 month');
    name  text      := to_char(month, '"bucket_"YYYY_MM');
BEGIN
    IF month <> date_trunc('month', month) THEN
        RAISE EXCEPTION 'a partition of bucket is a month of UTC; none begins at %', month USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('CREATE TABLE %1$I (LIKE bucket INCLUDING ALL,
        CONSTRAINT %2$I CHECK (window_start >= %3$s AND window_start < %4$s AND window_end <= %4$s))', name, name || '_window', first, until);
    EXECUTE format('ALTER TABLE bucket ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', name, first, until);
END
$$;
-- +goose StatementEnd

-- Drops the partition for the month that begins at first and raises the floor,
-- if leader is the newest term; false, and nothing changed, if it is not. It
-- takes the table's lock before that of the log's row, as an append does: the
-- other way round the two could wait for each other. While it waits for a
-- snapshot to finish, appends and readers queue behind it, so it waits for one
-- second and leaves the rest to the next attempt.
-- +goose StatementBegin
CREATE FUNCTION drop_month(leader bigint, first bigint) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '1s' AS $$
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
    EXECUTE format('SELECT revision, chain FROM %I ORDER BY revision DESC LIMIT 1', name) INTO newest;
    UPDATE log SET floor = greatest(floor, newest.revision),
        floor_chain = CASE WHEN newest.revision > floor THEN newest.chain ELSE floor_chain END
    WHERE term = leader;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE %I', name);
    RETURN true;
END
$$;
-- +goose StatementEnd

-- A function that runs with its owner's rights must find the owner's tables and
-- nobody else's, whatever the caller's search_path. pg_temp would come first if
-- it were not named last.
-- +goose StatementBegin
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION add_month(bigint) SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION drop_month(bigint, bigint) SET search_path = %I, pg_temp', current_schema());
END
$$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION add_month(bigint), drop_month(bigint, bigint) FROM PUBLIC;

UPDATE schema SET version = 2, oldest_compatible = 1;
