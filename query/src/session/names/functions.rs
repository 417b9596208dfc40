//! `read_parquet`, `read_csv`, `read_json` and `read_arrow` in FROM: a path with options.
//!
//! Invariant: each call becomes a name that nobody can write, since what it reads must be looked up before
//! planning; arguments are literals.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArgOperator, Ident, ObjectName, ObjectNamePart, TableFactor,
    Value, VisitMut, VisitorMut,
};

use super::PathTable;
use crate::error::SqlError;
use crate::location::Location;
use crate::scan::format::{Format, FormatKind};

/// One call.
#[derive(Debug)]
pub(super) struct PathFunction {
    pub(super) table: PathTable,
}

/// Takes the calls out of a statement: names by which they are called there from now on.
pub(super) fn take(statement: &mut Statement) -> Result<HashMap<String, PathFunction>, SqlError> {
    let mut calls = Calls(HashMap::new());
    match visit(statement, &mut calls) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(calls.0),
    }
}

fn visit(statement: &mut Statement, calls: &mut Calls) -> ControlFlow<SqlError> {
    match statement {
        Statement::Statement(ast) => VisitMut::visit(&mut **ast, calls),
        Statement::Explain(explain) => visit(&mut explain.statement, calls),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => query.visit(calls),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        Statement::CreateExternalTable(_) | Statement::Reset(_) => ControlFlow::Continue(()),
    }
}

struct Calls(HashMap<String, PathFunction>);

impl VisitorMut for Calls {
    type Break = SqlError;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<SqlError> {
        let TableFactor::Table { name, args, .. } = factor else { return ControlFlow::Continue(()) };
        let Some(given) = args else { return ControlFlow::Continue(()) };
        let function = name.to_string().to_ascii_lowercase();
        let kind = match function.as_str() {
            "read_parquet" | "parquet_scan" => FormatKind::Parquet,
            "read_csv" => FormatKind::Csv,
            "read_json" => FormatKind::Json,
            "read_arrow" => FormatKind::Arrow,
            _ => return ControlFlow::Continue(()),
        };
        match call(kind, &function, &given.args) {
            Err(error) => ControlFlow::Break(error),
            Ok(table) => {
                let called = format!("{function}#{}", self.0.len() + 1);
                *name = ObjectName(vec![ObjectNamePart::Identifier(Ident::with_quote('"', &called))]);
                *args = None;
                self.0.insert(called, PathFunction { table });
                ControlFlow::Continue(())
            }
        }
    }
}

fn call(kind: FormatKind, function: &str, args: &[FunctionArg]) -> Result<PathTable, SqlError> {
    let usage = || {
        SqlError::syntax(format!("{function} takes a path and options"))
            .hint(format!("{function}('s3://bucket/path/*', option => value)"))
    };
    let mut args = args.iter();
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(path)))) = args.next() else {
        return Err(usage());
    };
    let Value::SingleQuotedString(path) = &path.value else { return Err(usage()) };
    let location = Location::parse(path)?;
    let mut format =
        Format::of_name(path).filter(|format| format.kind == kind).unwrap_or(Format::plain(kind));
    for arg in args {
        let (name, value) = match arg {
            FunctionArg::Named {
                name,
                arg: FunctionArgExpr::Expr(value),
                operator:
                    FunctionArgOperator::RightArrow
                    | FunctionArgOperator::Equals
                    | FunctionArgOperator::Assignment,
            } => (name.value.clone(), value),
            FunctionArg::ExprNamed {
                name: Expr::Identifier(name),
                arg: FunctionArgExpr::Expr(value),
                ..
            } => (name.value.clone(), value),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::BinaryOp { left, right, .. })) => {
                match &**left {
                    Expr::Identifier(name) => (name.value.clone(), &**right),
                    _ => return Err(usage()),
                }
            }
            _ => return Err(usage()),
        };
        format.set(&name, &literal(value).ok_or_else(usage)?)?;
    }
    Ok(PathTable { location, format: Some(format) })
}

fn literal(value: &Expr) -> Option<String> {
    let Expr::Value(value) = value else { return None };
    match &value.value {
        Value::SingleQuotedString(text) => Some(text.clone()),
        Value::Number(number, _) => Some(number.to_string()),
        Value::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}
