//! Models as GGUF files say them: what is known of a model, and its tensors.
//!
//! Invariant: whatever the bytes are, reading ends with an error or with values that lie within them; nothing is reserved
//! for a length that the bytes do not have. Does not know what keys and tensors mean.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

mod cursor;
#[cfg(test)]
mod tests;

use cursor::Cursor;

/// Entries of metadata at most.
const ENTRIES_MAX: u64 = 1 << 16;
/// Tensors at most.
const TENSORS_MAX: u64 = 1 << 16;
/// Bytes of a key or of a tensor's name at most.
const NAME_BYTES_MAX: usize = 256;

const MAGIC: &[u8; 4] = b"GGUF";
const ALIGNMENT: u64 = 32;
const ALIGNMENT_MAX: u64 = 1 << 16;
const DIMENSIONS_MAX: usize = 4;

/// Why bytes are no GGUF file, or none that is read here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    /// The file begins otherwise.
    #[error("the file does not begin as GGUF does")]
    Magic,
    /// Another version than 2 or 3.
    #[error("version {version} of GGUF is not read, only 2 and 3")]
    Version {
        /// The file's.
        version: u32,
    },
    /// Something is said to be longer than the file is.
    #[error("{what} ends beyond the file")]
    Truncated {
        /// What was read.
        what: &'static str,
    },
    /// There is more of it than is read.
    #[error("{count} {what}, and {maximum} are the most")]
    TooMany {
        /// What was read.
        what: &'static str,
        /// So many.
        count: u64,
        /// The most.
        maximum: u64,
    },
    /// A key or a tensor's name comes twice.
    #[error("{name:?} comes twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// Text that is not UTF-8.
    #[error("{what} is not UTF-8")]
    Text {
        /// What was read.
        what: &'static str,
    },
    /// A value of no known type.
    #[error("{key:?} is of type {kind}, which is none that is read")]
    ValueType {
        /// Its key.
        key: String,
        /// The file's number.
        kind: u32,
    },
    /// A key that is needed is not there, or is something else.
    #[error("{key:?} is missing or is not {expected}")]
    Value {
        /// The key.
        key: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A tensor of a type whose numbers are not understood.
    #[error("tensor {name:?} is of type {kind}; F32, F16, Q4_0, Q4_1 and Q8_0 are read")]
    TensorType {
        /// The tensor.
        name: String,
        /// The file's number.
        kind: u32,
    },
    /// A tensor without place: its shape is none, or it is not where it says.
    #[error("tensor {name:?}: {reason}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// A value of metadata, borrowed from the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Any whole number.
    Whole(i128),
    /// Any number with a point.
    Real(f64),
    /// Yes or no.
    Truth(bool),
    /// Text.
    Text(&'a str),
    /// A list of text.
    Texts(Vec<&'a str>),
    /// A list of whole numbers.
    Wholes(Vec<i64>),
    /// A list of numbers with a point, which nothing here needs.
    Reals,
}

/// How numbers of a tensor are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoding {
    /// Plain, 4 bytes.
    F32,
    /// Plain, 2 bytes.
    F16,
    /// Blocks of 32 with a scale, 4 bits a code.
    Q4_0,
    /// Blocks of 32 with a scale and a minimum, 4 bits a code.
    Q4_1,
    /// Blocks of 32 with a scale, 8 bits a code.
    Q8_0,
}

impl Encoding {
    fn of(kind: u32) -> Option<Self> {
        Some(match kind {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            8 => Self::Q8_0,
            _ => return None,
        })
    }

    /// Numbers that are written together, and in how many bytes.
    fn block(self) -> (u64, u64) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q8_0 => (32, 34),
        }
    }

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q8_0 => "q8_0",
        }
    }
}

/// A tensor, borrowed from the file. Invariant: its bytes are as many as its shape has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor<'a> {
    /// How its numbers are written.
    pub encoding: Encoding,
    /// Numbers in a row.
    pub columns: usize,
    /// Rows; 1 of a vector.
    pub rows: usize,
    /// All rows.
    pub bytes: &'a [u8],
}

/// A file that was read. Borrows its bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf<'a> {
    entries: BTreeMap<&'a str, Value<'a>>,
    tensors: BTreeMap<&'a str, Tensor<'a>>,
}

