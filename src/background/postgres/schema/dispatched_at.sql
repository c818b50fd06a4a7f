-- Rows that exist now are marked without being written: only later rows are events.
ALTER TABLE realtime.messages ADD COLUMN dispatched_at timestamptz DEFAULT now();
ALTER TABLE realtime.messages ALTER COLUMN dispatched_at DROP DEFAULT;
