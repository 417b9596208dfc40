//! Heads of the same events however they came, and of others never.

use proptest::prelude::*;

use super::*;
use crate::bytes::ContentRoot;

const LOCK: LockId = LockId([1; 32]);
const JOB: JobId = JobId([2; 32]);

fn transcript() -> Transcript {
    Transcript::begin(LOCK, JOB, 3, 4)
}

fn request() -> Event {
    Event::Request { request_hash: ContentRoot([5; 32]) }
}

fn any_event() -> impl Strategy<Value = Event> {
    let reason = prop::sample::select(vec![
        FinishReason::Stop,
        FinishReason::Length,
        FinishReason::ToolCalls,
        FinishReason::ContentFilter,
        FinishReason::Cancelled,
        FinishReason::Failed,
    ]);
    prop_oneof![
        any::<[u8; 32]>().prop_map(|hash| Event::Request { request_hash: ContentRoot(hash) }),
        (0u32..4, any::<u32>()).prop_map(|(choice, id)| Event::Token { choice, id }),
        (0u32..4, any::<char>()).prop_map(|(choice, scalar)| Event::Text { choice, scalar }),
        (0u32..4, reason).prop_map(|(choice, reason)| Event::Finish { choice, reason }),
        (0u64..9, any::<[u8; 32]>())
            .prop_map(|(row, hash)| Event::Output { row, output_hash: ContentRoot(hash) }),
        (any::<u64>(), any::<u64>()).prop_map(|(asked, answered)| Event::Usage { asked, answered }),
    ]
}

/// Cuts bytes, characters or ids at these places.
fn pieces<T>(all: &[T], cuts: &[usize]) -> Vec<Vec<T>>
where
    T: Clone,
{
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (all.len() + 1)).collect();
    cuts.sort_unstable();
    let (mut from, mut pieces) = (0, Vec::new());
    for cut in cuts.into_iter().chain([all.len()]) {
        pieces.push(all[from..cut].to_vec());
        from = cut;
    }
    pieces
}

proptest! {
    #[test]
    fn joined_events_come_apart_in_one_way_however_they_were_split(
        events in prop::collection::vec(any_event(), 0..20),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let joined: Vec<u8> = events.iter().flat_map(Event::to_bytes).collect();
        let mut decoder = Decoder::new();
        let mut read = Vec::new();
        for piece in pieces(&joined, &cuts) {
            let mut piece = piece.as_slice();
            while let Some(event) = decoder.next(&mut piece).unwrap() {
                read.push(event);
            }
            prop_assert!(piece.is_empty());
        }
        prop_assert_eq!(decoder.finish(), Ok(()));
        prop_assert_eq!(read, events);
    }

    #[test]
    fn foreign_bytes_are_an_error_or_the_one_encoding_of_events(bytes in prop::collection::vec(0u8..9, 0..200)) {
        let (mut decoder, mut piece, mut written) = (Decoder::new(), bytes.as_slice(), Vec::new());
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(event)) => written.extend(event.to_bytes()),
                Ok(None) => break,
                Err(_) => return Ok(()),
            }
        }
        prop_assert!(bytes.starts_with(&written));
        prop_assert_eq!(decoder.finish().is_ok(), written.len() == bytes.len());
    }

    #[test]
    fn the_head_does_not_know_the_pieces(
        text in ".{0,40}",
        ids in prop::collection::vec(any::<u32>(), 0..40),
        cuts in prop::collection::vec(any::<usize>(), 0..10),
    ) {
        let mut whole = transcript();
        whole.push(&request()).unwrap();
        whole.tokens(0, &ids).unwrap();
        whole.text(1, &text).unwrap();
        let mut split = transcript();
        split.push(&request()).unwrap();
        for piece in pieces(&ids, &cuts) {
            split.tokens(0, &piece).unwrap();
        }
        let characters: Vec<char> = text.chars().collect();
        for piece in pieces(&characters, &cuts) {
            split.text(1, &piece.iter().collect::<String>()).unwrap();
        }
        prop_assert_eq!(whole, split);
    }

    #[test]
    fn other_events_have_other_heads(
        one in prop::collection::vec(any_event(), 0..12),
        other in prop::collection::vec(any_event(), 0..12),
    ) {
        let said = |events: &[Event]| {
            let mut transcript = transcript();
            let taken: Vec<Event> =
                events.iter().filter(|event| transcript.push(event).is_ok()).copied().collect();
            (taken, transcript.head())
        };
        let ((one, head), (other, other_head)) = (said(&one), said(&other));
        prop_assert_eq!(one == other, head == other_head);
    }

    #[test]
    fn a_refused_event_changes_nothing(events in prop::collection::vec(any_event(), 0..30)) {
        let mut transcript = transcript();
        for event in events {
            let before = transcript.clone();
            if transcript.push(&event).is_err() {
                prop_assert_eq!(&before, &transcript);
            }
        }
    }
}

