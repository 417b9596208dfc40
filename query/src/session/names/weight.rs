//! How many tables a statement reads once its WITH queries and views stand where they are named.
//!
//! A name costs nothing to write twice, so fifty WITH queries of which each reads the one before twice are a
//! short text and a plan of 2^50 nodes. Planning cannot be interrupted; so it is counted before.
//!
//! Invariant: never less than the nodes that planning makes of queries and tables. Counting is linear in the text.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::{Ident, Query, TableFactor, Visit, Visitor};

use crate::error::{SqlError, SqlState};

/// Most tables and queries that a statement comes to.
const WEIGHT_MAX: usize = 1_000;

/// The weight of a statement; `views` has those of views, by the name as it is resolved. More than
/// [`WEIGHT_MAX`] is an error.
pub(super) fn of(statement: &Statement, views: &HashMap<String, usize>) -> Result<usize, SqlError> {
    let mut walk = Walk { views, frames: vec![Frame::default()] };
    let ended = visit(statement, &mut walk);
    let weight = walk.frames.first().map_or(0, |frame| frame.weight);
    if ended.is_break() || weight > WEIGHT_MAX {
        return Err(SqlError::new(SqlState::StatementTooComplex, "the statement is too complex").hint(format!(
            "with views and WITH queries put in, it reads more than {WEIGHT_MAX} tables; make tables of some"
        )));
    }
    Ok(weight.max(1))
}

fn visit(statement: &Statement, walk: &mut Walk<'_>) -> ControlFlow<()> {
    match statement {
        Statement::Statement(ast) => ast.visit(walk),
        Statement::Explain(explain) => visit(&explain.statement, walk),
        Statement::CopyTo(copy) => match &copy.source {
            CopyToSource::Query(query) => query.visit(walk),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        Statement::CreateExternalTable(_) | Statement::Reset(_) => ControlFlow::Continue(()),
    }
}

/// A query under way.
#[derive(Default)]
struct Frame {
    weight: usize,
    /// WITH queries to come, by where they are.
    coming: HashMap<*const Query, String>,
    /// WITH queries that can be named, with their weights.
    named: HashMap<String, usize>,
}

struct Walk<'v> {
    views: &'v HashMap<String, usize>,
    frames: Vec<Frame>,
}

impl Walk<'_> {
    fn add(&mut self, weight: usize) -> ControlFlow<()> {
        let Some(top) = self.frames.last_mut() else { return ControlFlow::Break(()) };
        top.weight = top.weight.saturating_add(weight);
        if top.weight > WEIGHT_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn of_with_query(&self, name: &Ident) -> Option<usize> {
        let name = normalised(name);
        self.frames.iter().rev().find_map(|frame| frame.named.get(&name).copied())
    }
}

impl Visitor for Walk<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        let coming = tables.map(|table| (&raw const *table.query, normalised(&table.alias.name))).collect();
        self.frames.push(Frame { weight: 1, coming, named: HashMap::new() });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let Some(done) = self.frames.pop() else { return ControlFlow::Break(()) };
        if let Some(parent) = self.frames.last_mut()
            && let Some(name) = parent.coming.remove(&(&raw const *query))
        {
            parent.named.insert(name, done.weight);
        }
        // A WITH query is planned where it is written, too.
        self.add(done.weight)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, .. } => {
                let of_with_query = match &name.0[..] {
                    [only] => only.as_ident().and_then(|name| self.of_with_query(name)),
                    _ => None,
                };
                let weight = of_with_query.or_else(|| {
                    let reference = object_name_to_table_reference(name.clone(), true).ok()?;
                    self.views.get(&reference.to_string()).copied()
                });
                self.add(weight.unwrap_or(1))
            }
            // Their queries and tables are counted.
            TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            _ => self.add(1),
        }
    }
}

fn normalised(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::parser::DFParser;

    use super::*;

    fn weigh(sql: &str) -> Result<usize, SqlError> {
        let statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        of(&statement, &HashMap::from([("heavy".to_owned(), 400)]))
    }

    #[test]
    fn names_weigh_what_they_stand_for() {
        assert_eq!(weigh("SELECT 1").unwrap(), 1);
        assert_eq!(weigh("SELECT * FROM a, b JOIN c ON true").unwrap(), 4);
        assert_eq!(weigh("SELECT * FROM (SELECT * FROM a) x WHERE EXISTS (SELECT 1 FROM b)").unwrap(), 5);
        assert_eq!(
            weigh("WITH x AS (SELECT * FROM a, b) SELECT * FROM x, X, \"X\"").unwrap(),
            3 + 1 + 3 + 3 + 1
        );
        assert_eq!(weigh("SELECT * FROM heavy, HEAVY").unwrap(), 801);
        assert!(weigh("SELECT * FROM heavy a, heavy b, heavy c").is_err());
        assert_eq!(weigh("EXPLAIN SELECT * FROM a").unwrap(), 2);
    }

    #[test]
    fn doubling_is_refused_however_it_is_written() {
        let doubling = |step: &dyn Fn(usize) -> String| {
            let queries: Vec<String> = (1..50).map(step).collect();
            format!("WITH a0 AS (SELECT 1 AS x), {} SELECT * FROM a49", queries.join(", "))
        };
        assert!(weigh(&doubling(&|n| format!("a{n} AS (SELECT p.x FROM a{0} p, a{0} q)", n - 1))).is_err());
        assert!(
            weigh(&doubling(&|n| format!(
                "a{n} AS (SELECT (SELECT x FROM a{0}) + (SELECT x FROM a{0}) AS x)",
                n - 1
            )))
            .is_err()
        );
        assert!(weigh(&doubling(&|n| format!("a{n} AS (SELECT x FROM a{})", n - 1))).is_err(), "49 × 50 / 2");
        assert!(weigh(&format!("SELECT * FROM {}", vec!["t"; 1_001].join(", "))).is_err());
    }
}
