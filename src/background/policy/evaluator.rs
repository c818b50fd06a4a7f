//! Expressions of policies, evaluated by a database that holds nothing.
//!
//! An expression comes from an administrator and is asked about names that anybody may make up. It
//! sees one row, the channel's, made of bound values, and five functions; the authorizer denies
//! everything else while a statement is prepared. Without queries inside there is nothing to loop
//! over, and steps, comparisons, depth and the length of values are bounded besides.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, params};

use super::like::like;
use crate::limits::{
    POLICIES_MAX, POLICY_COMPARISONS_MAX, POLICY_DEPTH_MAX, POLICY_EXPRESSION_BYTES_MAX,
    POLICY_STEPS_MAX, POLICY_VALUE_BYTES_MAX,
};
use crate::message::{ChannelDefinition, Credential, Judgement, Question, iso_millis};

/// The row that an expression sees; each `?` is bound, or `NULL`.
const COLUMNS: [&str; 7] =
    ["id", "pattern", "description", "webhook_urls", "enabled", "created_at", "updated_at"];
/// Steps between two looks at how many there were.
const STEPS_PER_LOOK: u32 = 100;
/// Queries in a statement that holds an expression without one: the statement itself, and its row.
const QUERIES: usize = 2;
/// What the database's words leave out.
const QUERY: &str = "an expression cannot hold a query";
/// Bytes of a statement around its expression, with room to spare.
const FRAME_BYTES_MAX: usize = 1_024;

/// Evaluates expressions.
#[derive(Debug)]
pub(super) struct Evaluator {
    database: Connection,
    asker: Arc<Mutex<Asker>>,
    bounds: Arc<Bounds>,
}

/// Who asks, as the functions tell it.
#[derive(Debug, Default)]
struct Asker {
    channel: String,
    user: Option<String>,
    role: String,
    email: Option<String>,
}

/// What the statement at hand has taken so far.
#[derive(Debug, Default)]
struct Bounds {
    queries: AtomicUsize,
    looks: AtomicU32,
    comparisons: AtomicUsize,
}

impl Evaluator {
    /// With a database of its own.
    ///
    /// # Errors
    /// When the system gives no memory for it.
    pub(super) fn new() -> rusqlite::Result<Self> {
        let mut database = Connection::open_in_memory()?;
        let (asker, bounds) = (Arc::default(), Arc::default());
        confine(&database)?;
        add_functions(&database, &asker)?;
        add_like(&database, &bounds)?;
        let looked = Arc::clone(&bounds);
        database.progress_handler(
            STEPS_PER_LOOK.cast_signed(),
            Some(move || {
                looked.looks.fetch_add(1, Ordering::Relaxed) >= POLICY_STEPS_MAX / STEPS_PER_LOOK
            }),
        )?;
        let counted = Arc::clone(&bounds);
        database.authorizer(Some(move |asked: AuthContext<'_>| authorize(&counted, &asked)))?;
        // Every expression in force is prepared once.
        database.set_prepared_statement_cache_capacity(2 * POLICIES_MAX);
        Ok(Self { database, asker, bounds })
    }

    /// Whether a text is one expression that can be evaluated.
    ///
    /// It must fit between parentheses, and between `WHEN` and `THEN`. What closes the former to
    /// say something else has a parenthesis too many for the latter; a query or a list fits only
    /// the former; a comment that does not end swallows what follows in either.
    ///
    /// # Errors
    /// What the database says against it.
    pub(super) fn check(&self, expression: &str) -> Result<(), String> {
        if let Err(error) = self.prepare(expression) {
            let is_query = self.bounds.queries.load(Ordering::Relaxed) > QUERIES;
            return Err(if is_query {
                format!("{QUERY} ({})", words(&error))
            } else {
                words(&error)
            });
        }
        let nothing = COLUMNS.map(|column| format!("NULL AS {column}")).join(", ");
        let between = format!(
            "SELECT CASE WHEN\n{expression}\nTHEN 1 END FROM (SELECT {nothing}) AS realtime_channels"
        );
        self.begin();
        let statement = self.database.prepare(&between).map_err(|error| words(&error))?;
        if statement.parameter_count() > 0 {
            return Err("parameters cannot be bound in an expression".to_owned());
        }
        Ok(())
    }

    /// Answers a question. Says besides why an expression could not be evaluated, if one could not:
    /// then it allows nothing, whatever the others do.
    pub(super) fn judge(&self, question: &Question) -> (Judgement, Option<String>) {
        *self.asker.lock().unwrap_or_else(PoisonError::into_inner) =
            Asker::new(question.channel.as_str(), &question.credential);
        let mut failure = None;
        for expression in &*question.expressions {
            match self.is_true(expression, &question.definition) {
                Ok(true) => return (Judgement::Allowed, failure),
                Ok(false) => {}
                Err(error) => failure = Some(format!("{}: {expression}", words(&error))),
            }
        }
        let judgement = if failure.is_some() { Judgement::Failed } else { Judgement::Denied };
        (judgement, failure)
    }

    fn is_true(&self, expression: &str, channel: &ChannelDefinition) -> rusqlite::Result<bool> {
        let mut statement = self.prepare(expression)?;
        let urls = channel.webhook_urls.as_ref();
        let urls = urls.map(|urls| serde_json::to_string(urls).expect("strings serialize"));
        let row = params![
            channel.id.to_string(),
            channel.pattern,
            channel.description,
            urls,
            channel.enabled,
            iso_millis(channel.created_at),
            iso_millis(channel.updated_at),
        ];
        self.begin();
        statement.query_row(row, |row| row.get(0))
    }

    fn prepare(&self, expression: &str) -> rusqlite::Result<CachedStatement<'_>> {
        let row = COLUMNS.map(|column| format!("? AS {column}")).join(", ");
        // A comment at the end of the expression ends with its line.
        let statement =
            format!("SELECT (\n{expression}\n) IS TRUE FROM (SELECT {row}) AS realtime_channels");
        self.begin();
        self.database.prepare_cached(&statement)
    }

    /// What is counted, is counted for one statement.
    fn begin(&self) {
        self.bounds.queries.store(0, Ordering::Relaxed);
        self.bounds.looks.store(0, Ordering::Relaxed);
        self.bounds.comparisons.store(POLICY_COMPARISONS_MAX, Ordering::Relaxed);
    }
}

impl Asker {
    fn new(channel: &str, credential: &Credential) -> Self {
        Self {
            channel: channel.to_owned(),
            user: credential.user().map(str::to_owned),
            role: credential.role.name().to_owned(),
            email: credential.email.as_deref().map(str::to_owned),
        }
    }
}

/// Bounds what a statement may say and make, and takes away what SQLite allows for the sake of its
/// past: a misspelt name in double quotes would be a text.
fn confine(database: &Connection) -> rusqlite::Result<()> {
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    let bytes_max = POLICY_EXPRESSION_BYTES_MAX + FRAME_BYTES_MAX;
    let bytes_max = i32::try_from(bytes_max).expect("it is a few thousand");
    database.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, bytes_max)?;
    database.set_limit(Limit::SQLITE_LIMIT_LENGTH, POLICY_VALUE_BYTES_MAX)?;
    database.set_limit(Limit::SQLITE_LIMIT_EXPR_DEPTH, POLICY_DEPTH_MAX)?;
    database.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    Ok(())
}

