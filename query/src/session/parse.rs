//! From text to a statement that a session knows what to do with.
//!
//! Invariant: depth and length of what is parsed are bounded, and every kind of statement is named here: planned,
//! handled by the session, or refused as not supported. Deliberately looks up no names.

mod depth;
mod schema;

use std::collections::VecDeque;

use datafusion::sql::parser::{DFParser, DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    AlterTableOperation, ColumnDef, ColumnOption, Expr, ObjectName, ObjectType, RenameTableNameKind, Set,
    Statement as Ast, TableConstraint, TransactionMode, Value,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;

use crate::error::{SqlError, SqlState};

/// Deepest nesting of a statement.
const DEPTH_MAX: usize = 64;
/// Most statements of one text.
const STATEMENTS_MAX: usize = 1_000;

/// A statement and its tag.
pub(crate) struct Parsed {
    pub(crate) step: Step,
    pub(crate) tag: &'static str,
}

/// What a session does with it.
#[derive(Debug)]
pub(crate) enum Step {
    /// Planned by DataFusion.
    Plan(Statement),
    /// Settings with their values; `None` is DEFAULT.
    Set(Vec<(String, Option<String>)>),
    /// A setting.
    Show(String),
    Begin {
        read_only: bool,
    },
    Commit,
    Rollback,
    /// `CREATE SCHEMA`, with whether it may be there already.
    CreateSchema {
        name: String,
        location: Option<String>,
        if_not_exists: bool,
    },
    /// `ALTER TABLE … RENAME TO`
    Rename {
        from: ObjectName,
        to: ObjectName,
        if_exists: bool,
    },
    /// `TRUNCATE`
    Truncate {
        names: Vec<ObjectName>,
        if_exists: bool,
    },
    /// Understood, and not done.
    Unsupported(&'static str),
}

/// Splits a text into its statements, for protocols that send several at once. Each is prepared on its own.
pub fn split(text: &str) -> Result<Vec<String>, SqlError> {
    let mut statements = Vec::new();
    let mut from = 0;
    for at in depth::semicolons(&depth::tokens(text)?, text).into_iter().chain([text.len()]) {
        let statement = text.get(from..at).unwrap_or_default().trim();
        if !statement.is_empty() {
            statements.push(statement.to_owned());
        }
        from = at + 1;
    }
    if statements.len() > STATEMENTS_MAX {
        return Err(SqlError::new(
            SqlState::ProgramLimitExceeded,
            format!("more than {STATEMENTS_MAX} statements at once"),
        ));
    }
    Ok(statements)
}

/// The one statement of a text.
pub(crate) fn one(text: &str) -> Result<Parsed, SqlError> {
    if let Some(step) = schema::parse(text)? {
        return Ok(Parsed { step, tag: "CREATE SCHEMA" });
    }
    let mut statements = statements(text)?;
    let statement = statements.pop_front().ok_or_else(|| SqlError::syntax("there is no statement"))?;
    if !statements.is_empty() {
        return Err(SqlError::syntax("more than one statement at once").hint("send them one by one"));
    }
    step(statement)
}

fn statements(text: &str) -> Result<VecDeque<Statement>, SqlError> {
    depth::check(&depth::tokens(text)?)?;
    let mut parser = parser(text)?;
    parser.parse_statements().map_err(of_parser)
}

fn parser(text: &str) -> Result<DFParser<'_>, SqlError> {
    let built = DFParserBuilder::new(text).with_dialect(&GenericDialect {}).with_recursion_limit(DEPTH_MAX);
    built.build().map_err(of_parser)
}

fn of_parser(error: datafusion::error::DataFusionError) -> SqlError {
    let error = SqlError::from(error);
    if error.message.contains("recursion limit") {
        return SqlError::new(
            SqlState::StatementTooComplex,
            format!("the statement is nested deeper than {DEPTH_MAX} levels"),
        );
    }
    error
}

fn step(statement: Statement) -> Result<Parsed, SqlError> {
    let (step, tag) = match statement {
        Statement::CreateExternalTable(mut create) => {
            check_constraints(&create.columns, &create.constraints)?;
            create.table_partition_cols.iter_mut().for_each(unquote);
            (Step::Plan(Statement::CreateExternalTable(create)), "CREATE TABLE")
        }
        Statement::CopyTo(mut copy) => {
            copy.partitioned_by.iter_mut().for_each(unquote);
            (Step::Plan(Statement::CopyTo(copy)), "COPY")
        }
        Statement::Statement(ast) => return of_ast(*ast),
        Statement::Explain(explain) => {
            let inner = self::step((*explain.statement).clone())?;
            match inner.step {
                Step::Plan(_) => (Step::Plan(Statement::Explain(explain)), "EXPLAIN"),
                _ => (Step::Unsupported("EXPLAIN of this statement"), "EXPLAIN"),
            }
        }
        Statement::Reset(reset) => {
            let datafusion::sql::parser::ResetStatement::Variable(name) = reset;
            (Step::Set(vec![(name.to_string(), None)]), "RESET")
        }
    };
    Ok(Parsed { step, tag })
}

/// The parser leaves columns of PARTITIONED BY in their quotes.
fn unquote(name: &mut String) {
    if let Some(plain) = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        *name = plain.replace("\"\"", "\"");
    }
}

