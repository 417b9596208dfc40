//! A language model as a runtime: the trait `Inference` over engines.
//!
//! Invariant: requests are checked and measured before anything is reserved for them, and refused at once where there is
//! no room. Work on the caller's thread is bounded by the context: text that cannot fit is not even cut.

use std::collections::BTreeSet;
use std::sync::Arc;

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::inference::{
    Classifications, Classify, Embeddings, Generate, Inference, InferenceError, Model, Piece, Prompt,
};
use ashlar_compute_api::transcript::{CHOICES_MAX, Event, FinishReason};
use ashlar_kernels::{ARITHMETIC, Kernels, PAGE_POSITIONS};
use async_trait::async_trait;
use futures::channel::{mpsc, oneshot};
use futures::stream::{self, BoxStream, StreamExt};

use crate::conversation::{Template, TemplateError};
use crate::engine::{Capacity, Classification, Engine, Generation, Need, Refusal, Task};
use crate::gguf::{Encoding, Gguf, GgufError};
use crate::labels;
use crate::llama::{Llama, LlamaError, Precision};
use crate::sampling::{self, LIKELIEST_MAX, Sampler};
use crate::vocabulary::{Vocabulary, VocabularyError};

/// When to ask again where there was no room.
const RETRY_AFTER_SECONDS: u32 = 2;
/// Stop sequences of a request at most.
const STOPS_MAX: usize = 16;
/// Bytes of a stop sequence at most.
const STOP_BYTES_MAX: usize = 1024;
/// Texts that are classified side by side at most, on each thread.
const TEXTS_TOGETHER_MAX: usize = 32;
/// Threads at most.
const THREADS_MAX: usize = 256;

/// What a model may use.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads that run the model, each with requests of its own; 1 to 256.
    pub threads: usize,
    /// With which numbers it computes.
    pub precision: Precision,
    /// Memory of the weights.
    pub weights_bytes_max: usize,
    /// Memory of what requests that run remember, all threads together.
    pub positions_bytes_max: usize,
    /// Memory of beginnings that are kept for later requests, all threads together.
    pub prefixes_bytes_max: usize,
    /// Answers that are generated side by side on each thread.
    pub sequences_max: usize,
    /// The most units of request and answer together, where the model could take more.
    pub context_units_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 1,
            precision: Precision::Quantised,
            weights_bytes_max: 2 << 30,
            positions_bytes_max: 1 << 30,
            prefixes_bytes_max: 256 << 20,
            sequences_max: 64,
            context_units_max: 8192,
        }
    }
}

