-- +goose Up

-- ListBuckets with as_restated looks up the newest restatement of each bucket of a page.
CREATE INDEX event_restated ON event (dataset, window_start, scope_kind, scope_id, revision) WHERE kind = 5;

DROP VIEW event_view;
CREATE VIEW event_view AS
SELECT revision,
       CASE kind WHEN 2 THEN 'dataset version' WHEN 3 THEN 'gap decision' WHEN 4 THEN 'state' WHEN 5 THEN 'restatement' WHEN 6 THEN 'dropped' WHEN 7 THEN 'audit event' END AS kind,
       dataset,
       CASE scope_kind WHEN 1 THEN 'zone' WHEN 2 THEN 'account' END AS scope,
       lower(hex(scope_id)) AS scope_id,
       CASE WHEN window_start <> 0 THEN datetime(window_start, 'unixepoch') END AS window_start,
       datetime(committed_at / 1000, 'unixepoch') AS committed_at,
       length(payload) AS payload_bytes
FROM event;

UPDATE schema SET version = 2, oldest_compatible = 1;
