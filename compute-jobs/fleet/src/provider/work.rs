//! One request for work, from what is asked to the receipt for it.
//!
//! Invariants: nothing runs before its worst case was reserved in the lock's book; what is sent is in the transcript
//! first, and the transcript's events are what the runtime said; a request that is stopped ends with its usage, so that
//! what was told is paid and the place goes on. Does not know: which lock is a good one, or who is asking.

use std::collections::BTreeMap;
use std::sync::Arc;

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::inference::{
    Classify, Inference, InferenceError, LikelyToken, Piece, Prompt, TokenLikelihood,
};
use ashlar_compute_api::jobs::Kind;
use ashlar_compute_api::terms::{Refusal, Shard};
use ashlar_compute_api::transcript::{Event, FinishReason};
use ashlar_compute_api::vouchers::Level;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use hyper::body::Incoming as Body;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Inner;
use super::locks::{Account, LocksError, Worker};
use crate::digest::root;
use crate::frame::{FrameError, Incoming, Outbox};
use crate::limits::{ALIVE_INTERVAL, FIRST_FRAME_MAX, VOUCHER_WAIT_MAX, short};
use crate::wire::{Ask, Begin, Down, Likelihood, Likely, Refused, Up};

/// Units that a row may cost besides its texts: what a model's form of a question puts around them.
pub(crate) const ROW_UNITS_BESIDE: u64 = 64;

/// Heads of one answer that may be paid for; the book keeps more, [`ashlar_compute_api::terms::HEADS_MAX`].
const MARKS_MAX: u64 = 128;

type Pieces = BoxStream<'static, Result<Piece, InferenceError>>;

/// Why a request ended before it was answered.
enum Ended {
    /// The gateway is told why.
    Refused(Refused),
    /// There is nobody to tell.
    Gone,
}

impl From<FrameError> for Ended {
    fn from(_: FrameError) -> Self {
        Self::Gone
    }
}

impl From<LocksError> for Ended {
    fn from(error: LocksError) -> Self {
        let reason = short(&error);
        Self::Refused(match error {
            LocksError::Worked
            | LocksError::OtherHead
            | LocksError::Refused(Refusal::FenceNotAbove { .. }) => Refused::Place { reason },
            LocksError::Transcript(_) => Refused::Failed { reason },
            _ => Refused::Money { reason },
        })
    }
}

impl From<InferenceError> for Ended {
    fn from(error: InferenceError) -> Self {
        Self::Refused(match error {
            InferenceError::Invalid { reason } => Refused::Invalid { reason: short(reason) },
            InferenceError::TooLong { units, maximum } => Refused::TooLong { units, maximum },
            InferenceError::Busy { retry_after_seconds } => Refused::Busy { retry_after_seconds },
            InferenceError::Failed { reason } => Refused::Failed { reason: short(reason) },
        })
    }
}

/// Serves one request; ends when it was paid, or will not be.
pub(super) async fn serve(inner: Arc<Inner>, body: Body, out: Outbox) {
    let mut asked = Incoming::new(body, crate::limits::UP_FRAME_BYTES_MAX);
    if let Err(Ended::Refused(refused)) = answer(&inner, &mut asked, &out).await {
        // Whoever asked may have left.
        let _ = out.send(&Down::Refused(refused)).await;
    }
}

async fn answer(inner: &Arc<Inner>, asked: &mut Incoming<Body>, out: &Outbox) -> Result<(), Ended> {
    let first = timeout(FIRST_FRAME_MAX, asked.next()).await.map_err(|_| Ended::Gone)??;
    let Some(Up::Begin(begin)) = first else { return Err(Ended::Gone) };
    let _permit = inner.permit().map_err(Ended::Refused)?;
    let invalid = |reason: &str| Ended::Refused(Refused::Invalid { reason: reason.to_owned() });
    let ask = Ask::decode(&begin.ask).map_err(|_| invalid("the request is not one of this version"))?;
    let account = inner.locks.get(begin.lock)?;
    let terms = account.lock().terms;
    let runtime = inner.runtime_for(&terms);
    let (runtime, kind) = runtime.ok_or_else(|| invalid("the lock's model is not run here any more"))?;
    if !is_of(&ask, kind) {
        return Err(invalid("the offer is for another kind of work"));
    }
    let level = level(begin.level).ok_or_else(|| invalid("no level has this number"))?;
    let asked_units = count(&*runtime, &ask).await?;
    let most = asked_units.saturating_add(ask.answered_units_max());
    let maximum = runtime.model().context_units_max;
    if ask.choices() > 0
        && asked_units.saturating_add(ask.answered_units_max() / u64::from(ask.choices())) > maximum
    {
        return Err(InferenceError::TooLong { units: most, maximum }.into());
    }
    let shard = Shard { job: begin.job, number: begin.shard };
    let mut worker = inner.locks.begin(&account, shard, begin.fence, begin.head).await?;
    inner.locks.reserve(&account, shard, most, inner.now()).await?;
    let request = Request { inner, account: &account, class: runtime.model().determinism_class, level, out };
    let worked = request.work(&begin, &ask, &*runtime, asked_units, &mut worker, asked).await;
    // The runtime's stream has ended, so nothing is under way.
    worker.release().await?;
    worked?;
    let finished = request.wait_for_pay(asked).await;
    worker.finish();
    finished
}

