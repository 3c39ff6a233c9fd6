-- +goose Up

-- One row. A binary for migration N runs here if version >= N and
-- oldest_compatible <= N.
CREATE TABLE schema (
    one               INTEGER PRIMARY KEY CHECK (one = 1),
    version           INTEGER NOT NULL,
    oldest_compatible INTEGER NOT NULL CHECK (oldest_compatible <= version)
) STRICT;
INSERT INTO schema (one, version, oldest_compatible) VALUES (1, 0, 0);

-- One row: lease, counter and the store's own properties. Times are Unix
-- milliseconds here and in committed_at below.
CREATE TABLE log (
    one              INTEGER PRIMARY KEY CHECK (one = 1),
    store_id         TEXT NOT NULL,
    sample_timestamp TEXT NOT NULL CHECK (sample_timestamp IN ('end', 'start')),
    simulated        INTEGER NOT NULL CHECK (simulated IN (0, 1)),
    head             INTEGER NOT NULL DEFAULT 0,
    chain            BLOB NOT NULL CHECK (length(chain) = 16),
    committed_at     INTEGER,
    progress_at      INTEGER,
    floor            INTEGER NOT NULL DEFAULT 0 CHECK (floor BETWEEN 0 AND head),
    floor_chain      BLOB NOT NULL CHECK (length(floor_chain) = 16),
    term             INTEGER NOT NULL DEFAULT 0,
    holder           TEXT NOT NULL DEFAULT '',
    expires_at       INTEGER
) STRICT;

-- The revision is the row id: reading the log is a range scan of the table.
-- Windows are Unix seconds.
CREATE TABLE bucket (
    revision        INTEGER PRIMARY KEY,
    dataset         TEXT NOT NULL,
    scope_kind      INTEGER NOT NULL CHECK (scope_kind IN (1, 2)),
    scope_id        BLOB NOT NULL CHECK (length(scope_id) = 16),
    window_start    INTEGER NOT NULL,
    window_end      INTEGER NOT NULL CHECK (window_end > window_start),
    committed_at    INTEGER NOT NULL,
    sample_interval REAL NOT NULL,
    row_count       INTEGER NOT NULL,
    finality        INTEGER NOT NULL,
    origin          INTEGER NOT NULL,
    variant         TEXT NOT NULL,
    chain           BLOB NOT NULL,
    checksum        BLOB NOT NULL, -- SHA-256 of payload
    payload         BLOB NOT NULL,
    -- In the order of ListBuckets.
    UNIQUE (dataset, window_start, scope_kind, scope_id)
) STRICT;

-- Entries of the log that are not buckets. They are few and never dropped.
CREATE TABLE event (
    revision        INTEGER PRIMARY KEY,
    kind            INTEGER NOT NULL,
    dataset         TEXT NOT NULL,
    scope_kind      INTEGER NOT NULL,
    scope_id        BLOB NOT NULL, -- empty when it is about no scope
    window_start    INTEGER NOT NULL,
    window_end      INTEGER NOT NULL,
    committed_at    INTEGER NOT NULL,
    sample_interval REAL NOT NULL,
    row_count       INTEGER NOT NULL,
    finality        INTEGER NOT NULL,
    origin          INTEGER NOT NULL,
    variant         TEXT NOT NULL,
    chain           BLOB NOT NULL,
    checksum        BLOB NOT NULL,
    payload         BLOB NOT NULL
) STRICT;
CREATE INDEX event_kind ON event (kind, revision);

-- Small documents that change: scopes, entitlements, gaps, jobs.
CREATE TABLE record (
    kind  TEXT NOT NULL,
    key   TEXT NOT NULL,
    value TEXT NOT NULL CHECK (json_valid(value)),
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;

-- Permits to send requests, one row per Cloudflare user.
CREATE TABLE permit (
    username TEXT PRIMARY KEY,
    blocks   TEXT NOT NULL CHECK (json_valid(blocks))
) STRICT, WITHOUT ROWID;

-- Final is final (G1): not even a slip of the hand in sqlite3 changes an entry.
-- +goose StatementBegin
CREATE TRIGGER bucket_is_final BEFORE UPDATE ON bucket BEGIN
    SELECT raise(ABORT, 'entries of the log are final: a correction is a restatement');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER event_is_final BEFORE UPDATE ON event BEGIN
    SELECT raise(ABORT, 'entries of the log are final: a correction is a restatement');
END;
-- +goose StatementEnd

-- For people. Nothing in Weir reads these.
CREATE VIEW bucket_view AS
SELECT revision, dataset,
       CASE scope_kind WHEN 1 THEN 'zone' WHEN 2 THEN 'account' END AS scope,
       lower(hex(scope_id)) AS scope_id,
       datetime(window_start, 'unixepoch') AS window_start,
       datetime(window_end, 'unixepoch') AS window_end,
       datetime(committed_at / 1000, 'unixepoch') AS committed_at,
       CASE finality WHEN 1 THEN 'confirmed' WHEN 2 THEN 'deadline' WHEN 3 THEN 'suspect-confirmed' END AS finality,
       CASE origin WHEN 1 THEN 'live' WHEN 2 THEN 'repair' WHEN 3 THEN 'backfill' END AS origin,
       variant, row_count, sample_interval,
       length(payload) AS payload_bytes
FROM bucket;

CREATE VIEW event_view AS
SELECT revision,
       CASE kind WHEN 2 THEN 'dataset version' WHEN 3 THEN 'gap decision' WHEN 4 THEN 'state' WHEN 5 THEN 'restatement' END AS kind,
       dataset,
       CASE scope_kind WHEN 1 THEN 'zone' WHEN 2 THEN 'account' END AS scope,
       lower(hex(scope_id)) AS scope_id,
       CASE WHEN window_start <> 0 THEN datetime(window_start, 'unixepoch') END AS window_start,
       datetime(committed_at / 1000, 'unixepoch') AS committed_at,
       length(payload) AS payload_bytes
FROM event;

UPDATE schema SET version = 1, oldest_compatible = 1;
