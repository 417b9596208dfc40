//! How fast a model is here, alone: what is told with its offer.
//!
//! Invariant: it takes bounded time, and a model that does not answer is told as not measured, never as slow or fast.

use std::time::Duration;

use ashlar_compute_api::ContentRoot;
use ashlar_compute_api::inference::{Generate, Inference, Prompt, Sampling};
use ashlar_compute_api::jobs::Kind;
use ashlar_compute_api::transcript::Event;
use futures::StreamExt as _;
use tokio::time::{Instant, timeout};

/// Tokens that a measurement generates, and how long it may take.
const MEASURED_UNITS: u64 = 32;
const MEASURE_MAX: Duration = Duration::from_secs(60);

/// Units a second that a model does alone; 0 where it did not answer in time.
pub(super) async fn measure(runtime: &dyn Inference, kind: Kind) -> u32 {
    let began = Instant::now();
    let work = async {
        match kind {
            Kind::Inference => {
                let request = Generate {
                    request_hash: ContentRoot::ZERO,
                    prompt: Prompt::Text("Count from one to a hundred: one, two, three,".to_owned()),
                    choices: 1,
                    units_max: MEASURED_UNITS,
                    sampling: Sampling {
                        temperature: 0.0,
                        top_p: 1.0,
                        presence_penalty: 0.0,
                        frequency_penalty: 0.0,
                        seed: 0,
                    },
                    stop: Vec::new(),
                    log_probabilities: None,
                };
                let mut pieces = runtime.generate(request).await.ok()?;
                let mut units = 0u64;
                while let Some(Ok(piece)) = pieces.next().await {
                    for event in piece.events {
                        if let Event::Usage { asked, answered } = event {
                            units = asked + answered;
                        }
                    }
                }
                Some(units)
            }
            Kind::Embedding | Kind::Labeling | Kind::FineTuning => {
                let texts = vec!["The quick brown fox jumps over the lazy dog.".to_owned(); 8];
                Some(runtime.embed(texts).await.ok()?.units)
            }
        }
    };
    let Ok(Some(units)) = timeout(MEASURE_MAX, work).await else { return 0 };
    let milliseconds = began.elapsed().as_millis().max(1);
    u32::try_from(u128::from(units) * 1_000 / milliseconds).unwrap_or(u32::MAX)
}
