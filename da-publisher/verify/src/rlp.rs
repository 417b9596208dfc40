//! Ethereum's RLP, read strictly: every value has one encoding and nothing follows it.
//!
//! Does not know what is encoded.

/// A value and the bytes that encode it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item<'a> {
    pub(crate) is_list: bool,
    pub(crate) payload: &'a [u8],
    /// The value with its prefix.
    pub(crate) encoded: &'a [u8],
}

/// The bytes are not RLP, or not of this shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the RLP that belongs here")]
pub struct RlpError;

impl<'a> Item<'a> {
    /// The value at the front, and what follows it.
    fn first(input: &'a [u8]) -> Result<(Self, &'a [u8]), RlpError> {
        let prefix = *input.first().ok_or(RlpError)?;
        let is_list = prefix >= 0xc0;
        let short = if is_list { prefix - 0xc0 } else { prefix.saturating_sub(0x80) };
        let (head, length) = match prefix {
            ..0x80 => (0, 1),
            _ if short < 56 => (1, usize::from(short)),
            _ => {
                let digits = input.get(1..1 + usize::from(short - 55)).ok_or(RlpError)?;
                let length = usize::try_from(integer(digits)?).map_err(|_| RlpError)?;
                if length < 56 {
                    return Err(RlpError);
                }
                (1 + digits.len(), length)
            }
        };
        let end = length.checked_add(head).ok_or(RlpError)?;
        let (encoded, rest) = input.split_at_checked(end).ok_or(RlpError)?;
        let payload = &encoded[head..];
        if head == 1 && !is_list && length == 1 && payload[0] < 0x80 {
            return Err(RlpError);
        }
        Ok((Self { is_list, payload, encoded }, rest))
    }

    /// The one value that these bytes encode.
    pub(crate) fn whole(input: &'a [u8]) -> Result<Self, RlpError> {
        match Self::first(input)? {
            (item, []) => Ok(item),
            _ => Err(RlpError),
        }
    }

    /// Its bytes, if it is no list.
    pub(crate) fn text(&self) -> Result<&'a [u8], RlpError> {
        if self.is_list { Err(RlpError) } else { Ok(self.payload) }
    }

    /// Its items, if it is a list.
    pub(crate) fn items(&self) -> Result<Vec<Item<'a>>, RlpError> {
        if !self.is_list {
            return Err(RlpError);
        }
        let (mut items, mut rest) = (Vec::new(), self.payload);
        while !rest.is_empty() {
            let (item, after) = Self::first(rest)?;
            items.push(item);
            rest = after;
        }
        Ok(items)
    }

    /// Its number.
    pub(crate) fn integer(&self) -> Result<u64, RlpError> {
        integer(self.text()?)
    }

    /// Its 32 bytes.
    pub(crate) fn hash(&self) -> Result<[u8; 32], RlpError> {
        self.text()?.try_into().map_err(|_| RlpError)
    }

    /// A number of up to 32 bytes, padded to 32.
    pub(crate) fn word(&self) -> Result<[u8; 32], RlpError> {
        let digits = self.text()?;
        if digits.len() > 32 || digits.first() == Some(&0) {
            return Err(RlpError);
        }
        let mut word = [0; 32];
        word[32 - digits.len()..].copy_from_slice(digits);
        Ok(word)
    }
}

/// A number of up to eight bytes without leading zeros.
fn integer(digits: &[u8]) -> Result<u64, RlpError> {
    if digits.len() > 8 || digits.first() == Some(&0) {
        return Err(RlpError);
    }
    Ok(digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_one_encoding() {
        let text = |bytes: &[u8]| Item::whole(bytes).and_then(|item| item.text().map(<[u8]>::to_vec));
        assert_eq!(text(&[0x05]), Ok(vec![5]));
        assert_eq!(text(&[0x80]), Ok(vec![]));
        assert_eq!(text(&[0x81, 0x80]), Ok(vec![0x80]));
        for bad in [
            &[][..],
            &[0x81, 0x05],    // one small byte with a prefix
            &[0x82, 1],       // shorter than said
            &[0x81, 0x80, 0], // something follows
            &[0xb8, 1, 9],    // long form of a short length
            &[0xb9, 0, 56],   // length with a leading zero
            &[0xbf, 255, 255, 255, 255, 255, 255, 255, 255],
            &[0xc0], // a list is no text
        ] {
            assert_eq!(text(bad), Err(RlpError), "{bad:02x?}");
        }
        let list = Item::whole(&[0xc3, 0x01, 0x81, 0xff]).unwrap();
        assert_eq!(list.items().unwrap().len(), 2);
        assert_eq!(Item::whole(&[0xc2, 0x82, 1]).unwrap().items(), Err(RlpError));
        assert_eq!(Item::whole(&[0x82, 0, 1]).unwrap().integer(), Err(RlpError));
        assert_eq!(Item::whole(&[0x82, 1, 0]).unwrap().integer(), Ok(256));
    }

    proptest::proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            if let Ok(item) = Item::whole(&bytes) {
                let _ = item.items();
                let _ = item.word();
            }
        }
    }
}
