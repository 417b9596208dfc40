//! A model of BERT's family with a few word pieces and numbers drawn at random, as files.

use std::collections::HashMap;
use std::path::Path;

use ashlar_embedding::{Encoder, LoadError};
use ashlar_models::ModelFolder;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

const WORDS: [&str; 16] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "##a", "##b", "the", "cat", "sat", "on", "mat", ".",
    "dog",
];

pub(crate) const HIDDEN: usize = 24;
pub(crate) const LAYERS: usize = 2;
pub(crate) const INTERMEDIATE: usize = 40;
pub(crate) const POSITIONS: usize = 32;

pub(crate) fn config() -> Value {
    json!({
        "model_type": "bert", "hidden_act": "gelu", "num_hidden_layers": LAYERS, "hidden_size": HIDDEN,
        "num_attention_heads": 3, "intermediate_size": INTERMEDIATE, "vocab_size": WORDS.len(),
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
    })
}

pub(crate) fn tokenizer() -> Value {
    let vocabulary: HashMap<&str, usize> = WORDS.iter().enumerate().map(|(at, word)| (*word, at)).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                               "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocabulary},
    })
}

fn shapes() -> Vec<(String, Vec<usize>)> {
    let mut all = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![WORDS.len(), HIDDEN]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![POSITIONS, HIDDEN]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, HIDDEN]),
    ];
    let mut norms = vec!["embeddings".to_owned()];
    for layer in 0..LAYERS {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        for (part, columns, depth) in [
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", INTERMEDIATE, HIDDEN),
            ("output.dense", HIDDEN, INTERMEDIATE),
        ] {
            all.push((format!("{}.weight", name(part)), vec![columns, depth]));
            all.push((format!("{}.bias", name(part)), vec![columns]));
        }
        norms.extend([name("attention.output"), name("output")]);
    }
    for norm in norms {
        all.push((format!("{norm}.LayerNorm.weight"), vec![HIDDEN]));
        all.push((format!("{norm}.LayerNorm.bias"), vec![HIDDEN]));
    }
    all
}

/// The weights; `change` may leave out tensors, or change their shapes and numbers.
pub(crate) fn weights(change: impl Fn(&str, &mut Vec<usize>, &mut Vec<f32>) -> bool) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from(u16::try_from(state >> 16).unwrap()) / 65_536.0 - 0.5
    };
    let mut tensors = Vec::new();
    for (name, mut shape) in shapes() {
        let mut floats: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
        if change(&name, &mut shape, &mut floats) {
            let bytes: Vec<u8> = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
            tensors.push((name, shape, bytes));
        }
    }
    let views: Vec<(&str, TensorView<'_>)> = tensors
        .iter()
        .map(|(name, shape, bytes)| {
            (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
        })
        .collect();
    safetensors::serialize(views, None).unwrap()
}

pub(crate) fn write(folder: &Path, config: &Value, tokenizer: &Value, weights: &[u8]) {
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.join("model.safetensors"), weights).unwrap();
}

pub(crate) fn load(config: &Value, tokenizer: &Value, weights: &[u8]) -> Result<Encoder, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), config, tokenizer, weights);
    Encoder::load(&ModelFolder::of_files(folder.path()).unwrap())
}

pub(crate) fn encoder() -> Encoder {
    load(&config(), &tokenizer(), &weights(|_, _, _| true)).unwrap()
}