/// The row, the functions below, and nothing else.
fn authorize(bounds: &Bounds, asked: &AuthContext<'_>) -> Authorization {
    let is_allowed = match asked.action {
        AuthAction::Select => bounds.queries.fetch_add(1, Ordering::Relaxed) < QUERIES,
        AuthAction::Function { function_name } => {
            ["channel_name", "auth_uid", "auth_role", "auth_email", "like"].contains(&function_name)
        }
        _ => false,
    };
    if is_allowed { Authorization::Allow } else { Authorization::Deny }
}

fn add_functions(database: &Connection, asker: &Arc<Mutex<Asker>>) -> rusqlite::Result<()> {
    type Tell = fn(&Asker) -> Option<String>;
    let functions: [(&str, Tell); 4] = [
        ("channel_name", |asker| Some(asker.channel.clone())),
        ("auth_uid", |asker| asker.user.clone()),
        ("auth_role", |asker| Some(asker.role.clone())),
        ("auth_email", |asker| asker.email.clone()),
    ];
    for (name, tell) in functions {
        let asker = Arc::clone(asker);
        // Not deterministic: the next question comes from somebody else.
        database.create_scalar_function(name, 0, FunctionFlags::SQLITE_UTF8, move |_| {
            Ok(tell(&asker.lock().unwrap_or_else(PoisonError::into_inner)))
        })?;
    }
    Ok(())
}

/// Puts our own function behind the operator, without and with `ESCAPE`.
fn add_like(database: &Connection, bounds: &Arc<Bounds>) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    for arguments in [2, 3] {
        let bounds = Arc::clone(bounds);
        let like = move |context: &Context<'_>| call_like(&bounds, context);
        database.create_scalar_function("like", arguments, flags, like)?;
    }
    Ok(())
}

/// Nothing is like `NULL`, nor unlike it.
fn call_like(bounds: &Bounds, context: &Context<'_>) -> rusqlite::Result<Option<bool>> {
    let (Some(pattern), Some(text)) = (text(context, 0)?, text(context, 1)?) else {
        return Ok(None);
    };
    let escape = match context.len() {
        2 => Some('\\'),
        // An empty text is no character: nothing is taken its meaning.
        _ => match text_of_one(context)? {
            Some(escape) => escape,
            None => return Ok(None),
        },
    };
    let mut budget = bounds.comparisons.load(Ordering::Relaxed);
    let answer = like(pattern, text, escape, &mut budget);
    bounds.comparisons.store(budget, Ordering::Relaxed);
    answer.map(Some).map_err(|error| rusqlite::Error::UserFunctionError(error.into()))
}

fn text<'c>(context: &'c Context<'_>, place: usize) -> rusqlite::Result<Option<&'c str>> {
    match context.get_raw(place) {
        ValueRef::Null => Ok(None),
        ValueRef::Text(_) => Ok(Some(context.get_raw(place).as_str()?)),
        _ => Err(rusqlite::Error::UserFunctionError("LIKE takes texts".into())),
    }
}

fn text_of_one(context: &Context<'_>) -> rusqlite::Result<Option<Option<char>>> {
    let Some(escape) = text(context, 2)? else { return Ok(None) };
    let mut chars = escape.chars();
    match (chars.next(), chars.next()) {
        (escape, None) => Ok(Some(escape)),
        _ => Err(rusqlite::Error::UserFunctionError("ESCAPE takes one character".into())),
    }
}

/// The database's words, without the statement that the expression was put into.
fn words(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
