CREATE OR REPLACE FUNCTION realtime.publish(channel text, event text, payload jsonb) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  made uuid;
BEGIN
  IF coalesce(octet_length(publish.channel), 0) NOT BETWEEN 1 AND 512 THEN
    RAISE EXCEPTION 'realtime.publish: the channel must have 1 to 512 bytes'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF coalesce(octet_length(publish.event), 0) NOT BETWEEN 1 AND 512 THEN
    RAISE EXCEPTION 'realtime.publish: the event must have 1 to 512 bytes'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF octet_length(publish.payload::text) > 900000 THEN
    RAISE EXCEPTION 'realtime.publish: the payload must have at most 900000 bytes'
      USING ERRCODE = 'program_limit_exceeded';
  END IF;
  INSERT INTO realtime.messages (channel_name, event_name, payload, sender_type)
  VALUES (publish.channel, publish.event, coalesce(publish.payload, 'null'), 'system')
  RETURNING id INTO made;
  RETURN made;
END
$body$;
REVOKE ALL ON FUNCTION realtime.publish(text, text, jsonb) FROM PUBLIC;
