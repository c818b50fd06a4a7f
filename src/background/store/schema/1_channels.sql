-- Written so that PostgreSQL can run it as well: plain types, no dialect.
-- Ids are UUIDs in their hyphenated lower-case form; times are milliseconds since the Unix epoch.

CREATE TABLE channels (
    id           TEXT    NOT NULL PRIMARY KEY,
    pattern      TEXT    NOT NULL UNIQUE,
    description  TEXT,
    -- A JSON array of strings. NULL and an empty array are told apart, as the REST interface does.
    webhook_urls TEXT,
    enabled      BOOLEAN NOT NULL,
    created_at   BIGINT  NOT NULL,
    updated_at   BIGINT  NOT NULL
);
