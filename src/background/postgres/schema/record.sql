-- What was made here, so that `fanfare postgres uninstall` removes nothing else.
CREATE TABLE realtime.fanfare_installed (
  part text PRIMARY KEY,
  version text NOT NULL,
  installed_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON realtime.fanfare_installed TO PUBLIC;
