//! `CREATE SCHEMA` and `DROP SCHEMA`.
//!
//! Invariant: who makes a schema may write at its location; who drops it made it or is root, and may remove what
//! goes with it. At a schema's location stands a marker: it keeps the place for one schema, and whatever makes a table
//! there writes it anew, so that who drops the schema notices.

use ashlar_objects::Error as StoreError;
use ashlar_objects::publish::Precondition;
use ashlar_objects::types::ObjectKey;

use super::super::planning::Planner;
use crate::catalog::definition::SchemaDefinition;
use crate::catalog::{
    Catalog, Found, RESERVED, catalog_bucket, check_name, owns, schema_key, system, user_id,
};
use crate::engine::DEFAULT_SCHEMA;
use crate::error::{SqlError, SqlState};
use crate::location::Location;
use crate::write::changes::Removal;

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
    // Two schemas at one place would share their tables.
    let marker = marker_key(folder)?;
    let taken = changes.is_staged(&location.bucket, &marker)
        || planner.require_as_found(&catalog, &location.bucket, &marker).await?
            && !changes.is_removed(&location.bucket, &marker);
    if taken {
        return Err(SqlError::new(
            SqlState::DuplicateSchema,
            format!("{location} is the place of another schema"),
        ));
    }
    write_marker(planner, &definition).await?;
    let at = (catalog_bucket(), schema_key(name)?);
    // Dropped here, it is there for others, and required to be as it was.
    if changes.schema(name).is_none() {
        changes.require(Precondition::Absent(at.0.clone(), at.1.clone()));
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
    let tables = catalog.all_tables(schema).await?;
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
    let marker = marker_key(location.prefix())?;
    let store = &planner.engine.inner.store;
    match store.may_list(&planner.cx, &location.bucket, marker.as_str()).await {
        // Where the bucket is gone, so is all that was there.
        Err(StoreError::NoSuchBucket) => {}
        _ => {
            planner.require_as_found(&catalog, &location.bucket, &marker).await?;
            changes.unstage(&planner.cx, &location.bucket, &marker, Removal::AtCommit).await?;
        }
    }
    if let Some(object) = &found.object {
        changes.require_unchanged(object);
    }
    let key = schema_key(name)?;
    changes.unstage(&system(&planner.cx), &catalog_bucket(), &key, Removal::AtCommit).await?;
    changes.set_schema(name, None);
    Ok(())
}

/// Lets what is made in a schema come to be only if the schema is still there, and tells whoever would drop it.
pub(super) async fn join(
    planner: &Planner,
    catalog: &Catalog,
    schema: &SchemaDefinition,
) -> Result<(), SqlError> {
    if schema.name == DEFAULT_SCHEMA {
        return Ok(());
    }
    if let Some(Found { object: Some(object), .. }) = catalog.schema(&schema.name).await? {
        planner.changes()?.require_unchanged(&object);
    }
    write_marker(planner, schema).await
}

/// What stands at a schema's location.
#[derive(serde::Serialize)]
struct Marker<'a> {
    #[serde(flatten)]
    schema: &'a SchemaDefinition,
    /// Another each time.
    generation: String,
}

async fn write_marker(planner: &Planner, schema: &SchemaDefinition) -> Result<(), SqlError> {
    let location = Location::parse(&schema.location)?;
    let at = (location.bucket.clone(), marker_key(location.prefix())?);
    let generation = format!("{:032x}", rand::random::<u128>());
    planner.changes()?.stage_definition(&planner.cx, at, &Marker { schema, generation }).await
}

fn marker_key(folder: &str) -> Result<ObjectKey, SqlError> {
    ObjectKey::new(&format!("{folder}_ashlar/schema.json")).map_err(|e| SqlError::invalid(e.to_string()))
}
