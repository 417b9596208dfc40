//! `INSERT`, `COPY … TO` and the rows of `CREATE TABLE AS`.
//!
//! Invariant: an INSERT adds objects of new names, so two of them never disturb each other; what replaces a
//! table's rows checks that no INSERT came since its moment, by the generation object that each INSERT writes anew and
//! that stands as long as a table has the folder.

use std::sync::Arc;

use ashlar_objects::types::ObjectKey;
use datafusion::common::{ScalarValue, TableReference};
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::dml::{CopyTo, InsertOp};
use tokio_util::sync::CancellationToken;

use super::super::names::Catalogued;
use super::super::planning::Planner;
use super::missing;
use crate::catalog::Catalog;
use crate::catalog::definition::{StoredTable, TableKind, of_columns};
use crate::error::{SqlError, SqlState};
use crate::location::{Keys, Location};
use crate::scan::format::{Format, FormatKind};
use crate::write::changes::Removal;
use crate::write::rows::Target;

/// In a table's folder, written anew by whatever adds rows.
const GENERATION: &str = "_ashlar-generation.json";

/// `INSERT INTO` and `INSERT OVERWRITE`.
pub(super) async fn insert(
    planner: &Planner,
    name: &TableReference,
    op: InsertOp,
    input: &LogicalPlan,
    parameters: Vec<ScalarValue>,
    cancel: &CancellationToken,
) -> Result<u64, SqlError> {
    let catalog = planner.catalog().await?;
    let Some(Catalogued { schema, name, found }) = planner.find(&catalog, name).await? else {
        return Err(missing(name));
    };
    let TableKind::Table(table) = &found.definition.kind else {
        return Err(SqlError::new(SqlState::WrongObjectType, format!("{}.{name} is a view", schema.name)));
    };
    let location = folder_of(&schema.name, &name, table)?;
    if let Some(object) = &found.object {
        planner.changes()?.require_unchanged(object);
    }
    match op {
        InsertOp::Append => {}
        InsertOp::Overwrite => remove_all(planner, &catalog, &location, Removal::AtCommit).await?,
        InsertOp::Replace => return Err(SqlError::unsupported("REPLACE INTO")),
    }
    let partitions = of_columns(&table.partitions)?;
    let partitions = partitions.iter().map(|field| (field.name().clone(), field.data_type().clone()));
    let (format, partitions) = (table.format.clone(), partitions.collect());
    into_folder(planner, input, parameters, cancel, location, format, partitions).await
}

/// The folder that a table's rows go to.
fn folder_of(schema: &str, name: &str, table: &StoredTable) -> Result<Location, SqlError> {
    let location = Location::parse(&table.location)?;
    if location.folder().is_none() {
        return Err(SqlError::new(SqlState::WrongObjectType, format!("{schema}.{name} is no folder"))
            .hint("rows go into tables whose LOCATION ends with a slash"));
    }
    Ok(location)
}

/// `TRUNCATE` of a table: as if it were overwritten with no rows.
pub(super) async fn truncate(
    planner: &Planner,
    catalog: &Catalog,
    found: &Catalogued,
) -> Result<(), SqlError> {
    let Catalogued { schema, name, found } = found;
    let TableKind::Table(table) = &found.definition.kind else {
        return Err(SqlError::new(SqlState::WrongObjectType, format!("{}.{name} is a view", schema.name)));
    };
    let location = folder_of(&schema.name, name, table)?;
    if let Some(object) = &found.object {
        planner.changes()?.require_unchanged(object);
    }
    remove_all(planner, catalog, &location, Removal::AtCommit).await?;
    write_generation(planner, &location).await
}

/// Whether a folder is a table's already, under whatever name.
pub(super) async fn is_taken(
    planner: &Planner,
    catalog: &Catalog,
    location: &Location,
) -> Result<bool, SqlError> {
    let key = generation_key(location)?;
    let keys = Keys::Matching(crate::location::Glob::literal(key.as_str()));
    let at = Location { bucket: location.bucket.clone(), keys };
    let pins = planner.pins(Arc::clone(&catalog.lease), &catalog.moment, vec![at.clone()]).await?;
    Ok(pins.of(&at).is_some_and(|objects| !objects.is_empty()))
}

