//! Functions of PostgreSQL's that clients call to learn where they are.
//!
//! Invariant: an answer is true here, or says that there is nothing: comments, indexes, triggers and rules, of
//! which Ashlar has none.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type};
use ashlar_query::Session;
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use super::{DATABASE, SERVER_VERSION};

/// What has no answer but NULL: there are no such things.
const NOTHING: [&str; 14] = [
    "pg_advisory_unlock_all",
    "to_regtype",
    "obj_description",
    "col_description",
    "shobj_description",
    "pg_get_viewdef",
    "pg_get_indexdef",
    "pg_get_triggerdef",
    "pg_get_ruledef",
    "pg_get_functiondef",
    "pg_get_serial_sequence",
    "pg_tablespace_location",
    "inet_server_addr",
    "pg_get_function_sqlbody",
];
/// Settings that `current_setting` answers: those of the session with names of PostgreSQL's.
const SETTINGS: [&str; 17] = [
    "server_version",
    "server_version_num",
    "search_path",
    "statement_timeout",
    "timezone",
    "application_name",
    "extra_float_digits",
    "client_min_messages",
    "client_encoding",
    "server_encoding",
    "standard_conforming_strings",
    "integer_datetimes",
    "datestyle",
    "intervalstyle",
    "transaction_isolation",
    "default_transaction_isolation",
    "max_identifier_length",
];

/// How a function computes.
type Compute = Arc<dyn Fn(&[ColumnarValue], usize) -> Result<ColumnarValue> + Send + Sync>;

struct Function {
    name: String,
    signature: Signature,
    gives: DataType,
    compute: Compute,
}

impl Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.compute, &other.compute)
    }
}

impl Eq for Function {}

impl std::hash::Hash for Function {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.gives.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        (self.compute)(&args.args, args.number_rows)
    }
}

fn function(
    name: &str,
    signature: Signature,
    gives: DataType,
    compute: impl Fn(&[ColumnarValue], usize) -> Result<ColumnarValue> + Send + Sync + 'static,
) -> ScalarUDF {
    ScalarUDF::new_from_impl(Function { name: name.to_owned(), signature, gives, compute: Arc::new(compute) })
}

/// Without arguments, always the same.
fn constant(name: &str, value: ScalarValue) -> ScalarUDF {
    let signature = Signature::nullary(Volatility::Stable);
    function(name, signature, value.data_type(), move |_, _| Ok(ColumnarValue::Scalar(value.clone())))
}

fn text(value: &str) -> ScalarValue {
    ScalarValue::Utf8(Some(value.to_owned()))
}

/// The same for every session.
pub(super) fn of_all() -> Vec<ScalarUDF> {
    let any = || {
        let shapes = vec![TypeSignature::Nullary, TypeSignature::VariadicAny];
        Signature::one_of(shapes, Volatility::Stable)
    };
    let mut all: Vec<ScalarUDF> = NOTHING
        .iter()
        .map(|name| {
            function(name, any(), DataType::Utf8, |_, _| Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None))))
        })
        .collect();
    let version = format!("PostgreSQL {SERVER_VERSION}");
    // Names are found without their schema, as there are no two of one kind that hide each other.
    for name in ["pg_function_is_visible", "pg_type_is_visible", "pg_operator_is_visible"] {
        let one = Signature::any(1, Volatility::Stable);
        all.push(function(name, one, DataType::Boolean, |_, _| {
            Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))))
        }));
    }
    all.push(constant("version", text(&version)));
    all.push(constant("current_catalog", text(DATABASE)));
    // There are no temporary tables, and so no schema of them.
    all.push(constant("pg_my_temp_schema", ScalarValue::Int32(Some(0))));
    all.push(constant("pg_is_in_recovery", ScalarValue::Boolean(Some(false))));
    // What PostgreSQL says of a number that is nobody's: owners have no numbers here.
    all.push(function("pg_get_userbyid", any(), DataType::Utf8, |args, rows| {
        let ids = first(args, rows)?;
        let ids = cast(&ids, &DataType::Int32)?;
        let names = ids.as_primitive::<Int32Type>().iter();
        let names: StringArray = names.map(|id| id.map(|id| format!("unknown (OID={id})"))).collect();
        Ok(ColumnarValue::Array(Arc::new(names)))
    }));
    all
}

/// Of one session, as it stands.
pub(super) fn of_session(session: &Session) -> Vec<Arc<ScalarUDF>> {
    let user = session.user().to_owned();
    let path: Vec<String> = session
        .setting("search_path")
        .unwrap_or_default()
        .split(',')
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    let first_schema = ScalarValue::Utf8(path.first().cloned());
    let settings: HashMap<String, String> = SETTINGS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), session.setting(name)?)))
        // There is no such thing as PostgreSQL's compiler here.
        .chain([("jit".to_owned(), "off".to_owned())])
        .collect();
    let kept = settings.clone();
    let mut all: Vec<ScalarUDF> = ["current_user", "session_user", "current_role", "user"]
        .iter()
        .map(|name| constant(name, text(&user)))
        .collect();
    all.push(constant("current_schema", first_schema));
    let schemas = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let one = || Signature::any(1, Volatility::Stable);
    all.push(function("current_schemas", one(), schemas, move |args, rows| {
        let with_system = cast(&first(args, rows)?, &DataType::Boolean)?;
        let with_system = !with_system.is_empty() && with_system.as_boolean().value(0);
        let system = with_system.then(|| "pg_catalog".to_owned());
        let names: Vec<ScalarValue> = system.iter().chain(&path).map(|name| text(name)).collect();
        Ok(ColumnarValue::Scalar(ScalarValue::List(ScalarValue::new_list_nullable(&names, &DataType::Utf8))))
    }));
    let any = Signature::variadic_any(Volatility::Stable);
    all.push(function("current_setting", any, DataType::Utf8, move |args, rows| {
        let names = cast(&first(args, rows)?, &DataType::Utf8)?;
        let may_miss = args.get(1).is_some_and(|may_miss| {
            matches!(may_miss, ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))))
        });
        let mut values = Vec::with_capacity(names.len());
        for name in names.as_string::<i32>() {
            let value = name.and_then(|name| settings.get(&name.to_ascii_lowercase()));
            if let (None, Some(name), false) = (value, name, may_miss) {
                return Err(DataFusionError::Execution(format!("there is no setting {name:?}")));
            }
            values.push(value.cloned());
        }
        Ok(ColumnarValue::Array(Arc::new(StringArray::from(values))))
    }));
    let any = Signature::variadic_any(Volatility::Volatile);
    all.push(function("set_config", any, DataType::Utf8, move |args, _| {
        let word = |at: usize| match args.get(at) {
            Some(ColumnarValue::Scalar(value)) => value.try_as_str().flatten().map(str::to_owned),
            _ => None,
        };
        let (Some(name), Some(value)) = (word(0), word(1)) else {
            return Err(DataFusionError::NotImplemented("set_config of anything but literals".into()));
        };
        // True where nothing is to be changed: clients switch off what is not there.
        if kept.get(&name.to_ascii_lowercase()) != Some(&value) {
            let message = format!("set_config of {name} is not supported: SET {name} = … is");
            return Err(DataFusionError::NotImplemented(message));
        }
        Ok(ColumnarValue::Scalar(text(&value)))
    }));
    all.into_iter().map(Arc::new).collect()
}

fn first(args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    let first = args.first().ok_or_else(|| DataFusionError::Plan("an argument is missing".into()))?;
    first.clone().into_array(rows)
}
