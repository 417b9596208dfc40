//! Files of units: what is read is what was written, and nothing else is.

use proptest::prelude::*;

use super::*;
use crate::bytes::ContentRoot;

fn classify() -> Questions {
    let ask = Ask::Classify(Classification {
        labels: vec!["ham".into(), "spam".into()],
        instructions: Some("Is it?".into()),
    });
    let row = |row, text: &str| Question { row, input: Input::Text(text.into()), ask: None };
    Questions {
        header: QuestionsHeader::new(ContentRoot([1; 32]), None, ask),
        rows: vec![row(3, "free \"money\"\n"), row(4, "ü\u{1}\u{2028}")],
    }
}

fn answers(questions: &Questions, root: ContentRoot) -> Answers {
    let value = |n| Value::LogProbabilities(Vector(vec![n, f32::NEG_INFINITY]));
    let row = |row, n| AnswerLine { row, result: Ok((value(n), Usage { asked: 5, answered: 1 })) };
    Answers {
        header: AnswersHeader::new(root, questions.header.model, None),
        rows: vec![row(3, -0.5), row(4, 0.0)],
    }
}

#[test]
fn lines_that_are_wrong_are_named() {
    let bytes = classify().encode().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let fails = |text: String| Questions::parse(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(fails(String::new()), "there is no line");
    assert_eq!(fails(text.trim_end().to_owned()), "line 3 has no end");
    assert!(fails(text.replace("{\"row\":4,", "{ \"row\":4,")).starts_with("line 3: not in its canonical"));
    assert_eq!(fails(text.replace("\"row\":4", "\"row\":3")), "line 3: row 3 does not come after row 3");
    assert!(fails(text.replace("\"row\":4", "\"row\":4,\"row\":4")).contains("line 3: duplicate field"));
    assert!(fails(text.replace("\"row\":4", "\"row\":4,\"more\":1")).contains("line 3: unknown field"));
    assert!(fails(text.replace("\"version\":1", "\"version\":2")).starts_with("line 1: not the header"));
    assert!(fails(text.replace("\"spam\"", "\"ham\"")).contains("line 1: a label stands there twice"));
    assert!(fails(format!("{text}\n")).starts_with("line 4: EOF"));
    assert!(fails(text.replace("{\"text\":\"ü", "{\"chat\":\"ü")).starts_with("line 3: invalid type"));
    let long = format!("{}\n", "x".repeat(LINE_BYTES_MAX + 1));
    assert_eq!(fails(long), format!("line 1: more than {LINE_BYTES_MAX} bytes"));
    let maximum = QUESTIONS_BYTES_MAX;
    let found = Questions::parse(&vec![b'\n'; maximum + 1]).unwrap_err();
    assert_eq!(found, UnitDataError::TooLong { bytes: maximum + 1, maximum });
    let many = Questions::parse(&vec![b'\n'; ROWS_MAX + 2]).unwrap_err();
    assert_eq!(many, UnitDataError::TooManyRows { maximum: ROWS_MAX });
}

#[test]
fn answers_are_held_against_questions() {
    let (questions, root) = (classify(), ContentRoot([7; 32]));
    let judge = |change: &dyn Fn(&mut Answers)| {
        let mut answers = answers(&questions, root);
        change(&mut answers);
        answers.judge(&questions, root)
    };
    assert_eq!(judge(&|_| ()), Ok(12));
    let other = ContentRoot([9; 32]);
    let expected = root;
    let found = other;
    assert_eq!(judge(&|a| a.header.questions = other), Err(Mismatch::OtherQuestions { found, expected }));
    let expected = questions.header.model;
    assert_eq!(judge(&|a| a.header.model = other), Err(Mismatch::OtherModel { found, expected }));
    assert_eq!(judge(&|a| drop(a.rows.remove(0))), Err(Mismatch::Missing { row: 3 }));
    assert_eq!(judge(&|a| drop(a.rows.pop())), Err(Mismatch::Missing { row: 4 }));
    assert_eq!(judge(&|a| a.rows[0].row = 2), Err(Mismatch::NotAsked { row: 2 }));
    let more = |a: &mut Answers| a.rows.push(AnswerLine { row: 9, ..a.rows[0].clone() });
    assert_eq!(judge(&more), Err(Mismatch::NotAsked { row: 9 }));
    let vector = Value::Vector(Vector(vec![0.0, 0.0]));
    let form = judge(&|a| a.rows[1].result = Ok((vector.clone(), Usage::default())));
    assert_eq!(form, Err(Mismatch::Form { row: 4 }));
    let maximum = questions.usage_max();
    let dear = judge(&|a| {
        let Ok((_, usage)) = &mut a.rows[0].result else { return };
        usage.asked = u64::MAX;
    });
    assert_eq!(dear, Err(Mismatch::Usage { units: u64::MAX, maximum }));
    let error = RowError::new("too_long", &"x".repeat(2_000), false);
    assert_eq!(judge(&|a| a.rows[0].result = Err(error.clone())), Ok(6));
    let mut some = answers(&questions, root);
    some.rows.remove(0);
    assert_eq!(some.judge_checkpoint(&questions, root), Ok(6));
}

fn text() -> impl Strategy<Value = String> {
    "[\u{0}-\u{7f}üẞ\u{2028}😀]{0,12}"
}

fn ask() -> impl Strategy<Value = Ask> {
    let generation =
        (1..=3_u32, 1..9_u64, 0..2_000_000_u32, 1..=1_000_000_u32, -2_000_000..=2_000_000_i32, any::<u64>());
    let generate = (generation, prop::collection::vec("[a-z\n]{1,3}", 0..3)).prop_map(|(of, stop)| {
        let (choices, units_max, temperature, top_p, penalty, seed) = of;
        let (presence_penalty, frequency_penalty) = (penalty, -penalty);
        let of = Generation {
            choices,
            units_max,
            temperature,
            top_p,
            presence_penalty,
            frequency_penalty,
            seed,
            stop,
        };
        Ask::Generate(of)
    });
    let classify = (prop::collection::btree_set(text(), 2..5), prop::option::of(text()));
    let classify = classify.prop_map(|(labels, instructions)| {
        Ask::Classify(Classification { labels: labels.into_iter().collect(), instructions })
    });
    prop_oneof![generate, classify, Just(Ask::Embed(Embedding {}))]
}

fn value() -> impl Strategy<Value = Value> {
    let finish = prop::sample::select(vec![Finish::Stop, Finish::Length, Finish::Tool, Finish::Withheld]);
    let said = (text(), finish).prop_map(|(text, finish)| Said { text, finish });
    let floats = prop::collection::vec(-1e30_f32..1e30, 0..6);
    prop_oneof![
        prop::collection::vec(said, 0..3).prop_map(Value::Said),
        floats.prop_map(|numbers| Value::Vector(Vector(numbers))),
    ]
}

proptest! {
    #[test]
    fn what_was_written_is_read_back(
        ask in ask(), inputs in prop::collection::vec((1..9_u64, text()), 0..6), determinism in any::<Option<[u8; 32]>>(),
    ) {
        let mut number = 0;
        let rows = inputs.into_iter().map(|(step, text)| {
            number += step;
            Question { row: number, input: Input::Text(text), ask: None }
        });
        let header = QuestionsHeader::new(ContentRoot([2; 32]), determinism.map(ContentRoot), ask);
        let questions = Questions { header, rows: rows.collect() };
        let bytes = questions.encode().unwrap();
        prop_assert_eq!(&Questions::parse(&bytes).unwrap(), &questions);
    }

    #[test]
    fn answers_are_read_back(
        of in prop::collection::vec((1..9_u64, prop::result::maybe_ok(value(), "[a-z]{1,9}")), 0..6),
    ) {
        let mut number = 0;
        let rows = of.into_iter().map(|(step, result)| {
            number += step;
            let result = result.map(|value| (value, Usage { asked: step, answered: number }));
            AnswerLine { row: number, result: result.map_err(|code| RowError::new(&code, "why", step > 4)) }
        });
        let header = AnswersHeader::new(ContentRoot([2; 32]), ContentRoot([3; 32]), None);
        let answers = Answers { header, rows: rows.collect() };
        let bytes = answers.encode().unwrap();
        prop_assert_eq!(&Answers::parse(&bytes).unwrap(), &answers);
    }

    #[test]
    fn a_changed_byte_is_another_value_or_none(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let bytes = classify().encode().unwrap();
        let mut changed = bytes.clone();
        *at.get_mut(&mut changed) = byte;
        if let Ok(read) = Questions::parse(&changed) {
            prop_assert_eq!(read.encode().unwrap(), changed);
        }
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = (Questions::parse(&bytes), Answers::parse(&bytes));
    }
}
