//! Why a statement failed, as every front door says it: an SQLSTATE, a sentence, perhaps a hint.
//!
//! Invariant: what DataFusion, Arrow or the store report is sorted here and nowhere else; a fault of ours is
//! logged whole and shown as one sentence. Deliberately knows no wire form.

use std::error::Error as StdError;

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

/// Deepest chain of causes that is looked through.
const CAUSES_MAX: usize = 32;

/// What kind of failure, by the names of the SQL standard and PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names and codes say it")]
pub enum SqlState {
    FeatureNotSupported,
    InvalidParameterValue,
    DataException,
    NumericValueOutOfRange,
    DivisionByZero,
    CardinalityViolation,
    InvalidTextRepresentation,
    ActiveTransaction,
    NoActiveTransaction,
    InFailedTransaction,
    ReadOnlyTransaction,
    IdleInTransactionTimeout,
    TransactionResolutionUnknown,
    InvalidSchemaName,
    SerializationFailure,
    SyntaxError,
    InsufficientPrivilege,
    UndefinedColumn,
    UndefinedFunction,
    UndefinedTable,
    UndefinedObject,
    DuplicateTable,
    DuplicateSchema,
    DuplicateCursor,
    DuplicatePreparedStatement,
    InvalidCursorName,
    InvalidStatementName,
    InvalidSavepoint,
    UndefinedParameter,
    ProtocolViolation,
    AmbiguousColumn,
    DatatypeMismatch,
    WrongObjectType,
    DependentObjectsStillExist,
    DiskFull,
    OutOfMemory,
    TooManyConnections,
    ProgramLimitExceeded,
    StatementTooComplex,
    QueryCanceled,
    IoError,
    SnapshotTooOld,
    InternalError,
}

impl SqlState {
    /// The five characters.
    pub fn code(self) -> &'static str {
        match self {
            Self::FeatureNotSupported => "0A000",
            Self::InvalidParameterValue => "22023",
            Self::DataException => "22000",
            Self::NumericValueOutOfRange => "22003",
            Self::DivisionByZero => "22012",
            Self::CardinalityViolation => "21000",
            Self::InvalidTextRepresentation => "22P02",
            Self::ActiveTransaction => "25001",
            Self::NoActiveTransaction => "25P01",
            Self::InFailedTransaction => "25P02",
            Self::ReadOnlyTransaction => "25006",
            Self::IdleInTransactionTimeout => "25P03",
            Self::TransactionResolutionUnknown => "08007",
            Self::InvalidSchemaName => "3F000",
            Self::SerializationFailure => "40001",
            Self::SyntaxError => "42601",
            Self::InsufficientPrivilege => "42501",
            Self::UndefinedColumn => "42703",
            Self::UndefinedFunction => "42883",
            Self::UndefinedTable => "42P01",
            Self::UndefinedObject => "42704",
            Self::DuplicateTable => "42P07",
            Self::DuplicateSchema => "42P06",
            Self::DuplicateCursor => "42P03",
            Self::DuplicatePreparedStatement => "42P05",
            Self::InvalidCursorName => "34000",
            Self::InvalidStatementName => "26000",
            Self::InvalidSavepoint => "3B001",
            Self::UndefinedParameter => "42P02",
            Self::ProtocolViolation => "08P01",
            Self::AmbiguousColumn => "42702",
            Self::DatatypeMismatch => "42804",
            Self::WrongObjectType => "42809",
            Self::DependentObjectsStillExist => "2BP01",
            Self::DiskFull => "53100",
            Self::OutOfMemory => "53200",
            Self::TooManyConnections => "53300",
            Self::ProgramLimitExceeded => "54000",
            Self::StatementTooComplex => "54001",
            Self::QueryCanceled => "57014",
            Self::IoError => "58030",
            Self::SnapshotTooOld => "72000",
            Self::InternalError => "XX000",
        }
    }
}

/// A failed statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// What kind of failure.
    pub state: SqlState,
    /// What happened, for a person.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

impl SqlError {
    /// A failure of a kind.
    pub fn new(state: SqlState, message: impl Into<String>) -> Self {
        Self { state, message: message.into(), hint: None }
    }

    /// The same with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What Ashlar does not do, and says so.
    pub fn unsupported(what: impl std::fmt::Display) -> Self {
        Self::new(SqlState::FeatureNotSupported, format!("{what} is not supported"))
    }

    /// Text that does not parse.
    pub fn syntax(message: impl Into<String>) -> Self {
        Self::new(SqlState::SyntaxError, message)
    }

