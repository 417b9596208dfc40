//! Work that would keep a thread from others: it leaves the threads that answer requests.

use bytes::Bytes;

use crate::refusal::Refusal;

/// From so many bytes, or numbers, on it is work of half a millisecond or more.
pub(crate) const LARGE: usize = 64 << 10;

/// Does `work`, on another thread where it is much.
pub(crate) async fn aside<T: Send + 'static>(
    is_much: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    if !is_much {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Refusal::internal("work on another thread", &error))
}

/// Reads a body by `parse`, and names it by its BLAKE3.
pub(crate) async fn read<T: Send + 'static>(
    bytes: Bytes,
    parse: impl FnOnce(&[u8]) -> Result<T, Refusal> + Send + 'static,
) -> Result<(T, ashlar_compute_api::ContentRoot), Refusal> {
    aside(bytes.len() > LARGE, move || Ok((parse(&bytes)?, crate::generation::hash(&bytes)))).await?
}