/// Why a file is no model that runs here.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Its weights.
    #[error(transparent)]
    Llama(#[from] LlamaError),
    /// Its tokens.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// Its form of conversations.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// What it may use is too little to run it.
    #[error("{reason}")]
    Options {
        /// What is too little.
        reason: &'static str,
    },
    /// A thread did not start.
    #[error("a thread did not start: {0}")]
    Thread(#[from] std::io::Error),
    /// Text could not be cut.
    #[error("text could not be cut: {reason}")]
    Text {
        /// What the tokenizer says.
        reason: String,
    },
}

/// A model that answers.
pub struct LanguageModel {
    model: Model,
    class: String,
    vocabulary: Arc<Vocabulary>,
    template: Option<Template>,
    engines: Vec<Engine>,
    engine_pages_max: usize,
}

impl LanguageModel {
    /// Reads a model from a whole GGUF file and starts its threads. The file may be forgotten afterwards.
    pub fn load(bytes: &[u8], options: &Options) -> Result<Self, LoadError> {
        let file = Gguf::read(bytes)?;
        let vocabulary = Vocabulary::read(&file)?;
        let template = match Template::read(&file) {
            Err(TemplateError::Missing) => None,
            template => Some(template?),
        };
        if !(1..=THREADS_MAX).contains(&options.threads) || options.sequences_max == 0 {
            return Err(LoadError::Options { reason: "it takes 1 to 256 threads, and an answer on each" });
        }
        let kernels = Kernels::detect();
        let llama = Llama::load(&file, options.precision, options.weights_bytes_max, kernels)?;
        let pages = |bytes: usize| bytes / llama.shape.page_bytes() / options.threads;
        let engine_pages_max = pages(options.positions_bytes_max);
        if engine_pages_max == 0 {
            return Err(LoadError::Options { reason: "there is no memory for positions" });
        }
        let context =
            llama.shape.context.min(options.context_units_max).min(engine_pages_max * PAGE_POSITIONS);
        let class = class(options.precision, &llama.encodings);
        let model = Model {
            root: ContentRoot(*blake3::hash(bytes).as_bytes()),
            is_claimed: false,
            determinism_class: ContentRoot(*blake3::hash(class.as_bytes()).as_bytes()),
            context_units_max: u64::try_from(context).unwrap_or(u64::MAX),
        };
        let capacity = Capacity {
            sequences_max: options.sequences_max,
            pages_max: engine_pages_max,
            prefix_pages_max: pages(options.prefixes_bytes_max),
        };
        let (llama, vocabulary) = (Arc::new(llama), Arc::new(vocabulary));
        let engine = |number| Engine::start(Arc::clone(&llama), Arc::clone(&vocabulary), capacity, number);
        let engines = (0..options.threads).map(engine).collect::<Result<Vec<_>, _>>()?;
        tracing::info!(root = %model.root, class, kernels = kernels.name(), "a language model is loaded");
        Ok(Self { model, class, vocabulary, template, engines, engine_pages_max })
    }

    /// Name of the class within which answers are the same bytes; its BLAKE3 is the model's `determinism_class`.
    pub fn determinism_class(&self) -> &str {
        &self.class
    }

    fn check_fits(&self, units: usize) -> Result<(), InferenceError> {
        let (units, maximum) = (u64::try_from(units).unwrap_or(u64::MAX), self.model.context_units_max);
        if units > maximum { Err(InferenceError::TooLong { units, maximum }) } else { Ok(()) }
    }

    /// Tokens of a prompt, which are no more than the context has.
    fn tokens(&self, prompt: &Prompt) -> Result<Vec<u32>, InferenceError> {
        let bytes = match prompt {
            Prompt::Chat(messages) => {
                messages.iter().fold(0usize, |sum, message| sum.saturating_add(message.text.len()))
            }
            Prompt::Text(text) => text.len(),
        };
        self.check_fits(self.vocabulary.tokens_min(bytes))?;
        let tokens = match prompt {
            Prompt::Chat(messages) => {
                let template = self.template.as_ref().ok_or_else(|| invalid(TemplateError::Missing))?;
                template.tokens(messages, &self.vocabulary).map_err(invalid)?
            }
            Prompt::Text(text) => {
                let mut tokens: Vec<u32> = self.vocabulary.first().into_iter().collect();
                self.vocabulary.cut(text, &mut tokens).map_err(invalid)?;
                tokens
            }
        };
        if tokens.is_empty() {
            return Err(invalid("there is nothing to go on from"));
        }
        self.check_fits(tokens.len())?;
        Ok(tokens)
    }

    /// Engines, those with most room first.
    fn by_room(&self) -> Vec<&Engine> {
        let mut engines: Vec<&Engine> = self.engines.iter().collect();
        engines.sort_by_key(|engine| std::cmp::Reverse(engine.free_pages()));
        engines
    }
}

/// Names all that answers depend on besides the model's bytes and the request. Vector instructions are not among it:
/// all of them compute the same bits.
fn class(precision: Precision, encodings: &BTreeSet<Encoding>) -> String {
    let weights: Vec<&str> = encodings.iter().map(|encoding| encoding.name()).collect();
    let numbers = match precision {
        Precision::Quantised => "activations-q8",
        Precision::Full => "activations-f32",
    };
    let version = env!("CARGO_PKG_VERSION");
    format!("ashlar-runtime/{version} {ARITHMETIC} weights-{} {numbers} positions-f32", weights.join("+"))
}

fn invalid(reason: impl ToString) -> InferenceError {
    InferenceError::Invalid { reason: reason.to_string() }
}

fn refused(refusal: Refusal) -> InferenceError {
    match refusal {
        Refusal::Busy => InferenceError::Busy { retry_after_seconds: RETRY_AFTER_SECONDS },
        Refusal::Ended => InferenceError::Failed { reason: "the model's thread has ended".into() },
    }
}

fn check(request: &Generate) -> Result<(), InferenceError> {
    if !(1..=CHOICES_MAX).contains(&request.choices) {
        return Err(invalid(format_args!(
            "{} choices; 1 to {CHOICES_MAX} can be asked for",
            request.choices
        )));
    }
    sampling::check(&request.sampling).map_err(invalid)?;
    let is_stop = |stop: &String| !stop.is_empty() && stop.len() <= STOP_BYTES_MAX;
    if request.stop.len() > STOPS_MAX || !request.stop.iter().all(is_stop) {
        return Err(invalid(format_args!(
            "at most {STOPS_MAX} stop sequences of 1 to {STOP_BYTES_MAX} bytes"
        )));
    }
    if request.log_probabilities.is_some_and(|count| count > LIKELIEST_MAX) {
        return Err(invalid(format_args!("at most {LIKELIEST_MAX} likeliest tokens are told")));
    }
    Ok(())
}

#[async_trait]
impl Inference for LanguageModel {
    fn model(&self) -> &Model {
        &self.model
    }

    async fn units(&self, prompt: &Prompt) -> Result<u64, InferenceError> {
        self.tokens(prompt).map(|tokens| u64::try_from(tokens.len()).unwrap_or(u64::MAX))
    }

    async fn generate(
        &self,
        request: Generate,
    ) -> Result<BoxStream<'static, Result<Piece, InferenceError>>, InferenceError> {
        check(&request)?;
        let prompt = self.tokens(&request.prompt)?;
        let units_max = usize::try_from(request.units_max).unwrap_or(usize::MAX);
        self.check_fits(prompt.len().saturating_add(units_max))?;
        let choices = usize::try_from(request.choices).unwrap_or(usize::MAX);
        let (full, begun) = (prompt.len() / PAGE_POSITIONS, prompt.len() % PAGE_POSITIONS);
        let each = (begun + units_max).div_ceil(PAGE_POSITIONS);
        // The prompt's last page is copied for each choice, and is there besides until all have theirs.
        let pages = choices.saturating_mul(each).saturating_add(full + 1);
        if pages > self.engine_pages_max.max(full + each) {
            return Err(invalid("so many and so long choices never fit in memory together"));
        }
        let pages = pages.min(self.engine_pages_max);
        let first =
            Piece { events: vec![Event::Request { request_hash: request.request_hash }], ..Piece::default() };
        if units_max == 0 {
            let units = u64::try_from(prompt.len()).unwrap_or(u64::MAX);
            return Ok(nothing_to_say(first, request.choices, units));
        }
        let need = Need { sequences: choices, pages };
        let mut refusal = Refusal::Busy;
        for engine in self.by_room() {
            let reservation = match engine.reserve(need, pages) {
                Ok(reservation) => reservation,
                Err(new) => {
                    refusal = new;
                    continue;
                }
            };
            let samplers =
                (0..request.choices).map(|choice| Sampler::new(request.sampling, choice)).collect();
            let (sender, receiver) = mpsc::unbounded();
            let generation = Generation::new(
                prompt,
                samplers,
                request.units_max,
                request.stop,
                request.log_probabilities,
                sender,
                reservation,
            );
            engine.run(Task::Generation(Box::new(generation))).map_err(refused)?;
            return Ok(stream::once(async { Ok(first) }).chain(until_usage(receiver)).boxed());
        }
        Err(refused(refusal))
    }

    async fn embed(&self, _texts: Vec<String>) -> Result<Embeddings, InferenceError> {
        Err(invalid("this model makes no embeddings"))
    }

    async fn classify(&self, request: Classify) -> Result<Classifications, InferenceError> {
        labels::check(&request).map_err(invalid)?;
        if request.texts.is_empty() {
            return Ok(Classifications { log_probabilities: Vec::new(), units: 0 });
        }
        let labels = labels::tokens(&request.labels, &self.vocabulary).map_err(invalid)?;
        let label_length = labels.0.iter().map(Vec::len).max().unwrap_or(0);
        let mut prompts = Vec::new();
        for text in std::iter::once(labels::CONTENT_FREE).chain(request.texts.iter().map(String::as_str)) {
            let prompt = self.tokens(&Prompt::Chat(labels::messages(&request, text)))?;
            self.check_fits(prompt.len() + label_length)?;
            prompts.push(prompt);
        }
        let units = prompts[1..].iter().map(Vec::len).sum::<usize>();
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let branches = labels.0.iter().filter(|label| label.len() > 1).count();
        let pages_each = longest.div_ceil(PAGE_POSITIONS)
            + branches * (PAGE_POSITIONS + label_length).div_ceil(PAGE_POSITIONS);
        if pages_each > self.engine_pages_max {
            return Err(invalid("so many labels of so long a text never fit in memory together"));
        }
        // Half of the memory is left to others.
        let together = TEXTS_TOGETHER_MAX.min(self.engine_pages_max / 2 / pages_each).max(1);
        let mut scores: Vec<Option<Vec<f64>>> = vec![None; prompts.len()];
        let mut parts = Vec::new();
        let mut refusal = Refusal::Busy;
        for engine in self.by_room() {
            let need = Need { sequences: 1, pages: pages_each * together };
            match engine.reserve(need, pages_each) {
                Ok(reservation) => parts.push((engine, reservation, Vec::new(), Vec::new())),
                Err(new) => refusal = new,
            }
        }
        if parts.is_empty() {
            return Err(refused(refusal));
        }
        let count = parts.len();
        for (number, prompt) in prompts.into_iter().enumerate() {
            let (_, _, numbers, prompts) = &mut parts[number % count];
            numbers.push(number);
            prompts.push(prompt);
        }
        let mut answers = Vec::new();
        for (engine, reservation, numbers, prompts) in parts {
            let (sender, receiver) = oneshot::channel();
            let part = Classification::new(prompts, labels.clone(), pages_each, sender, reservation);
            engine.run(Task::Classification(Box::new(part))).map_err(refused)?;
            answers.push((numbers, receiver));
        }
        for (numbers, answer) in answers {
            let failed = |_| InferenceError::Failed { reason: "the model gave no scores".into() };
            for (number, told) in numbers.into_iter().zip(answer.await.map_err(failed)?) {
                scores[number] = Some(told);
            }
        }
        let mut scores = scores.into_iter().flatten();
        let prior = scores.next().unwrap_or_default();
        let log_probabilities = scores.map(|scores| labels::log_probabilities(&scores, &prior)).collect();
        Ok(Classifications { log_probabilities, units: u64::try_from(units).unwrap_or(u64::MAX) })
    }
}

