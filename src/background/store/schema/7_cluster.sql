-- How far the file has followed what the nodes of a cluster share: definitions of channels, policies
-- and the retention of history, which are in their own tables. One row, or none without a cluster.
CREATE TABLE followed (
    cluster  TEXT   NOT NULL,
    -- Tells this bucket of the cluster from one that was made anew.
    bucket   TEXT   NOT NULL,
    revision BIGINT NOT NULL
);
-- What was set on this node alone before it followed a cluster. It is not in effect.
CREATE TABLE set_aside (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
