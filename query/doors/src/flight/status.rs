//! Errors as gRPC says them; the SQLSTATE goes along in a trailer.

use ashlar_query::{SqlError, SqlState};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// The trailer with the five characters.
const SQLSTATE: &str = "x-ashlar-sqlstate";

/// Of a statement's error.
pub(super) fn of(error: &SqlError) -> Status {
    use SqlState as S;
    let code = match error.state {
        S::FeatureNotSupported => Code::Unimplemented,
        S::InsufficientPrivilege => Code::PermissionDenied,
        S::UndefinedTable | S::UndefinedObject | S::InvalidSchemaName => Code::NotFound,
        S::DuplicateTable | S::DuplicateSchema => Code::AlreadyExists,
        S::SerializationFailure | S::SnapshotTooOld => Code::Aborted,
        S::DiskFull | S::OutOfMemory | S::TooManyConnections | S::ProgramLimitExceeded => {
            Code::ResourceExhausted
        }
        S::QueryCanceled => Code::Cancelled,
        S::IoError => Code::Unavailable,
        S::InternalError => Code::Internal,
        S::TransactionResolutionUnknown => Code::Unknown,
        _ => Code::InvalidArgument,
    };
    let message = match &error.hint {
        Some(hint) => format!("{} ({hint})", error.message),
        None => error.message.clone(),
    };
    let mut status = Status::new(code, message);
    status.metadata_mut().insert(SQLSTATE, MetadataValue::from_static(error.state.code()));
    status
}
