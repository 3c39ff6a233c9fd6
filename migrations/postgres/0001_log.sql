-- +goose Up

-- One row. A binary for migration N runs here if version >= N and
-- oldest_compatible <= N.
CREATE TABLE schema (
    one               boolean PRIMARY KEY DEFAULT true CHECK (one),
    version           integer NOT NULL,
    oldest_compatible integer NOT NULL CHECK (oldest_compatible <= version)
);
INSERT INTO schema (version, oldest_compatible) VALUES (0, 0);

-- One row: lease, counter and the store's own properties. Every append updates
-- it first, so its row lock puts the appends in order and its term decides who
-- may append.
CREATE TABLE log (
    one              boolean PRIMARY KEY DEFAULT true CHECK (one),
    store_id         text NOT NULL,
    sample_timestamp text NOT NULL CHECK (sample_timestamp IN ('end', 'start')),
    simulated        boolean NOT NULL,
    head             bigint NOT NULL DEFAULT 0,
    chain            bytea NOT NULL CHECK (octet_length(chain) = 16),
    committed_at     timestamptz,
    progress_at      timestamptz,
    floor            bigint NOT NULL DEFAULT 0 CHECK (floor BETWEEN 0 AND head),
    floor_chain      bytea NOT NULL CHECK (octet_length(floor_chain) = 16),
    term             bigint NOT NULL DEFAULT 0,
    holder           text NOT NULL DEFAULT '',
    expires_at       timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now()
);

-- Buckets, partitioned by month of their window's start (Unix seconds, UTC).
-- The collector attaches partitions before it needs them. There is no default
-- partition on purpose: attaching beside one locks and scans it.
CREATE TABLE bucket (
    revision        bigint NOT NULL,
    dataset         text COLLATE "C" NOT NULL,
    scope_kind      smallint NOT NULL CHECK (scope_kind IN (1, 2)),
    scope_id        bytea NOT NULL CHECK (octet_length(scope_id) = 16),
    window_start    bigint NOT NULL,
    window_end      bigint NOT NULL CHECK (window_end > window_start),
    committed_at    timestamptz NOT NULL,
    sample_interval double precision NOT NULL,
    row_count       integer NOT NULL,
    finality        smallint NOT NULL,
    origin          smallint NOT NULL,
    variant         text NOT NULL,
    chain           bytea NOT NULL,
    checksum        bytea NOT NULL, -- SHA-256 of payload
    payload         bytea NOT NULL,
    -- In the order of ListBuckets; window_end makes coverage an index-only scan.
    PRIMARY KEY (dataset, window_start, scope_kind, scope_id) INCLUDE (window_end)
) PARTITION BY RANGE (window_start);
CREATE INDEX bucket_revision ON bucket (revision);

-- Entries of the log that are not buckets. They are few and never dropped.
CREATE TABLE event (
    revision        bigint PRIMARY KEY,
    kind            smallint NOT NULL,
    dataset         text COLLATE "C" NOT NULL,
    scope_kind      smallint NOT NULL,
    scope_id        bytea NOT NULL, -- empty when it is about no scope
    window_start    bigint NOT NULL,
    window_end      bigint NOT NULL,
    committed_at    timestamptz NOT NULL,
    sample_interval double precision NOT NULL,
    row_count       integer NOT NULL,
    finality        smallint NOT NULL,
    origin          smallint NOT NULL,
    variant         text NOT NULL,
    chain           bytea NOT NULL,
    checksum        bytea NOT NULL,
    payload         bytea NOT NULL
);
CREATE INDEX event_kind ON event (kind, revision);

-- Small documents that change: scopes, entitlements, gaps, jobs.
CREATE TABLE record (
    kind       text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    value      jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, key)
);

-- Permits to send requests, one row per Cloudflare user. The number is raised
-- with every change and makes the change a compare-and-swap.
CREATE TABLE permit (
    username text PRIMARY KEY,
    number   bigint NOT NULL,
    blocks   jsonb NOT NULL
);

-- Final is final (G1): not even a slip of the hand in psql changes an entry.
-- +goose StatementBegin
CREATE FUNCTION refuse_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'entries of the log are final: % may not be updated', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'A correction is a restatement.';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER bucket_is_final BEFORE UPDATE ON bucket FOR EACH ROW EXECUTE FUNCTION refuse_update();
CREATE TRIGGER event_is_final BEFORE UPDATE ON event FOR EACH ROW EXECUTE FUNCTION refuse_update();

-- For people. Nothing in Weir reads these.
CREATE VIEW bucket_view AS
SELECT revision, dataset,
       CASE scope_kind WHEN 1 THEN 'zone' WHEN 2 THEN 'account' END AS scope,
       encode(scope_id, 'hex') AS scope_id,
       to_timestamp(window_start) AS window_start,
       to_timestamp(window_end) AS window_end,
       committed_at,
       CASE finality WHEN 1 THEN 'confirmed' WHEN 2 THEN 'deadline' WHEN 3 THEN 'suspect-confirmed' END AS finality,
       CASE origin WHEN 1 THEN 'live' WHEN 2 THEN 'repair' WHEN 3 THEN 'backfill' END AS origin,
       variant, row_count, sample_interval,
       octet_length(payload) AS payload_bytes,
       sha256(payload) = checksum AS intact
FROM bucket;

CREATE VIEW event_view AS
SELECT revision,
       CASE kind WHEN 2 THEN 'dataset version' WHEN 3 THEN 'gap decision' WHEN 4 THEN 'state' WHEN 5 THEN 'restatement' END AS kind,
       dataset,
       CASE scope_kind WHEN 1 THEN 'zone' WHEN 2 THEN 'account' END AS scope,
       encode(scope_id, 'hex') AS scope_id,
       CASE WHEN window_start <> 0 THEN to_timestamp(window_start) END AS window_start,
       committed_at,
       octet_length(payload) AS payload_bytes,
       sha256(payload) = checksum AS intact
FROM event;

CREATE VIEW coverage_view AS
SELECT dataset,
       CASE scope_kind WHEN 1 THEN 'zone' WHEN 2 THEN 'account' END AS scope,
       encode(scope_id, 'hex') AS scope_id,
       to_timestamp(min(window_start)) AS covered_from,
       to_timestamp(max(window_end)) AS covered_until,
       count(*) AS buckets
FROM (
    SELECT *, count(*) FILTER (WHERE begins) OVER same AS island
    FROM (
        SELECT *, window_start > coalesce(max(window_end) OVER (same ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), window_start - 1) AS begins
        FROM bucket
        WINDOW same AS (PARTITION BY dataset, scope_kind, scope_id ORDER BY window_start)
    ) b
    WINDOW same AS (PARTITION BY dataset, scope_kind, scope_id ORDER BY window_start)
) i
GROUP BY dataset, scope_kind, scope_id, island;

CREATE VIEW lease_view AS
SELECT holder, term, expires_at, expires_at > now() AS held, head, floor, committed_at, progress_at, now() - progress_at AS progress_age
FROM log;

CREATE VIEW permit_view AS
SELECT p.username, b.n, b.until, b.holder, b.until > now() AS counts
FROM permit p, jsonb_to_recordset(p.blocks) AS b (n integer, until timestamptz, holder text);

UPDATE schema SET version = 1, oldest_compatible = 1;
