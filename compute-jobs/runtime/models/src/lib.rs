//! Models as objects: what names one, which bytes belong to it, and what a model that was trained here says of itself
//! (docs/formats/model.md).
//!
//! Invariant: bytes that are handed out are those that the content root names; a file, a manifest or a header that
//! claims more than is there is refused before anything is reserved for it. Deliberately knows no tensor arithmetic, no
//! runtime and no store: folders are read where they lie, and who fetches them is the caller's.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failing test may panic"))]

mod folder;
mod manifest;
mod tensors;
mod trained;

pub use folder::{FolderError, ModelFile, ModelFolder};
pub use manifest::{
    Entry, FILES_MAX, MANIFEST_BYTES_MAX, Manifest, ManifestError, NAME_BYTES_MAX, content_root,
};
pub use tensors::{HEADER_BYTES_MAX, TENSORS_MAX, TensorError, TensorFile};
pub use trained::{
    LABELS_MAX, METRIC_ROWS_MAX, MetricRow, Setting, TRAINED_BYTES_MAX, Tensor, Trained, TrainedError,
    TrainedKind,
};
