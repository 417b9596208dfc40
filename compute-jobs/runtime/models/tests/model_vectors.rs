//! docs/formats/vectors/model.json, made by another implementation: every byte of it comes out here as well.

#![allow(clippy::unwrap_used, reason = "a failing test may panic")]

use ashlar_models::{Entry, Manifest, Tensor, Trained, content_root};
use serde_json::Value;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/formats/vectors/model.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn bytes(of: &Value) -> Vec<u8> {
    hex::decode(of.as_str().unwrap()).unwrap()
}

#[test]
fn manifests_and_roots_are_those_of_the_vectors() {
    for of in vectors()["folders"].as_array().unwrap() {
        let files = of["files"].as_object().unwrap().iter();
        let entries = files.map(|(name, data)| {
            let data = bytes(data);
            Entry {
                name: name.clone(),
                length: data.len().try_into().unwrap(),
                content_root: content_root(&data),
            }
        });
        let manifest = Manifest::new(entries.collect()).unwrap();
        assert_eq!(String::from_utf8(manifest.to_bytes()).unwrap(), of["manifest"].as_str().unwrap());
        assert_eq!(manifest.root().0.to_vec(), bytes(&of["root"]));
        assert_eq!(Manifest::from_bytes(of["manifest"].as_str().unwrap().as_bytes()), Ok(manifest));
    }
}

#[test]
fn what_is_no_manifest_is_refused() {
    for of in vectors()["no_manifests"].as_array().unwrap() {
        assert!(Manifest::from_bytes(&bytes(of)).is_err(), "{of}");
    }
}

#[test]
fn a_trained_model_is_the_bytes_of_the_vectors() {
    let all = vectors();
    let of = &all["trained"];
    let file = bytes(&of["file"]);
    let (words, tensors) = Trained::from_bytes(&file).unwrap();
    assert_eq!(serde_json::to_value(&words).unwrap(), of["words"]);
    let mut read = Vec::new();
    for (name, tensor) in of["tensors"].as_object().unwrap() {
        let list = |key: &str| tensor[key].as_array().unwrap().iter();
        let shape: Vec<usize> = list("shape").map(|x| x.as_u64().unwrap().try_into().unwrap()).collect();
        let expected: Vec<f64> = list("floats").map(|x| x.as_f64().unwrap()).collect();
        let floats = tensors.floats(name, &shape).unwrap();
        assert_eq!(floats.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(), expected);
        read.push(Tensor { name: name.clone(), shape, floats });
    }
    assert_eq!(hex::encode(words.to_bytes(&read).unwrap()), hex::encode(&file));
    assert_eq!(content_root(&file).0.to_vec(), bytes(&of["root"]));
}
