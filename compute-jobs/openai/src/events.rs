//! Answers as server-sent events: one JSON object each, `[DONE]` at the end, comments while nothing comes.
//!
//! Invariant: an answer that cannot be finished ends with an error object and without `[DONE]`; nothing is asked of the
//! provider before the client has taken what was told, and a client that is gone ends the work. Does not know what
//! the objects say.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::stream;
use serde_json::Value;

use crate::answer::{Answer, Next};
use crate::audit::{Told, Usage};

/// Writes an answer piece by piece.
pub(crate) trait Shape: Send + 'static {
    /// Before anything is told.
    fn first(&mut self) -> Vec<Value>;
    /// What was told.
    fn told(&mut self, told: Told) -> Vec<Value>;
    /// When all was told.
    fn last(&mut self, usage: Usage) -> Vec<Value>;
}

enum State<S> {
    First(Answer, S),
    Telling(Answer, S),
    Ended,
}

/// The answer as a response.
pub(crate) fn respond<S: Shape>(answer: Answer, shape: S, keep_alive: Duration) -> Response {
    let events = stream::unfold(State::First(answer, shape), async |state| match state {
        State::First(answer, mut shape) => {
            let values = shape.first();
            Some((events(values), State::Telling(answer, shape)))
        }
        State::Telling(mut answer, mut shape) => match answer.next().await {
            Ok(Next::Told(told)) => {
                let values = told.into_iter().flat_map(|told| shape.told(told)).collect();
                Some((events(values), State::Telling(answer, shape)))
            }
            Ok(Next::Ended(usage)) => {
                let mut last = events(shape.last(usage));
                last.push(Event::default().data("[DONE]"));
                Some((last, State::Ended))
            }
            Err(refusal) => Some((events(vec![refusal.body()]), State::Ended)),
        },
        State::Ended => None,
    });
    let events = events.flat_map(stream::iter).map(Ok::<_, Infallible>);
    Sse::new(events).keep_alive(KeepAlive::new().interval(keep_alive)).into_response()
}

fn events(values: Vec<Value>) -> Vec<Event> {
    values.into_iter().map(|value| Event::default().data(value.to_string())).collect()
}
