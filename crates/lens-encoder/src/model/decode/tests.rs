#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
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
    let mut seen = Vec::new();
    for entry in all.as_array().unwrap() {
        let name = entry["type"].as_str().unwrap();
        let stored = StoredType::of_ggml(entry["id"].as_u64().unwrap() as u32).unwrap();
        assert_eq!(format!("{stored:?}"), name);
        let number = |key: &str| entry[key].as_u64().unwrap() as usize;
        assert_eq!(
            (stored.block(), stored.block_bytes()),
            (number("block"), number("block_bytes"))
        );
        let data = bytes(&entry["data"]);
        let want: Vec<f32> = bytes(&entry["values"])
            .as_chunks::<4>()
            .0
            .iter()
            .map(|c| f32::from_le_bytes(*c))
            .collect();
        let mut got = vec![f32::NAN; want.len()];
        values(stored, &data, &mut got);
        seen.push(stored);
        assert!(want.iter().any(|v| *v != 0.0), "{name}");
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&got), bits(&want), "{name}");
    }
    let all = (0..64).filter_map(StoredType::of_ggml);
    assert_eq!(all.filter(|stored| !seen.contains(stored)).collect::<Vec<_>>(), []);
}
