//! JSON objects read strictly: an object is an object, and what may be left out is left out, not null.
//!
//! Unknown and duplicate fields are refused by what `serde` derives; here is what it lets pass: an array in
//! place of an object, null in place of nothing, an object in place of a name. Does not know any of the files.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A value that must be written as a JSON object.
struct Object<T>(T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfMap<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for OfMap<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(OfMap(PhantomData)).map(Object)
    }
}

/// An object.
pub(crate) fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<T, D::Error> {
    Object::deserialize(from).map(|Object(value)| value)
}

/// An object that may be left out.
pub(crate) fn some_object<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    from: D,
) -> Result<Option<T>, D::Error> {
    object(from).map(Some)
}

/// A list of objects.
pub(crate) fn objects<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Vec<T>, D::Error> {
    Vec::<Object<T>>::deserialize(from).map(|list| list.into_iter().map(|Object(value)| value).collect())
}

/// A list of objects that may be left out.
pub(crate) fn some_objects<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    from: D,
) -> Result<Option<Vec<T>>, D::Error> {
    objects(from).map(Some)
}

/// A value that may be left out.
pub(crate) fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// One of some names, written as text; what `serde` derives would also take `{"name": null}`.
pub(crate) fn name<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<T, D::Error> {
    T::deserialize(String::deserialize(from)?.into_deserializer())
}

/// Most bytes of a file that is read: parts and nodes of the largest objects need a fifth of it.
pub const FILE_BYTES_MAX: usize = 16 << 20;

/// A file is not what its format says.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// More bytes than any such file has.
    #[error("a file of {bytes} bytes, at most {FILE_BYTES_MAX} are read")]
    Size {
        /// Bytes of the file.
        bytes: usize,
    },
    /// Not JSON, or not the fields of the format.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Fields that exclude each other, or none of which one is needed.
    #[error("{0}")]
    Fields(&'static str),
}

/// Reads a whole file as one object.
pub(crate) fn file<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ParseError> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(ParseError::Size { bytes: bytes.len() });
    }
    let Object(value) = serde_json::from_slice(bytes)?;
    Ok(value)
}