fn of_ast(ast: Ast) -> Result<Parsed, SqlError> {
    let plan = |ast| Step::Plan(Statement::Statement(Box::new(ast)));
    let (step, tag) = match ast {
        Ast::Query(_) => (plan(ast), "SELECT"),
        Ast::ExplainTable { .. } => (plan(ast), "SELECT"),
        Ast::ShowTables { .. } | Ast::ShowColumns { .. } | Ast::ShowFunctions { .. } => (plan(ast), "SHOW"),
        Ast::Explain { ref statement, .. } => match of_ast((**statement).clone())?.step {
            Step::Plan(_) => (plan(ast), "EXPLAIN"),
            _ => (Step::Unsupported("EXPLAIN of this statement"), "EXPLAIN"),
        },
        Ast::Set(set) => (Step::Set(assignments(set)?), "SET"),
        Ast::ShowVariable { variable } => {
            let words: Vec<String> = variable.iter().map(|word| word.value.to_ascii_lowercase()).collect();
            let name = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["time", "zone"] => "timezone".to_owned(),
                ["transaction", "isolation", "level"] => "transaction_isolation".to_owned(),
                _ => words.join("."),
            };
            (Step::Show(name), "SHOW")
        }
        Ast::StartTransaction { modes, .. } => (Step::Begin { read_only: is_read_only(&modes)? }, "BEGIN"),
        Ast::Commit { chain: false, .. } => (Step::Commit, "COMMIT"),
        Ast::Rollback { chain: false, savepoint: None } => (Step::Rollback, "ROLLBACK"),
        Ast::Commit { .. } | Ast::Rollback { .. } => {
            (Step::Unsupported("AND CHAIN and savepoints"), "COMMIT")
        }
        Ast::Savepoint { .. } | Ast::ReleaseSavepoint { .. } => (Step::Unsupported("SAVEPOINT"), "SAVEPOINT"),
        Ast::Insert(_) => (plan(ast), "INSERT"),
        Ast::Update { .. } => (Step::Unsupported("UPDATE"), "UPDATE"),
        Ast::Delete(_) => (Step::Unsupported("DELETE"), "DELETE"),
        Ast::Merge { .. } => (Step::Unsupported("MERGE"), "MERGE"),
        Ast::CreateTable(ref table) => {
            check_constraints(&table.columns, &table.constraints)?;
            let tag = if table.query.is_some() { "SELECT" } else { "CREATE TABLE" };
            (plan(ast), tag)
        }
        Ast::CreateView { .. } => (plan(ast), "CREATE VIEW"),
        Ast::AlterTable(alter) => match &alter.operations[..] {
            [AlterTableOperation::RenameTable { table_name }] => {
                let (RenameTableNameKind::As(to) | RenameTableNameKind::To(to)) = table_name.clone();
                (Step::Rename { from: alter.name, to, if_exists: alter.if_exists }, "ALTER TABLE")
            }
            _ => (Step::Unsupported("ALTER TABLE but for RENAME TO"), "ALTER TABLE"),
        },
        Ast::Drop { ref object_type, .. } => match object_type {
            ObjectType::Table => (plan(ast), "DROP TABLE"),
            ObjectType::View => (plan(ast), "DROP VIEW"),
            ObjectType::Schema => (plan(ast), "DROP SCHEMA"),
            _ => (Step::Unsupported("DROP of this"), "DROP"),
        },
        Ast::Truncate(truncate) => {
            let plain =
                truncate.partitions.is_none() && truncate.on_cluster.is_none() && truncate.identity.is_none();
            let names = truncate.table_names.into_iter().map(|target| target.name).collect();
            let step = match plain {
                true => Step::Truncate { names, if_exists: truncate.if_exists },
                false => Step::Unsupported("this form of TRUNCATE"),
            };
            (step, "TRUNCATE TABLE")
        }
        _ => (Step::Unsupported("this statement"), "OK"),
    };
    Ok(Parsed { step, tag })
}

