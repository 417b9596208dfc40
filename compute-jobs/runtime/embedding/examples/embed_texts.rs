//! Embeds texts from a JSON list, for `ops/models/embedding_reference`: vectors as JSON, or how long rounds took.
//!
//! `embed_texts FOLDER TEXTS.json vectors` or `embed_texts FOLDER TEXTS.json time THREADS ROUNDS`

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ashlar_embedding::{Encoder, Tokens, Workspace};
use ashlar_models::ModelFolder;

/// Texts that a thread takes at once.
const TAKEN: usize = 32;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, texts, what, numbers @ ..] = arguments.as_slice() else {
        panic!("embed_texts FOLDER TEXTS.json vectors | time THREADS ROUNDS");
    };
    let folder = ModelFolder::of_files(Path::new(folder)).expect("a model's folder");
    let encoder = Encoder::load(&folder).expect("a model that can be run");
    let texts = std::fs::read(texts).expect("a file");
    let texts: Vec<String> = serde_json::from_slice(&texts).expect("a list of texts");
    if what == "vectors" {
        let tokens: Vec<Tokens> = texts.iter().map(|text| encoder.tokens(text).expect("tokens")).collect();
        let embedded = encoder.embed(&tokens, &mut Workspace::default());
        println!("{}", serde_json::to_string(&embedded.vectors).expect("numbers"));
        return;
    }
    let number = |at: usize| numbers[at].parse::<usize>().expect("a number");
    let (threads, rounds) = (number(0), number(1));
    // Longest first, so that no thread is left with a long one at the end.
    let mut texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    let mut workspaces: Vec<Workspace> = (0..threads).map(|_| Workspace::default()).collect();
    for _ in 0..rounds {
        let begun = Instant::now();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for workspace in &mut workspaces {
                scope.spawn(|| {
                    loop {
                        let first = next.fetch_add(TAKEN, Ordering::Relaxed);
                        let Some(rest) = texts.get(first..).filter(|rest| !rest.is_empty()) else { return };
                        let now = rest[..TAKEN.min(rest.len())].iter();
                        let tokens: Vec<Tokens> =
                            now.map(|text| encoder.tokens(text).expect("tokens")).collect();
                        encoder.embed(&tokens, workspace);
                    }
                });
            }
        });
        println!("{:.6}", begun.elapsed().as_secs_f64());
    }
}
