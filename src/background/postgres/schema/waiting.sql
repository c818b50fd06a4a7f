CREATE INDEX fanfare_waiting ON realtime.messages (created_at) WHERE dispatched_at IS NULL;
