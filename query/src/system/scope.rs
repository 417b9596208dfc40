//! Which buckets and keys a filter leaves.
//!
//! Invariant: never narrower than the filter; all filters are tested again above the scan.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, Operator};

/// Buckets by name, and what keys begin with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// `None`: all.
    pub(super) buckets: Option<Vec<String>>,
    pub(super) prefix: String,
}

impl Scope {
    /// Of filters that all hold.
    pub(super) fn of(filters: &[Expr]) -> Self {
        let mut scope = Self::default();
        filters.iter().for_each(|filter| scope.narrow(filter));
        scope
    }

    fn narrow(&mut self, filter: &Expr) {
        match filter {
            Expr::BinaryExpr(both) if both.op == Operator::And => {
                self.narrow(&both.left);
                self.narrow(&both.right);
            }
            Expr::BinaryExpr(test) if test.op == Operator::Eq => {
                match (column(&test.left), text(&test.right), column(&test.right), text(&test.left)) {
                    (Some(name), Some(value), ..) | (_, _, Some(name), Some(value)) => {
                        self.equals(name, vec![value]);
                    }
                    _ => {}
                }
            }
            Expr::InList(list) if !list.negated => {
                let values: Option<Vec<String>> = list.list.iter().map(text).collect();
                if let (Some("bucket"), Some(values)) = (column(&list.expr), values) {
                    self.equals("bucket", values);
                }
            }
            Expr::Like(like) if !like.negated && !like.case_insensitive && like.escape_char.is_none() => {
                if let (Some("key"), Some(pattern)) = (column(&like.expr), text(&like.pattern)) {
                    let fixed = pattern.find(['%', '_', '\\']).unwrap_or(pattern.len());
                    self.begins(&pattern[..fixed]);
                }
            }
            Expr::ScalarFunction(call) if call.name() == "starts_with" => {
                if let [of, with] = &call.args[..]
                    && let (Some("key"), Some(with)) = (column(of), text(with))
                {
                    self.begins(&with);
                }
            }
            _ => {}
        }
    }

    fn equals(&mut self, column: &str, values: Vec<String>) {
        match (column, &values[..]) {
            ("key", [key]) => self.begins(key),
            ("bucket", _) => {
                let kept = match self.buckets.take() {
                    None => values,
                    Some(before) => before.into_iter().filter(|bucket| values.contains(bucket)).collect(),
                };
                self.buckets = Some(kept);
            }
            _ => {}
        }
    }

    fn begins(&mut self, prefix: &str) {
        if prefix.starts_with(&self.prefix) {
            prefix.clone_into(&mut self.prefix);
        }
    }
}

fn column(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        Expr::Cast(cast) => column(&cast.expr),
        _ => None,
    }
}

fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(
            ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text),
            _,
        ) => text.clone(),
        Expr::Cast(cast) => text(&cast.expr),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};

    use super::*;

    #[test]
    fn filters_narrow_buckets_and_keys() {
        let scope = Scope::of(&[col("bucket").eq(lit("a")).and(col("key").like(lit("x/%.csv")))]);
        assert_eq!(scope, Scope { buckets: Some(vec!["a".to_owned()]), prefix: "x/".to_owned() });
        let scope =
            Scope::of(&[col("bucket").in_list(vec![lit("a"), lit("b")], false), lit("b").eq(col("bucket"))]);
        assert_eq!(scope.buckets, Some(vec!["b".to_owned()]));
        let scope = Scope::of(&[col("key").eq(lit("x/y")), col("key").like(lit("x%"))]);
        assert_eq!(scope.prefix, "x/y");
        let either = col("bucket").eq(lit("a")).or(col("key").eq(lit("k")));
        assert_eq!(Scope::of(&[either, col("key").not_like(lit("x%"))]), Scope::default());
    }
}