fn is_of(ask: &Ask, kind: u16) -> bool {
    kind == match ask {
        Ask::Generate(_) => Kind::Inference.number(),
        Ask::Embed { .. } => Kind::Embedding.number(),
        Ask::Classify { .. } => Kind::Labeling.number(),
    }
}

fn level(number: u8) -> Option<Level> {
    [Level::Bound, Level::Sampled, Level::Redundant].into_iter().find(|level| level.number() == number)
}

/// Units of what is asked: exact for answers of a language model, the most that it may come to for rows.
pub(super) async fn count(runtime: &dyn Inference, ask: &Ask) -> Result<u64, InferenceError> {
    if let Ask::Generate(asked) = ask {
        let prompt =
            asked.prompt().map_err(|_| InferenceError::Invalid { reason: "no such role".to_owned() })?;
        return runtime.units(&prompt).await;
    }
    let mut units = ask.rows().saturating_mul(ROW_UNITS_BESIDE);
    for (text, times) in ask.texts() {
        let of_text = runtime.units(&Prompt::Text(text.to_owned())).await?;
        units = units.saturating_add(of_text.saturating_mul(times));
    }
    Ok(units)
}

struct Request<'a> {
    inner: &'a Arc<Inner>,
    account: &'a Arc<Account>,
    class: ContentRoot,
    level: Level,
    out: &'a Outbox,
}

impl Request<'_> {
    async fn work(
        &self,
        begin: &Begin,
        ask: &Ask,
        runtime: &dyn Inference,
        asked_units: u64,
        worker: &mut Worker,
        asked: &mut Incoming<Body>,
    ) -> Result<(), Ended> {
        match ask {
            Ask::Generate(generate) => {
                let request = generate.request(&begin.ask).map_err(|_| Ended::Gone)?;
                let pieces = runtime.generate(request).await?;
                self.out.send(&Down::Begun { asked: asked_units }).await?;
                let most = asked_units.saturating_add(ask.answered_units_max());
                self.tell(pieces, (asked_units, most), worker, asked).await
            }
            Ask::Embed { texts } => {
                self.out.send(&Down::Begun { asked: asked_units }).await?;
                let work = runtime.embed(texts.to_vec());
                let done = self.meanwhile(work, asked).await?;
                self.tell_rows(&begin.ask, done.vectors, done.units.min(asked_units), worker).await
            }
            Ask::Classify { texts, labels, instructions } => {
                self.out.send(&Down::Begun { asked: asked_units }).await?;
                let (texts, labels) = (texts.to_vec(), labels.to_vec());
                let work = runtime.classify(Classify { texts, labels, instructions: instructions.clone() });
                let done = self.meanwhile(work, asked).await?;
                self.tell_rows(&begin.ask, done.log_probabilities, done.units.min(asked_units), worker).await
            }
        }
    }

    /// Waits for rows, saying that work goes on; stopped, there is nothing to pay.
    async fn meanwhile<T>(
        &self,
        work: impl Future<Output = Result<T, InferenceError>>,
        asked: &mut Incoming<Body>,
    ) -> Result<T, Ended> {
        tokio::pin!(work);
        let mut alive = interval(ALIVE_INTERVAL);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done?),
                _ = alive.tick() => self.out.send(&Down::Alive).await?,
                // A stop, an end or nonsense: nobody wants the rows.
                _ = asked.next::<Up>() => return Err(Ended::Gone),
            }
        }
    }

    async fn tell_rows(
        &self,
        ask: &[u8],
        rows: Vec<Vec<f32>>,
        units: u64,
        worker: &mut Worker,
    ) -> Result<(), Ended> {
        let request = Event::Request { request_hash: root(ask) };
        worker.say(&request)?;
        self.out.send(&piece(&[request], String::new(), Vec::new(), false)).await?;
        for (row, values) in (0u64..).zip(rows) {
            worker.say(&output(row, &values))?;
            self.out.send(&Down::Row { row, values }).await?;
        }
        let usage = Event::Usage { asked: units, answered: 0 };
        worker.say(&usage)?;
        worker.count(units);
        worker.mark().await?;
        Ok(self.out.send(&piece(&[usage], String::new(), Vec::new(), true)).await?)
    }

    /// Sends pieces as they come, paid as they are paid.
    async fn tell(
        &self,
        mut pieces: Pieces,
        (asked_units, most): (u64, u64),
        worker: &mut Worker,
        asked: &mut Incoming<Body>,
    ) -> Result<(), Ended> {
        let mut told = Told { asked_units, ..Told::default() };
        // However long it is, all marks of an answer stay within what the book keeps.
        let step = most.div_ceil(MARKS_MAX).max(1);
        let mut alive = interval(ALIVE_INTERVAL);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                up = asked.next() => match up? {
                    Some(Up::Pay { voucher, signature }) => self.countersign(&voucher, &signature).await?,
                    Some(Up::Stop) => {
                        drop(pieces);
                        return self.stop(told, worker).await;
                    }
                    Some(Up::Begin(_)) | None => return Err(Ended::Gone),
                },
                piece = pieces.next() => {
                    let failed = || InferenceError::Failed { reason: "the answer has no end".to_owned() };
                    let said = piece.ok_or_else(failed)??;
                    let mut units = 0;
                    for event in &said.events {
                        units += told.hear(event);
                        worker.say(event)?;
                    }
                    let payable = told.is_done || worker.unmarked() + units >= step;
                    worker.count(units);
                    if payable {
                        worker.mark().await?;
                    }
                    let likelihoods = said.likelihoods.into_iter().map(likelihood).collect();
                    self.out.send(&self::piece(&said.events, said.text, likelihoods, payable)).await?;
                    if told.is_done {
                        return Ok(());
                    }
                }
                _ = alive.tick() => self.out.send(&Down::Alive).await?,
            }
        }
    }

    /// Ends an answer that is not wanted any more so that it is whole: what was told is paid.
    async fn stop(&self, mut told: Told, worker: &mut Worker) -> Result<(), Ended> {
        let mut events = Vec::new();
        if !told.is_begun {
            return Err(Ended::Gone);
        }
        for (&choice, is_open) in &told.choices {
            if *is_open {
                events.push(Event::Finish { choice, reason: FinishReason::Cancelled });
            }
        }
        events.push(Event::Usage { asked: told.asked_units, answered: told.tokens });
        let mut units = 0;
        for event in &events {
            units += told.hear(event);
            worker.say(event)?;
        }
        worker.count(units);
        worker.mark().await?;
        Ok(self.out.send(&piece(&events, String::new(), Vec::new(), true)).await?)
    }

    /// After the answer: vouchers until the gateway has no more, or none come.
    async fn wait_for_pay(&self, asked: &mut Incoming<Body>) -> Result<(), Ended> {
        loop {
            match timeout(VOUCHER_WAIT_MAX, asked.next()).await {
                Ok(Ok(Some(Up::Pay { voucher, signature }))) => {
                    self.countersign(&voucher, &signature).await?
                }
                Ok(Ok(Some(Up::Stop))) => {}
                Ok(Ok(Some(Up::Begin(_))) | Err(_)) => return Err(Ended::Gone),
                Ok(Ok(None)) | Err(_) => return Ok(()),
            }
        }
    }

    async fn countersign(
        &self,
        voucher: &ashlar_compute_api::vouchers::Voucher,
        signature: &ashlar_compute_api::vouchers::Signature,
    ) -> Result<(), Ended> {
        let locks = &self.inner.locks;
        let (class, level, now) = (self.class, self.level, self.inner.now());
        let answer = match locks.countersign(self.account, voucher, signature, class, level, now).await {
            Ok(settlement) => Down::Receipt { receipt: settlement.receipt, signature: settlement.provider },
            Err(error) => Down::Unpaid { reason: short(error) },
        };
        Ok(self.out.send(&answer).await?)
    }
}

