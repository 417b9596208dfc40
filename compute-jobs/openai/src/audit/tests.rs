//! Every way in which a provider's answer can be other than it must be.

use ashlar_compute_api::inference::LikelyToken;
use ashlar_compute_api::{JobId, LockId};

use super::*;

const HASH: ContentRoot = ContentRoot([7; 32]);

fn terms(choices: u32) -> Terms {
    Terms {
        request_hash: HASH,
        choices,
        units_max: 4,
        with_likelihoods: false,
        asked: 5,
        is_claimed: false,
        asked_bytes: 20,
    }
}

fn transcript() -> Transcript {
    Transcript::begin(LockId::ZERO, JobId::ZERO, 0, 0)
}

fn piece(events: Vec<Event>, text: &str) -> Piece {
    Piece { events, text: text.to_owned(), likelihoods: Vec::new() }
}

fn token(choice: u32, id: u32) -> Event {
    Event::Token { choice, id }
}

fn stop(choice: u32) -> Event {
    Event::Finish { choice, reason: FinishReason::Stop }
}

fn usage(asked: u64, answered: u64) -> Event {
    Event::Usage { asked, answered }
}

const REQUEST: Event = Event::Request { request_hash: HASH };

/// Takes pieces until one is refused or the answer ends.
fn run(terms: Terms, pieces: Vec<Piece>) -> Result<Option<Usage>, Misdeed> {
    let mut audit = Audit::new(transcript(), terms);
    for piece in pieces {
        if let Step::Ended(usage) = audit.take(piece)? {
            return Ok(Some(usage));
        }
    }
    Ok(None)
}

#[test]
fn an_honest_answer_is_passed_on_and_counted() {
    let mut audit = Audit::new(transcript(), terms(2));
    let events = [REQUEST, token(0, 1), token(0, 2), token(1, 3), stop(0), stop(1), usage(5, 3)];
    let told = |step| match step {
        Step::Told(told) => told,
        Step::Ended(_) => panic!("not yet"),
    };
    assert_eq!(told(audit.take(piece(vec![REQUEST], "")).unwrap()), []);
    let first = told(audit.take(piece(vec![token(0, 1), token(0, 2)], "hi ")).unwrap());
    assert_eq!((first[0].choice, first[0].text.as_str(), first[0].finish), (0, "hi ", None));
    assert_eq!(audit.answered(), 2);
    told(audit.take(piece(vec![token(1, 3)], "ho")).unwrap());
    let last = told(audit.take(piece(vec![stop(0), stop(1)], "")).unwrap());
    assert_eq!(
        last.iter().map(|told| (told.choice, told.finish)).collect::<Vec<_>>(),
        [(0, Some(FinishReason::Stop)), (1, Some(FinishReason::Stop))]
    );
    let ended = audit.take(piece(vec![usage(5, 3)], "")).unwrap();
    assert_eq!(ended, Step::Ended(Usage { asked: 5, answered: 3 }));
    let mut by_hand = transcript();
    for event in &events {
        by_hand.push(event).unwrap();
    }
    assert_eq!(audit.head(), by_hand.head());
}

#[test]
fn text_that_was_held_back_comes_with_the_end_or_alone() {
    let pieces = vec![
        piece(vec![REQUEST, token(0, 1)], ""),
        piece(vec![], "held"),
        piece(vec![stop(0)], " back"),
        piece(vec![usage(5, 1)], ""),
    ];
    assert_eq!(run(terms(1), pieces), Ok(Some(Usage { asked: 5, answered: 1 })));
    let whose = vec![piece(vec![REQUEST, token(0, 1)], ""), piece(vec![], "held")];
    assert_eq!(run(terms(2), whose), Err(Misdeed::TextWithoutChoice));
}

#[test]
fn usage_is_what_was_counted_or_the_answer_ends() {
    let with = |usage| {
        let pieces =
            vec![piece(vec![REQUEST, token(0, 1)], "a"), piece(vec![stop(0)], ""), piece(vec![usage], "")];
        run(terms(1), pieces)
    };
    assert_eq!(with(usage(5, 1)), Ok(Some(Usage { asked: 5, answered: 1 })));
    for (asked, answered) in [(5, 2), (5, 0), (6, 1), (4, 1)] {
        assert!(
            matches!(with(usage(asked, answered)), Err(Misdeed::OtherUsage { .. })),
            "{asked} {answered}"
        );
    }
}

