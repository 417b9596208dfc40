//! A bucket as the log has it: its row and its documents, as they are stored.
//!
//! Invariant: what the log commits to is what stands in metadata, but for one thing: a deletion that is being
//! tried is no change of a bucket, so its row always says that it is live.

use std::collections::BTreeMap;

use ashlar_metadata::Snapshot;
use ashlar_metadata::namespace::NamespaceRow;
use ashlar_metadata::namespace::buckets::{self, BucketRow, BucketState, Document};
use bytes::Bytes;

use super::Bucket;
use crate::error::Error;
use crate::log;
use crate::transaction::Transaction;
use crate::types::{BucketName, UnixMillis};

/// Everything that is stored of a bucket but what lies in it.
pub(crate) struct BucketRows {
    name: BucketName,
    row: BucketRow,
    documents: BTreeMap<Document, Bytes>,
}

impl BucketRows {
    /// A bucket without documents.
    pub(super) fn new(name: BucketName, row: BucketRow) -> Self {
        Self { name, row, documents: BTreeMap::new() }
    }

    /// The bucket as the snapshot has it.
    pub(crate) async fn read(snapshot: &dyn Snapshot, bucket: &Bucket) -> Result<Self, Error> {
        let keys = Document::ALL.map(|document| buckets::document_key(bucket.id(), document));
        let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let found =
            snapshot.get_many(&keys).await.map_err(|e| Error::internal("reading a bucket's documents", e))?;
        let documents = Document::ALL.into_iter().zip(found);
        let documents = documents.filter_map(|(document, row)| Some((document, row?.value))).collect();
        Ok(Self { name: bucket.name.clone(), row: bucket.row.clone(), documents })
    }

    /// Another text for a document, or none; also in the transaction.
    pub(super) fn set(&mut self, transaction: &mut Transaction, document: Document, text: Option<Bytes>) {
        let key = buckets::document_key(self.row.id, document);
        match text {
            Some(text) => {
                transaction.put_bytes(key, text.clone());
                self.documents.insert(document, text);
            }
            None => {
                transaction.delete(key);
                self.documents.remove(&document);
            }
        }
    }

    /// Writes the bucket's row as it now is, and announces the whole.
    pub(super) fn finish(mut self, transaction: &mut Transaction, row: BucketRow, now: UnixMillis) {
        transaction.put(buckets::key(&self.name), &row);
        self.row = row;
        transaction.announce(&log::of_bucket(&self.name, log::rows_digest(&self.rows()), now));
    }

    /// All rows with their keys, in byte order of keys.
    pub(crate) fn rows(&self) -> Vec<(Bytes, Bytes)> {
        let row = BucketRow { state: BucketState::Live, ..self.row.clone() };
        let mut rows = vec![(buckets::key(&self.name), row.encode())];
        let documents = self.documents.iter();
        rows.extend(
            documents.map(|(document, text)| (buckets::document_key(self.row.id, *document), text.clone())),
        );
        rows
    }
}
