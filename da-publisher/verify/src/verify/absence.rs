//! The steps of a proof that a promised entry is not in the log, and cannot come into it any more.
//!
//! Leaves stand in ascending order of their places, and positions only go on; so two neighbours, another leaf in
//! the place, two batches around it, or a log that ends before it when the deadline has passed, exclude the
//! promised leaf. Invariant: the place and the leaf come from the signed receipt alone.

use std::cmp::Ordering;

use super::entry::{in_batch, record};
use super::{Request, Run};
use crate::log::{Header, Place, record_digest};
use crate::proof::{Absence, Neighbour};
use crate::receipt::Receipt;
use crate::verdict::{BrokenPromise, Failed, Failure, Shown, Step, Verdict};

impl Run<'_> {
    pub(super) fn absence(
        &mut self,
        request: Request<'_>,
        absence: &Absence,
        receipt: &str,
    ) -> Result<Verdict, Failed> {
        let receipt = self.step(Step::Receipt, |run| run.receipt(receipt))?;
        let record = match &absence.opening {
            Some(opening) => Some(self.step(Step::Record, |run| {
                let digest = record_digest(&opening.salt, &opening.record.0);
                if run.leaf(receipt.place, &digest) != receipt.leaf {
                    return Err(Failure::OtherPromise);
                }
                record(&request, &opening.record.0, None)
            })?),
            None => None,
        };
        let header = match &absence.header {
            Some(header) => Some(self.step(Step::Header, |run| {
                let header = run.header(&header.0)?;
                let detail = format!("batch {} of {} entries", header.sequence, header.entry_count);
                Ok((header, detail))
            })?),
            None => None,
        };
        let shown = self.step(Step::Promise, |run| {
            if request.now_ms < receipt.deadline {
                return Err(Failure::NotDue { deadline: receipt.deadline, now: request.now_ms });
            }
            let shown = match &header {
                Some(header) => run.excluded(&receipt, absence, header)?,
                None => without_header(absence)?,
            };
            Ok((shown, format!("due at {}, excluded: {shown:?}", receipt.deadline)))
        })?;
        let chain = self.chain(header.as_ref())?;
        if shown == Shown::Stalled {
            // Whether the log ends before the place, only the registry says.
            self.step(Step::Promise, |_| {
                let block_ms = chain.block_time.saturating_mul(1000);
                if block_ms < receipt.deadline {
                    return Err(Failure::NotDue { deadline: receipt.deadline, now: block_ms });
                }
                if chain.last_position >= receipt.place.position {
                    return Err(Failure::NotExcluded("the log goes past the promised place"));
                }
                Ok(((), format!("the log ended at position {} in that block", chain.last_position)))
            })?;
        }
        Ok(Verdict::PromisedNotInLog(Box::new(BrokenPromise {
            level: chain.level,
            sequence: header.map_or(chain.newest_sequence, |header| header.sequence),
            position: receipt.place.position,
            index: receipt.place.index,
            leaf: receipt.leaf,
            deadline: receipt.deadline,
            shown,
            block: chain.block,
            block_time: chain.block_time,
            record,
        })))
    }

    /// How the batch of `header` excludes the promised leaf.
    fn excluded(&self, receipt: &Receipt, absence: &Absence, header: &Header) -> Result<Shown, Failure> {
        let place = receipt.place;
        if place.position < header.first_position {
            return self.gap(place, absence, header);
        }
        if place.position > header.last_position {
            return Err(Failure::NotExcluded("the batch ends before the promised place"));
        }
        if absence.previous_header.is_some() {
            return Err(Failure::NotExcluded(
                "the place lies in the batch: there is no batch before to show",
            ));
        }
        let last_leaf = header.entry_count - 1;
        let follow = match (&absence.left, &absence.right) {
            (None, Some(right)) => right.leaf_index == 0,
            (Some(left), None) => left.leaf_index == last_leaf,
            (Some(left), Some(right)) => left.leaf_index.checked_add(1) == Some(right.leaf_index),
            (None, None) => false,
        };
        let other = match &absence.right {
            Some(right) => self.stands(header, right)?.cmp(&place) == Ordering::Equal,
            None => false,
        };
        if other {
            let right = absence.right.as_ref().expect("it stands in the place");
            let is_promised = self.leaf(place, &right.record_digest) == receipt.leaf;
            return match (&absence.left, is_promised) {
                (None, false) => Ok(Shown::OtherEntry),
                (None, true) => Err(Failure::NotExcluded("the promised entry stands in its place")),
                (Some(_), _) => {
                    Err(Failure::NotExcluded("a leaf stands in the place: it has no left neighbour to show"))
                }
            };
        }
        if !follow {
            return Err(Failure::NotExcluded("the leaves shown are not neighbours"));
        }
        if let Some(left) = &absence.left
            && self.stands(header, left)? >= place
        {
            return Err(Failure::NotExcluded("the left leaf does not stand before the promised place"));
        }
        if let Some(right) = &absence.right
            && self.stands(header, right)? <= place
        {
            return Err(Failure::NotExcluded("the right leaf does not stand after the promised place"));
        }
        Ok(Shown::Neighbours)
    }

    /// Where a leaf that is in the batch stands.
    fn stands(&self, header: &Header, neighbour: &Neighbour) -> Result<Place, Failure> {
        let place = Place { position: neighbour.position, index: neighbour.index };
        let leaf = self.leaf(place, &neighbour.record_digest);
        in_batch(header, place, leaf, neighbour.leaf_index, &neighbour.path)?;
        Ok(place)
    }

    /// Whether the place lies before the first batch, or between the batch and the one before it.
    fn gap(&self, place: Place, absence: &Absence, header: &Header) -> Result<Shown, Failure> {
        if absence.left.is_some() || absence.right.is_some() {
            return Err(Failure::NotExcluded(
                "the place lies before the batch: there are no neighbours in it",
            ));
        }
        match &absence.previous_header {
            None if header.sequence == 1 => Ok(Shown::Gap),
            None => {
                Err(Failure::NotExcluded("the place lies before the batch, and the one before is not shown"))
            }
            Some(previous) => {
                let previous = self.header(&previous.0)?;
                let is_before = previous.hash == header.previous_header_hash
                    && previous.sequence.checked_add(1) == Some(header.sequence)
                    && previous.last_position < place.position;
                if is_before {
                    Ok(Shown::Gap)
                } else {
                    Err(Failure::NotExcluded("the batch before does not end before the place"))
                }
            }
        }
    }
}

fn without_header(absence: &Absence) -> Result<Shown, Failure> {
    if absence.previous_header.is_some() || absence.left.is_some() || absence.right.is_some() {
        return Err(Failure::NotExcluded("neighbours are shown without the header of their batch"));
    }
    Ok(Shown::Stalled)
}
