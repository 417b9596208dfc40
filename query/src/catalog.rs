//! Schemas, tables and views: objects that say what names stand for.
//!
//! A schema has a location; the definitions of its tables are objects below it, read and written as the caller may
//! read and write there. Which schema has which location, and the tables of `public`, lie in a bucket of
//! Ashlar's own: everybody signed in may use them, and only a definition's owner or root may change it.
//!
//! Invariant: a name means what one moment showed, or what the transaction itself did since; changes are staged
//! and become visible together.

pub(crate) mod definition;

use std::sync::Arc;

use ashlar_objects::access::{Principal, RequestContext};
use ashlar_objects::pinning::{Moment, PinRequest, PinnedObject};
use ashlar_objects::types::{BucketName, ObjectKey};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use self::definition::{SchemaDefinition, TableDefinition};
use crate::engine::{DEFAULT_SCHEMA, Engine};
use crate::error::{SqlError, SqlState};
use crate::location::Location;
use crate::scan::lease::HeldLease;
use crate::write::changes::Changes;

/// The bucket of Ashlar's own.
pub(crate) const CATALOG_BUCKET: &str = "ashlar-catalog";
/// Names that nobody makes a schema of.
pub(crate) const RESERVED: [&str; 4] = [DEFAULT_SCHEMA, "system", "information_schema", "pg_catalog"];
/// Longest name of a schema or table.
const NAME_BYTES_MAX: usize = 128;
/// Most definitions that a listing reads.
const LISTED_MAX: usize = 10_000;
/// Longest definition.
const DEFINITION_BYTES_MAX: u64 = 4 << 20;
/// What a name may hold as it is in a key.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

/// A caller's view of the catalog at a moment.
pub(crate) struct Catalog {
    pub(crate) engine: Engine,
    pub(crate) cx: Arc<RequestContext>,
    pub(crate) lease: Arc<HeldLease>,
    pub(crate) moment: Moment,
    pub(crate) changes: Option<Arc<Changes>>,
}

/// A definition with the object that holds it.
#[derive(Clone, Debug)]
pub(crate) struct Found<D> {
    pub(crate) definition: D,
    /// The object; `None`: this transaction made it.
    pub(crate) object: Option<PinnedObject>,
}

/// As whom a schema's definitions are read and written.
pub(crate) fn identity(schema: &SchemaDefinition, cx: &Arc<RequestContext>) -> Arc<RequestContext> {
    if schema.name == DEFAULT_SCHEMA { Arc::new(system(cx)) } else { Arc::clone(cx) }
}

/// Ashlar itself, in the caller's request.
pub(crate) fn system(cx: &RequestContext) -> RequestContext {
    RequestContext { principal: Principal::System, ..cx.clone() }
}

/// The user id of a caller.
pub(crate) fn user_id(cx: &RequestContext) -> String {
    match &cx.principal {
        Principal::User(user) => user.id.clone(),
        Principal::Anonymous | Principal::System => "system".to_owned(),
    }
}

/// Whether the caller may change what `owner` made.
pub(crate) fn owns(cx: &RequestContext, owner: &str) -> bool {
    match &cx.principal {
        Principal::User(user) => user.root || user.id == owner,
        Principal::System => true,
        Principal::Anonymous => false,
    }
}

/// The catalog's own bucket.
pub(crate) fn catalog_bucket() -> BucketName {
    BucketName::new(CATALOG_BUCKET).expect("the name is a valid one")
}

/// A name that can be given to a schema or table.
pub(crate) fn check_name(name: &str) -> Result<(), SqlError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains("://") || name.contains('#') {
        return Err(SqlError::invalid(format!(
            "{name:?} is no name: 1 to {NAME_BYTES_MAX} bytes, without '://' and '#'"
        )));
    }
    Ok(())
}

/// Where a schema's place is written down.
pub(crate) fn schema_key(name: &str) -> Result<ObjectKey, SqlError> {
    key(format!("schemas/{}.json", utf8_percent_encode(name, PLAIN)))
}

/// The folder of a schema's definitions.
pub(crate) fn tables_prefix(schema: &SchemaDefinition) -> Result<(BucketName, String), SqlError> {
    let location = Location::parse(&schema.location)?;
    let folder = location.folder().unwrap_or_default();
    Ok((location.bucket.clone(), format!("{folder}_ashlar/tables/")))
}

/// Where a table's definition is.
pub(crate) fn table_key(schema: &SchemaDefinition, name: &str) -> Result<(BucketName, ObjectKey), SqlError> {
    let (bucket, prefix) = tables_prefix(schema)?;
    Ok((bucket, key(format!("{prefix}{}.json", utf8_percent_encode(name, PLAIN)))?))
}

fn key(text: String) -> Result<ObjectKey, SqlError> {
    ObjectKey::new(&text).map_err(|e| SqlError::invalid(e.to_string()))
}

