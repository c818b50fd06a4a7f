//! Faults of the database, as errors of the store.

use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::types::Type;

use super::StoreError;

/// Converts an error of the database, and names the file.
pub(super) fn failed(path: &Path, fault: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match fault.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Corrupt { path, reason: fault.to_string() }
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
        Some(ErrorCode::DiskFull) => StoreError::DiskFull { path },
        Some(
            ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::SystemIoFailure,
        ) => StoreError::Unusable { path, reason: fault.to_string() },
        _ if is_senseless_row(&fault) => StoreError::Corrupt { path, reason: fault.to_string() },
        _ => StoreError::Failed { path, source: fault.into() },
    }
}

fn is_senseless_row(fault: &rusqlite::Error) -> bool {
    use rusqlite::Error::{
        FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error,
    };
    matches!(
        fault,
        FromSqlConversionFailure(..)
            | IntegralValueOutOfRange(..)
            | InvalidColumnType(..)
            | Utf8Error(..)
    )
}

/// Returns the error of a column with an unknown name in it.
pub(super) fn unknown(column: usize, value: &str) -> rusqlite::Error {
    senseless(column, format!("`{value}` is not a known value"))
}

/// Returns the error of a column whose text makes no sense.
pub(super) fn senseless(
    column: usize,
    fault: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, fault.into())
}
