-- The node's copy of the documents of its cluster. Everything in it can be read from the cluster
-- again. The columns that the store has, too, are as there.
CREATE TABLE documents (
    resource TEXT   NOT NULL,
    audience TEXT   NOT NULL,
    version  BIGINT NOT NULL,
    -- The place of its message in the stream; 0 while it is not known whether this life of the
    -- stream has it.
    seq      BIGINT NOT NULL,
    user_id  TEXT,
    data     TEXT,
    PRIMARY KEY (resource, audience)
);
CREATE INDEX deleted_documents ON documents (version) WHERE data IS NULL;
CREATE INDEX doubtful_documents ON documents (resource) WHERE seq = 0;

-- One row. Of the last message about forgotten documents: its place, and the place up to which
-- deleted documents were forgotten.
CREATE TABLE forgotten_documents (
    version BIGINT NOT NULL,
    seq     BIGINT NOT NULL,
    up_to   BIGINT NOT NULL
);
INSERT INTO forgotten_documents VALUES (0, 0, 0);

-- One row: the life of the stream, the place up to which the copy has everything, and the place up
-- to which the stream reached when the copy began again with this life; none if it has come so far.
CREATE TABLE position (
    life TEXT   NOT NULL,
    seq  BIGINT NOT NULL,
    end  BIGINT
);
INSERT INTO position VALUES ('', 0, NULL);
