//! Functions that make much of little: `repeat('x', 2000000000)` is a short text, and two gigabytes outside of any
//! statement's memory. What they would make is reckoned before they make it.
//!
//! Invariant: no call of one of them makes more than [`MADE_BYTES_MAX`] for a batch of rows.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Int64Type, TimeUnit};
use datafusion::common::{ExprSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};

use crate::error::{SqlError, SqlState};

/// Most that one call makes.
const MADE_BYTES_MAX: u64 = 256 << 20;
/// Bytes of an element of a list.
const ELEMENT_BYTES: u64 = 8;

/// The functions, those that need it reckoned.
pub(super) fn bounded(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    let reckon: Reckon = match function.name() {
        "repeat" => repeated,
        "lpad" | "rpad" => padded,
        "array_repeat" | "array_resize" => elements,
        "range" | "generate_series" | "gen_series" => series,
        "replace" => replaced,
        _ => return function,
    };
    let bounded = Bounded { inner: Arc::clone(&function), reckon };
    Arc::new(ScalarUDF::from(bounded))
}

type Reckon = fn(&[ArrayRef]) -> Result<u64>;

#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    reckon: Reckon,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.inner().schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.inner().return_field_from_args(args)
    }

    fn is_nullable(&self, args: &[Expr], schema: &dyn ExprSchema) -> bool {
        #[allow(deprecated, reason = "what is behind it may rely on it")]
        self.inner.inner().is_nullable(args, schema)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        // Of constants one row is enough: it is made once.
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let made = (self.reckon)(&arrays)?;
        if made > MADE_BYTES_MAX {
            return Err(SqlError::new(
                SqlState::ProgramLimitExceeded,
                format!("{} would make {made} bytes at once", self.name()),
            )
            .hint(format!("at most {MADE_BYTES_MAX} for 8,192 rows"))
            .into());
        }
        self.inner.inner().invoke_with_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.inner().simplify(args, info)
    }

    fn short_circuits(&self) -> bool {
        self.inner.inner().short_circuits()
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.inner.inner().evaluate_bounds(input)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.inner().output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.inner().preserves_lex_ordering(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.inner().documentation()
    }
}

/// Numbers of an argument; none where it is NULL or no number.
fn numbers(array: &ArrayRef) -> Result<Vec<Option<i64>>> {
    let numbers = cast(array, &DataType::Int64)?;
    Ok(numbers.as_primitive::<Int64Type>().iter().collect())
}

fn texts(array: &ArrayRef) -> Result<Vec<Option<String>>> {
    let texts = cast(array, &DataType::LargeUtf8)?;
    Ok(texts.as_string::<i64>().iter().map(|text| text.map(str::to_owned)).collect())
}

fn lengths(array: &ArrayRef) -> Result<Vec<u64>> {
    let texts = cast(array, &DataType::LargeUtf8)?;
    let lengths = texts.as_string::<i64>().iter();
    Ok(lengths.map(|text| text.map_or(0, |text| u64::try_from(text.len()).unwrap_or(u64::MAX))).collect())
}

fn count(number: Option<i64>) -> u64 {
    number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

fn sum(parts: impl Iterator<Item = u64>) -> u64 {
    parts.fold(0, u64::saturating_add)
}

fn repeated(args: &[ArrayRef]) -> Result<u64> {
    let [text, times, ..] = args else { return Ok(0) };
    let (lengths, times) = (lengths(text)?, numbers(times)?);
    Ok(sum(lengths.into_iter().zip(times).map(|(length, times)| length.saturating_mul(count(times)))))
}

fn padded(args: &[ArrayRef]) -> Result<u64> {
    let [_, width, ..] = args else { return Ok(0) };
    // A letter has up to four bytes.
    Ok(sum(numbers(width)?.into_iter().map(|width| count(width).saturating_mul(4))))
}

fn elements(args: &[ArrayRef]) -> Result<u64> {
    let [element, times, ..] = args else { return Ok(0) };
    let of_one = element.get_array_memory_size() / element.len().max(1);
    let of_one = u64::try_from(of_one).unwrap_or(u64::MAX).max(ELEMENT_BYTES);
    Ok(sum(numbers(times)?.into_iter().map(|times| count(times).saturating_mul(of_one))))
}

/// Of numbers, or of days and moments, which are reckoned in milliseconds.
fn series(args: &[ArrayRef]) -> Result<u64> {
    let is_number = args.iter().all(|arg| arg.data_type().is_integer() || arg.data_type().is_null());
    let on_a_line = |array: &ArrayRef| match is_number {
        true => numbers(array),
        false => numbers(&cast(array, &DataType::Timestamp(TimeUnit::Millisecond, None))?),
    };
    let (starts, stops) = match args {
        [stop] => (vec![Some(0); stop.len()], on_a_line(stop)?),
        [start, stop, ..] => (on_a_line(start)?, on_a_line(stop)?),
        [] => return Ok(0),
    };
    let steps = match args.get(2) {
        None => vec![1; stops.len()],
        Some(steps) if is_number => numbers(steps)?.into_iter().map(|step| step.unwrap_or(1)).collect(),
        Some(steps) => (0..steps.len()).map(|row| milliseconds(steps, row)).collect::<Result<_>>()?,
    };
    let parts = starts.into_iter().zip(stops).zip(steps).map(|((start, stop), step)| {
        let (Some(start), Some(stop)) = (start, stop) else { return 0 };
        (stop.abs_diff(start) / step.unsigned_abs().max(1)).saturating_mul(ELEMENT_BYTES)
    });
    Ok(sum(parts))
}

fn milliseconds(steps: &ArrayRef, row: usize) -> Result<i64> {
    const DAY: i64 = 24 * 3600 * 1000;
    let step = ScalarValue::try_from_array(
        &cast(steps, &DataType::Interval(datafusion::arrow::datatypes::IntervalUnit::MonthDayNano))?,
        row,
    )?;
    Ok(match step {
        ScalarValue::IntervalMonthDayNano(Some(step)) => {
            i64::from(step.months) * 28 * DAY + i64::from(step.days) * DAY + step.nanoseconds / 1_000_000
        }
        _ => 1,
    })
}

fn replaced(args: &[ArrayRef]) -> Result<u64> {
    let [text, from, to] = args else { return Ok(0) };
    let (text, from, to) = (texts(text)?, texts(from)?, texts(to)?);
    let parts = text.iter().zip(&from).zip(&to).map(|((text, from), to)| {
        let (Some(text), Some(from), Some(to)) = (text, from, to) else { return 0 };
        let length = text.len();
        let grows = to.len().saturating_sub(from.len());
        // Found only where there is something to gain: most replacements shorten, or add little.
        let times = match grows.saturating_mul(length) > 1 << 20 {
            true => text.matches(from.as_str()).count(),
            false => length + 1,
        };
        u64::try_from(length.saturating_add(times.saturating_mul(grows))).unwrap_or(u64::MAX)
    });
    Ok(sum(parts))
}