impl<'a> Gguf<'a> {
    /// Reads a file.
    pub fn read(bytes: &'a [u8]) -> Result<Self, GgufError> {
        let mut cursor = Cursor::new(bytes);
        if cursor.take(4, "the file's beginning")? != MAGIC {
            return Err(GgufError::Magic);
        }
        let version = cursor.u32("the version")?;
        if version != 2 && version != 3 {
            return Err(GgufError::Version { version });
        }
        let tensor_count = at_most("tensors", cursor.u64("the number of tensors")?, TENSORS_MAX)?;
        let entry_count = at_most("entries", cursor.u64("the number of entries")?, ENTRIES_MAX)?;
        let mut entries = BTreeMap::new();
        for _ in 0..entry_count {
            let key = name(&mut cursor)?;
            let kind = cursor.u32("a value's type")?;
            let value = value(&mut cursor, key, kind)?;
            insert_once(&mut entries, key, value)?;
        }
        let mut places = BTreeMap::new();
        for _ in 0..tensor_count {
            let name = name(&mut cursor)?;
            let place = place(&mut cursor, name)?;
            insert_once(&mut places, name, place)?;
        }
        let alignment = match entries.get("general.alignment") {
            None => ALIGNMENT,
            Some(Value::Whole(alignment)) => u64::try_from(*alignment)
                .ok()
                .filter(|alignment| alignment.is_power_of_two() && *alignment <= ALIGNMENT_MAX)
                .ok_or_else(|| expected("general.alignment", "a power of two up to 65,536"))?,
            Some(_) => return Err(expected("general.alignment", "a whole number")),
        };
        let data = cursor.rest_aligned(alignment)?;
        let tensors =
            places.into_iter().map(|(name, place)| Ok((name, place.tensor(name, data, alignment)?)));
        Ok(Self { tensors: tensors.collect::<Result<_, GgufError>>()?, entries })
    }

    /// All tensors by their names.
    pub fn tensors(&self) -> &BTreeMap<&'a str, Tensor<'a>> {
        &self.tensors
    }

    /// What is said under a key.
    pub fn value(&self, key: &str) -> Option<&Value<'a>> {
        self.entries.get(key)
    }

    /// Text under a key.
    pub fn text(&self, key: &str) -> Result<&'a str, GgufError> {
        match self.value(key) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(expected(key, "text")),
        }
    }

    /// A list of text under a key.
    pub fn texts(&self, key: &str) -> Result<&[&'a str], GgufError> {
        match self.value(key) {
            Some(Value::Texts(texts)) => Ok(texts),
            _ => Err(expected(key, "a list of text")),
        }
    }

    /// A list of whole numbers under a key.
    pub fn wholes(&self, key: &str) -> Result<&[i64], GgufError> {
        match self.value(key) {
            Some(Value::Wholes(numbers)) => Ok(numbers),
            _ => Err(expected(key, "a list of whole numbers")),
        }
    }

    /// A whole number within a range under a key.
    pub fn whole(&self, key: &str, range: Range<usize>) -> Result<usize, GgufError> {
        match self.value(key) {
            Some(Value::Whole(number)) => {
                usize::try_from(*number).ok().filter(|number| range.contains(number))
            }
            _ => None,
        }
        .ok_or_else(|| expected(key, "a whole number within its bounds"))
    }

    /// A finite number under a key.
    pub fn real(&self, key: &str) -> Result<f64, GgufError> {
        match self.value(key) {
            Some(Value::Real(number)) if number.is_finite() => Ok(*number),
            _ => Err(expected(key, "a finite number")),
        }
    }
}

fn expected(key: &str, expected: &'static str) -> GgufError {
    GgufError::Value { key: key.to_owned(), expected }
}

fn at_most(what: &'static str, count: u64, maximum: u64) -> Result<u64, GgufError> {
    if count > maximum { Err(GgufError::TooMany { what, count, maximum }) } else { Ok(count) }
}

fn insert_once<'a, T>(map: &mut BTreeMap<&'a str, T>, name: &'a str, value: T) -> Result<(), GgufError> {
    match map.entry(name) {
        Entry::Occupied(_) => Err(GgufError::Twice { name: name.to_owned() }),
        Entry::Vacant(place) => {
            place.insert(value);
            Ok(())
        }
    }
}

fn name<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, GgufError> {
    let name = cursor.text("a name")?;
    let bytes = u64::try_from(name.len()).unwrap_or(u64::MAX);
    at_most("bytes of a name", bytes, u64::try_from(NAME_BYTES_MAX).unwrap_or(u64::MAX))?;
    Ok(name)
}

const ARRAY: u32 = 9;
const TEXT: u32 = 8;

