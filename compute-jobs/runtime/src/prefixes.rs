//! Beginnings that sequences have in common, computed once.
//!
//! Invariant: a page is found under exactly the tokens that it was computed for and all before them, compared one by one.
//! So many pages are kept at most; those that were not used for longest go first, the ends of a beginning before its
//! start. Does not know whose sequences they are: how long an answer's first token takes tells that somebody began alike.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use ashlar_kernels::PAGE_POSITIONS;

use crate::llama::{Page, Positions};

/// Names the page before; never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct PageId(u64);

/// How far a sequence's pages are kept here already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chain {
    last: PageId,
    pages: usize,
}

#[derive(Debug)]
struct Kept {
    id: PageId,
    page: Arc<Page>,
    used: u64,
    depth: usize,
}

type Key = (PageId, [u32; PAGE_POSITIONS]);

/// Pages of beginnings.
#[derive(Debug)]
pub(crate) struct Prefixes {
    kept: HashMap<Key, Kept>,
    pages_max: usize,
    uses: u64,
    named: u64,
}

impl Prefixes {
    pub(crate) fn new(pages_max: usize) -> Self {
        Self { kept: HashMap::new(), pages_max, uses: 0, named: 0 }
    }

    /// What was computed of the beginning of these tokens; always less than all of them.
    pub(crate) fn find(&mut self, tokens: &[u32]) -> (Positions, Chain) {
        self.uses += 1;
        let mut chain = Chain::default();
        let mut pages = Vec::new();
        let begun = tokens.len().saturating_sub(1);
        for tokens in tokens[..begun].chunks_exact(PAGE_POSITIONS) {
            let Some(kept) = self.kept.get_mut(&key(chain.last, tokens)) else { break };
            kept.used = self.uses;
            chain = Chain { last: kept.id, pages: chain.pages + 1 };
            pages.push(Arc::clone(&kept.page));
        }
        (Positions::from_pages(pages), chain)
    }

    /// Keeps the pages of a sequence that have become full.
    pub(crate) fn keep(&mut self, tokens: &[u32], positions: &Positions, chain: &mut Chain) {
        if self.pages_max == 0 {
            return;
        }
        while let Some(page) = positions.full_page(chain.pages) {
            let begin = chain.pages * PAGE_POSITIONS;
            let key = key(chain.last, &tokens[begin..begin + PAGE_POSITIONS]);
            let id = match self.kept.get_mut(&key) {
                Some(kept) => {
                    kept.used = self.uses;
                    kept.id
                }
                None => {
                    self.make_room();
                    self.named += 1;
                    let id = PageId(self.named);
                    let kept = Kept { id, page: Arc::clone(page), used: self.uses, depth: chain.pages };
                    self.kept.insert(key, kept);
                    id
                }
            };
            *chain = Chain { last: id, pages: chain.pages + 1 };
        }
    }

    fn make_room(&mut self) {
        while self.kept.len() >= self.pages_max {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| (kept.used, Reverse(kept.depth)));
            let Some(key) = oldest.map(|(key, _)| *key) else { break };
            self.kept.remove(&key);
        }
    }
}

fn key(before: PageId, tokens: &[u32]) -> Key {
    let mut key = [0; PAGE_POSITIONS];
    key.copy_from_slice(tokens);
    (before, key)
}
