//! A statement as clients of the protocol know it: parsed once, told what it takes and gives.
//!
//! Invariant: parameters are described as the types in which they are then read. Knows who answers: the session,
//! the catalog of PostgreSQL's, or the connection itself.

use std::ops::ControlFlow;

use arrow::datatypes::{DataType, SchemaRef};
use ashlar_query::{Prepared, SqlError};
use datafusion::sql::sqlparser::ast::{CastKind, Expr, Value, visit_expressions_mut};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::copy::CopyFormat;
use super::types::PgType;
use crate::catalog;

/// Deepest nesting of a statement whose parameters are typed.
const DEPTH_MAX: usize = 64;

/// Who answers.
#[derive(Debug)]
pub(super) enum Kind {
    /// There is nothing to do.
    Empty,
    Session(Prepared),
    /// Of a query whose rows are copied to the client.
    Copy(Prepared, CopyFormat),
    Catalog(Box<catalog::Prepared>),
    Own(Own),
}

/// What concerns the connection alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// Of a name, or of all.
    Deallocate(Option<String>),
    /// Of a portal, or of all.
    CloseCursor(Option<String>),
    DiscardAll,
    ResetAll,
    /// A point in a transaction to go back to, where nothing was written since.
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    /// There are no notifications here, so nothing to stop listening to.
    Unlisten,
}

/// A statement.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) kind: Kind,
    pub(super) parameters: Vec<Parameter>,
}

/// A parameter: as it is described, and where it goes.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) oid: u32,
    pub(super) pg_type: PgType,
    pub(super) target: DataType,
}

impl Statement {
    /// The columns of its rows.
    pub(super) fn schema(&self) -> Option<&SchemaRef> {
        match &self.kind {
            Kind::Session(prepared) => prepared.schema(),
            Kind::Catalog(prepared) => Some(prepared.schema()),
            Kind::Empty | Kind::Own(_) | Kind::Copy(..) => None,
        }
    }
}

impl Own {
    /// The command's tag.
    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::Deallocate(Some(_)) => "DEALLOCATE",
            Self::Deallocate(None) => "DEALLOCATE ALL",
            Self::CloseCursor(Some(_)) => "CLOSE CURSOR",
            Self::CloseCursor(None) => "CLOSE CURSOR ALL",
            Self::DiscardAll => "DISCARD ALL",
            Self::ResetAll => "RESET",
            Self::Savepoint(_) => "SAVEPOINT",
            Self::Release(_) => "RELEASE",
            Self::RollbackTo(_) => "ROLLBACK",
            Self::Unlisten => "UNLISTEN",
        }
    }

    /// `None`: the statement is for somebody else.
    pub(super) fn of(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().take(6).collect();
        let upper: Vec<String> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
        let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
        let name = |at: usize| Some(identifier(words[at]));
        Some(match upper[..] {
            ["DEALLOCATE", "ALL"] | ["DEALLOCATE", "PREPARE", "ALL"] => Self::Deallocate(None),
            ["DEALLOCATE", "PREPARE", _] => Self::Deallocate(name(2)),
            ["DEALLOCATE", _] => Self::Deallocate(name(1)),
            ["CLOSE", "ALL"] => Self::CloseCursor(None),
            ["CLOSE", _] => Self::CloseCursor(name(1)),
            ["DISCARD", "ALL"] => Self::DiscardAll,
            ["RESET", "ALL"] => Self::ResetAll,
            ["SAVEPOINT", _] => Self::Savepoint(identifier(words[1])),
            ["RELEASE", "SAVEPOINT", _] => Self::Release(identifier(words[2])),
            ["RELEASE", _] => Self::Release(identifier(words[1])),
            ["ROLLBACK", .., "TO", "SAVEPOINT", _] | ["ROLLBACK", .., "TO", _] => {
                Self::RollbackTo(identifier(words[words.len() - 1]))
            }
            ["UNLISTEN", _] => Self::Unlisten,
            _ => return None,
        })
    }
}

/// A name as SQL reads it: quoted as it stands, else in lower case.
fn identifier(word: &str) -> String {
    match word.strip_prefix('"').and_then(|word| word.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => word.to_lowercase(),
    }
}