#[test]
fn what_was_not_asked_for_is_refused() {
    let begun = |events: Vec<Event>| run(terms(1), vec![piece(vec![REQUEST], ""), piece(events, "")]);
    assert_eq!(begun(vec![token(1, 1)]), Err(Misdeed::ChoiceNotAsked { choice: 1 }));
    let five = (0..5).map(|id| token(0, id)).collect();
    assert_eq!(begun(five), Err(Misdeed::TooMuch { choice: 0, maximum: 4 }));
    let row = Event::Output { row: 0, output_hash: HASH };
    assert_eq!(begun(vec![row]), Err(Misdeed::ForeignEvent));
    assert_eq!(begun(vec![stop(0), token(0, 1)]), Err(TranscriptError::ChoiceFinished { choice: 0 }.into()));
    let other = Event::Request { request_hash: ContentRoot([8; 32]) };
    assert_eq!(run(terms(1), vec![piece(vec![other], "")]), Err(Misdeed::OtherRequest));
    assert_eq!(run(terms(1), vec![piece(vec![token(0, 1)], "")]), Err(TranscriptError::NoRequest.into()));
    let both = vec![piece(vec![REQUEST, token(0, 1), token(1, 1)], "x")];
    assert_eq!(run(terms(2), both), Err(Misdeed::TextWithoutChoice));
    let missing = vec![piece(vec![REQUEST, stop(0)], ""), piece(vec![usage(5, 0)], "")];
    assert_eq!(run(terms(2), missing), Err(Misdeed::ChoicesMissing { missing: 1 }));
}

#[test]
fn an_upstreams_text_is_what_its_events_say_and_bounds_its_count() {
    let text = |text: &str| text.chars().map(|scalar| Event::Text { choice: 0, scalar }).collect::<Vec<_>>();
    let claimed = Terms { is_claimed: true, ..terms(1) };
    let with = |told: &str, last| {
        let mut events = vec![REQUEST];
        events.extend(text("héllo"));
        run(claimed, vec![piece(events, told), piece(vec![stop(0)], ""), piece(vec![last], "")])
    };
    assert_eq!(with("héllo", usage(20, 7)), Ok(Some(Usage { asked: 20, answered: 7 })));
    assert_eq!(with("hé", usage(1, 0)), Ok(Some(Usage { asked: 1, answered: 0 })));
    assert_eq!(with("hello", usage(5, 2)), Err(Misdeed::OtherText { choice: 0 }));
    assert!(matches!(with("héllo", usage(20, 8)), Err(Misdeed::OtherUsage { .. })));
    assert!(matches!(with("héllo", usage(21, 7)), Err(Misdeed::OtherUsage { .. })));
    let mut long = vec![REQUEST];
    long.extend(text(&"x".repeat(2_049)));
    assert_eq!(run(claimed, vec![piece(long, "")]), Err(Misdeed::TooMuch { choice: 0, maximum: 4 }));
}

#[test]
fn log_probabilities_are_those_of_the_tokens() {
    let with = |ids: &[u32]| {
        let likelihoods = ids.iter().map(|&id| TokenLikelihood {
            token: LikelyToken { id, bytes: vec![b'a'], log_probability: -0.5 },
            likeliest: Vec::new(),
        });
        let piece = Piece {
            events: vec![REQUEST, token(0, 1), token(0, 2)],
            text: "aa".into(),
            likelihoods: likelihoods.collect(),
        };
        run(Terms { with_likelihoods: true, ..terms(1) }, vec![piece])
    };
    assert_eq!(with(&[1, 2]), Ok(None));
    for wrong in [&[][..], &[1], &[2, 1], &[1, 2, 3]] {
        assert_eq!(with(wrong), Err(Misdeed::OtherLikelihoods { choice: 0 }), "{wrong:?}");
    }
}
