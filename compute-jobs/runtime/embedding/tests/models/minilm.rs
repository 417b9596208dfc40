//! all-MiniLM-L6-v2 beside transformers on the same weights, by vectors that `ops/models/embedding_reference` wrote.

use std::path::PathBuf;

use ashlar_embedding::{Encoder, Tokens, Workspace};
use ashlar_models::ModelFolder;
use serde_json::Value;

/// The least cosine that is the same model.
const COSINE_MIN: f64 = 0.9999;

fn folder() -> PathBuf {
    let cache = std::env::var_os("ASHLAR_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("a home folder");
        PathBuf::from(home).join(".cache/ashlar")
    });
    let folder = cache.join("models/all-minilm-l6-v2");
    assert!(folder.is_dir(), "{} is missing: run ops/models/fetch", folder.display());
    folder
}

#[test]
fn vectors_are_those_of_transformers() {
    let encoder = Encoder::load(&ModelFolder::of_files(folder()).unwrap()).unwrap();
    assert_eq!(encoder.configuration().tokens_max, 256);
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/reference.json");
    let reference: Value = serde_json::from_str(&std::fs::read_to_string(reference).unwrap()).unwrap();
    let rows = reference["texts"].as_array().unwrap();
    assert!(rows.len() > 30);
    let text = |row: &Value| row["text"].as_str().unwrap().to_owned();
    let tokens: Vec<Tokens> = rows.iter().map(|row| encoder.tokens(&text(row)).unwrap()).collect();
    let mut workspace = Workspace::default();
    let embedded = encoder.embed(&tokens, &mut workspace);
    for ((row, tokens), vector) in rows.iter().zip(&tokens).zip(&embedded.vectors) {
        let expected: Vec<f64> =
            row["vector"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        let dot: f64 = expected.iter().zip(vector).map(|(a, b)| a * f64::from(*b)).sum();
        let length = |squares: f64| squares.sqrt();
        let ours = length(vector.iter().map(|x| f64::from(*x).powi(2)).sum());
        let cosine = dot / (ours * length(expected.iter().map(|x| x * x).sum()));
        assert!(cosine >= COSINE_MIN, "cosine {cosine} of {:?}", text(row));
        let alone = encoder.embed(std::slice::from_ref(tokens), &mut workspace);
        assert_eq!(&alone.vectors[0], vector, "alone and in a batch: {:?}", text(row));
    }
}