impl Catalog {
    /// A schema by its name.
    pub(crate) async fn schema(&self, name: &str) -> Result<Option<Found<SchemaDefinition>>, SqlError> {
        if let Some(changed) = self.changes.as_ref().and_then(|changes| changes.schema(name)) {
            return Ok(changed.map(|definition| Found { definition, object: None }));
        }
        if name == DEFAULT_SCHEMA {
            let definition = SchemaDefinition {
                name: name.to_owned(),
                location: format!("s3://{CATALOG_BUCKET}/public/"),
                owner: "system".to_owned(),
            };
            return Ok(Some(Found { definition, object: None }));
        }
        let key = schema_key(name)?;
        let found = self
            .read(&system(&self.cx), catalog_bucket(), key.as_str(), Some(key.as_str()), "the catalog")
            .await?;
        found.into_iter().next().map(|(object, bytes)| decode(object, &bytes)).transpose()
    }

    /// All schemas but the built-in ones.
    pub(crate) async fn schemas(&self) -> Result<Vec<SchemaDefinition>, SqlError> {
        let found = self.read(&system(&self.cx), catalog_bucket(), "schemas/", None, "the catalog").await?;
        let mut schemas = Vec::new();
        for (object, bytes) in found {
            let definition = decode::<SchemaDefinition>(object, &bytes)?.definition;
            if self.changes.as_ref().is_none_or(|changes| changes.schema(&definition.name).is_none()) {
                schemas.push(definition);
            }
        }
        schemas.extend(self.changes.iter().flat_map(|changes| changes.new_schemas()));
        Ok(schemas)
    }

    /// A table or view by its name.
    pub(crate) async fn table(
        &self,
        schema: &SchemaDefinition,
        name: &str,
    ) -> Result<Option<Found<TableDefinition>>, SqlError> {
        if let Some(changed) = self.changes.as_ref().and_then(|changes| changes.table(&schema.name, name)) {
            return Ok(changed.map(|definition| Found { definition, object: None }));
        }
        let (bucket, key) = table_key(schema, name)?;
        let what = format!("schema {}", schema.name);
        let found =
            self.read(&identity(schema, &self.cx), bucket, key.as_str(), Some(key.as_str()), &what).await?;
        found.into_iter().next().map(|(object, bytes)| decode(object, &bytes)).transpose()
    }

    /// All tables and views of a schema, by name; none where the caller may not list.
    pub(crate) async fn tables(
        &self,
        schema: &SchemaDefinition,
    ) -> Result<Vec<(String, Found<TableDefinition>)>, SqlError> {
        match self.all_tables(schema).await {
            Err(error) if error.state == SqlState::InsufficientPrivilege => Ok(Vec::new()),
            found => found,
        }
    }

    /// The same; an error where the caller may not see all.
    pub(crate) async fn all_tables(
        &self,
        schema: &SchemaDefinition,
    ) -> Result<Vec<(String, Found<TableDefinition>)>, SqlError> {
        let (bucket, prefix) = tables_prefix(schema)?;
        let what = format!("schema {}", schema.name);
        let found = self.read(&identity(schema, &self.cx), bucket, &prefix, None, &what).await?;
        let mut tables = Vec::new();
        for (object, bytes) in found {
            let name = object.key.as_str().strip_prefix(&prefix).and_then(|name| name.strip_suffix(".json"));
            let Some(name) = name.map(|name| percent_decode_str(name).decode_utf8_lossy().into_owned())
            else {
                continue;
            };
            let changed =
                self.changes.as_ref().is_some_and(|changes| changes.table(&schema.name, &name).is_some());
            if !changed {
                tables.push((name, decode(object, &bytes)?));
            }
        }
        let made = self.changes.iter().flat_map(|changes| changes.new_tables(&schema.name));
        tables.extend(made.map(|(name, definition)| (name, Found { definition, object: None })));
        Ok(tables)
    }

    /// Objects of the catalog with their bytes, as of the moment.
    async fn read(
        &self,
        cx: &RequestContext,
        bucket: BucketName,
        prefix: &str,
        only: Option<&str>,
        what: &str,
    ) -> Result<Vec<(PinnedObject, bytes::Bytes)>, SqlError> {
        let wanted = |key: &str| only.is_none_or(|only| key == only) && key.ends_with(".json");
        let request = PinRequest::Prefix { bucket, prefix: prefix.to_owned(), wanted: &wanted };
        let found = match self.engine.inner.store.pin_all(cx, &self.moment, &[request], LISTED_MAX).await {
            Err(ashlar_objects::Error::NoSuchBucket) => return Ok(Vec::new()),
            found => found.map_err(|e| SqlError::of_store(what, &e))?,
        };
        let mut all = Vec::new();
        for object in found.into_iter().flatten() {
            let length = object.pinned.head.length;
            if length > DEFINITION_BYTES_MAX {
                return Err(SqlError::new(
                    SqlState::DataException,
                    format!("{what}: a definition is too long"),
                ));
            }
            let bytes = self.lease.read(&object.pinned, 0..length).await?;
            all.push((object, bytes));
        }
        Ok(all)
    }
}

fn decode<D: serde::de::DeserializeOwned>(object: PinnedObject, bytes: &[u8]) -> Result<Found<D>, SqlError> {
    let definition = serde_json::from_slice(bytes).map_err(|e| {
        let at = format!("s3://{}/{}", object.bucket, object.key);
        SqlError::new(SqlState::DataException, format!("{at} is no definition that this version reads: {e}"))
    })?;
    Ok(Found { definition, object: Some(object) })
}
