//! What a model remembers of the positions of a sequence: keys and values, in pages of 16 positions.
//!
//! Invariant: a full page never changes, so that any number of sequences may share it; a page that is being filled
//! belongs to one sequence alone.

use std::sync::Arc;

use ashlar_kernels::PAGE_POSITIONS;

/// Numbers of 16 positions in all layers.
pub(crate) type Page = Box<[f32]>;

/// The positions of one sequence that were computed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Positions {
    pages: Vec<Arc<Page>>,
    length: usize,
}

impl Positions {
    /// Goes on from full pages that were computed for the same tokens.
    pub(crate) fn from_pages(pages: Vec<Arc<Page>>) -> Self {
        Self { length: pages.len() * PAGE_POSITIONS, pages }
    }

    /// Positions that were computed.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// The full page of this number, to be shared.
    pub(crate) fn full_page(&self, number: usize) -> Option<&Arc<Page>> {
        if (number + 1) * PAGE_POSITIONS <= self.length { self.pages.get(number) } else { None }
    }

    /// Another sequence that goes on from here. Full pages are shared, the last one is copied.
    pub(crate) fn fork(&self) -> Self {
        let mut pages = self.pages.clone();
        if !self.length.is_multiple_of(PAGE_POSITIONS)
            && let Some(last) = pages.last_mut()
        {
            *last = Arc::new(Page::clone(last));
        }
        Self { pages, length: self.length }
    }

    /// Makes room for more positions, in pages of so many numbers.
    pub(super) fn reserve(&mut self, positions: usize, page_numbers: usize) {
        while self.pages.len() * PAGE_POSITIONS < self.length + positions {
            self.pages.push(Arc::new(vec![0.0; page_numbers].into_boxed_slice()));
        }
    }

    /// Positions for which there was made room, and now are computed.
    pub(super) fn extend(&mut self, positions: usize) {
        self.length += positions;
    }

    /// The page of a position that is being computed.
    pub(super) fn page_mut(&mut self, position: usize) -> &mut [f32] {
        let page = &mut self.pages[position / PAGE_POSITIONS];
        Arc::get_mut(page).expect("a page that is being filled belongs to one sequence")
    }

    /// All pages, from the first position.
    pub(super) fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }
}
