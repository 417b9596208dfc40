//! Codes single rows: k data cells in, k + m cells out.
//!
//! Data cells are slices of the row; only a padded tail is copied. Coding is position-wise in units of 64
//! bytes, so rows are independent of each other. Knows nothing of chunks, leaves or roots.

use crate::coding::{Coding, position};
use crate::layout::cell_bytes_of_row;
use bytes::{Bytes, BytesMut};
use reed_solomon_simd::ReedSolomonEncoder;

/// One coded row: cell `i` belongs at the end of shard `i`.
#[derive(Clone, Debug)]
pub struct Row {
    /// k + m cells of equal length, a multiple of 64 bytes. With k = 1 they share one buffer.
    pub cells: Vec<Bytes>,
}

/// A row is empty or longer than rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row of {length} bytes: must be 1 to {row_bytes}")]
pub struct RowLengthError {
    /// Bytes given.
    pub length: usize,
    /// Bytes of a full row.
    pub row_bytes: u32,
}

/// Codes rows of one coding; keep it, since it keeps the coder's memory (k cells).
pub struct RowCoder {
    coding: Coding,
    encoder: Option<ReedSolomonEncoder>,
}

impl RowCoder {
    /// Allocates nothing yet.
    pub const fn new(coding: Coding) -> Self {
        Self { coding, encoder: None }
    }

    /// The coding of its rows.
    pub const fn coding(&self) -> Coding {
        self.coding
    }

    /// Codes a row of 1 to [`Coding::row_bytes`] bytes, with exactly this coder's k also where it is small.
    pub fn code(&mut self, row: Bytes) -> Result<Row, RowLengthError> {
        self.check_length(&row)?;
        Ok(self.code_as(self.coding, row))
    }

    /// The length of a row that this coder takes.
    pub(crate) fn check_length(&self, row: &Bytes) -> Result<u32, RowLengthError> {
        let row_bytes = self.coding.row_bytes();
        let length = u32::try_from(row.len()).ok().filter(|length| (1..=row_bytes).contains(length));
        length.ok_or(RowLengthError { length: row.len(), row_bytes })
    }

    /// Codes a row whose length was checked, as `coding` says: this coder's, or copies.
    pub(crate) fn code_as(&mut self, coding: Coding, row: Bytes) -> Row {
        let row_len = self.check_length(&row).expect("the length was checked");
        let cell_bytes = position(cell_bytes_of_row(row_len, coding));
        let mut cells = data_cells(row, cell_bytes, coding);
        if coding.is_copies() {
            cells.resize(usize::from(coding.shards()), cells[0].clone());
        } else if coding.m() > 0 {
            let mut parity = encode_parity(&mut self.encoder, coding, cell_bytes, &cells);
            cells.extend((0..coding.m()).map(|_| parity.split_to(cell_bytes)));
        }
        Row { cells }
    }
}

/// The k data cells of a row: slices of it, but a copy of what must be padded. Room for parity is kept.
fn data_cells(row: Bytes, cell_bytes: usize, coding: Coding) -> Vec<Bytes> {
    let k = usize::from(coding.k());
    let mut cells: Vec<Bytes> = Vec::with_capacity(usize::from(coding.shards()));
    let mut rest = row;
    while rest.len() >= cell_bytes {
        cells.push(rest.split_to(cell_bytes));
    }
    if !rest.is_empty() {
        let mut padded = BytesMut::with_capacity(cell_bytes);
        padded.extend_from_slice(&rest);
        padded.resize(cell_bytes, 0);
        cells.push(padded.freeze());
    }
    if cells.len() < k {
        cells.resize(k, Bytes::from(vec![0; cell_bytes]));
    }
    cells
}

/// The m parity cells, one after the other in one buffer.
fn encode_parity(
    encoder: &mut Option<ReedSolomonEncoder>,
    coding: Coding,
    cell_bytes: usize,
    data: &[Bytes],
) -> Bytes {
    const WITHIN: &str = "counts and sizes are within the coder's limits";
    let (k, m) = (usize::from(coding.k()), usize::from(coding.m()));
    let encoder = match encoder {
        Some(encoder) => {
            encoder.reset(k, m, cell_bytes).expect(WITHIN);
            encoder
        }
        None => encoder.insert(ReedSolomonEncoder::new(k, m, cell_bytes).expect(WITHIN)),
    };
    for cell in data {
        encoder.add_original_shard(cell).expect(WITHIN);
    }
    let mut parity = Vec::with_capacity(m * cell_bytes);
    encoder.encode().expect(WITHIN).recovery_iter().for_each(|cell| parity.extend_from_slice(cell));
    parity.into()
}
