//! GF(2^16) as the Leopard code uses it, and GF(2^128) on top.
//!
//! GF(2^16) is GF(2)[x] / (x^16 + x^5 + x^3 + x^2 + 1) written in the Cantor basis; its tables are those of
//! `reed-solomon-simd`, so that linear combinations here commute with the code. GF(2^128) is
//! GF(2^16)[y] / (y^8 + y^3 + y + c), c = 0x010c; that this polynomial is irreducible is a test below.
//! Knows nothing of rows.

use reed_solomon_simd::engine::tables;

/// The constant term of GF(2^128)'s polynomial, in the Cantor basis. Trinomials of degree 8 are never
/// irreducible over this field; of y^8 + y^3 + y + c this is the smallest c.
const CONSTANT: u16 = 0x010c;

/// The product in GF(2^16).
pub(crate) fn multiply(a: u16, b: u16) -> u16 {
    if a == 0 || b == 0 {
        return 0;
    }
    let tables = tables::get_exp_log();
    let sum = u32::from(tables.log[usize::from(a)]) + u32::from(tables.log[usize::from(b)]);
    // Logarithms count modulo 65,535, and the table's last entry repeats its first.
    let folded =
        u16::try_from((sum & 0xffff) + (sum >> 16)).expect("two logarithms add up to less than 2^17");
    tables.exp[usize::from(folded)]
}

/// An element of GF(2^128): eight symbols of GF(2^16), symbol i being the coefficient of y^i.
///
/// Kept and written as they lie in a row: eight low bytes, then eight high bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Element(u128);

impl Element {
    /// Bytes of an encoded element.
    pub(crate) const BYTES: usize = 16;

    pub(crate) fn from_planes(low: [u8; 8], high: [u8; 8]) -> Self {
        Self(u128::from(u64::from_le_bytes(low)) | u128::from(u64::from_le_bytes(high)) << 64)
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }

    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    pub(crate) fn from_symbols(symbols: [u16; 8]) -> Self {
        let low = symbols.map(|symbol| symbol.to_le_bytes()[0]);
        let high = symbols.map(|symbol| symbol.to_le_bytes()[1]);
        Self::from_planes(low, high)
    }

    pub(crate) fn symbols(self) -> [u16; 8] {
        let bytes = self.to_bytes();
        std::array::from_fn(|i| u16::from_le_bytes([bytes[i], bytes[8 + i]]))
    }

    /// The sum, which is also the difference.
    #[inline]
    pub(crate) fn plus(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }

    /// The product with an element of GF(2^16).
    fn scaled(self, scalar: u16) -> Self {
        Self::from_symbols(self.symbols().map(|symbol| multiply(symbol, scalar)))
    }

    /// The product with y: y^8 = y^3 + y + c.
    fn times_y(self) -> Self {
        let from = self.symbols();
        let mut to = [0; 8];
        to[1..].copy_from_slice(&from[..7]);
        to[0] = multiply(from[7], CONSTANT);
        to[1] ^= from[7];
        to[3] ^= from[7];
        Self::from_symbols(to)
    }
}

/// Multiplies by one fixed element: 16 look-ups in 64 KiB of tables, one for each byte.
#[derive(Clone)]
pub(crate) struct Multiplier {
    tables: Box<[[u128; 256]; 16]>,
}

impl Multiplier {
    pub(crate) fn new(factor: Element) -> Self {
        let mut tables = Box::new([[0; 256]; 16]);
        let mut shifted = factor;
        for symbol in 0..8 {
            for bit in 0..16 {
                let product = shifted.scaled(1 << bit).0;
                let (table, bit) = (&mut tables[bit / 8 * 8 + symbol], bit % 8);
                // Entries below 2^bit are done: those with the bit set are theirs plus this product.
                for entry in 0..1 << bit {
                    table[1 << bit | entry] = table[entry] ^ product;
                }
            }
            shifted = shifted.times_y();
        }
        Self { tables }
    }

    #[inline]
    pub(crate) fn multiply(&self, element: Element) -> Element {
        let bytes = element.to_bytes();
        let mut product = 0;
        for (table, byte) in self.tables.iter().zip(bytes) {
            product ^= table[usize::from(byte)];
        }
        Element(product)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// y^8 + y^3 + y + c as coefficients from the constant up.
    const POLYNOMIAL: [u16; 9] = [CONSTANT, 1, 0, 1, 0, 0, 0, 0, 1];

    fn inverse(a: u16) -> u16 {
        // a^(2^16 - 2)
        let (mut power, mut result) = (a, 1);
        for _ in 0..15 {
            power = multiply(power, power);
            result = multiply(result, power);
        }
        result
    }

    fn degree(polynomial: &[u16]) -> Option<usize> {
        polynomial.iter().rposition(|coefficient| *coefficient != 0)
    }

    fn gcd_degree(mut a: Vec<u16>, mut b: Vec<u16>) -> Option<usize> {
        while let Some(of_b) = degree(&b) {
            let lead = inverse(b[of_b]);
            while let Some(of_a) = degree(&a).filter(|of_a| *of_a >= of_b) {
                let factor = multiply(a[of_a], lead);
                for i in 0..=of_b {
                    a[of_a - of_b + i] ^= multiply(factor, b[i]);
                }
            }
            std::mem::swap(&mut a, &mut b);
        }
        degree(&a)
    }

    /// Rabin's test: y^(q^8) = y, and y^(q^4) - y shares no factor with the polynomial; q = 2^16.
    #[test]
    fn the_polynomial_is_irreducible() {
        let y = Element::from_symbols([0, 1, 0, 0, 0, 0, 0, 0]);
        let mut power = y;
        for squarings in 1..=128 {
            power = Multiplier::new(power).multiply(power);
            if squarings == 64 {
                let difference = power.plus(y).symbols().to_vec();
                assert_eq!(gcd_degree(POLYNOMIAL.to_vec(), difference), Some(0));
            }
        }
        assert_eq!(power, y);
    }

    #[test]
    fn one_is_one_and_inverses_exist() {
        for a in 1..=u16::MAX {
            assert_eq!(multiply(a, 1), a);
            assert_eq!(multiply(a, inverse(a)), 1, "{a}");
        }
    }

    fn elements() -> impl Strategy<Value = Element> {
        any::<[u8; 16]>().prop_map(Element::from_bytes)
    }

    proptest! {
        #[test]
        fn it_is_a_field(a in elements(), b in elements(), c in elements(), s: u16, t: u16) {
            let times = |a: Element, b: Element| Multiplier::new(a).multiply(b);
            prop_assert_eq!(times(a, b), times(b, a));
            prop_assert_eq!(times(a, times(b, c)), times(times(a, b), c));
            prop_assert_eq!(times(a, b.plus(c)), times(a, b).plus(times(a, c)));
            prop_assert_eq!(times(a, b.scaled(s)), times(a, b).scaled(s));
            prop_assert_eq!(a.scaled(s).plus(a.scaled(t)), a.scaled(s ^ t));
            prop_assert_eq!(times(Element::from_symbols([1, 0, 0, 0, 0, 0, 0, 0]), a), a);
            prop_assert_eq!(Element::from_symbols(a.symbols()), a);
        }
    }
}
