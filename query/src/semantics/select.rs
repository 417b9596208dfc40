//! Queries as they are written: what DataFusion would answer wrongly is refused, and what it refuses without need is
//! written so that it does not.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use datafusion::functions_aggregate::all_default_aggregate_functions;
use datafusion::logical_expr::AggregateUDF;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Fetch, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, GroupByExpr, Ident, LimitClause, ObjectName, Query, Select, SelectItem, SetExpr,
    SetOperator, SetQuantifier, Value, Visit, VisitMut, Visitor, VisitorMut, visit_expressions_mut,
};

use super::single;
use crate::error::{SqlError, SqlState};

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
        fetch_as_limit(query)?;
        set_operations(&query.body)
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        match expr {
            Expr::Subquery(query) => take_one_value(query),
            Expr::BinaryOp { left, op: BinaryOperator::BitwiseXor, right } => {
                *expr = call("power", vec![(**left).clone(), (**right).clone()]);
            }
            _ => {}
        }
        ControlFlow::Continue(())
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

/// `FETCH FIRST n ROWS ONLY` is LIMIT by another name.
fn fetch_as_limit(query: &mut Query) -> ControlFlow<SqlError> {
    let Some(Fetch { with_ties, percent, quantity }) = query.fetch.take() else {
        return ControlFlow::Continue(());
    };
    if with_ties || percent {
        return ControlFlow::Break(SqlError::unsupported("FETCH with TIES or PERCENT".to_owned()));
    }
    let one = || Expr::value(Value::Number("1".to_owned(), false));
    let wanted = Some(quantity.unwrap_or_else(one));
    match &mut query.limit_clause {
        none @ None => {
            *none = Some(LimitClause::LimitOffset { limit: wanted, offset: None, limit_by: Vec::new() });
        }
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = wanted,
        Some(_) => {
            return ControlFlow::Break(SqlError::new(
                SqlState::SyntaxError,
                "LIMIT and FETCH are one and the same",
            ));
        }
    }
    ControlFlow::Continue(())
}

/// A scalar subquery of one plain column gets the aggregate that makes it one row: correlated ones are planned only so.
fn take_one_value(query: &mut Query) {
    if query.limit_clause.is_some() || query.fetch.is_some() {
        return;
    }
    let SetExpr::Select(select) = &mut *query.body else { return };
    let is_grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    if is_grouped || select.having.is_some() || select.distinct.is_some() || select.from.is_empty() {
        return;
    }
    let [item] = select.projection.as_mut_slice() else { return };
    let (value, alias) = match &*item {
        SelectItem::UnnamedExpr(value) => (value, shown_name(value)),
        SelectItem::ExprWithAlias { expr, alias } => (expr, alias.clone()),
        _ => return,
    };
    let mut calls = Calls { is_plain: true };
    let _ = value.visit(&mut calls);
    if calls.is_plain {
        *item = SelectItem::ExprWithAlias { expr: call(single::NAME, vec![value.clone()]), alias };
        query.order_by = None;
    }
}

/// What a column is called that was given no name.
fn shown_name(value: &Expr) -> Ident {
    match value {
        Expr::Identifier(name) => name.clone(),
        Expr::CompoundIdentifier(names) => {
            names.last().cloned().unwrap_or_else(|| Ident::with_quote('"', value.to_string()))
        }
        _ => Ident::with_quote('"', value.to_string()),
    }
}

/// Whether each row has a value of its own: functions that make one of many rows, or many of one, are not plain.
struct Calls {
    is_plain: bool,
}

impl Visitor for Calls {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.is_plain = false;
        ControlFlow::Break(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expr {
            let name = function.name.0.last().map(|part| part.to_string().to_lowercase()).unwrap_or_default();
            if function.over.is_some() || name == "unnest" || AGGREGATES.contains(name.as_str()) {
                self.is_plain = false;
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

static AGGREGATES: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let names = |function: Arc<AggregateUDF>| {
        let mut names = function.aliases().to_vec();
        names.push(function.name().to_owned());
        names
    };
    all_default_aggregate_functions().into_iter().flat_map(names).chain([single::NAME.to_owned()]).collect()
});

fn without_casts(expr: &Expr) -> String {
    let mut plain = expr.clone();
    let _: ControlFlow<()> = visit_expressions_mut(&mut plain, |one| {
        while let Expr::Cast { expr, .. } = one {
            *one = (**expr).clone();
        }
        ControlFlow::Continue(())
    });
    plain.to_string()
}

fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let args = arguments.into_iter().map(|one| FunctionArg::Unnamed(FunctionArgExpr::Expr(one))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Expressions written twice in one list get names that tell them apart: but for casts, which DataFusion leaves out of
/// names.
fn name_twins(items: &mut [SelectItem]) {
    let texts: Vec<Option<String>> = items
        .iter()
        .map(|item| match item {
            SelectItem::UnnamedExpr(expr) => Some(without_casts(expr)),
            _ => None,
        })
        .collect();
    let mut seen = HashMap::new();
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
        let casts = "SELECT CAST(a AS INT), CAST(a AS BIGINT)";
        assert_eq!(mended(casts).unwrap(), "SELECT CAST(a AS INT), CAST(a AS BIGINT) AS \"a:1\"");
        assert_eq!(mended("SELECT a, b AS a, *").unwrap(), "SELECT a, b AS a, *");
    }

    #[test]
    fn scalar_subqueries_take_one_value() {
        assert_eq!(
            mended("SELECT (SELECT b.x FROM b) AS y").unwrap(),
            "SELECT (SELECT single_value(b.x) AS x FROM b) AS y"
        );
        for sql in ["SELECT (SELECT max(x) FROM b)", "SELECT (SELECT x FROM b LIMIT 1)", "SELECT (SELECT 1)"]
        {
            assert_eq!(mended(sql).unwrap(), sql);
        }
    }

    #[test]
    fn other_words_for_the_same() {
        assert_eq!(mended("SELECT 2 ^ 3").unwrap(), "SELECT power(2, 3)");
        assert_eq!(mended("SELECT a FROM t FETCH FIRST 2 ROWS ONLY").unwrap(), "SELECT a FROM t LIMIT 2");
        assert_eq!(mended("SELECT a FROM t LIMIT 1 FETCH NEXT ROW ONLY").unwrap_err().state.code(), "42601");
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
