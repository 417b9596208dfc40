//! Threads that embed, what waits for them, and how much of it may.
//!
//! Invariant: texts and bytes that wait never exceed the limits; what a request reserved is given back when its last
//! piece is done or left; a panic in a piece fails its request and no other.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use ashlar_compute_api::inference::InferenceError;
use futures::channel::oneshot;
use parking_lot::{Condvar, Mutex};

use crate::encoder::{Embedded, Encoder};
use crate::forward::Workspace;
use crate::tokens::{TEXT_BYTES_MAX, TokenError, Tokens};

/// When a full queue may be tried again.
const RETRY_AFTER_SECONDS: u32 = 1;
/// Texts of a piece: some tens of milliseconds, after which a request that nobody waits for is left.
const PIECE_TEXTS: usize = 16;
/// Bytes of a piece's texts, but for a longer text alone.
const PIECE_BYTES: usize = 16 << 10;

/// How much a runtime takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeLimits {
    /// Threads that compute.
    pub threads: usize,
    /// Texts of one request.
    pub request_texts_max: usize,
    /// Texts that wait or are worked on, of all requests.
    pub texts_max: usize,
    /// Bytes of these texts.
    pub bytes_max: usize,
}

impl Default for RuntimeLimits {
    fn default() -> Self {
        Self { threads: 1, request_texts_max: 2_048, texts_max: 8_192, bytes_max: 32 << 20 }
    }
}

/// What is done with texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Embed,
    Count,
}

type Answer = Result<Embedded, InferenceError>;

/// A request that is worked on.
struct Request {
    texts: Vec<String>,
    work: Work,
    state: Mutex<State>,
}

/// Room in the queue, given back when dropped: before the answer is told, or with the last piece that is left.
struct Reservation {
    texts: usize,
    bytes: usize,
    shared: Arc<Shared>,
}

struct State {
    /// Taken when the answer is known.
    caller: Option<oneshot::Sender<Answer>>,
    vectors: Vec<Vec<f32>>,
    units: u64,
    pieces_left: usize,
    reservation: Option<Reservation>,
}

/// Texts of one request that are computed together, by their places.
struct Task {
    request: Arc<Request>,
    places: Vec<usize>,
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Task>,
    texts: usize,
    bytes: usize,
    is_closed: bool,
}

struct Shared {
    encoder: Arc<Encoder>,
    queue: Mutex<Queue>,
    something_waits: Condvar,
}

/// The threads, and what they share.
pub(super) struct Pool {
    shared: Arc<Shared>,
    limits: RuntimeLimits,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.texts -= self.texts;
        queue.bytes -= self.bytes;
    }
}

impl Request {
    fn is_left(&self) -> bool {
        self.state.lock().caller.as_ref().is_none_or(oneshot::Sender::is_canceled)
    }

    fn fail(&self, error: InferenceError) {
        if let Some(caller) = self.state.lock().caller.take() {
            // A caller that has gone needs no answer.
            let _ = caller.send(Err(error));
        }
    }

    fn done(&self, places: &[usize], embedded: Embedded) {
        let mut state = self.state.lock();
        for (place, vector) in places.iter().zip(embedded.vectors) {
            state.vectors[*place] = vector;
        }
        state.units += embedded.units;
        state.pieces_left -= 1;
        if state.pieces_left == 0 {
            let vectors = std::mem::take(&mut state.vectors);
            let answer = Embedded { vectors, units: state.units };
            // Who hears the answer may ask again at once.
            drop(state.reservation.take());
            if let Some(caller) = state.caller.take() {
                // A caller that has gone needs no answer.
                let _ = caller.send(Ok(answer));
            }
        }
    }
}