/// What parameters are: as the client declared, else as the plan has them.
pub(super) fn parameters(declared: &[u32], planned: &[DataType]) -> Vec<Parameter> {
    let of = planned.iter().enumerate().map(|(at, target)| {
        let oid = declared.get(at).copied().unwrap_or(0);
        match PgType::of_oid(oid) {
            // The statement casts it: see `with_types`.
            Some(pg_type) => Parameter { oid, pg_type, target: super::parameters::declared(pg_type) },
            None => {
                let pg_type = PgType::of_arrow(target);
                Parameter { oid: pg_type.oid(), pg_type, target: target.clone() }
            }
        }
    });
    of.collect()
}

/// The statement with each parameter cast to the type that the client declared for it, so that it is planned
/// with that type. What does not parse is left as it is; who plans it will say why.
pub(super) fn with_types(text: &str, declared: &[u32]) -> Result<String, SqlError> {
    if declared.iter().all(|oid| PgType::of_oid(*oid).is_none()) {
        return Ok(text.to_owned());
    }
    let parsed = Parser::new(&GenericDialect {})
        .with_recursion_limit(DEPTH_MAX)
        .try_with_sql(text)
        .and_then(|mut parser| parser.parse_statements());
    let Ok(mut statements) = parsed else { return Ok(text.to_owned()) };
    let [statement] = &mut statements[..] else { return Ok(text.to_owned()) };
    let flow = visit_expressions_mut(statement, |expression| {
        let Expr::Value(value) = &*expression else { return ControlFlow::Continue(()) };
        let Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
        let number: Option<usize> = name.strip_prefix('$').and_then(|number| number.parse().ok());
        let oid = number.and_then(|number| declared.get(number.checked_sub(1)?)).copied().unwrap_or(0);
        let Some(pg_type) = PgType::of_oid(oid) else { return ControlFlow::Continue(()) };
        match data_type(&pg_type.name()) {
            Ok(data_type) => {
                *expression = Expr::Cast {
                    kind: CastKind::Cast,
                    expr: Box::new(expression.clone()),
                    data_type,
                    array: false,
                    format: None,
                };
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    });
    match flow {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(statement.to_string()),
    }
}

fn data_type(name: &str) -> Result<datafusion::sql::sqlparser::ast::DataType, SqlError> {
    Parser::new(&GenericDialect {})
        .try_with_sql(name)
        .and_then(|mut parser| parser.parse_data_type())
        .map_err(|error| SqlError::internal("reading the name of a type", &error))
}

/// Whether a statement begins or ends a transaction.
pub(super) fn is_control(text: &str) -> bool {
    let word: String = text.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    let words = ["BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"];
    words.iter().any(|control| word.eq_ignore_ascii_case(control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_are_planned_with() {
        let text = with_types("SELECT $1 + n, $2 FROM t WHERE a = $3", &[20, 0, 1043]).expect("typed");
        assert_eq!(text, "SELECT CAST($1 AS BIGINT) + n, $2 FROM t WHERE a = CAST($3 AS TEXT)");
        assert_eq!(with_types("SELECT  $1", &[]).expect("as it is"), "SELECT  $1");
        assert_eq!(with_types("SELEC $1", &[20]).expect("as it is"), "SELEC $1");
        let text = with_types("SELECT $1", &[1016]).expect("typed");
        assert_eq!(text, "SELECT CAST($1 AS BIGINT[])");
    }

    #[test]
    fn what_concerns_the_connection_is_known() {
        assert_eq!(Own::of("deallocate \"_pg3_0\""), Some(Own::Deallocate(Some("_pg3_0".into()))));
        assert_eq!(Own::of("DISCARD ALL"), Some(Own::DiscardAll));
        assert_eq!(Own::of("UNLISTEN *"), Some(Own::Unlisten));
        assert_eq!(Own::of("ROLLBACK TO \"a\""), Some(Own::RollbackTo("a".into())));
        assert_eq!(Own::of("rollback work to savepoint A"), Some(Own::RollbackTo("a".into())));
        assert_eq!(Own::of("ROLLBACK"), None);
        assert_eq!(Own::of("SELECT 1"), None);
        assert!(is_control("begin isolation level") && !is_control("SELECT 1") && is_control(" ROLLBACK"));
    }
}
