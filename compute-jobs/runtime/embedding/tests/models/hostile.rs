//! Files that claim what is not so are refused with a reason, and none makes the loader panic.

use ashlar_embedding::{ConfigurationError, Encoder, LoadError};
use ashlar_models::{ModelFolder, TensorError};
use proptest::prelude::*;
use serde_json::json;

use super::tiny;

fn all(_: &str, _: &mut Vec<usize>, _: &mut Vec<f32>) -> bool {
    true
}

#[test]
fn configurations_that_cannot_be_run_are_refused() {
    let changes = [
        ("hidden_size", json!(0)),
        ("hidden_size", json!(1_u64 << 40)),
        ("hidden_size", json!(-24)),
        ("hidden_size", json!("24")),
        ("num_attention_heads", json!(5)),
        ("num_attention_heads", json!(0)),
        ("num_hidden_layers", json!(1_000_000_000)),
        ("intermediate_size", json!(u64::MAX)),
        ("vocab_size", json!(1 << 30)),
        ("max_position_embeddings", json!(1)),
        ("layer_norm_eps", json!(0.0)),
        ("layer_norm_eps", json!(1e-60)),
        ("model_type", json!("t5")),
        ("hidden_act", json!("relu")),
        ("position_embedding_type", json!("relative_key")),
    ];
    for (name, value) in changes {
        let mut config = tiny::config();
        config[name] = value.clone();
        let refused = tiny::load(&config, &tiny::tokenizer(), &tiny::weights(all));
        assert!(matches!(refused, Err(LoadError::Configuration(_))), "{name} {value}: {refused:?}");
    }
}

#[test]
fn weights_that_are_not_the_configurations_are_refused() {
    // A configuration that asks for much costs nothing where the file does not have it.
    let mut config = tiny::config();
    (config["hidden_size"], config["vocab_size"]) = (json!(4_080), json!(500_000));
    let refused = tiny::load(&config, &tiny::tokenizer(), &tiny::weights(all));
    assert!(matches!(refused, Err(LoadError::Weights(TensorError::Shape { .. }))), "{refused:?}");
    let mut config = tiny::config();
    config["num_hidden_layers"] = json!(3);
    let refused = tiny::load(&config, &tiny::tokenizer(), &tiny::weights(all));
    assert!(matches!(refused, Err(LoadError::Weights(TensorError::Missing { .. }))), "{refused:?}");

    let load = |weights: &[u8]| tiny::load(&tiny::config(), &tiny::tokenizer(), weights);
    let without = tiny::weights(|name, _, _| name != "encoder.layer.1.output.dense.bias");
    assert!(matches!(load(&without), Err(LoadError::Weights(TensorError::Missing { .. }))));
    let turned = tiny::weights(|name, shape, _| {
        if name == "encoder.layer.0.output.dense.weight" {
            shape.reverse();
        }
        true
    });
    assert!(matches!(load(&turned), Err(LoadError::Weights(TensorError::Shape { .. }))));
    let spoilt = tiny::weights(|name, _, floats| {
        if name == "embeddings.LayerNorm.bias" {
            floats[3] = f32::NAN;
        }
        true
    });
    assert!(matches!(load(&spoilt), Err(LoadError::Weights(TensorError::NotFinite { .. }))));
    let whole = tiny::weights(all);
    assert!(load(&whole).is_ok());
    assert!(matches!(
        load(&whole[..whole.len() - 1]),
        Err(LoadError::Weights(TensorError::Malformed { .. }))
    ));
}

#[test]
fn tokenizers_that_lead_out_of_the_vocabulary_are_refused() {
    let load = |tokenizer| tiny::load(&tiny::config(), &tokenizer, &tiny::weights(all));
    let mut far = tiny::tokenizer();
    far["model"]["vocab"]["dog"] = json!(16);
    let mut added = tiny::tokenizer();
    added["added_tokens"] = json!([{"id": 99, "content": "x", "single_word": false, "lstrip": false, "rstrip": false,
                                    "normalized": false, "special": true}]);
    let mut other = tiny::tokenizer();
    other["model"] = json!({"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"});
    let mut markless = tiny::tokenizer();
    markless["post_processor"] = json!(null);
    let mut foreign = tiny::tokenizer();
    foreign["post_processor"]["special_tokens"]["[SEP]"]["ids"] = json!([4_000_000_000_u32]);
    for tokenizer in [foreign, far, added, other, markless, json!({}), json!([])] {
        let refused = load(tokenizer);
        assert!(matches!(refused, Err(LoadError::Tokens(_))), "{refused:?}");
    }
}

#[test]
fn pipelines_that_are_not_run_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    tiny::write(folder.path(), &tiny::config(), &tiny::tokenizer(), &tiny::weights(all));
    let load = |name: &str, value: serde_json::Value| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, value.to_string()).unwrap();
        let loaded = Encoder::load(&ModelFolder::of_files(folder.path()).unwrap());
        std::fs::remove_file(&path).unwrap();
        loaded.map(|encoder| encoder.configuration().clone())
    };
    let module = |kind: &str| json!({"idx": 0, "name": "0", "path": "", "type": format!("sentence_transformers.models.{kind}")});
    let modules = |kinds: &[&str]| kinds.iter().map(|kind| module(kind)).collect::<serde_json::Value>();
    assert!(!load("modules.json", modules(&["Transformer", "Pooling"])).unwrap().is_normalised);
    assert!(load("modules.json", modules(&["Transformer", "Pooling", "Normalize"])).unwrap().is_normalised);
    let pooling = |mode: &str, width: usize| {
        let mut pooling = json!({"word_embedding_dimension": width});
        pooling[mode] = json!(true);
        pooling
    };
    assert!(load("1_Pooling/config.json", pooling("pooling_mode_mean_tokens", tiny::HIDDEN)).is_ok());
    assert_eq!(load("sentence_bert_config.json", json!({"max_seq_length": 8})).unwrap().tokens_max, 8);
    for (name, value) in [
        ("modules.json", modules(&["Transformer", "Pooling", "Dense"])),
        ("1_Pooling/config.json", pooling("pooling_mode_cls_token", tiny::HIDDEN)),
        ("1_Pooling/config.json", pooling("pooling_mode_mean_tokens", 25)),
        ("sentence_bert_config.json", json!({"max_seq_length": 33})),
        ("sentence_bert_config.json", json!({"max_seq_length": 2})),
    ] {
        let refused = load(name, value);
        assert!(
            matches!(
                refused,
                Err(LoadError::Configuration(
                    ConfigurationError::Unsupported { .. } | ConfigurationError::Size { .. }
                ))
            ),
            "{name}: {refused:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_changed_header_makes_the_loader_panic(changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..4)) {
        let mut weights = tiny::weights(all);
        let header = usize::try_from(u64::from_le_bytes(*weights.first_chunk().unwrap())).unwrap() + 8;
        for (at, byte) in changes {
            weights[usize::from(at) % header] = byte;
        }
        let _ = tiny::load(&tiny::config(), &tiny::tokenizer(), &weights);
    }
}
