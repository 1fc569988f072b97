#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::model::gguf::dtype;
use serde_json::Value;

/// Bytes in base64.
fn bytes(value: &Value) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut n) = (0u32, 0);
    for c in value.as_str().unwrap().bytes().filter(|c| *c != b'=') {
        let six = ALPHABET.iter().position(|a| *a == c).expect("base64") as u32;
        (bits, n) = (bits << 6 | six, n + 6);
        if n >= 8 {
            n -= 8;
            bytes.push((bits >> n) as u8);
            bits &= (1 << n) - 1;
        }
    }
    bytes
}

/// Every type of ggml against values that its own Python package decoded.
#[test]
fn every_type_is_decoded_as_ggml_decodes_it() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/quants.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut refused = Vec::new();
    for entry in all.as_array().unwrap() {
        let name = entry["type"].as_str().unwrap();
        let Some(dtype) = dtype(entry["id"].as_u64().unwrap() as u32) else {
            refused.push(name);
            continue;
        };
        let number = |key: &str| entry[key].as_u64().unwrap() as usize;
        assert_eq!(
            (dtype.block_size(), dtype.type_size()),
            (number("block"), number("block_bytes"))
        );
        let width = entry["shape"][1].as_u64().unwrap() as usize;
        let data = bytes(&entry["data"]);
        let want: Vec<f32> = bytes(&entry["values"])
            .as_chunks::<4>()
            .0
            .iter()
            .map(|c| f32::from_le_bytes(*c))
            .collect();
        let mut got = vec![f32::NAN; want.len()];
        values(name, dtype, &data, width, &mut got).unwrap();
        for (got, want) in got.chunks_exact(width).zip(want.chunks_exact(width)) {
            let most = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            assert!(most > 0.0, "{name}");
            for (got, want) in got.iter().zip(want) {
                match name {
                    "F32" | "F16" | "BF16" => assert_eq!(got.to_bits(), want.to_bits(), "{name}"),
                    _ => assert!((got - want).abs() <= 1e-6 * most, "{name}: {got}, not {want}"),
                }
            }
        }
    }
    assert_eq!(refused, ["IQ4_NL", "IQ4_XS"]);
}