fn value<'a>(cursor: &mut Cursor<'a>, key: &str, kind: u32) -> Result<Value<'a>, GgufError> {
    let unknown = |kind| GgufError::ValueType { key: key.to_owned(), kind };
    match kind {
        TEXT => Ok(Value::Text(cursor.text("a value")?)),
        ARRAY => {
            let kind = cursor.u32("a list's type")?;
            let count = cursor.u64("a list's length")?;
            match kind {
                // Each text has its length before it.
                TEXT => {
                    let count = cursor.count(count, 8, "a list")?;
                    let mut texts = Vec::with_capacity(count);
                    for _ in 0..count {
                        texts.push(cursor.text("a list")?);
                    }
                    Ok(Value::Texts(texts))
                }
                ARRAY => Err(unknown(ARRAY)),
                kind => {
                    let bytes = scalar_bytes(kind).ok_or_else(|| unknown(kind))?;
                    let count = cursor.count(count, bytes, "a list")?;
                    let mut numbers = Vec::new();
                    for _ in 0..count {
                        match scalar(cursor, kind)? {
                            Some(Value::Whole(number)) => {
                                numbers.push(i64::try_from(number).map_err(|_| unknown(kind))?);
                            }
                            Some(Value::Truth(truth)) => numbers.push(i64::from(truth)),
                            _ => {}
                        }
                    }
                    Ok(if numbers.len() == count { Value::Wholes(numbers) } else { Value::Reals })
                }
            }
        }
        kind => scalar(cursor, kind)?.ok_or_else(|| unknown(kind)),
    }
}

fn scalar_bytes(kind: u32) -> Option<usize> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

fn scalar<'a>(cursor: &mut Cursor<'a>, kind: u32) -> Result<Option<Value<'a>>, GgufError> {
    let what = "a value";
    Ok(Some(match kind {
        0 => Value::Whole(u8::from_le_bytes(cursor.array(what)?).into()),
        1 => Value::Whole(i8::from_le_bytes(cursor.array(what)?).into()),
        2 => Value::Whole(u16::from_le_bytes(cursor.array(what)?).into()),
        3 => Value::Whole(i16::from_le_bytes(cursor.array(what)?).into()),
        4 => Value::Whole(u32::from_le_bytes(cursor.array(what)?).into()),
        5 => Value::Whole(i32::from_le_bytes(cursor.array(what)?).into()),
        6 => Value::Real(f32::from_le_bytes(cursor.array(what)?).into()),
        7 => Value::Truth(cursor.array::<1>(what)? != [0]),
        10 => Value::Whole(u64::from_le_bytes(cursor.array(what)?).into()),
        11 => Value::Whole(i64::from_le_bytes(cursor.array(what)?).into()),
        12 => Value::Real(f64::from_le_bytes(cursor.array(what)?)),
        _ => return Ok(None),
    }))
}

/// Where a tensor says that it is.
struct Place {
    encoding: Encoding,
    columns: u64,
    rows: u64,
    bytes: u64,
    offset: u64,
}

fn place(cursor: &mut Cursor<'_>, name: &str) -> Result<Place, GgufError> {
    let wrong = |reason| GgufError::Tensor { name: name.to_owned(), reason };
    let what = "a tensor's description";
    let dimensions = cursor.u32(what)?;
    let dimensions = usize::try_from(dimensions).ok().filter(|count| (1..=DIMENSIONS_MAX).contains(count));
    let mut sizes = [1u64; DIMENSIONS_MAX];
    for size in &mut sizes[..dimensions.ok_or_else(|| wrong("it has no or more than four dimensions"))?] {
        *size = cursor.u64(what)?;
    }
    let kind = cursor.u32(what)?;
    let offset = cursor.u64(what)?;
    let encoding = Encoding::of(kind).ok_or_else(|| GgufError::TensorType { name: name.to_owned(), kind })?;
    let (numbers, bytes) = encoding.block();
    let columns = sizes[0];
    if columns == 0 || !columns.is_multiple_of(numbers) {
        return Err(wrong("a row is no whole number of blocks"));
    }
    let rows =
        sizes[1..].iter().try_fold(1u64, |rows, size| rows.checked_mul(*size)).filter(|rows| *rows > 0);
    let rows = rows.ok_or_else(|| wrong("it has no rows, or more than can be counted"))?;
    let bytes = (columns / numbers).checked_mul(bytes).and_then(|bytes| bytes.checked_mul(rows));
    let bytes = bytes.ok_or_else(|| wrong("it has more bytes than can be counted"))?;
    Ok(Place { encoding, columns, rows, bytes, offset })
}

impl Place {
    fn tensor<'a>(&self, name: &str, data: &'a [u8], alignment: u64) -> Result<Tensor<'a>, GgufError> {
        let wrong = |reason| GgufError::Tensor { name: name.to_owned(), reason };
        if !self.offset.is_multiple_of(alignment) {
            return Err(wrong("its place is not aligned"));
        }
        let fits = |number: u64| usize::try_from(number).ok();
        let range = fits(self.offset).zip(self.offset.checked_add(self.bytes).and_then(fits));
        let bytes = range.and_then(|(start, end)| data.get(start..end));
        let bytes = bytes.ok_or_else(|| wrong("it ends beyond the file"))?;
        let (columns, rows) =
            fits(self.columns).zip(fits(self.rows)).ok_or_else(|| wrong("it is too large"))?;
        Ok(Tensor { encoding: self.encoding, columns, rows, bytes })
    }
}