#[test]
fn places_have_heads_of_their_own() {
    let heads = [
        first_head(LOCK, JOB, 3, 4),
        first_head(LockId([9; 32]), JOB, 3, 4),
        first_head(LOCK, JobId([9; 32]), 3, 4),
        first_head(LOCK, JOB, 4, 4),
        first_head(LOCK, JOB, 3, 5),
    ];
    let different: std::collections::BTreeSet<_> = heads.iter().collect();
    assert_eq!(different.len(), heads.len());
    assert_eq!(transcript().head(), heads[0]);
}

#[test]
fn a_request_is_told_in_order() {
    use TranscriptError as Wrong;
    let mut said = transcript();
    let token = |choice| Event::Token { choice, id: 7 };
    let finish = |choice| Event::Finish { choice, reason: FinishReason::Stop };
    let usage = Event::Usage { asked: 1, answered: 2 };
    assert_eq!(said.push(&token(0)), Err(Wrong::NoRequest));
    assert_eq!(said.push(&usage), Err(Wrong::NoRequest));
    said.push(&request()).unwrap();
    assert_eq!(said.push(&request()), Err(Wrong::RequestOpen));
    said.push(&token(1)).unwrap();
    assert_eq!(said.text(1, "x"), Err(Wrong::FormsMixed { choice: 1 }));
    assert_eq!(said.push(&token(CHOICES_MAX)), Err(Wrong::ChoiceTooLarge { choice: CHOICES_MAX }));
    assert_eq!(said.push(&finish(CHOICES_MAX)), Err(Wrong::ChoiceTooLarge { choice: CHOICES_MAX }));
    assert_eq!(said.push(&usage), Err(Wrong::ChoiceOpen { choice: 1 }));
    said.push(&finish(1)).unwrap();
    assert_eq!(said.push(&finish(1)), Err(Wrong::ChoiceFinished { choice: 1 }));
    assert_eq!(said.push(&token(1)), Err(Wrong::ChoiceFinished { choice: 1 }));
    said.push(&finish(0)).expect("a choice may say nothing");
    let output = |row| Event::Output { row, output_hash: ContentRoot([6; 32]) };
    said.push(&output(3)).unwrap();
    assert_eq!(said.push(&output(3)), Err(Wrong::RowOrder { row: 3 }));
    said.push(&usage).unwrap();
    said.push(&request()).expect("the next one");
}

#[test]
fn what_is_no_event_is_told_why() {
    let read = |bytes: &[u8]| {
        let (mut decoder, mut piece) = (Decoder::new(), bytes);
        decoder.next(&mut piece)?;
        decoder.finish()
    };
    assert_eq!(read(&[0]), Err(EventError::Kind { kind: 0 }));
    assert_eq!(read(&[7]), Err(EventError::Kind { kind: 7 }));
    assert_eq!(read(&[4, 0, 0, 0, 0, 0]), Err(EventError::Reason { number: 0 }));
    assert_eq!(read(&[4, 0, 0, 0, 0, 7]), Err(EventError::Reason { number: 7 }));
    let surrogate = [3, 0, 0, 0, 0, 0, 0, 0xd8, 0];
    assert_eq!(read(&surrogate), Err(EventError::Scalar { number: 0xd800 }));
    assert_eq!(read(&[2, 0, 0]), Err(EventError::Truncated { missing: 6 }));
}
