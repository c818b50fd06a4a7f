CREATE OR REPLACE FUNCTION realtime.fanfare_ring() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
  PERFORM pg_notify('realtime_message', NEW.id::text);
  RETURN NULL;
END
$body$;
REVOKE ALL ON FUNCTION realtime.fanfare_ring() FROM PUBLIC;
