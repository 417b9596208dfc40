//! Answers to one request, while they come.
//!
//! Invariant: events come as a transcript has them: tokens of a choice before its finish, all finishes before the usage.
//! Where nobody listens any more, the work ends. Pieces that wait to be read are bounded by the units that were asked for.

use ashlar_compute_api::inference::{InferenceError, Piece};
use ashlar_compute_api::transcript::{Event, FinishReason};
use futures::channel::mpsc::UnboundedSender;

use super::Reservation;
use super::sequence::{Asked, Drawn, Sequence};
use super::worker::Progress;
use crate::answer_text::AnswerText;
use crate::prefixes::Prefixes;
use crate::sampling::Sampler;
use crate::vocabulary::Vocabulary;

/// One answer.
struct Choice {
    number: u32,
    sequence: Sequence,
    text: AnswerText,
    units: u64,
    is_finished: bool,
}

enum Stage {
    Arrived { prompt: Vec<u32>, samplers: Vec<Sampler> },
    Prompt(Sequence),
    Choices(Vec<Choice>),
}

/// A request whose answers are generated.
pub(crate) struct Generation {
    stage: Stage,
    prompt_units: u64,
    units_max: u64,
    stop: Vec<String>,
    likeliest: Option<u8>,
    /// Pieces for who asked; a piece a token and one a choice at most.
    pieces: UnboundedSender<Result<Piece, InferenceError>>,
    _reservation: Reservation,
}

impl Generation {
    pub(crate) fn new(
        prompt: Vec<u32>,
        samplers: Vec<Sampler>,
        units_max: u64,
        stop: Vec<String>,
        likeliest: Option<u8>,
        pieces: UnboundedSender<Result<Piece, InferenceError>>,
        reservation: Reservation,
    ) -> Self {
        let prompt_units = u64::try_from(prompt.len()).unwrap_or(u64::MAX);
        let stage = Stage::Arrived { prompt, samplers };
        Self { stage, prompt_units, units_max, stop, likeliest, pieces, _reservation: reservation }
    }

    pub(super) fn sequences(&mut self) -> impl Iterator<Item = &mut Sequence> {
        let (prompt, choices) = match &mut self.stage {
            Stage::Arrived { .. } => (None, &mut [][..]),
            Stage::Prompt(sequence) => (Some(sequence), &mut [][..]),
            Stage::Choices(choices) => (None, &mut choices[..]),
        };
        let open = choices.iter_mut().filter(|choice| !choice.is_finished);
        prompt.into_iter().chain(open.map(|choice| &mut choice.sequence))
    }

    /// Goes on with what the last step told.
    pub(super) fn advance(&mut self, vocabulary: &Vocabulary, prefixes: &mut Prefixes) -> Progress {
        if self.pieces.is_closed() {
            return Progress::Ended;
        }
        if self.sequences().any(|sequence| sequence.has_failed()) {
            let reason = "the model's scores are not finite".to_owned();
            self.tell(Err(InferenceError::Failed { reason }));
            return Progress::Ended;
        }
        let placeholder = Stage::Choices(Vec::new());
        self.stage = match std::mem::replace(&mut self.stage, placeholder) {
            Stage::Arrived { prompt, samplers } => {
                let asked = Asked::Draws { samplers, likeliest: self.likeliest, drawn: Vec::new() };
                Stage::Prompt(Sequence::begin(prompt, asked, prefixes))
            }
            Stage::Prompt(sequence) if sequence.pending() > 0 => Stage::Prompt(sequence),
            Stage::Prompt(sequence) => Stage::Choices(self.part(sequence, vocabulary)),
            Stage::Choices(mut choices) => {
                for choice in choices.iter_mut().filter(|choice| !choice.is_finished) {
                    let drawn = match &mut choice.sequence.asked {
                        Asked::Draws { drawn, .. } => std::mem::take(drawn),
                        Asked::LogProbabilities { .. } => Vec::new(),
                    };
                    for drawn in drawn {
                        self.take(choice, drawn, vocabulary);
                    }
                }
                Stage::Choices(choices)
            }
        };
        let Stage::Choices(choices) = &self.stage else { return Progress::Open };
        if choices.iter().any(|choice| !choice.is_finished) {
            return Progress::Open;
        }
        let answered = choices.iter().map(|choice| choice.units).sum();
        let usage = Event::Usage { asked: self.prompt_units, answered };
        self.tell(Ok(Piece { events: vec![usage], ..Piece::default() }));
        Progress::Ended
    }

    /// The prompt is computed, and the first token of each choice is drawn: from here they go apart.
    fn part(&self, mut prompt: Sequence, vocabulary: &Vocabulary) -> Vec<Choice> {
        let nothing = Asked::LogProbabilities { of: Vec::new(), told: Vec::new() };
        let Asked::Draws { samplers, likeliest, drawn } = std::mem::replace(&mut prompt.asked, nothing)
        else {
            return Vec::new();
        };
        let mut choices: Vec<Choice> = Vec::new();
        for ((number, sampler), drawn) in (0..).zip(samplers).zip(drawn) {
            let asked = Asked::Draws { samplers: vec![sampler], likeliest, drawn: Vec::new() };
            let sequence = prompt.fork(&[], asked);
            let text = AnswerText::new(self.stop.clone());
            let mut choice = Choice { number, sequence, text, units: 0, is_finished: false };
            self.take(&mut choice, drawn, vocabulary);
            choices.push(choice);
        }
        choices
    }

    /// Takes a token that was drawn for a choice, and tells it.
    fn take(&self, choice: &mut Choice, drawn: Drawn, vocabulary: &Vocabulary) {
        let mut piece = Piece::default();
        let number = choice.number;
        let mut finish = None;
        if vocabulary.is_end(drawn.token) {
            finish = Some(FinishReason::Stop);
        } else {
            piece.events.push(Event::Token { choice: number, id: drawn.token });
            piece.likelihoods.extend(drawn.likelihood);
            piece.text = choice.text.push(vocabulary.bytes(drawn.token));
            choice.units += 1;
            choice.sequence.push(drawn.token);
            if choice.text.is_stopped() {
                finish = Some(FinishReason::Stop);
            } else if choice.units >= self.units_max {
                finish = Some(FinishReason::Length);
            }
        }
        if let Some(reason) = finish {
            piece.text.push_str(&choice.text.finish());
            piece.events.push(Event::Finish { choice: number, reason });
            choice.is_finished = true;
        }
        self.tell(Ok(piece));
    }

    fn tell(&self, piece: Result<Piece, InferenceError>) {
        // Whether somebody still listens is asked before each step.
        let _ = self.pieces.unbounded_send(piece);
    }
}
