//! What a database has, for the operator.

use tokio_postgres::Client;

use super::parts::{DISPATCHED_AT, Found, MESSAGES, PARTS, RING, find};
use super::{KEPT_TWICE, Report, has_others_rows};
use crate::background::postgres::connection::in_time;
use crate::background::postgres::fault::Fault;
use crate::background::postgres::settings::Settings;

/// Returns the state of the database.
pub(super) async fn report(client: &Client, settings: &Settings) -> Result<Report, Fault> {
    let query = "SELECT current_database()::text, current_setting('server_version'), \
                 current_user::text";
    let row = in_time(client.query_one(query, &[])).await?;
    let (database, version, user): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    let found = find(client).await?;
    let place = &settings.place;
    let mut text = format!(
        "server   {place}, PostgreSQL {version}\ndatabase {database}, as {user}\nschema   {}\n",
        made_by(&found)
    );
    let missing: Vec<_> = PARTS.iter().filter(|part| is_missing(&found, part.name)).collect();
    for part in &missing {
        text += &format!("missing  {}\n", part.name);
    }
    if found.exists(DISPATCHED_AT) {
        let query = "SELECT count(*), \
                     coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 \
                     FROM realtime.messages WHERE dispatched_at IS NULL";
        let row = in_time(client.query_one(query, &[])).await?;
        let (count, age): (i64, f64) = (row.get(0), row.get(1));
        text += &format!("waiting  {count} rows");
        text += &if count > 0 { format!(", the oldest for {age:.0} s\n") } else { "\n".to_owned() };
    }
    text += &capturer(client).await?;
    let (watched, is_watched_well) = watched(client).await?;
    text += &watched;
    if settings.writes_counts && has_others_rows(&found) {
        text += &format!("warning: {KEPT_TWICE}\n");
    }
    if !missing.is_empty() {
        text += "run `fanfare postgres install` with the same settings\n";
    }
    Ok(Report { text, is_well: missing.is_empty() && is_watched_well })
}

fn is_missing(found: &Found, name: &str) -> bool {
    // A trigger of others needs no function of ours.
    let is_needed = name != RING || !found.exists(super::parts::BELL);
    is_needed && !found.exists(name)
}

fn made_by(found: &Found) -> &'static str {
    if found.is_record_hidden {
        return "there; this user may not read realtime.fanfare_installed, which says who made it";
    }
    match (found.exists(MESSAGES), found.is_ours(MESSAGES)) {
        (true, true) => "made by `fanfare postgres install`",
        (true, false) => "made by others",
        (false, _) => "not there",
    }
}

async fn capturer(client: &Client) -> Result<String, Fault> {
    // Address and start of other users' sessions may be hidden.
    let query = "SELECT a.application_name, a.usename::text, host(a.client_addr), \
                 to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
                 FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
                 WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'ExclusiveLock' \
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                 AND l.relation = to_regclass('realtime.fanfare_capture')";
    let rows = in_time(client.query(query, &[])).await?;
    let Some(row) = rows.first() else { return Ok("captures no node\n".to_owned()) };
    let text = |place: usize| row.get::<_, Option<String>>(place);
    let mut line =
        format!("captures {}, as {}", text(0).unwrap_or_default(), text(1).unwrap_or_default());
    if let Some(host) = text(2) {
        line += &format!(", from {host}");
    }
    if let Some(since) = text(3) {
        line += &format!(", since {since}");
    }
    Ok(line + "\n")
}

/// Returns the watched tables, and whether all of their changes are heard.
async fn watched(client: &Client) -> Result<(String, bool), Fault> {
    let query = "SELECT n.nspname || '.' || c.relname, t.tgargs, \
                   ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid \
                     AND a.attnum > 0 AND NOT a.attisdropped), \
                   c.relrowsecurity OR EXISTS (SELECT FROM pg_class p WHERE p.relrowsecurity \
                     AND p.oid IN (SELECT pg_partition_ancestors(c.oid))) \
                 FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
                 JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE t.tgparentid = 0 AND t.tgfoid = to_regprocedure('realtime.fanfare_changed()') \
                 ORDER BY 1, 2";
    let rows = in_time(client.query(query, &[])).await?;
    let (mut text, mut is_well) = (String::new(), true);
    for row in &rows {
        let arguments: Vec<u8> = row.get(1);
        let watch = Watch::read(&arguments);
        let existing: Vec<String> = row.get(2);
        text += &format!("watched  {} on {}", row.get::<_, String>(0), watch.channel);
        let gone: Vec<_> = watch.columns().filter(|name| !existing.contains(name)).collect();
        if !gone.is_empty() {
            text += &format!(
                ", but its column {} is gone: call realtime.unwatch with this channel, and \
                 realtime.watch with the new name",
                gone.join(", ")
            );
        }
        let is_secured = row.get::<_, bool>(3) && !watch.ignores_rls;
        if is_secured {
            text += ", but its changes are not published, because it has row security now";
        }
        is_well &= gone.is_empty() && !is_secured;
        text += "\n";
    }
    Ok((text, is_well))
}

/// The arguments of the trigger of a watched table.
#[derive(PartialEq, Eq, Debug)]
struct Watch {
    /// The channel, with columns in braces.
    channel: String,
    /// An array of columns, as PostgreSQL writes it; empty for all.
    columns: String,
    ignores_rls: bool,
}

impl Watch {
    /// Reads arguments, each of which ends with a zero byte.
    fn read(arguments: &[u8]) -> Self {
        let mut texts = arguments.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let mut next = || texts.next().unwrap_or_default().into_owned();
        Self { channel: next(), columns: next(), ignores_rls: next() == "true" }
    }

    /// Returns the columns that it names.
    fn columns(&self) -> impl Iterator<Item = String> {
        let braced = self.channel.split('{').skip(1);
        let placed = braced.filter_map(|text| Some(text.split_once('}')?.0.to_owned()));
        placed.chain(elements(&self.columns))
    }
}

/// Returns the elements of an array as PostgreSQL writes it.
fn elements(array: &str) -> Vec<String> {
    let (mut all, mut one, mut is_quoted) = (Vec::new(), String::new(), false);
    let inner = array.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let Some(inner) = inner.filter(|text| !text.is_empty()) else { return all };
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => one.extend(letters.next()),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => all.push(std::mem::take(&mut one)),
            _ => one.push(letter),
        }
    }
    all.push(one);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_triggers_name_their_columns() {
        let watch = Watch::read(b"order:{id}:{a b}\0{status,\"c,\\\"d\"}\0true\0");
        assert_eq!((watch.channel.as_str(), watch.ignores_rls), ("order:{id}:{a b}", true));
        assert_eq!(watch.columns().collect::<Vec<_>>(), ["id", "a b", "status", "c,\"d"]);
        let watch = Watch::read(b"orders\0\0false\0");
        assert_eq!((watch.columns().count(), watch.ignores_rls), (0, false));
    }
}
