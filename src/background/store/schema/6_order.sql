-- The order of a channel's publications in a cluster; the default is one order for all nodes.
ALTER TABLE channels ADD COLUMN ordering TEXT NOT NULL DEFAULT 'cluster';
