//! docs/formats/vectors/transcript.json, made by another implementation: every head of it comes out here as well.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

use ashlar_compute_api::transcript::{Decoder, Event, FinishReason, Transcript};
use ashlar_compute_api::{ContentRoot, JobId, LockId};
use serde_json::Value;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats/vectors/transcript.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(of: &Value) -> Vec<u8> {
    hex::decode(of.as_str().unwrap()).unwrap()
}

fn fixed(of: &Value) -> [u8; 32] {
    bytes(of).try_into().unwrap()
}

fn long(of: &Value) -> u64 {
    of.as_str().unwrap().parse().unwrap()
}

fn short(of: &Value) -> u32 {
    of.as_u64().unwrap().try_into().unwrap()
}

fn event(of: &Value) -> Event {
    let reasons = [
        FinishReason::Stop,
        FinishReason::Length,
        FinishReason::ToolCalls,
        FinishReason::ContentFilter,
        FinishReason::Cancelled,
        FinishReason::Failed,
    ];
    match of[0].as_str().unwrap() {
        "request" => Event::Request { request_hash: ContentRoot(fixed(&of[1])) },
        "token" => Event::Token { choice: short(&of[1]), id: short(&of[2]) },
        "text" => {
            Event::Text { choice: short(&of[1]), scalar: of[2].as_str().unwrap().chars().next().unwrap() }
        }
        "finish" => {
            let reason = reasons[usize::try_from(short(&of[2])).unwrap() - 1];
            Event::Finish { choice: short(&of[1]), reason }
        }
        "output" => Event::Output { row: long(&of[1]), output_hash: ContentRoot(fixed(&of[2])) },
        "usage" => Event::Usage { asked: long(&of[1]), answered: long(&of[2]) },
        other => panic!("{other} is no event"),
    }
}

#[test]
fn every_head_is_that_of_the_vectors() {
    let vectors = vectors();
    for of in vectors["transcripts"].as_array().unwrap() {
        let shard = u32::try_from(long(&of["shard"])).unwrap();
        let (lock, job) = (LockId(fixed(&of["lock"])), JobId(fixed(&of["job"])));
        let mut transcript = Transcript::begin(lock, job, shard, long(&of["fence"]));
        let events: Vec<Event> = of["events"].as_array().unwrap().iter().map(event).collect();
        let mut heads = vec![transcript.head()];
        for event in &events {
            heads.push(transcript.push(event).unwrap());
        }
        let expected: Vec<_> = of["heads"].as_array().unwrap().iter().map(fixed).collect();
        assert_eq!(heads.iter().map(|head| head.0).collect::<Vec<_>>(), expected);
        let encoded: Vec<u8> = events.iter().flat_map(Event::to_bytes).collect();
        assert_eq!(encoded, bytes(&of["encoded"]));
        let (mut decoder, mut piece, mut read) = (Decoder::new(), encoded.as_slice(), Vec::new());
        while let Some(event) = decoder.next(&mut piece).unwrap() {
            read.push(event);
        }
        assert_eq!(decoder.finish(), Ok(()));
        assert_eq!(read, events);
    }
}

#[test]
fn what_is_no_event_is_refused() {
    let vectors = vectors();
    for of in vectors["no_events"].as_array().unwrap() {
        let all = bytes(of);
        let (mut decoder, mut piece) = (Decoder::new(), all.as_slice());
        let read = decoder.next(&mut piece);
        assert!(read.is_err() || (read == Ok(None) && decoder.finish().is_err()), "{of}");
    }
}
