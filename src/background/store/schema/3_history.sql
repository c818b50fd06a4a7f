-- Messages and how they are found again. Unlike the tables before, these are made for SQLite's way
-- of keeping rows; another database would have indexes of its own. Ids are the 16 bytes of a UUID.

CREATE TABLE messages (
    -- The order of everything, given by the only writer. Under this name and type it is the row's
    -- own place in the file.
    position     INTEGER NOT NULL PRIMARY KEY,
    id           BLOB    NOT NULL UNIQUE,
    created_at   BIGINT  NOT NULL,
    -- The definition may be gone.
    channel_id   BLOB    NOT NULL,
    event_name   TEXT    NOT NULL,
    ws_audience  BIGINT  NOT NULL,
    wh_audience  BIGINT  NOT NULL,
    wh_delivered BIGINT  NOT NULL,
    sender_type  TEXT    NOT NULL,
    sender_id    TEXT,
    channel_name TEXT    NOT NULL,
    -- Last, so that whoever counts rows need not read past long ones.
    payload      TEXT    NOT NULL
);

-- Runs of positions that are complete, as long as any message of theirs is there.
CREATE TABLE segments (
    level      SMALLINT NOT NULL,
    number     BIGINT   NOT NULL,
    messages   BIGINT   NOT NULL,
    -- No message was published before or after these times.
    first_at   BIGINT   NOT NULL,
    last_at    BIGINT   NOT NULL,
    is_tallied BOOLEAN  NOT NULL,
    PRIMARY KEY (level, number)
) WITHOUT ROWID;

-- What a segment holds of each definition and event name.
CREATE TABLE tallies (
    level        SMALLINT NOT NULL,
    segment      BIGINT   NOT NULL,
    channel_id   BLOB     NOT NULL,
    event_name   TEXT     NOT NULL,
    messages     BIGINT   NOT NULL,
    wh_audience  BIGINT   NOT NULL,
    wh_delivered BIGINT   NOT NULL,
    -- Of the lowest level only: which positions.
    places       BLOB,
    PRIMARY KEY (level, segment, channel_id, event_name)
) WITHOUT ROWID;
CREATE INDEX tallies_by_event ON tallies (level, segment, event_name);

-- One row. Without a number, messages are kept for ever.
CREATE TABLE history_settings (
    retention_days BIGINT
);
INSERT INTO history_settings VALUES (NULL);
