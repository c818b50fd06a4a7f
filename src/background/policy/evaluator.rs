//! Expressions of policies, evaluated by a database that holds nothing.
//!
//! Administrators write expressions, and clients choose the channel names that they are evaluated
//! for. An expression sees one row, the channel's definition as bound values, and five functions.
//! The authorizer denies everything else while a statement is prepared. Expressions without queries
//! have no loops, and their steps, comparisons, depth and lengths of values are bounded as well.

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

/// The columns of the row that an expression sees; each is bound, or `NULL`.
const COLUMNS: [&str; 7] =
    ["id", "pattern", "description", "webhook_urls", "enabled", "created_at", "updated_at"];
/// Steps of the database between two checks of their bound.
const STEPS_PER_LOOK: u32 = 100;
/// Queries in the statement around an expression: the statement itself, and its row.
const QUERIES: usize = 2;
/// The reason for a refused query, which the database's message does not name.
const QUERY: &str = "an expression cannot hold a query";
/// Bytes that a statement may have around its expression; generous.
const FRAME_BYTES_MAX: usize = 1_024;

/// Evaluates expressions in a database of its own.
#[derive(Debug)]
pub(super) struct Evaluator {
    database: Connection,
    asker: Arc<Mutex<Asker>>,
    bounds: Arc<Bounds>,
}

/// The channel and the client of the question at hand, for the functions.
#[derive(Debug, Default)]
struct Asker {
    channel: String,
    user: Option<String>,
    role: String,
    email: Option<String>,
}

/// Use of the bounds by the statement at hand. `comparisons` counts what is left.
#[derive(Debug, Default)]
struct Bounds {
    queries: AtomicUsize,
    looks: AtomicU32,
    comparisons: AtomicUsize,
}

impl Evaluator {
    /// Creates an evaluator.
    ///
    /// # Errors
    /// If the system gives no memory for the database.
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

    /// Checks whether a text is one expression that can be evaluated.
    ///
    /// It must fit between parentheses, and between `WHEN` and `THEN`. A text that closes the
    /// parenthesis early has one too many for `WHEN`. A query or a list fits only between
    /// parentheses. A comment without an end swallows what follows in either place.
    ///
    /// # Errors
    /// The database's message, or the reason of our own: a query or a parameter.
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

    /// Answers a question: one true expression allows. Also returns why an expression could not be
    /// evaluated, if one could not; a failed expression allows nothing.
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
        // The line feed ends a comment at the end of the expression.
        let statement =
            format!("SELECT (\n{expression}\n) IS TRUE FROM (SELECT {row}) AS realtime_channels");
        self.begin();
        self.database.prepare_cached(&statement)
    }

    /// Resets the counts for the next statement.
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

/// Bounds a statement's length, depth and values, and turns off a relic of SQLite that takes a
/// misspelt name in double quotes for a text.
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

/// Allows the row and the functions below, and nothing else.
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
        // Not deterministic, because the next question may be another client's.
        database.create_scalar_function(name, 0, FunctionFlags::SQLITE_UTF8, move |_| {
            Ok(tell(&asker.lock().unwrap_or_else(PoisonError::into_inner)))
        })?;
    }
    Ok(())
}

/// Replaces the operator `LIKE` by our own function, without and with `ESCAPE`.
fn add_like(database: &Connection, bounds: &Arc<Bounds>) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    for arguments in [2, 3] {
        let bounds = Arc::clone(bounds);
        let like = move |context: &Context<'_>| call_like(&bounds, context);
        database.create_scalar_function("like", arguments, flags, like)?;
    }
    Ok(())
}

/// Returns whether the text is like the pattern; `None` if either is `NULL`.
fn call_like(bounds: &Bounds, context: &Context<'_>) -> rusqlite::Result<Option<bool>> {
    let (Some(pattern), Some(text)) = (text(context, 0)?, text(context, 1)?) else {
        return Ok(None);
    };
    let escape = match context.len() {
        2 => Some('\\'),
        // An empty text means that no character escapes.
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

/// Returns the database's message, without the statement around the expression.
fn words(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