impl Pool {
    pub(super) fn start(encoder: Arc<Encoder>, limits: RuntimeLimits) -> std::io::Result<Self> {
        let (queue, something_waits) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { encoder, queue, something_waits });
        let mut pool = Self { shared, limits, threads: Vec::new() };
        for number in 0..limits.threads.max(1) {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("embed-{number}"));
            pool.threads.push(builder.spawn(move || shared.work())?);
        }
        Ok(pool)
    }

    /// Puts texts into the queue, or says at once why not, and waits for what becomes of them.
    pub(super) async fn run(&self, texts: Vec<String>, work: Work) -> Answer {
        let answer = self.submit(texts, work)?;
        let gone = InferenceError::Failed { reason: "the runtime ended before the request did".into() };
        answer.await.unwrap_or(Err(gone))
    }

    fn submit(&self, texts: Vec<String>, work: Work) -> Result<oneshot::Receiver<Answer>, InferenceError> {
        let invalid = |reason: String| InferenceError::Invalid { reason };
        if texts.is_empty() {
            return Err(invalid("no texts".into()));
        }
        if texts.len() > self.limits.request_texts_max {
            let (count, maximum) = (texts.len(), self.limits.request_texts_max);
            return Err(invalid(format!("{count} texts, and a request has at most {maximum}")));
        }
        if let Some(at) = texts.iter().position(|text| text.len() > TEXT_BYTES_MAX) {
            let error = TokenError::TooLong { bytes: texts[at].len() };
            return Err(invalid(format!("text {at}: {error}")));
        }
        let bytes = texts.iter().map(String::len).sum::<usize>();
        if bytes > self.limits.bytes_max {
            let maximum = self.limits.bytes_max;
            return Err(invalid(format!("{bytes} bytes of text, and a request has at most {maximum}")));
        }
        let pieces = pieces(&texts);
        let (caller, answer) = oneshot::channel();
        let vectors = if work == Work::Embed { vec![Vec::new(); texts.len()] } else { Vec::new() };
        let pieces_left = pieces.len();
        let mut state = State { caller: Some(caller), vectors, units: 0, pieces_left, reservation: None };
        let mut queue = self.shared.queue.lock();
        let fits = queue.texts + texts.len() <= self.limits.texts_max
            && queue.bytes + bytes <= self.limits.bytes_max;
        if !fits || queue.is_closed {
            return Err(InferenceError::Busy { retry_after_seconds: RETRY_AFTER_SECONDS });
        }
        queue.texts += texts.len();
        queue.bytes += bytes;
        let shared = Arc::clone(&self.shared);
        state.reservation = Some(Reservation { texts: texts.len(), bytes, shared });
        let request = Arc::new(Request { texts, work, state: Mutex::new(state) });
        let tasks = pieces.into_iter().map(|places| Task { request: Arc::clone(&request), places });
        queue.tasks.extend(tasks);
        drop(queue);
        self.shared.something_waits.notify_all();
        Ok(answer)
    }
}

/// Places of texts in pieces of like lengths, the longest first, so that threads end together.
fn pieces(texts: &[String]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(texts[*at].len()));
    let (mut pieces, mut bytes) = (Vec::<Vec<usize>>::new(), 0);
    for at in order {
        bytes += texts[at].len();
        match pieces.last_mut() {
            Some(piece) if piece.len() < PIECE_TEXTS && bytes <= PIECE_BYTES => piece.push(at),
            _ => {
                pieces.push(vec![at]);
                bytes = texts[at].len();
            }
        }
    }
    pieces
}

impl Shared {
    /// A thread's life.
    fn work(&self) {
        let mut workspace = Workspace::default();
        while let Some(Task { request, places }) = self.next() {
            if request.is_left() {
                continue;
            }
            let answer = catch_unwind(AssertUnwindSafe(|| self.compute(&request, &places, &mut workspace)));
            match answer {
                Ok(Ok(embedded)) => request.done(&places, embedded),
                Ok(Err(error)) => request.fail(InferenceError::Invalid { reason: error.to_string() }),
                Err(_) => {
                    // What it was left with is not to be trusted.
                    workspace = Workspace::default();
                    request.fail(InferenceError::Failed { reason: "a thread panicked".into() });
                }
            }
        }
    }

    fn next(&self) -> Option<Task> {
        let mut queue = self.queue.lock();
        loop {
            if queue.is_closed {
                return None;
            }
            match queue.tasks.pop_front() {
                Some(task) => return Some(task),
                None => self.something_waits.wait(&mut queue),
            }
        }
    }

    fn compute(
        &self,
        request: &Request,
        places: &[usize],
        workspace: &mut Workspace,
    ) -> Result<Embedded, TokenError> {
        let texts = places.iter().map(|place| self.encoder.tokens(&request.texts[*place]));
        let tokens: Vec<Tokens> = texts.collect::<Result<_, _>>()?;
        match request.work {
            Work::Embed => Ok(self.encoder.embed(&tokens, workspace)),
            Work::Count => {
                let units = tokens.iter().map(|text| u64::try_from(text.count()).unwrap_or(u64::MAX)).sum();
                Ok(Embedded { vectors: Vec::new(), units })
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let tasks = {
            let mut queue = self.shared.queue.lock();
            queue.is_closed = true;
            std::mem::take(&mut queue.tasks)
        };
        // Their requests give back what they reserved, which takes the lock.
        drop(tasks);
        self.shared.something_waits.notify_all();
        for thread in self.threads.drain(..) {
            // Panics of pieces were caught; there is nothing left to say of a thread.
            let _ = thread.join();
        }
    }
}
