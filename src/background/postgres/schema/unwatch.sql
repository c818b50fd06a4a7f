CREATE OR REPLACE FUNCTION realtime.unwatch(watched regclass, channel text DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  place record;
  removed integer := 0;
BEGIN
  FOR place IN
    SELECT t.tgname, n.nspname, c.relname
    FROM pg_trigger t
    JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE t.tgrelid = watched AND t.tgparentid = 0
    AND t.tgfoid = 'realtime.fanfare_changed()'::regprocedure
    AND (unwatch.channel IS NULL OR t.tgname = 'fanfare_watch_' || md5(unwatch.channel))
  LOOP
    EXECUTE format('DROP TRIGGER %I ON %I.%I', place.tgname, place.nspname, place.relname);
    removed := removed + 1;
  END LOOP;
  RETURN removed;
END
$body$;
REVOKE ALL ON FUNCTION realtime.unwatch(regclass, text) FROM PUBLIC;
