//! What a trained model says comes back, and nothing else is taken for it.

use super::*;

fn head() -> Trained {
    let mut head = Trained::new(TrainedKind::Head, ContentRoot([1; 32]), vec![ContentRoot([2; 32])]);
    head.labels = vec!["ham".into(), "spam".into()];
    head.options.insert("seed".into(), Setting::Count(7));
    head.options.insert("l2".into(), Setting::Number(0.1));
    head.options.insert("balanced".into(), Setting::Flag(true));
    let third = |step: u64| {
        MetricRow::new(step, [("train_loss", 1.0 / 3.0), ("tiny", 2.0e-9 / 3.0), ("large", 1e5 / 7.0)])
    };
    head.metrics = (1..9).map(third).collect();
    head
}

fn weights() -> Tensor {
    Tensor { name: "weight".into(), shape: vec![2, 2], floats: vec![1.0, -1.0, 0.5, 0.25] }
}

#[test]
fn what_was_said_comes_back() {
    let bytes = head().to_bytes(&[weights()]).unwrap();
    assert_eq!(bytes, head().to_bytes(&[weights()]).unwrap());
    let (read, tensors) = Trained::from_bytes(&bytes).unwrap();
    assert_eq!(read, head());
    assert_eq!(tensors.floats("weight", &[2, 2]).unwrap(), weights().floats);
    assert_eq!(read.stands_on(TrainedKind::Head, ContentRoot([1; 32])), Ok(()));
    let other = ContentRoot([9; 32]);
    let base = TrainedError::Base { expected: other, found: ContentRoot([1; 32]) };
    assert_eq!(read.stands_on(TrainedKind::Head, other), Err(base));
    let kind = TrainedError::Kind { expected: TrainedKind::Lora, found: TrainedKind::Head };
    assert_eq!(read.stands_on(TrainedKind::Lora, ContentRoot([1; 32])), Err(kind));
}

#[test]
fn what_is_not_understood_is_refused() {
    let plain = tensors::to_bytes(&[("weight", &[1], &[1.0])], "other", "{}".into()).unwrap();
    assert_eq!(Trained::from_bytes(&plain).unwrap_err(), TrainedError::Unsaid);
    let mut twice = head();
    twice.labels[0] = "spam".into();
    assert!(matches!(twice.to_bytes(&[]), Err(TrainedError::Malformed { .. })));
    for (from, to) in [("\"format\":1", "\"format\":2"), ("\"kind\"", "\"sort\""), ("\"spam\"", "\"ham\"")] {
        let text = serde_json::to_string(&head()).unwrap().replace(from, to);
        let bytes = tensors::to_bytes(&[], KEY, text).unwrap();
        assert!(matches!(Trained::from_bytes(&bytes), Err(TrainedError::Malformed { .. })), "{to}");
    }
}