/// Every transaction reads one moment, which is as strict as any level but the strictest asks for. Whether it may write.
fn is_read_only(modes: &[TransactionMode]) -> Result<bool, SqlError> {
    use datafusion::sql::sqlparser::ast::{TransactionAccessMode, TransactionIsolationLevel};
    let mut read_only = false;
    for mode in modes {
        match mode {
            TransactionMode::IsolationLevel(TransactionIsolationLevel::Serializable) => {
                return Err(SqlError::unsupported("isolation level SERIALIZABLE")
                    .hint("transactions read one snapshot: REPEATABLE READ"));
            }
            TransactionMode::IsolationLevel(_) => {}
            TransactionMode::AccessMode(mode) => read_only = *mode == TransactionAccessMode::ReadOnly,
        }
    }
    Ok(read_only)
}

/// What is promised of a table's rows has to be kept, and is not.
fn check_constraints(columns: &[ColumnDef], constraints: &[TableConstraint]) -> Result<(), SqlError> {
    let promises = |option: &ColumnOption| {
        matches!(
            option,
            ColumnOption::NotNull
                | ColumnOption::PrimaryKey(_)
                | ColumnOption::Unique(_)
                | ColumnOption::ForeignKey(_)
                | ColumnOption::Check(_)
        )
    };
    if constraints.is_empty()
        && !columns.iter().flat_map(|column| &column.options).any(|o| promises(&o.option))
    {
        return Ok(());
    }
    Err(SqlError::unsupported("NOT NULL, PRIMARY KEY, UNIQUE, FOREIGN KEY and CHECK")
        .hint("leave them out: they would not be enforced"))
}

fn assignments(set: Set) -> Result<Vec<(String, Option<String>)>, SqlError> {
    match set {
        Set::SingleAssignment { variable, values, hivevar: false, .. } => {
            Ok(vec![(variable.to_string().to_ascii_lowercase(), words(&values)?)])
        }
        Set::SetTimeZone { value, .. } => Ok(vec![("timezone".to_owned(), words(&[value])?)]),
        Set::SetNames { charset_name, .. } => {
            Ok(vec![("client_encoding".to_owned(), Some(charset_name.value))])
        }
        _ => Err(SqlError::unsupported("this form of SET")),
    }
}

/// A setting's value: words and numbers, joined as they were listed.
fn words(values: &[Expr]) -> Result<Option<String>, SqlError> {
    let mut words = Vec::with_capacity(values.len());
    for value in values {
        words.push(match value {
            Expr::Identifier(word)
                if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("default") =>
            {
                return Ok(None);
            }
            Expr::Identifier(word) => word.value.clone(),
            Expr::Value(value) => match &value.value {
                Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
                Value::Number(number, _) => number.to_string(),
                Value::Boolean(value) => value.to_string(),
                other => return Err(SqlError::invalid(format!("{other} is no value of a setting"))),
            },
            other => other.to_string(),
        });
    }
    Ok(Some(words.join(", ")))
}
