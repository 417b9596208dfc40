//! Queries as they are written: what DataFusion would answer wrongly is refused, and what it refuses without need is
//! written so that it does not.

use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    Ident, Query, Select, SelectItem, SetExpr, SetOperator, SetQuantifier, VisitMut, VisitorMut,
};

use crate::error::SqlError;

/// Mends all queries of a statement.
pub(crate) fn mend(statement: &mut Statement) -> Result<(), SqlError> {
    match visit(statement) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn visit(statement: &mut Statement) -> ControlFlow<SqlError> {
    match statement {
        Statement::Statement(ast) => VisitMut::visit(&mut **ast, &mut Queries),
        Statement::Explain(explain) => visit(&mut explain.statement),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => query.visit(&mut Queries),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        Statement::CreateExternalTable(_) | Statement::Reset(_) => ControlFlow::Continue(()),
    }
}

struct Queries;

impl VisitorMut for Queries {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        set_operations(&query.body)
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<SqlError> {
        name_twins(&mut select.projection);
        ControlFlow::Continue(())
    }
}

/// How often a row stands on each side is not counted.
fn set_operations(body: &SetExpr) -> ControlFlow<SqlError> {
    let SetExpr::SetOperation { op, set_quantifier, left, right } = body else {
        return ControlFlow::Continue(());
    };
    if let (SetOperator::Except | SetOperator::Intersect, SetQuantifier::All) = (op, set_quantifier) {
        return ControlFlow::Break(
            SqlError::unsupported(format!("{op} ALL")).hint(format!("{op} counts each row once")),
        );
    }
    set_operations(left)?;
    set_operations(right)
}

/// Expressions written twice in one list get names that tell them apart.
fn name_twins(items: &mut [SelectItem]) {
    let texts: Vec<Option<String>> = items
        .iter()
        .map(|item| match item {
            SelectItem::UnnamedExpr(expr) => Some(expr.to_string()),
            _ => None,
        })
        .collect();
    let mut seen = std::collections::HashMap::new();
    for (item, text) in items.iter_mut().zip(texts) {
        let Some(text) = text else { continue };
        let times = seen.entry(text.clone()).and_modify(|times| *times += 1).or_insert(0_usize);
        if *times > 0
            && let SelectItem::UnnamedExpr(expr) = item
        {
            let alias = Ident::with_quote('"', format!("{text}:{times}"));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    fn mended(sql: &str) -> Result<String, SqlError> {
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        mend(&mut statement).map(|()| statement.to_string())
    }

    #[test]
    fn twins_are_told_apart_and_others_left_alone() {
        assert_eq!(mended("SELECT 1, 1, a, 1").unwrap(), "SELECT 1, 1 AS \"1:1\", a, 1 AS \"1:2\"");
        assert_eq!(mended("SELECT a, b AS a, *").unwrap(), "SELECT a, b AS a, *");
    }

    #[test]
    fn what_would_be_counted_wrongly_is_refused() {
        for sql in [
            "SELECT a EXCEPT ALL SELECT b",
            "SELECT 1 UNION (SELECT a INTERSECT ALL SELECT b)",
            "EXPLAIN SELECT * FROM (SELECT a EXCEPT ALL SELECT b) t",
        ] {
            assert_eq!(mended(sql).unwrap_err().state.code(), "0A000", "{sql}");
        }
        assert!(mended("SELECT a EXCEPT SELECT b UNION ALL SELECT c").is_ok());
    }
}
