CREATE OR REPLACE FUNCTION realtime.publish(channel text, event text, payload jsonb) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  name_max CONSTANT integer := 512;
  payload_max CONSTANT integer := 900000;
  spread_max CONSTANT integer := 65536;
  reserved CONSTANT text[] := '{connect, connect_error, disconnect, disconnecting, newListener,
    removeListener, presence:join, presence:leave, presence:sync, realtime:error,
    realtime:subscribed, gap}';
  bytes integer := coalesce(octet_length(convert_to(publish.payload::text, 'UTF8')), 4);
  made uuid;
BEGIN
  IF coalesce(octet_length(convert_to(publish.channel, 'UTF8')), 0) NOT BETWEEN 1 AND name_max THEN
    RAISE EXCEPTION 'realtime.publish: the channel must have 1 to % bytes', name_max
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF coalesce(octet_length(convert_to(publish.event, 'UTF8')), 0) NOT BETWEEN 1 AND name_max THEN
    RAISE EXCEPTION 'realtime.publish: the event must have 1 to % bytes', name_max
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF publish.event = ANY (reserved) THEN
    RAISE EXCEPTION 'realtime.publish: the event name % is reserved for the server and its clients',
      quote_literal(publish.event) USING ERRCODE = 'reserved_name',
      HINT = 'Give the event another name.';
  END IF;
  IF bytes > payload_max THEN
    RAISE EXCEPTION 'realtime.publish: the payload has % bytes, and may have %', bytes, payload_max
      USING ERRCODE = 'program_limit_exceeded',
      HINT = 'Publish a key by which the application can look up the rest.';
  END IF;
  IF bytes > spread_max AND jsonb_typeof(publish.payload) IN ('string', 'array') THEN
    RAISE EXCEPTION 'realtime.publish: the payload is a string or an array of % bytes, and may have %',
      bytes, spread_max USING ERRCODE = 'program_limit_exceeded',
      HINT = 'Make it part of an object, such as {"items": []}.';
  END IF;
  INSERT INTO realtime.messages (channel_name, event_name, payload, sender_type)
  VALUES (publish.channel, publish.event, coalesce(publish.payload, 'null'), 'system')
  RETURNING id INTO made;
  RETURN made;
END
$body$;
REVOKE ALL ON FUNCTION realtime.publish(text, text, jsonb) FROM PUBLIC;
