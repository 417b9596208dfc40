//! What statements do that change something: definitions, rows, files.
//!
//! Invariant: everything goes into the changes of the transaction or statement and is visible when these are
//! published; what a statement found and builds on is a precondition of that.

mod rows;
mod schemas;

use std::sync::Arc;

use ashlar_objects::publish::Precondition;
use ashlar_objects::types::{BucketName, ObjectKey};
use datafusion::common::{ScalarValue, TableReference};
use datafusion::logical_expr::{
    CreateExternalTable, CreateMemoryTable, DdlStatement, DmlStatement, LogicalPlan, WriteOp,
};
use datafusion::sql::sqlparser::ast::ObjectName;
use tokio_util::sync::CancellationToken;

pub(crate) use self::schemas::create as create_schema;
use super::names::Catalogued;
use super::planning::Planner;
use crate::catalog::definition::{
    SchemaDefinition, StoredTable, TableDefinition, TableKind, View, to_columns,
};
use crate::catalog::{Catalog, Found, check_name, identity, owns, table_key, user_id};
use crate::engine::DEFAULT_SCHEMA;
use crate::error::{SqlError, SqlState};
use crate::location::{Glob, Keys, Location};
use crate::scan::format::{Format, FormatKind};
use crate::scan::pins::Pins;
use crate::write::changes::{Changes, Removal};

