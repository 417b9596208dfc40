//! How deep the schema of a Parquet footer is nested, told before anything recurses into it.
//!
//! A footer lists its columns as a tree in prefix order, each with the number of its children, and a level takes six
//! bytes: a file of a few hundred KiB can be deeper than any stack. So its list is read here in a loop, as Thrift's
//! compact protocol spells it, and nothing else of it is. Format: <https://parquet.apache.org/docs/file-format/metadata/>
//! and <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.

/// Deepest schema that is read.
const DEPTH_MAX: usize = 64;
/// Deepest nesting of other structures that are passed over.
const SKIPPED_DEPTH_MAX: usize = 16;

const STOP: u8 = 0;
const I32: u8 = 5;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const STRUCT: u8 = 12;

/// Fields that matter: the schema of a footer, and the number of children of a schema's element.
const SCHEMA: i64 = 2;
const CHILDREN: i64 = 5;

/// Whether the footer's schema can be read without recursing far. `None`: it is no footer.
pub(super) fn is_bounded(footer: &[u8]) -> Option<bool> {
    let mut reader = Reader(footer);
    let mut field = 0;
    loop {
        let kind = reader.field(&mut field)?;
        match (kind, field) {
            (STOP, _) => return Some(true),
            (LIST, SCHEMA) => return reader.schema(),
            (kind, _) => reader.skip(kind, 0)?,
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn integer(&mut self) -> Option<i64> {
        let value = self.varint()?;
        let half = i64::try_from(value >> 1).ok()?;
        Some(if value & 1 == 0 { half } else { -half - 1 })
    }

    /// The kind of the next field, whose number is then in `field`.
    fn field(&mut self, field: &mut i64) -> Option<u8> {
        let head = self.byte()?;
        let (step, kind) = (head >> 4, head & 0x0f);
        if kind == STOP {
            return Some(STOP);
        }
        *field = if step == 0 { self.integer()? } else { field.checked_add(i64::from(step))? };
        Some(kind)
    }

    /// Length and kind of a list's elements.
    fn list(&mut self) -> Option<(u64, u8)> {
        let head = self.byte()?;
        let length = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        Some((length, head & 0x0f))
    }

    /// Walks over the schema's elements, which come in prefix order.
    fn schema(&mut self) -> Option<bool> {
        let (length, kind) = self.list()?;
        if kind != STRUCT {
            return None;
        }
        // How many children are still to come on each level.
        let mut open: Vec<i64> = Vec::new();
        for _ in 0..length {
            let children = self.element()?;
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            if children > 0 {
                open.push(children);
                if open.len() > DEPTH_MAX {
                    return Some(false);
                }
            }
            while open.last() == Some(&0) {
                open.pop();
            }
        }
        Some(true)
    }

    /// An element's number of children.
    fn element(&mut self) -> Option<i64> {
        let (mut field, mut children) = (0, 0);
        loop {
            match (self.field(&mut field)?, field) {
                (STOP, _) => return Some(children),
                (I32, CHILDREN) => children = self.integer()?,
                (kind, _) => self.skip(kind, 0)?,
            }
        }
    }

    fn pass(&mut self, bytes: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(bytes).ok()?..)?;
        Some(())
    }

    /// Passes over a value of this kind.
    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        if depth > SKIPPED_DEPTH_MAX {
            return None;
        }
        match kind {
            // True, false: in the field's head.
            1 | 2 => Some(()),
            3 => self.pass(1),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            BINARY => {
                let length = self.varint()?;
                self.pass(length)
            }
            LIST | SET => {
                let (length, kind) = self.list()?;
                for _ in 0..length {
                    // Within a list, a truth value is a byte.
                    if matches!(kind, 1 | 2) { self.pass(1)? } else { self.skip(kind, depth + 1)? }
                }
                Some(())
            }
            STRUCT => {
                let mut field = 0;
                loop {
                    match self.field(&mut field)? {
                        STOP => return Some(()),
                        kind => self.skip(kind, depth + 1)?,
                    }
                }
            }
            // Maps are in no footer before its schema.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn footer(depth: usize) -> Vec<u8> {
        let nested = (0..depth).fold(DataType::Int32, |inner, _| {
            DataType::Struct(vec![Field::new("inner", inner, true)].into())
        });
        let fields = vec![Field::new("a", DataType::Utf8, true), Field::new("b", nested, true)];
        let file = ArrowWriter::try_new(Vec::new(), Arc::new(Schema::new(fields)), None);
        let file = file.unwrap().into_inner().unwrap();
        let (body, trailer) = file.split_at(file.len() - 8);
        let length = u32::from_le_bytes(trailer[..4].try_into().unwrap());
        body[body.len() - usize::try_from(length).unwrap()..].to_vec()
    }

    #[test]
    fn real_footers_pass_up_to_the_depth() {
        for (depth, expected) in [(0, true), (3, true), (60, true), (100, false)] {
            assert_eq!(is_bounded(&footer(depth)), Some(expected), "{depth}");
        }
    }

    #[test]
    fn a_long_chain_is_refused_and_cut_or_foreign_bytes_never_panic() {
        // Version 1, then a list of elements with one child each.
        let mut hostile = vec![0x15, 2, 0x19, 0xfc, 0xc0, 0x84, 0x3d];
        hostile.extend([0x55, 2, 0x00].repeat(1_000_000));
        assert_eq!(is_bounded(&hostile), Some(false));
        let real = footer(3);
        for cut in 0..real.len() {
            let _any = is_bounded(&real[..cut]);
        }
        assert_eq!(is_bounded(&[0xff; 64]), None);
    }
}
