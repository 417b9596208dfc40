//! The fingerprint of a row: its random linear combination over GF(2^128).
//!
//! A row is a sequence of elements of GF(2^128), eight symbols each; its fingerprint is a polynomial in two
//! random points with those elements as coefficients. It is linear over GF(2^16), so it commutes with the code:
//! the fingerprints of a code word's rows are a code word. The points are drawn from the shape and the row
//! root, after every row is fixed. Two rows that differ agree for at most (1,023 + segments) of 2^128 points.
//! Knows nothing of which row it is given.

use crate::field::{Element, Multiplier};
use crate::hash;
use crate::shape::Shape;

/// Bytes of a row under one power of the outer point.
pub(crate) const SEGMENT_BYTES: usize = 16_384;

/// The two points, ready to multiply by.
#[derive(Clone)]
pub(crate) struct Points {
    inner: Multiplier,
    outer: Multiplier,
}

impl Points {
    /// The points of a blob with this shape and row root.
    pub(crate) fn draw(shape: Shape, row_root: &hash::Digest) -> Self {
        let mut bytes = [0; 2 * Element::BYTES];
        hash::POINTS.clone().update(&shape.to_bytes()).update(row_root).finalize_xof().fill(&mut bytes);
        let (points, _) = bytes.as_chunks::<{ Element::BYTES }>();
        let [inner, outer] = [points[0], points[1]].map(|bytes| Multiplier::new(Element::from_bytes(bytes)));
        Self { inner, outer }
    }

    /// The fingerprint of a row, whose length is a multiple of 64.
    pub(crate) fn fingerprint(&self, row: &[u8]) -> Element {
        row.chunks(SEGMENT_BYTES)
            .fold(Element::default(), |sum, segment| self.outer.multiply(sum).plus(self.segment(segment)))
    }

    /// Horner's rule over the elements of a segment. A unit of 64 bytes is 32 low bytes, then 32 high bytes.
    fn segment(&self, segment: &[u8]) -> Element {
        let (units, rest) = segment.as_chunks::<64>();
        assert!(rest.is_empty(), "rows are multiples of 64 bytes");
        let mut sum = Element::default();
        for unit in units {
            let (octets, _) = unit.as_chunks::<8>();
            for group in 0..4 {
                let element = Element::from_planes(octets[group], octets[4 + group]);
                sum = self.inner.multiply(sum).plus(element);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extend::{extend, extend_elements};
    use crate::shape::Profile;

    /// The definition of the document, written without Horner's rule.
    fn naive(points: &Points, row: &[u8]) -> Element {
        let power = |by: &Multiplier, times: usize| {
            (0..times).fold(Element::from_symbols([1, 0, 0, 0, 0, 0, 0, 0]), |p, _| by.multiply(p))
        };
        let segments: Vec<&[u8]> = row.chunks(SEGMENT_BYTES).collect();
        let mut sum = Element::default();
        for (s, segment) in segments.iter().enumerate() {
            let outer = Multiplier::new(power(&points.outer, segments.len() - 1 - s));
            let count = segment.len() / 16;
            for t in 0..count {
                let (unit, group) = (t / 4 * 64, t % 4 * 8);
                let symbols = std::array::from_fn(|i| {
                    u16::from_le_bytes([segment[unit + group + i], segment[unit + 32 + group + i]])
                });
                let inner = Multiplier::new(power(&points.inner, count - 1 - t));
                let term = outer.multiply(inner.multiply(Element::from_symbols(symbols)));
                sum = sum.plus(term);
            }
        }
        sum
    }

    fn bytes(len: usize, seed: u8) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn it_is_what_the_document_says() {
        let shape = Shape::new(Profile::Small, 1).unwrap();
        let points = Points::draw(shape, &[7; 32]);
        for len in [64, 128, 640, SEGMENT_BYTES + 64] {
            let row = bytes(len, 1);
            assert_eq!(points.fingerprint(&row), naive(&points, &row), "{len} bytes");
        }
    }

    #[test]
    fn it_commutes_with_the_code() {
        for (originals, parities, len) in [(4, 12, 64), (4, 12, SEGMENT_BYTES + 192), (256, 768, 128)] {
            let shape = Shape::new(Profile::Small, 1).unwrap();
            let points = Points::draw(shape, &[9; 32]);
            let rows: Vec<Vec<u8>> = (0..originals).map(|i| bytes(len, u8::try_from(i).unwrap())).collect();
            let slices: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
            let parity = extend(&slices, parities);
            let of_rows: Vec<Element> = rows.iter().map(|row| points.fingerprint(row)).collect();
            let of_parity: Vec<Element> = parity.chunks(len).map(|row| points.fingerprint(row)).collect();
            assert_eq!(extend_elements(&of_rows, parities)[originals..], of_parity[..]);
        }
    }
}
