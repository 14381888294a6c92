-- What several pages ask.

-- name: marker.sqlite
-- Moves with every commit of another connection.
PRAGMA data_version

-- name: marker.postgresql
-- Moves with every row written to a table of this schema, within a second.
SELECT CAST(coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) AS text)
    || '/' || CAST(count(*) AS text) AS marker
FROM pg_stat_user_tables WHERE schemaname = current_schema()

-- name: deployments
-- Every deployment, without the manifest, which is large.
SELECT name, kind, model, schedule, timezone, start_at, delay_seconds, view_name, key_columns,
    keep_columns, registered_at
FROM trivet_deployments ORDER BY name

-- name: manifest
SELECT manifest FROM trivet_deployments WHERE name = $deployment
