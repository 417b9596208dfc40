//! Foreign bytes as a GGUF file: values that lie within it, or an error.
#![no_main]

use ashlar_runtime::Gguf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = Gguf::read(bytes) {
        let within = bytes.as_ptr_range();
        for (name, tensor) in file.tensors() {
            assert!(!name.is_empty() || tensor.rows > 0);
            let range = tensor.bytes.as_ptr_range();
            assert!(tensor.bytes.is_empty() || within.start <= range.start && range.end <= within.end);
        }
    }
});
