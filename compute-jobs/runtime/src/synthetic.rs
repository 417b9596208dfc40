//! Files of small models for tests, made up from a seed.

use crate::vocabulary::letter;

/// A value to be written.
#[derive(Clone, Debug)]
pub(crate) enum Written {
    U32(u32),
    F32(f32),
    Truth(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
}

/// A tensor to be written: name, sizes, type, bytes.
pub(crate) type WrittenTensor = (String, Vec<u64>, u32, Vec<u8>);

/// A file to be written.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) entries: Vec<(String, Written)>,
    pub(crate) tensors: Vec<WrittenTensor>,
}

pub(crate) const END: u32 = 257;
const WIDTH: usize = 32;
const INNER_WIDTH: usize = 64;
const LAYERS: usize = 2;
/// A token for each byte, two of control, and one merge.
pub(crate) const VOCABULARY: usize = 259;

const TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] \
                        + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ \
                        '<|im_start|>assistant\n' }}{% endif %}";

/// Numbers that look like any, from -1 to 1.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / 8_388_608.0 - 1.0
    }
}

/// A model that runs, whose answers are noise.
pub(crate) fn model(seed: u64) -> File {
    let mut numbers = Numbers(seed | 1);
    let text = |text: &str| Written::Text(text.to_owned());
    let size = |size: usize| Written::U32(u32::try_from(size).expect("small"));
    let mut tokens: Vec<String> = (0..=u8::MAX).map(|byte| letter(byte).to_string()).collect();
    tokens.extend(["<|im_start|>", "<|im_end|>", "th"].map(String::from));
    let kinds = (0..VOCABULARY).map(|id| if (256..258).contains(&id) { 3 } else { 1 }).collect();
    let entries = vec![
        ("general.architecture", text("llama")),
        ("llama.block_count", size(LAYERS)),
        ("llama.context_length", size(256)),
        ("llama.embedding_length", size(WIDTH)),
        ("llama.feed_forward_length", size(INNER_WIDTH)),
        ("llama.attention.head_count", size(2)),
        ("llama.attention.head_count_kv", size(1)),
        ("llama.rope.freq_base", Written::F32(10_000.0)),
        ("llama.attention.layer_norm_rms_epsilon", Written::F32(1e-5)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        ("tokenizer.ggml.tokens", Written::Texts(tokens)),
        ("tokenizer.ggml.token_type", Written::I32s(kinds)),
        ("tokenizer.ggml.merges", Written::Texts(vec!["t h".into()])),
        ("tokenizer.ggml.eos_token_id", Written::U32(END)),
        ("tokenizer.ggml.add_bos_token", Written::Truth(false)),
        ("tokenizer.chat_template", text(TEMPLATE)),
    ];
    let mut tensors = Vec::new();
    let mut linear = |name: String, rows: usize, columns: usize, kind: u32| {
        let blocks = rows * columns / 32;
        let mut bytes = Vec::new();
        for _ in 0..blocks {
            let half = |number: f32| half::f16::from_f32(number).to_le_bytes();
            let codes = if kind == 8 { 32 } else { 16 };
            let scale = if kind == 8 { 0.002 } else { 0.03 };
            bytes.extend(half((1.0 + numbers.next().abs()) * scale));
            if kind == 3 {
                bytes.extend(half(-0.2 + numbers.next() * 0.01));
            }
            bytes.extend((0..codes).map(|_| (numbers.next() * 127.0) as i8 as u8));
        }
        let sizes = vec![columns as u64, rows as u64];
        tensors.push((name, sizes, kind, bytes));
    };
    linear("token_embd.weight".into(), VOCABULARY, WIDTH, 8);
    for layer in 0..LAYERS {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        linear(name("attn_q"), WIDTH, WIDTH, 3);
        linear(name("attn_k"), WIDTH / 2, WIDTH, 3);
        linear(name("attn_v"), WIDTH / 2, WIDTH, 3);
        linear(name("attn_output"), WIDTH, WIDTH, 2);
        linear(name("ffn_gate"), INNER_WIDTH, WIDTH, 3);
        linear(name("ffn_up"), INNER_WIDTH, WIDTH, 3);
        linear(name("ffn_down"), WIDTH, INNER_WIDTH, 3);
    }
    let mut norm = |name: String| {
        let bytes = (0..WIDTH).flat_map(|_| (1.0 + 0.1 * numbers.next()).to_le_bytes()).collect();
        tensors.push((name, vec![WIDTH as u64], 0, bytes));
    };
    norm("output_norm.weight".into());
    for layer in 0..LAYERS {
        norm(format!("blk.{layer}.attn_norm.weight"));
        norm(format!("blk.{layer}.ffn_norm.weight"));
    }
    let entries = entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    File { entries, tensors }
}

impl File {
    pub(crate) fn with(mut self, key: &str, value: Written) -> Self {
        self.entries.retain(|(there, _)| there != key);
        self.entries.push((key.to_owned(), value));
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.entries.retain(|(there, _)| there != key);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            text(&mut bytes, key);
            let kind = |bytes: &mut Vec<u8>, kind: u32| bytes.extend(kind.to_le_bytes());
            match value {
                Written::U32(number) => {
                    kind(&mut bytes, 4);
                    bytes.extend(number.to_le_bytes());
                }
                Written::F32(number) => {
                    kind(&mut bytes, 6);
                    bytes.extend(number.to_le_bytes());
                }
                Written::Truth(truth) => {
                    kind(&mut bytes, 7);
                    bytes.push(u8::from(*truth));
                }
                Written::Text(value) => {
                    kind(&mut bytes, 8);
                    text(&mut bytes, value);
                }
                Written::Texts(values) => {
                    kind(&mut bytes, 9);
                    kind(&mut bytes, 8);
                    bytes.extend((values.len() as u64).to_le_bytes());
                    values.iter().for_each(|value| text(&mut bytes, value));
                }
                Written::I32s(values) => {
                    kind(&mut bytes, 9);
                    kind(&mut bytes, 5);
                    bytes.extend((values.len() as u64).to_le_bytes());
                    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                }
            }
        }
        let mut offset = 0u64;
        for (name, sizes, kind, data) in &self.tensors {
            text(&mut bytes, name);
            bytes.extend(u32::try_from(sizes.len()).expect("few").to_le_bytes());
            bytes.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            offset = (offset + data.len() as u64).next_multiple_of(32);
        }
        for (_, _, _, data) in &self.tensors {
            bytes.resize(bytes.len().next_multiple_of(32), 0);
            bytes.extend(data);
        }
        bytes
    }
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
