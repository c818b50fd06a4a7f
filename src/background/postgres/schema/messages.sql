CREATE TABLE realtime.messages (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  event_name text NOT NULL,
  channel_id uuid REFERENCES realtime.channels (id) ON DELETE SET NULL,
  channel_name text NOT NULL,
  payload jsonb NOT NULL DEFAULT '{}',
  sender_type text NOT NULL DEFAULT 'system' CHECK (sender_type IN ('system', 'user')),
  sender_id uuid,
  ws_audience_count integer NOT NULL DEFAULT 0,
  wh_audience_count integer NOT NULL DEFAULT 0,
  wh_delivered_count integer NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now()
);
