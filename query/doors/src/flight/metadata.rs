//! What there is, as Flight SQL shows it: catalogs, schemas, tables, and what this server can do.
//!
//! Invariant: nothing is told that the caller's session would not tell.

use arrow::array::RecordBatch;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables, SqlInfo,
    SqlSupportedTransaction,
};
use ashlar_query::{Session, SqlError};
use datafusion::datasource::TableType;
use tonic::Status;

use super::{answers, status};
use crate::catalog::{DATABASE, listing};

const TABLE: &str = "TABLE";
const VIEW: &str = "VIEW";

pub(super) fn catalogs(query: CommandGetCatalogs) -> Result<RecordBatch, Status> {
    let mut builder = query.into_builder();
    builder.append(DATABASE);
    builder.build().map_err(internal)
}

pub(super) async fn schemas(
    session: &mut Session,
    query: CommandGetDbSchemas,
) -> Result<RecordBatch, Status> {
    let listed = listing::list(session).await.map_err(|error| status::of(&error))?;
    let mut builder = query.into_builder();
    for name in listed.keys() {
        builder.append(DATABASE, name);
    }
    builder.build().map_err(internal)
}

pub(super) async fn tables(session: &mut Session, query: CommandGetTables) -> Result<RecordBatch, Status> {
    let listed = listing::list(session).await.map_err(|error| status::of(&error))?;
    let mut builder = query.into_builder();
    for (schema, tables) in &listed {
        for (name, table) in tables {
            let kind = if table.kind == TableType::View { VIEW } else { TABLE };
            let columns = answers::plain_schema(&table.schema);
            builder.append(DATABASE, schema, name, kind, &columns).map_err(internal)?;
        }
    }
    builder.build().map_err(internal)
}

pub(super) fn table_types(query: CommandGetTableTypes) -> Result<RecordBatch, Status> {
    let mut builder = query.into_builder();
    builder.append(TABLE);
    builder.append(VIEW);
    builder.build().map_err(internal)
}

/// What this server can do.
pub(super) fn sql_info() -> Result<SqlInfoData, SqlError> {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Ashlar");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    info.append(SqlInfo::FlightSqlServerReadOnly, false);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, i32::from(SqlSupportedTransaction::None));
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, true);
    info.append(SqlInfo::SqlDdlTable, true);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.build().map_err(|error| SqlError::internal("telling what the server can do", &error))
}

fn internal(error: impl std::fmt::Display) -> Status {
    status::of(&SqlError::internal("listing what there is", &error))
}
