//! What PostgreSQL understands and DataFusion does not, said in other words.
//!
//! Invariant: a statement means the same before and after. Pure.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    Ident, ObjectName, Statement, Value, ValueWithSpan, visit_expressions_mut,
};

/// Columns that hold functions: shown by name, and `-` where there is none, which is number 0.
const FUNCTION_COLUMNS: [&str; 10] = [
    "typinput",
    "typoutput",
    "typreceive",
    "typsend",
    "typmodin",
    "typmodout",
    "typanalyze",
    "typsubscript",
    "amhandler",
    "aggfnoid",
];

pub(super) fn rewrite(statement: &mut Statement) {
    let _: ControlFlow<()> = visit_expressions_mut(statement, |expression| {
        match expression {
            Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
                if let Some(ValueWithSpan { value: Value::SingleQuotedString(escape), .. }) = &*escape_char
                    && escape != "\\"
                {
                    // Twice the escape character stands for itself, and a backslash for itself too.
                    let once = replaced((**pattern).clone(), "\\", "\\\\");
                    let marked = replaced(once, &escape.repeat(2), "\u{1}");
                    let swapped = replaced(marked, escape, "\\");
                    **pattern = replaced(swapped, "\u{1}", escape);
                    *escape_char = None;
                }
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::NotEq, right }
                if holds_function(left) && is_zero(right) =>
            {
                **right = text("-");
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
}

fn holds_function(expression: &Expr) -> bool {
    let name = match expression {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        _ => None,
    };
    name.is_some_and(|name| FUNCTION_COLUMNS.contains(&name.value.to_ascii_lowercase().as_str()))
}

fn is_zero(expression: &Expr) -> bool {
    matches!(expression, Expr::Value(value) if matches!(&value.value, Value::Number(number, _) if number == "0"))
}

fn text(value: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.to_owned()).with_empty_span())
}

/// `replace(of, from, to)`.
fn replaced(of: Expr, from: &str, to: &str) -> Expr {
    let args = [of, text(from), text(to)];
    let args = args.map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new("replace")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.to_vec(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