impl Planner {
    /// Changes what a plan says; answers how many rows were written, if rows were.
    pub(crate) async fn change(
        &self,
        text: &str,
        plan: &LogicalPlan,
        parameters: Vec<ScalarValue>,
        cancel: &CancellationToken,
    ) -> Result<Option<u64>, SqlError> {
        match plan {
            LogicalPlan::Dml(DmlStatement { op: WriteOp::Insert(op), table_name, input, .. }) => {
                rows::insert(self, table_name, *op, input, parameters, cancel).await.map(Some)
            }
            LogicalPlan::Copy(copy) => rows::copy(self, copy, parameters, cancel).await.map(Some),
            LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create)) => {
                self.create_external(create).await.map(|()| None)
            }
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => {
                self.create_table(create, parameters, cancel).await
            }
            LogicalPlan::Ddl(DdlStatement::CreateView(create)) => {
                let columns = to_columns(create.input.schema().fields());
                let search_path = self.settings.search_path().to_vec();
                let view = View { query: text.to_owned(), search_path, columns };
                let new = New { name: &create.name, or_replace: create.or_replace, if_not_exists: false };
                self.define(new, TableKind::View(view)).await.map(|_| None)
            }
            LogicalPlan::Ddl(DdlStatement::DropTable(drop)) => {
                self.drop_one(&drop.name, drop.if_exists, false).await.map(|()| None)
            }
            LogicalPlan::Ddl(DdlStatement::DropView(drop)) => {
                self.drop_one(&drop.name, drop.if_exists, true).await.map(|()| None)
            }
            LogicalPlan::Ddl(DdlStatement::DropCatalogSchema(drop)) => {
                let name = drop.name.schema_name();
                schemas::remove(self, name, drop.if_exists, drop.cascade).await.map(|()| None)
            }
            _ => Err(SqlError::unsupported("this statement")),
        }
    }

    /// What the running statement changes.
    pub(crate) fn changes(&self) -> Result<&Arc<Changes>, SqlError> {
        self.changes.as_ref().ok_or_else(|| SqlError::internal("changing something", &"nowhere to"))
    }

    /// Publishing will fail unless an object is as the moment showed it to all, or is still not there. Whether it was
    /// there.
    async fn require_as_found(
        &self,
        catalog: &Catalog,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<bool, SqlError> {
        let changes = self.changes()?;
        let at = Location { bucket: bucket.clone(), keys: Keys::Matching(Glob::literal(key.as_str())) };
        let (store, lease) = (&self.engine.inner.store, Arc::clone(&catalog.lease));
        let pins = Pins::resolve(store, &self.cx, lease, &catalog.moment, vec![at.clone()]).await?;
        match pins.of(&at).as_deref() {
            Some([object, ..]) => changes.require_unchanged(object),
            _ => {
                changes.require(Precondition::Absent(bucket.clone(), key.clone()));
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn create_external(&self, create: &CreateExternalTable) -> Result<(), SqlError> {
        if create.temporary || create.unbounded || !create.order_exprs.is_empty() {
            return Err(SqlError::unsupported("TEMPORARY, UNBOUNDED and WITH ORDER"));
        }
        let [location] = &create.locations[..] else {
            return Err(SqlError::unsupported("more than one LOCATION"));
        };
        let location = Location::parse(location)?;
        let mut format = Format::of_word(&create.file_type)?;
        for (name, value) in &create.options {
            format.set(name, value)?;
        }
        let found = self.columns_of(&location, &format).await;
        let declared = create.schema.as_arrow();
        let (columns, partitions) = if declared.fields().is_empty() {
            let (columns, partitions) = found?;
            (columns, partitions)
        } else {
            // Rights are asked for even where columns are declared; objects may come later.
            if let Err(error) = found
                && error.state == SqlState::InsufficientPrivilege
            {
                return Err(error);
            }
            let is_partition = |name: &str| create.table_partition_cols.iter().any(|column| column == name);
            let (partitions, columns): (Vec<_>, Vec<_>) =
                declared.fields().iter().cloned().partition(|field| is_partition(field.name()));
            (columns, partitions)
        };
        let named = partitions.iter().map(|field| field.name());
        if !create.table_partition_cols.is_empty() && !named.eq(create.table_partition_cols.iter()) {
            return Err(SqlError::invalid(
                "PARTITIONED BY names other columns than the folders of the location",
            ));
        }
        let table = StoredTable {
            location: location.to_string(),
            format,
            columns: to_columns(&columns),
            partitions: to_columns(&partitions),
            managed: false,
        };
        let new =
            New { name: &create.name, or_replace: create.or_replace, if_not_exists: create.if_not_exists };
        self.define(new, TableKind::Table(table)).await.map(|_| ())
    }

    /// `CREATE TABLE` with columns, or as the rows of a query.
    async fn create_table(
        &self,
        create: &CreateMemoryTable,
        parameters: Vec<ScalarValue>,
        cancel: &CancellationToken,
    ) -> Result<Option<u64>, SqlError> {
        if create.temporary || !create.column_defaults.is_empty() {
            return Err(SqlError::unsupported("TEMPORARY tables and DEFAULT values"));
        }
        let catalog = self.catalog().await?;
        let (schema, name) = self.place(&catalog, &create.name).await?;
        if schema.name == DEFAULT_SCHEMA {
            return Err(SqlError::new(
                SqlState::InvalidSchemaName,
                "the schema public has no place for rows",
            )
            .hint("CREATE SCHEMA name LOCATION 's3://bucket/prefix/', then CREATE TABLE name.table …"));
        }
        let of_schema = Location::parse(&schema.location)?;
        let folder = folder_name(&name)?;
        let at = |folder: &str| {
            Location::parse(&format!("s3://{}/{}{folder}/", of_schema.bucket, of_schema.prefix()))
        };
        let mut location = at(folder)?;
        if rows::is_taken(self, &catalog, &location).await? {
            // By a table that was renamed since, or by the one that is replaced.
            location = at(&format!("{folder}-{:08x}", rand::random::<u32>()))?;
        }
        let columns = to_columns(create.input.schema().fields());
        let table = StoredTable {
            location: location.to_string(),
            format: Format::plain(FormatKind::Parquet),
            columns,
            partitions: Vec::new(),
            managed: true,
        };
        let new =
            New { name: &create.name, or_replace: create.or_replace, if_not_exists: create.if_not_exists };
        if !self.define(new, TableKind::Table(table)).await? {
            return Ok(None);
        }
        rows::occupy(self, &catalog, &location).await?;
        let has_rows = !matches!(&*create.input, LogicalPlan::EmptyRelation(_));
        if !has_rows {
            return Ok(None);
        }
        let format = Format::plain(FormatKind::Parquet);
        rows::into_folder(self, &create.input, parameters, cancel, location, format, Vec::new())
            .await
            .map(Some)
    }

    /// Stages a definition. `false`: there is one, and that is fine.
    async fn define(&self, new: New<'_>, kind: TableKind) -> Result<bool, SqlError> {
        let (catalog, changes) = (self.catalog().await?, self.changes()?);
        let (schema, name) = self.place(&catalog, new.name).await?;
        check_name(&name)?;
        let at = table_key(&schema, &name)?;
        match catalog.table(&schema, &name).await? {
            Some(_) if new.if_not_exists => return Ok(false),
            Some(_) if !new.or_replace => {
                return Err(SqlError::new(
                    SqlState::DuplicateTable,
                    format!("{}.{name} exists already", schema.name),
                ));
            }
            Some(found) => {
                self.check_owner(&schema, &name, &found.definition)?;
                let is_view = |kind: &TableKind| matches!(kind, TableKind::View(_));
                if is_view(&found.definition.kind) != is_view(&kind) {
                    return Err(SqlError::new(
                        SqlState::WrongObjectType,
                        format!("{}.{name} is not of this kind", schema.name),
                    ));
                }
                self.remove_rows(&catalog, &schema, &found.definition).await?;
                if let Some(object) = &found.object {
                    changes.require_unchanged(object);
                }
            }
            // Made here and dropped again, it may be there for others.
            None if changes.table(&schema.name, &name).is_some() => {}
            None => changes.require(Precondition::Absent(at.0.clone(), at.1.clone())),
        }
        if let TableKind::Table(table) = &kind {
            changes.reuse(&Location::parse(&table.location)?)?;
        }
        schemas::join(self, &catalog, &schema).await?;
        let id = format!("{:032x}", rand::random::<u128>());
        let definition = TableDefinition { id, owner: user_id(&self.cx), kind };
        changes.stage_definition(&identity(&schema, &self.cx), at, &definition).await?;
        changes.set_table(&schema.name, &name, Some(definition));
        Ok(true)
    }

    async fn drop_one(&self, name: &TableReference, if_exists: bool, view: bool) -> Result<(), SqlError> {
        let catalog = self.catalog().await?;
        let Some(Catalogued { schema, name, found }) = self.find(&catalog, name).await? else {
            return if if_exists { Ok(()) } else { Err(missing(name)) };
        };
        if matches!(found.definition.kind, TableKind::View(_)) != view {
            let kind = if view { "table" } else { "view" };
            return Err(SqlError::new(
                SqlState::WrongObjectType,
                format!("{}.{name} is a {kind}", schema.name),
            )
            .hint(format!("DROP {}", kind.to_ascii_uppercase())));
        }
        self.drop_found(&catalog, &schema, &name, &found).await
    }

    /// Marks a definition, and the rows that belong to it, for removal.
    pub(crate) async fn drop_found(
        &self,
        catalog: &Catalog,
        schema: &SchemaDefinition,
        name: &str,
        found: &Found<TableDefinition>,
    ) -> Result<(), SqlError> {
        self.check_owner(schema, name, &found.definition)?;
        self.remove_rows(catalog, schema, &found.definition).await?;
        self.remove_definition(schema, name, found).await
    }

    async fn remove_definition(
        &self,
        schema: &SchemaDefinition,
        name: &str,
        found: &Found<TableDefinition>,
    ) -> Result<(), SqlError> {
        let changes = self.changes()?;
        let (bucket, key) = table_key(schema, name)?;
        if let Some(object) = &found.object {
            changes.require_unchanged(object);
        }
        changes.unstage(&identity(schema, &self.cx), &bucket, &key, Removal::AtCommit).await?;
        changes.set_table(&schema.name, name, None);
        Ok(())
    }

    /// Marks what a table of ours holds for removal; other people's objects stay. Whoever may write below a schema's location
    /// can write a definition there, so that it is believed only for what lies below it, too.
    async fn remove_rows(
        &self,
        catalog: &Catalog,
        schema: &SchemaDefinition,
        definition: &TableDefinition,
    ) -> Result<(), SqlError> {
        let TableKind::Table(StoredTable { location, managed: true, .. }) = &definition.kind else {
            return Ok(());
        };
        if schema.name != DEFAULT_SCHEMA && !location.starts_with(&schema.location) {
            return Ok(());
        }
        rows::remove_all(self, catalog, &Location::parse(location)?, Removal::OnceDropped).await
    }

    fn check_owner(
        &self,
        schema: &SchemaDefinition,
        name: &str,
        definition: &TableDefinition,
    ) -> Result<(), SqlError> {
        // Elsewhere whoever may write below the schema's location may change what is defined there.
        if schema.name == DEFAULT_SCHEMA && !owns(&self.cx, &definition.owner) {
            return Err(SqlError::new(
                SqlState::InsufficientPrivilege,
                format!("{}.{name} belongs to somebody else", schema.name),
            ));
        }
        Ok(())
    }
}

/// `TRUNCATE`
pub(crate) async fn truncate(
    planner: &Planner,
    names: &[ObjectName],
    if_exists: bool,
) -> Result<Option<u64>, SqlError> {
    let catalog = planner.catalog().await?;
    for name in names {
        let name = TableReference::parse_str(&name.to_string());
        match planner.find(&catalog, &name).await? {
            Some(found) => rows::truncate(planner, &catalog, &found).await?,
            None if if_exists => {}
            None => return Err(missing(&name)),
        }
    }
    Ok(None)
}

/// `ALTER TABLE … RENAME TO`
pub(crate) async fn rename(
    planner: &Planner,
    from: &ObjectName,
    to: &ObjectName,
    if_exists: bool,
) -> Result<Option<u64>, SqlError> {
    let reference = |name: &ObjectName| TableReference::parse_str(&name.to_string());
    let (catalog, changes) = (planner.catalog().await?, planner.changes()?);
    let Some(Catalogued { schema, name, found }) = planner.find(&catalog, &reference(from)).await? else {
        return if if_exists { Ok(None) } else { Err(missing(&reference(from))) };
    };
    planner.check_owner(&schema, &name, &found.definition)?;
    let to = match reference(to) {
        TableReference::Bare { table } => TableReference::partial(schema.name.clone(), table),
        to => to,
    };
    let (into, new_name) = planner.place(&catalog, &to).await?;
    check_name(&new_name)?;
    if catalog.table(&into, &new_name).await?.is_some() {
        return Err(SqlError::new(
            SqlState::DuplicateTable,
            format!("{}.{new_name} exists already", into.name),
        ));
    }
    let mut definition = found.definition.clone();
    if into.name != schema.name {
        if matches!(definition.kind, TableKind::Table(StoredTable { managed: true, .. })) {
            return Err(SqlError::unsupported(
                "renaming a table that has rows of its own into another schema",
            ));
        }
        // What stood there was written by whoever may write there.
        definition.owner = user_id(&planner.cx);
    }
    let at = table_key(&into, &new_name)?;
    if changes.table(&into.name, &new_name).is_none() {
        changes.require(Precondition::Absent(at.0.clone(), at.1.clone()));
    }
    schemas::join(planner, &catalog, &into).await?;
    changes.stage_definition(&identity(&into, &planner.cx), at, &definition).await?;
    changes.set_table(&into.name, &new_name, Some(definition));
    planner.remove_definition(&schema, &name, &found).await?;
    Ok(None)
}

/// A definition to be.
struct New<'a> {
    name: &'a TableReference,
    or_replace: bool,
    if_not_exists: bool,
}

pub(crate) fn missing(name: &TableReference) -> SqlError {
    SqlError::new(SqlState::UndefinedTable, format!("{name} does not exist"))
}

/// A table's name as a folder.
fn folder_name(name: &str) -> Result<&str, SqlError> {
    let plain = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if !plain || name.starts_with(['_', '.']) {
        return Err(SqlError::invalid(format!("{name:?} cannot be a folder's name"))
            .hint("letters, digits, '_', '-' and '.', and no '_' or '.' first"));
    }
    Ok(name)
}
