-- The documents of M2 Realtime, by the channel of their resource.
CREATE TABLE documents (
    resource TEXT   NOT NULL,
    -- The only user who is told of it; empty where everybody is.
    audience TEXT   NOT NULL,
    -- In milliseconds since the epoch, and later than that of the version before.
    version  BIGINT NOT NULL,
    user_id  TEXT,
    -- JSON; none once it is deleted, so that the next version is later still. Last, because it may
    -- be long.
    data     TEXT,
    PRIMARY KEY (resource, audience)
);
CREATE INDEX deleted_documents ON documents (version) WHERE data IS NULL;

-- One row: the latest version of those that are not even remembered as deleted.
CREATE TABLE forgotten_documents (
    version BIGINT NOT NULL
);
INSERT INTO forgotten_documents VALUES (0);
