-- The node that publishes the rows holds a lock on this view, which needs the right to update it.
-- VACUUM does not wait for locks on views.
CREATE VIEW realtime.fanfare_capture AS SELECT 'locked by the node that publishes' AS purpose;
