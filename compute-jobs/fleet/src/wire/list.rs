//! Lists that cannot be longer than their type says.

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// At most `MAX` items; a longer one is refused while it is read, before memory is taken for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T, const MAX: usize>(Vec<T>);

/// There are more items than fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found} items, and {maximum} are the most")]
pub struct ListTooLong {
    /// So many.
    pub found: usize,
    /// The most.
    pub maximum: usize,
}

impl<T, const MAX: usize> List<T, MAX> {
    /// The items.
    pub fn into_inner(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> TryFrom<Vec<T>> for List<T, MAX> {
    type Error = ListTooLong;

    fn try_from(items: Vec<T>) -> Result<Self, ListTooLong> {
        if items.len() > MAX {
            Err(ListTooLong { found: items.len(), maximum: MAX })
        } else {
            Ok(Self(items))
        }
    }
}

impl<T, const MAX: usize> std::ops::Deref for List<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Serialize, const MAX: usize> Serialize for List<T, MAX> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'a, T: Deserialize<'a>, const MAX: usize> Deserialize<'a> for List<T, MAX> {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Self, D::Error> {
        struct Items<T, const MAX: usize>(std::marker::PhantomData<T>);

        impl<'a, T: Deserialize<'a>, const MAX: usize> Visitor<'a> for Items<T, MAX> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "at most {MAX} items")
            }

            fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
                let mut read = Vec::new();
                while let Some(item) = items.next_element()? {
                    if read.len() == MAX {
                        return Err(A::Error::custom("too many items"));
                    }
                    read.push(item);
                }
                Ok(read)
            }
        }

        from.deserialize_seq(Items::<T, MAX>(std::marker::PhantomData)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_list_is_refused_on_both_sides() {
        let bytes = postcard::to_stdvec(&vec![1u8, 2, 3]).unwrap();
        assert_eq!(&*postcard::from_bytes::<List<u8, 3>>(&bytes).unwrap(), &[1, 2, 3]);
        assert!(postcard::from_bytes::<List<u8, 2>>(&bytes).is_err());
        assert!(List::<u8, 2>::try_from(vec![1, 2, 3]).is_err());
        // A length that no bytes stand behind takes no memory.
        assert!(postcard::from_bytes::<List<[u8; 32], 4096>>(&[0xff, 0xff, 0xff, 0x7f]).is_err());
    }
}