    /// An option or argument that makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(SqlState::InvalidParameterValue, message)
    }

    /// A fault of ours: logged whole, shown as one sentence.
    pub fn internal(context: &'static str, cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, context, "a statement failed by a fault of ours");
        Self::new(SqlState::InternalError, format!("internal error while {context}"))
    }

    /// The statement took longer than it may.
    pub fn timed_out() -> Self {
        Self::new(SqlState::QueryCanceled, "the statement took longer than its timeout")
            .hint("SET statement_timeout = '10min' or narrow what is read")
    }

    /// What the store answered about an object or location.
    pub fn of_store(what: &str, error: &ashlar_objects::Error) -> Self {
        use ashlar_objects::Error as E;
        match error {
            E::AccessDenied => {
                Self::new(SqlState::InsufficientPrivilege, format!("permission denied for {what}"))
            }
            E::NoSuchBucket => Self::new(SqlState::UndefinedTable, format!("{what}: no such bucket")),
            E::NoSuchKey | E::CurrentIsDeleteMarker { .. } | E::NoSuchVersion => {
                Self::new(SqlState::UndefinedTable, format!("{what} does not exist"))
            }
            E::PreconditionFailed { .. } | E::ConditionalConflict => {
                Self::new(SqlState::SerializationFailure, format!("{what} was changed by somebody else"))
                    .hint("run the transaction again")
            }
            E::SnapshotTooOld => Self::new(
                SqlState::SnapshotTooOld,
                "snapshot too old: what this statement reads was not kept for it any longer",
            )
            .hint("run it again"),
            E::SlowDown { what } => {
                Self::new(SqlState::TooManyConnections, format!("the store is too busy: {what}"))
                    .hint("try again in a moment")
            }
            E::Unreadable { .. } => {
                Self::new(SqlState::IoError, format!("{what} cannot be read now: too few shards answer"))
            }
            E::TooFewNodes { .. } => Self::new(SqlState::IoError, error.to_string()),
            E::InvalidRequest { reason } => Self::new(SqlState::ProgramLimitExceeded, reason.clone()),
            E::BucketName(_) | E::Key(_) | E::InvalidArgument { .. } => {
                Self::invalid(format!("{what}: {error}"))
            }
            E::ObjectLocked => Self::new(SqlState::InsufficientPrivilege, format!("{what}: {error}")),
            E::OutcomeUnknown => Self::new(SqlState::TransactionResolutionUnknown, error.to_string())
                .hint("look before running it again"),
            error => Self::internal("using the store", error),
        }
    }
}

impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        Self::External(Box::new(error))
    }
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        ours(&error).unwrap_or_else(|| of_datafusion(&error))
    }
}

impl From<ArrowError> for SqlError {
    fn from(error: ArrowError) -> Self {
        DataFusionError::from(error).into()
    }
}

/// The error of ours that travelled through other people's.
fn ours(error: &DataFusionError) -> Option<SqlError> {
    if let DataFusionError::Collection(errors) = error {
        return errors.iter().find_map(ours);
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    for _ in 0..CAUSES_MAX {
        let at = cause?;
        if let Some(found) = at.downcast_ref::<SqlError>() {
            return Some(found.clone());
        }
        cause = match at.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::External(inner)) => Some(&**inner),
            Some(DataFusionError::ObjectStore(inner)) => Some(&**inner),
            Some(DataFusionError::ParquetError(inner)) => Some(&**inner),
            Some(DataFusionError::ArrowError(inner, _)) => Some(&**inner),
            Some(DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner)) => {
                Some(&**inner)
            }
            Some(DataFusionError::Shared(inner)) => Some(&**inner),
            Some(DataFusionError::IoError(inner)) => inner.get_ref().map(as_cause),
            _ => match (at.downcast_ref::<ArrowError>(), at.downcast_ref::<std::io::Error>()) {
                (Some(ArrowError::ExternalError(inner)), _) => Some(&**inner),
                (Some(ArrowError::IoError(_, inner)), _) | (_, Some(inner)) => inner.get_ref().map(as_cause),
                _ => at.source(),
            },
        };
    }
    None
}