/// Answers of which no unit was asked for.
fn nothing_to_say(
    first: Piece,
    choices: u32,
    asked: u64,
) -> BoxStream<'static, Result<Piece, InferenceError>> {
    let finish = |choice| Event::Finish { choice, reason: FinishReason::Length };
    let finishes = (0..choices).map(finish).map(|event| Piece { events: vec![event], ..Piece::default() });
    let usage = Piece { events: vec![Event::Usage { asked, answered: 0 }], ..Piece::default() };
    let pieces: Vec<_> = std::iter::once(first).chain(finishes).chain([usage]).map(Ok).collect();
    stream::iter(pieces).boxed()
}

/// Pieces up to the request's usage; where they end before, the runtime failed.
fn until_usage(
    receiver: mpsc::UnboundedReceiver<Result<Piece, InferenceError>>,
) -> impl futures::Stream<Item = Result<Piece, InferenceError>> + Send {
    stream::unfold(Some(receiver), |receiver| async {
        let mut receiver = receiver?;
        let lost = || Err(InferenceError::Failed { reason: "the model's thread has ended".into() });
        let piece = receiver.next().await.unwrap_or_else(lost);
        let is_last = match &piece {
            Ok(piece) => matches!(piece.events.last(), Some(Event::Usage { .. })),
            Err(_) => true,
        };
        Some((piece, (!is_last).then_some(receiver)))
    })
}

#[cfg(test)]
mod tests;
