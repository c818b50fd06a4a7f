-- Returns a template with the values of columns in place of their names in braces, or NULL if one
-- of them is NULL.
CREATE OR REPLACE FUNCTION realtime.fanfare_channel(template text, members jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  texts text[] := regexp_split_to_array(template, '\{[^{}]+\}');
  names text[] := ARRAY(SELECT name[1] FROM regexp_matches(template, '\{([^{}]+)\}', 'g') AS name);
  made text := texts[1];
BEGIN
  FOR place IN 1 .. coalesce(array_length(names, 1), 0) LOOP
    made := made || (members ->> names[place]) || texts[place + 1];
  END LOOP;
  RETURN made;
END
$body$;
REVOKE ALL ON FUNCTION realtime.fanfare_channel(text, jsonb) FROM PUBLIC;

-- Returns the named members of a row.
CREATE OR REPLACE FUNCTION realtime.fanfare_part(members jsonb, names text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $body$
  SELECT coalesce(jsonb_object_agg(name, members -> name), '{}')
  FROM unnest(names) AS name WHERE members ? name
$body$;
REVOKE ALL ON FUNCTION realtime.fanfare_part(jsonb, text[]) FROM PUBLIC;

-- Returns the statement that makes JSON of a row, or of the named columns of it. Returns NULL if
-- to_jsonb may be called for the whole row.
--
-- The functions of this schema's owner must run no code of others. A type that somebody has made
-- may have a cast to json, which to_jsonb would call. The output functions of types are safe.
CREATE OR REPLACE FUNCTION realtime.fanfare_line(relation oid, names text[]) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $body$
  SELECT 'SELECT to_jsonb(line) FROM (SELECT ' || coalesce(string_agg(CASE
    WHEN a.atttypid < 16384 THEN format('($1).%I', a.attname)
    WHEN t.typtype = 'd' AND t.typbasetype < 16384 THEN
      format('($1).%1$I::%2$s AS %1$I', a.attname, format_type(t.typbasetype, NULL))
    ELSE
      format('CASE WHEN NOT ($1).%1$I IS NULL THEN format(''%%s'', ($1).%1$I) END AS %1$I', a.attname)
    END, ', '), '') || ') AS line'
  FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
  WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
  AND (names IS NULL OR a.attname::text = ANY (names))
  HAVING names IS NOT NULL OR max(a.atttypid::bigint) >= 16384
$body$;
REVOKE ALL ON FUNCTION realtime.fanfare_line(oid, text[]) FROM PUBLIC;

-- Publishes a change of a watched table. Its arguments: the template of the channel, the columns
-- ('' for all), and whether row security is ignored. What a row contains makes no write fail.
CREATE OR REPLACE FUNCTION realtime.fanfare_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
  columns text[] := nullif(TG_ARGV[1], '')::text[];
  placed text[] := ARRAY(
    SELECT name[1] FROM regexp_matches(TG_ARGV[0], '\{([^{}]+)\}', 'g') AS name);
  before jsonb;
  after jsonb;
  secured boolean;
  line text;
  key text[];
  content jsonb;
  gone text;
  target text;
  previous text;
BEGIN
  SELECT bool_or(relrowsecurity) INTO secured FROM pg_class
  WHERE oid = TG_RELID OR oid IN (SELECT pg_partition_ancestors(TG_RELID));
  IF secured AND NOT TG_ARGV[2]::boolean THEN
    RAISE WARNING 'realtime: a change of % is not published, because the table has row security now',
      TG_RELID::regclass
      USING HINT = 'Call realtime.unwatch, or realtime.watch with ignore_rls => true.';
    RETURN NULL;
  END IF;
  SELECT array_agg(a.attname::text) INTO key
  FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
  WHERE i.indrelid = TG_RELID AND i.indisprimary;
  line := realtime.fanfare_line(TG_RELID, NULL);
  BEGIN
    IF TG_OP <> 'INSERT' THEN
      IF line IS NULL THEN before := to_jsonb(OLD); ELSE EXECUTE line INTO before USING OLD; END IF;
    END IF;
    IF TG_OP <> 'DELETE' THEN
      IF line IS NULL THEN after := to_jsonb(NEW); ELSE EXECUTE line INTO after USING NEW; END IF;
    END IF;
    content := coalesce(after, before);
    SELECT string_agg(quote_ident(name), ', ') INTO gone
    FROM unnest(placed || columns) AS name WHERE NOT content ? name;
    IF columns IS NOT NULL THEN
      content := realtime.fanfare_part(content, columns || key);
    END IF;
    IF before IS NOT NULL THEN
      content := content || jsonb_build_object('_old', realtime.fanfare_part(before, key));
    END IF;
    IF octet_length(convert_to(content::text, 'UTF8')) > 900000 THEN
      content := NULL;
    END IF;
  EXCEPTION WHEN OTHERS THEN
    -- The row is too long for JSON, or holds what JSON cannot hold. Its key can be published.
    line := realtime.fanfare_line(TG_RELID, placed || key);
    BEGIN
      IF TG_OP <> 'INSERT' THEN EXECUTE line INTO before USING OLD; END IF;
      IF TG_OP <> 'DELETE' THEN EXECUTE line INTO after USING NEW; END IF;
      content := NULL;
    EXCEPTION WHEN OTHERS THEN
      RAISE WARNING 'realtime: a change of % is not published: %', TG_RELID::regclass, SQLERRM;
      RETURN NULL;
    END;
  END;
  IF gone IS NOT NULL THEN
    RAISE WARNING 'realtime: changes of % are published to % without the column %, which is gone',
      TG_RELID::regclass, quote_literal(TG_ARGV[0]), gone
      USING HINT = 'Call realtime.unwatch with this channel, and realtime.watch with the new name.';
  END IF;
  IF content IS NULL THEN
    content := realtime.fanfare_part(coalesce(after, before), key) || '{"_keysOnly": true}';
    IF before IS NOT NULL THEN
      content := content || jsonb_build_object('_old', realtime.fanfare_part(before, key));
    END IF;
  END IF;
  previous := realtime.fanfare_channel(TG_ARGV[0], before);
  target := CASE TG_OP WHEN 'DELETE' THEN previous ELSE realtime.fanfare_channel(TG_ARGV[0], after) END;
  IF previous IS DISTINCT FROM target AND TG_OP = 'UPDATE' AND previous IS NOT NULL THEN
    INSERT INTO realtime.messages (channel_name, event_name, payload, sender_type)
    SELECT previous, 'DELETE', part || jsonb_build_object('_old', part, '_keysOnly', true), 'system'
    FROM realtime.fanfare_part(before, key) AS part;
  END IF;
  IF target IS NOT NULL THEN
    INSERT INTO realtime.messages (channel_name, event_name, payload, sender_type)
    VALUES (target, TG_OP, content, 'system');
  END IF;
  RETURN NULL;
END
$body$;
REVOKE ALL ON FUNCTION realtime.fanfare_changed() FROM PUBLIC;