/// What was said of an answer, as its units are counted.
#[derive(Default)]
struct Told {
    asked_units: u64,
    is_begun: bool,
    is_done: bool,
    tokens: u64,
    /// Of those that began, whether they go on.
    choices: BTreeMap<u32, bool>,
}

impl Told {
    /// Units that an event adds: what was asked with the request, one a token; of text what the usage says.
    fn hear(&mut self, event: &Event) -> u64 {
        match *event {
            Event::Request { .. } => {
                self.is_begun = true;
                self.asked_units
            }
            Event::Token { choice, .. } => {
                self.choices.entry(choice).or_insert(true);
                self.tokens += 1;
                1
            }
            Event::Text { choice, .. } => {
                self.choices.entry(choice).or_insert(true);
                0
            }
            Event::Finish { choice, .. } => {
                self.choices.insert(choice, false);
                0
            }
            Event::Output { .. } => 0,
            Event::Usage { answered, .. } => {
                self.is_done = true;
                answered.saturating_sub(self.tokens)
            }
        }
    }
}

/// The event of a row of numbers: its hash is of their bytes, each four, big-endian.
pub(crate) fn output(row: u64, values: &[f32]) -> Event {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
    Event::Output { row, output_hash: root(&bytes) }
}

fn piece(events: &[Event], text: String, likelihoods: Vec<Likelihood>, payable: bool) -> Down {
    let events = events.iter().flat_map(Event::to_bytes).collect();
    // More than fit are not told: the reader sees fewer, and nothing that is paid or hashed changes.
    Down::Piece { events, text, likelihoods: likelihoods.try_into().unwrap_or_default(), payable }
}

fn likelihood(of: TokenLikelihood) -> Likelihood {
    let likely = |token: LikelyToken| Likely {
        id: token.id,
        bytes: token.bytes,
        log_probability: token.log_probability,
    };
    let likeliest: Vec<Likely> =
        of.likeliest.into_iter().take(crate::limits::LIKELIEST_MAX).map(likely).collect();
    Likelihood { token: likely(of.token), likeliest: likeliest.try_into().unwrap_or_default() }
}