/// Writes rows into a table's folder and says so to whoever would replace them.
pub(super) async fn into_folder(
    planner: &Planner,
    input: &LogicalPlan,
    parameters: Vec<ScalarValue>,
    cancel: &CancellationToken,
    location: Location,
    format: Format,
    partitions: Vec<(String, datafusion::arrow::datatypes::DataType)>,
) -> Result<u64, SqlError> {
    write_generation(planner, &location).await?;
    let target = Target { location, format, partitions };
    planner.write(input, parameters, cancel, &target).await
}

async fn write_generation(planner: &Planner, location: &Location) -> Result<(), SqlError> {
    let generation = serde_json::json!({ "generation": format!("{:032x}", rand::random::<u128>()) });
    let at = (location.bucket.clone(), generation_key(location)?);
    planner.changes()?.stage_definition(&planner.cx, at, &generation).await
}

/// Takes a folder for a new table, provided that no other has it, under whatever name: what lies there would become
/// rows of the table.
pub(super) async fn occupy(
    planner: &Planner,
    catalog: &Catalog,
    location: &Location,
) -> Result<(), SqlError> {
    let (changes, key) = (planner.changes()?, generation_key(location)?);
    let is_others = planner.require_as_found(catalog, &location.bucket, &key).await?
        && !changes.is_removed(&location.bucket, &key);
    let pins = planner.pins(Arc::clone(&catalog.lease), &catalog.moment, vec![location.clone()]).await?;
    let is_empty = pins.of(location).is_none_or(|objects| objects.is_empty());
    if is_others || changes.is_staged(&location.bucket, &key) || !is_empty {
        return Err(SqlError::new(SqlState::DuplicateTable, format!("{location} is not empty"))
            .hint("CREATE EXTERNAL TABLE reads what is there"));
    }
    write_generation(planner, location).await
}

fn generation_key(location: &Location) -> Result<ObjectKey, SqlError> {
    ObjectKey::new(&format!("{}{GENERATION}", location.prefix()))
        .map_err(|e| SqlError::invalid(e.to_string()))
}

/// Marks all rows of a table for removal, provided that none come meanwhile.
pub(super) async fn remove_all(
    planner: &Planner,
    catalog: &Catalog,
    location: &Location,
    when: Removal,
) -> Result<(), SqlError> {
    let changes = planner.changes()?;
    let key = generation_key(location)?;
    // As others have it: what this transaction added itself says nothing of what they do.
    planner.require_as_found(catalog, &location.bucket, &key).await?;
    let pins = planner.pins(Arc::clone(&catalog.lease), &catalog.moment, vec![location.clone()]).await?;
    for object in pins.of(location).iter().flat_map(|objects| objects.iter()) {
        changes.unstage(&planner.cx, &object.bucket, &object.key, when).await?;
    }
    changes.unstage(&planner.cx, &location.bucket, &key, Removal::AtCommit).await?;
    changes.check_room()
}

/// `COPY … TO`
pub(super) async fn copy(
    planner: &Planner,
    copy: &CopyTo,
    parameters: Vec<ScalarValue>,
    cancel: &CancellationToken,
) -> Result<u64, SqlError> {
    let location = Location::parse(&copy.output_url)?;
    let mut format = Format::of_word(&copy.file_type.get_ext())?;
    for (name, value) in &copy.options {
        format.set(name, value)?;
    }
    if !copy.partition_by.is_empty() && matches!(location.keys, Keys::One(_)) {
        return Err(SqlError::invalid("partitions are folders: the location ends with a slash"));
    }
    if format.kind == FormatKind::Arrow && !copy.partition_by.is_empty() {
        return Err(SqlError::unsupported("PARTITIONED BY of Arrow files"));
    }
    let of = |name: &String| {
        let field = copy.input.schema().field_with_unqualified_name(name)?;
        Ok::<_, SqlError>((name.clone(), field.data_type().clone()))
    };
    let partitions = copy.partition_by.iter().map(of).collect::<Result<_, _>>()?;
    planner.write(&copy.input, parameters, cancel, &Target { location, format, partitions }).await
}
