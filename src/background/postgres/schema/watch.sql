CREATE OR REPLACE FUNCTION realtime.watch(
  watched regclass, channel text DEFAULT NULL, columns text[] DEFAULT NULL,
  ignore_rls boolean DEFAULT false
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  place record;
  template text;
  wrong text;
  made boolean := false;
BEGIN
  SELECT n.nspname, c.relname, c.relkind, c.relrowsecurity OR EXISTS (
    SELECT FROM pg_class p WHERE p.relrowsecurity
    AND p.oid IN (SELECT pg_partition_ancestors(c.oid))) AS secured
  INTO place FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = watched;
  IF place.relkind IS NULL OR place.relkind NOT IN ('r', 'p') OR place.nspname = 'realtime' THEN
    RAISE EXCEPTION 'realtime.watch: % is not a table that can be watched', watched
      USING ERRCODE = 'wrong_object_type';
  END IF;
  IF place.secured AND NOT coalesce(ignore_rls, false) THEN
    RAISE EXCEPTION 'realtime.watch: % has row security, which subscribers would get around', watched
      USING ERRCODE = 'insufficient_privilege',
      HINT = 'If all subscribers of the channel may see all rows, add ignore_rls => true.';
  END IF;
  template := coalesce(channel, place.relname);
  SELECT string_agg(quote_ident(name), ', ') INTO wrong FROM (
    SELECT unnest(columns) UNION
    SELECT name[1] FROM regexp_matches(template, '\{([^{}]+)\}', 'g') AS name
  ) AS named (name)
  WHERE NOT EXISTS (SELECT FROM pg_attribute a
    WHERE a.attrelid = watched AND a.attname = name AND a.attnum > 0 AND NOT a.attisdropped);
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION 'realtime.watch: % has no column %', watched, wrong
      USING ERRCODE = 'undefined_column';
  END IF;
  IF columns IS NOT NULL AND (coalesce(array_ndims(columns), 0) <> 1
    OR array_position(columns, NULL) IS NOT NULL) OR octet_length(template) NOT BETWEEN 1 AND 512
    OR regexp_replace(template, '\{[^{}]+\}', '', 'g') ~ '[{}]' THEN
    RAISE EXCEPTION 'realtime.watch: give a channel of 1 to 512 bytes, with whole {column} names, '
      'and at least one column, none of them NULL' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM FROM pg_attribute a
  WHERE a.attrelid = watched AND a.attname IN ('_old', '_keysOnly') AND NOT a.attisdropped;
  IF FOUND THEN
    RAISE EXCEPTION 'realtime.watch: % has a column with a name of the events'' own, _old or _keysOnly',
      watched USING ERRCODE = 'duplicate_column';
  END IF;
  -- Sessions that watch the table at once wait for each other. Who may only make triggers may not
  -- lock the table.
  IF has_table_privilege(watched, 'UPDATE, DELETE, TRUNCATE') THEN
    EXECUTE format('LOCK TABLE %I.%I IN SHARE ROW EXCLUSIVE MODE', place.nspname, place.relname);
  END IF;
  WHILE NOT made LOOP
    BEGIN
      EXECUTE format(
        'CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %I.%I '
        'FOR EACH ROW EXECUTE FUNCTION realtime.fanfare_changed(%L, %L, %L)',
        'fanfare_watch_' || md5(template), place.nspname, place.relname,
        template, coalesce(columns::text, ''), coalesce(ignore_rls, false)::text);
      made := true;
    EXCEPTION WHEN duplicate_object THEN
      EXECUTE format('DROP TRIGGER IF EXISTS %I ON %I.%I',
        'fanfare_watch_' || md5(template), place.nspname, place.relname);
    END;
  END LOOP;
END
$body$;
REVOKE ALL ON FUNCTION realtime.watch(regclass, text, text[], boolean) FROM PUBLIC;
