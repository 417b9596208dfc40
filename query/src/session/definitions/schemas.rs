//! `CREATE SCHEMA` and `DROP SCHEMA`.
//!
//! Invariant: who makes a schema may write at its location; who drops it made it or is root, and may remove what
//! goes with it.

use ashlar_objects::publish::Precondition;
use ashlar_objects::types::ObjectKey;

use super::super::planning::Planner;
use crate::catalog::definition::SchemaDefinition;
use crate::catalog::{RESERVED, catalog_bucket, check_name, owns, schema_key, system, user_id};
use crate::error::{SqlError, SqlState};
use crate::location::Location;

/// Makes a schema.
pub(crate) async fn create(
    planner: &Planner,
    name: &str,
    location: Option<&str>,
    if_not_exists: bool,
) -> Result<Option<u64>, SqlError> {
    check_name(name)?;
    let (catalog, changes) = (planner.catalog().await?, planner.changes()?);
    if RESERVED.contains(&name) || catalog.schema(name).await?.is_some() {
        if if_not_exists {
            return Ok(None);
        }
        return Err(SqlError::new(SqlState::DuplicateSchema, format!("schema {name} exists already")));
    }
    let location = location.ok_or_else(|| {
        SqlError::syntax("a schema needs a place").hint("CREATE SCHEMA name LOCATION 's3://bucket/prefix/'")
    })?;
    let location = Location::parse(location)?;
    let folder =
        location.folder().ok_or_else(|| SqlError::invalid("a schema's location ends with a slash"))?;
    let definition = SchemaDefinition {
        name: name.to_owned(),
        location: location.to_string(),
        owner: user_id(&planner.cx),
    };
    let marker = marker(folder)?;
    changes.stage_definition(&planner.cx, (location.bucket.clone(), marker.clone()), &definition).await?;
    let at = (catalog_bucket(), schema_key(name)?);
    if changes.schema(name).is_none() {
        changes.require(Precondition::Absent(at.0.clone(), at.1.clone()));
        // Two schemas at one place would share their tables.
        changes.require(Precondition::Absent(location.bucket.clone(), marker));
    }
    changes.stage_definition(&system(&planner.cx), at, &definition).await?;
    changes.set_schema(name, Some(definition));
    Ok(None)
}

/// Drops a schema, with `cascade` all that is in it.
pub(super) async fn remove(
    planner: &Planner,
    name: &str,
    if_exists: bool,
    cascade: bool,
) -> Result<(), SqlError> {
    let (catalog, changes) = (planner.catalog().await?, planner.changes()?);
    if RESERVED.contains(&name) {
        return Err(SqlError::new(SqlState::InsufficientPrivilege, format!("schema {name} is always there")));
    }
    let Some(found) = catalog.schema(name).await? else {
        let missing = SqlError::new(SqlState::InvalidSchemaName, format!("schema {name} does not exist"));
        return if if_exists { Ok(()) } else { Err(missing) };
    };
    let schema = &found.definition;
    if !owns(&planner.cx, &schema.owner) {
        return Err(SqlError::new(
            SqlState::InsufficientPrivilege,
            format!("schema {name} belongs to somebody else"),
        ));
    }
    let location = Location::parse(&schema.location)?;
    planner.engine.inner.store.may_list(&planner.cx, &location.bucket, location.prefix()).await.map_err(
        // Else what it holds would be taken for nothing.
        |e| SqlError::of_store(&schema.location, &e),
    )?;
    let tables = catalog.tables(schema).await?;
    if !tables.is_empty() && !cascade {
        return Err(SqlError::new(
            SqlState::DependentObjectsStillExist,
            format!("schema {name} holds {} tables or views", tables.len()),
        )
        .hint("DROP SCHEMA … CASCADE drops them, too"));
    }
    for (table, found) in &tables {
        planner.drop_found(&catalog, schema, table, found).await?;
    }
    let marker = marker(location.prefix())?;
    changes.unstage(&planner.cx, &location.bucket, &marker, None).await?;
    changes
        .unstage(&system(&planner.cx), &catalog_bucket(), &schema_key(name)?, found.object.as_ref())
        .await?;
    changes.set_schema(name, None);
    Ok(())
}

/// What stands at a schema's location.
fn marker(folder: &str) -> Result<ObjectKey, SqlError> {
    ObjectKey::new(&format!("{folder}_ashlar/schema.json")).map_err(|e| SqlError::invalid(e.to_string()))
}