fn as_cause<'e>(error: &'e (dyn StdError + Send + Sync + 'static)) -> &'e (dyn StdError + 'static) {
    error
}

fn of_datafusion(error: &DataFusionError) -> SqlError {
    use DataFusionError as E;
    match error {
        E::Context(_, inner) | E::Diagnostic(_, inner) => of_datafusion(inner),
        E::Shared(inner) => of_datafusion(inner),
        E::Collection(errors) => match errors.first() {
            Some(first) => of_datafusion(first),
            None => SqlError::internal("running a statement", error),
        },
        E::SQL(parser, _) => SqlError::syntax(parser.to_string()),
        E::NotImplemented(message) => SqlError::new(SqlState::FeatureNotSupported, message.clone()),
        E::Plan(message) => of_plan(message),
        E::SchemaError(schema, _) => of_schema(schema),
        E::ResourcesExhausted(message) if message.contains("disk") => {
            SqlError::new(SqlState::DiskFull, "the statement would write more to disk than it may")
                .hint("narrow what it reads, sorts or joins")
        }
        E::ResourcesExhausted(_) => {
            SqlError::new(SqlState::OutOfMemory, "the statement needs more memory than it may have")
                .hint("narrow what it reads, sorts or joins")
        }
        E::ArrowError(arrow, _) => of_arrow(arrow),
        E::ParquetError(parquet) => {
            SqlError::new(SqlState::DataException, format!("a Parquet file does not read: {parquet}"))
        }
        E::Execution(message) if message.contains("Cannot cast") => {
            SqlError::new(SqlState::InvalidTextRepresentation, message.clone())
        }
        E::Execution(message) => SqlError::new(SqlState::DataException, message.clone()),
        E::Configuration(message) => SqlError::invalid(message.clone()),
        error => SqlError::internal("running a statement", error),
    }
}

fn of_plan(message: &str) -> SqlError {
    let state = if message.contains("table '") && message.contains("not found") {
        SqlState::UndefinedTable
    } else if message.contains("Invalid function") {
        SqlState::UndefinedFunction
    } else if message.contains("resolve schema") {
        SqlState::InvalidSchemaName
    } else if message.contains("coerce") || message.contains("type mismatch") {
        SqlState::DatatypeMismatch
    } else {
        SqlState::SyntaxError
    };
    SqlError::new(state, message)
}

fn of_schema(error: &SchemaError) -> SqlError {
    let state = match error {
        SchemaError::FieldNotFound { .. } => SqlState::UndefinedColumn,
        SchemaError::AmbiguousReference { .. }
        | SchemaError::DuplicateQualifiedField { .. }
        | SchemaError::DuplicateUnqualifiedField { .. } => SqlState::AmbiguousColumn,
    };
    SqlError::new(state, error.to_string())
}

fn of_arrow(error: &ArrowError) -> SqlError {
    let state = match error {
        ArrowError::DivideByZero => SqlState::DivisionByZero,
        ArrowError::ArithmeticOverflow(_) => SqlState::NumericValueOutOfRange,
        // Its words for a number that the other type cannot hold; of texts it says "string".
        ArrowError::CastError(why) if why.starts_with("Can't cast value") => SqlState::NumericValueOutOfRange,
        ArrowError::CastError(_) | ArrowError::ParseError(_) => SqlState::InvalidTextRepresentation,
        ArrowError::NotYetImplemented(_) => SqlState::FeatureNotSupported,
        ArrowError::SchemaError(_) => SqlState::DatatypeMismatch,
        ArrowError::MemoryError(_) | ArrowError::IoError(..) | ArrowError::CDataInterface(_) => {
            return SqlError::internal("running a statement", error);
        }
        _ => SqlState::DataException,
    };
    SqlError::new(state, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_errors_come_back_out_of_other_peoples() {
        let lost = SqlError::of_store("s3://b/k", &ashlar_objects::Error::SnapshotTooOld);
        let store = object_store::Error::Generic { store: "ashlar", source: Box::new(lost.clone()) };
        let parquet = parquet::errors::ParquetError::External(Box::new(lost.clone()));
        let arrow = ArrowError::ExternalError(Box::new(DataFusionError::from(lost.clone())));
        for wrapped in [
            DataFusionError::ObjectStore(Box::new(store)),
            DataFusionError::ParquetError(Box::new(parquet)),
            DataFusionError::ArrowError(Box::new(arrow), None),
            DataFusionError::from(lost.clone()).context("reading"),
            DataFusionError::IoError(std::io::Error::other(lost.clone())),
        ] {
            assert_eq!(SqlError::from(wrapped), lost);
        }
    }

    #[test]
    fn an_unknown_outcome_is_told_from_a_failure() {
        let unknown = SqlError::of_store("a commit", &ashlar_objects::Error::OutcomeUnknown);
        assert_eq!(unknown.state.code(), "08007");
    }

    #[test]
    fn faults_of_ours_say_nothing_of_our_insides() {
        let error = SqlError::from(DataFusionError::Internal("at /home/x/y.rs:1".into()));
        assert_eq!(error.state.code(), "XX000");
        assert!(!error.message.contains("y.rs"), "{error}");
    }
}
