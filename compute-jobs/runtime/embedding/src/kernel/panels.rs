//! The right-hand side of a product, in the order in which the product reads it.
//!
//! Invariant: a panel holds as many columns as fit the registers, depth after depth; columns beyond the last are zero.

/// Bytes of a cache line: vectors that cross two cost twice.
const LINE_BYTES: usize = 64;

/// Floats that begin at a cache line, kept between uses.
#[derive(Debug, Default)]
pub(crate) struct Floats {
    all: Vec<f32>,
    begin: usize,
    length: usize,
}

impl Floats {
    /// `length` floats, whatever they were before.
    pub(crate) fn resize(&mut self, length: usize) {
        let spare = LINE_BYTES / size_of::<f32>();
        if self.all.len() < length + spare {
            self.all = vec![0.0; length + spare];
            // Only speed hangs on it: where the beginning cannot be known, it is that of the allocation.
            self.begin = self.all.as_ptr().align_offset(LINE_BYTES).min(spare);
        }
        self.length = length;
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        &self.all[self.begin..self.begin + self.length]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.all[self.begin..self.begin + self.length]
    }
}

/// A matrix of `depth` rows and `columns` columns, cut into panels of `vectors` × lanes columns.
#[derive(Debug, Default)]
pub(crate) struct Panels {
    floats: Floats,
    pub(super) depth: usize,
    pub(super) columns: usize,
    pub(super) vectors: usize,
    width: usize,
}

impl Panels {
    /// How many vectors of columns waste least of the last panel: wide where there are many columns.
    fn vectors_for(columns: usize, lanes: usize) -> usize {
        if !columns.is_multiple_of(3 * lanes) && columns <= 2 * lanes { columns.div_ceil(lanes) } else { 3 }
    }

    fn reshape(&mut self, depth: usize, columns: usize, lanes: usize) {
        self.vectors = Self::vectors_for(columns, lanes);
        (self.depth, self.columns, self.width) = (depth, columns, self.vectors * lanes);
        self.floats.resize(columns.div_ceil(self.width) * self.width * depth);
    }

    /// Becomes the transpose of a matrix: column `c` is its row `c`, `depth` numbers at `c · stride` of `rows`.
    pub(crate) fn fill_transposed(
        &mut self,
        rows: &[f32],
        stride: usize,
        depth: usize,
        columns: usize,
        lanes: usize,
    ) {
        self.reshape(depth, columns, lanes);
        let width = self.width;
        for (panel, floats) in self.floats.as_mut_slice().chunks_exact_mut(width * depth).enumerate() {
            for lane in 0..width {
                let column = panel * width + lane;
                let into = floats[lane..].iter_mut().step_by(width);
                if column < columns {
                    let from = &rows[column * stride..][..depth];
                    into.zip(from).for_each(|(into, from)| *into = *from);
                } else {
                    into.for_each(|into| *into = 0.0);
                }
            }
        }
    }

    /// Becomes a matrix as it stands: row `d` is `columns` numbers at `d · stride` of `rows`.
    pub(crate) fn fill(&mut self, rows: &[f32], stride: usize, depth: usize, columns: usize, lanes: usize) {
        self.reshape(depth, columns, lanes);
        let width = self.width;
        for (panel, floats) in self.floats.as_mut_slice().chunks_exact_mut(width * depth).enumerate() {
            let begin = panel * width;
            let count = width.min(columns - begin);
            for (row, into) in floats.chunks_exact_mut(width).enumerate() {
                into[..count].copy_from_slice(&rows[row * stride + begin..][..count]);
                into[count..].fill(0.0);
            }
        }
    }

    /// The transpose of a matrix of `columns` rows, each of `depth` numbers.
    pub(crate) fn of_transposed(rows: &[f32], depth: usize, columns: usize, lanes: usize) -> Self {
        let mut panels = Self::default();
        panels.fill_transposed(rows, depth, depth, columns, lanes);
        panels
    }

    /// Numbers of a panel at one depth.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The panels in the order of their columns.
    pub(super) fn panels(&self) -> impl Iterator<Item = &[f32]> {
        self.floats.as_slice().chunks_exact((self.width * self.depth).max(1))
    }
}
