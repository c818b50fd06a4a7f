-- Where a cluster's stream has the messages. The place of a message is that of the last position in
-- this table which is not behind its own. Places rise with positions. Without a cluster there are
-- none.
CREATE TABLE places (
    position INTEGER NOT NULL PRIMARY KEY,
    epoch    BIGINT  NOT NULL,
    sequence BIGINT  NOT NULL
);
