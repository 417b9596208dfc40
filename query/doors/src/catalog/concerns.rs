//! Which statements are for the catalog of PostgreSQL's.
//!
//! Invariant: a statement that reads a table of a user's is for the session, whatever it calls. Pure.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    DataType, Expr, ObjectName, Query, Statement, Visit, Visitor, visit_relations,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// Longest statement that is looked at.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting.
const DEPTH_MAX: usize = 64;
/// What any such statement has in it, in lower case: all others are not parsed here.
const SIGNS: [&str; 19] = [
    "pg_",
    "version",
    "current_",
    "session_user",
    "user",
    "regclass",
    "regtype",
    "regproc",
    "regnamespace",
    "_description",
    "format_type",
    "_privilege",
    "quote_ident",
    "array_upper",
    "array_lower",
    "to_reg",
    "txid",
    "inet_",
    "information_schema",
];
/// Functions of PostgreSQL's besides those that begin with `pg_` and `has_`.
const FUNCTIONS: [&str; 24] = [
    "version",
    "current_catalog",
    "current_database",
    "current_role",
    "current_schema",
    "current_schemas",
    "current_setting",
    "current_user",
    "session_user",
    "user",
    "format_type",
    "obj_description",
    "col_description",
    "shobj_description",
    "quote_ident",
    "parse_ident",
    "array_upper",
    "array_lower",
    "to_regclass",
    "to_regtype",
    "txid_current",
    "inet_server_addr",
    "inet_server_port",
    "set_config",
];

/// Whether it is.
pub(super) fn concerns(text: &str) -> bool {
    if text.len() > TEXT_BYTES_MAX {
        return false;
    }
    let lower = text.to_ascii_lowercase();
    if !SIGNS.iter().any(|sign| lower.contains(sign)) {
        return false;
    }
    let parsed = Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(DEPTH_MAX)
        .try_with_sql(text)
        .and_then(|mut parser| parser.parse_statements());
    let Ok(statements) = parsed else { return false };
    let [statement @ Statement::Query(_)] = &statements[..] else { return false };
    let mut found = Found::default();
    let _: ControlFlow<()> = statement.visit(&mut found);
    let mut relations = Vec::new();
    let _: ControlFlow<()> = visit_relations(statement, |name| {
        relations.push(name.clone());
        ControlFlow::Continue(())
    });
    relations.retain(|name| !matches!(&parts(name)[..], [one] if found.within.contains(one)));
    let (of_system, of_users): (Vec<_>, Vec<_>) = relations.iter().partition(|name| {
        let parts = parts(name);
        match &parts[parts.len().saturating_sub(2)..] {
            [schema, _] => matches!(schema.as_str(), "pg_catalog" | "information_schema"),
            [one] => one.starts_with("pg_") || one == "generate_series",
            _ => false,
        }
    });
    // The session has an `information_schema` of its own.
    let of_postgres =
        of_system.iter().any(|name| !parts(name).iter().any(|part| part == "information_schema"));
    of_users.is_empty() && (of_postgres || found.calls)
}

fn parts(name: &ObjectName) -> Vec<String> {
    let parts = name.0.iter().filter_map(|part| part.as_ident());
    parts.map(|ident| ident.value.to_ascii_lowercase()).collect()
}

#[derive(Default)]
struct Found {
    /// Names that the statement gives to queries within it.
    within: HashSet<String>,
    calls: bool,
}

impl Visitor for Found {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let of = query.with.iter().flat_map(|with| &with.cte_tables);
        self.within.extend(of.map(|table| table.alias.name.value.to_ascii_lowercase()));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        self.calls |= match expression {
            Expr::Function(function) => {
                let name = parts(&function.name).pop().unwrap_or_default();
                name.starts_with("pg_") || name.starts_with("has_") || FUNCTIONS.contains(&name.as_str())
            }
            Expr::Identifier(word) => {
                word.quote_style.is_none()
                    && matches!(
                        word.value.to_ascii_lowercase().as_str(),
                        "current_user"
                            | "session_user"
                            | "current_role"
                            | "current_catalog"
                            | "current_schema"
                    )
            }
            Expr::Cast { data_type: DataType::Regclass, .. } => true,
            Expr::Cast { data_type: DataType::Custom(name, _), .. } => {
                parts(name).pop().is_some_and(|name| name.starts_with("reg"))
            }
            _ => false,
        };
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_what() {
        for ours in [
            "SELECT version()",
            "select pg_catalog.version()",
            "SELECT current_database(), current_schema()",
            "SELECT current_user",
            "SELECT oid FROM pg_type",
            "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace",
            "WITH t AS (SELECT oid FROM pg_class) SELECT * FROM t",
            "SELECT 'x'::regclass",
            "SELECT t.oid, has_table_privilege(t.oid, 'SELECT') FROM pg_class t, information_schema.tables i",
        ] {
            assert!(concerns(ours), "{ours}");
        }
        for theirs in [
            "SELECT 1",
            "SELECT * FROM users",
            "SELECT * FROM information_schema.tables",
            "SELECT version(), n FROM t",
            "SELECT * FROM pg_class, t",
            "SHOW server_version",
            "SELEC version()",
            "SELECT 'pg_class'",
        ] {
            assert!(!concerns(theirs), "{theirs}");
        }
    }
}
