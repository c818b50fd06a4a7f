-- How the channels of a definition behave; each default is what it was before there was a choice.
ALTER TABLE channels ADD COLUMN ephemeral      BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE channels ADD COLUMN presence       TEXT    NOT NULL DEFAULT 'full';
ALTER TABLE channels ADD COLUMN slow_consumer  TEXT    NOT NULL DEFAULT 'close';
ALTER TABLE channels ADD COLUMN replay_seconds BIGINT  NOT NULL DEFAULT 0;
ALTER TABLE channels ADD COLUMN rate_limit     BIGINT  NOT NULL DEFAULT 0;
