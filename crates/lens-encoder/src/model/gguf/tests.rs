#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::testing::TinyModel;
use crate::{Encoder, EncoderOptions};

fn tiny(dir: &Path) -> (PathBuf, Vec<u8>) {
    let path = dir.join("tiny.gguf");
    TinyModel { layers: 1, ..Default::default() }.write(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    (path, bytes)
}

fn open(path: &Path) -> Result<Encoder> {
    Encoder::open(path, &EncoderOptions::default())
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = tiny(dir.path());
    let header = GgufFile::open(&path).unwrap().tensor("token_embd.weight").unwrap().start;
    let cuts = (0..header).step_by(97).chain([header, header + 1, bytes.len() - 64]);
    for len in cuts {
        std::fs::write(&path, &bytes[..len]).unwrap();
        let error = open(&path).err().unwrap();
        assert!(matches!(error, EncoderError::CorruptModel { .. }), "{len}: {error}");
    }
}

#[test]
fn no_flipped_header_byte_panics() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = tiny(dir.path());
    let header = GgufFile::open(&path).unwrap().tensor("token_embd.weight").unwrap().start;
    let mut opened = 0;
    for at in (0..600).chain((600..header).step_by(13)) {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            let header = Walker::new(&path, &bytes, bytes.len()).header();
            opened += usize::from(header.is_ok());
        }
    }
    // Flips inside names and values can leave the header readable.
    assert!(opened > 0);
}

#[test]
fn flipped_metadata_is_an_error_or_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = tiny(dir.path());
    for at in 0..900 {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x81;
        std::fs::write(&path, bytes).unwrap();
        if let Ok(encoder) = open(&path) {
            let _ = encoder.encode_texts(&["Human".to_owned()], &lens_core::Quiet);
        }
    }
}

#[test]
fn huge_counts_are_refused_before_they_are_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = tiny(dir.path());
    for at in [8, 16] {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(open(&path), Err(EncoderError::CorruptModel { .. })));
    }
    std::fs::write(&path, "").unwrap();
    assert!(matches!(open(&path), Err(EncoderError::CorruptModel { .. })));
    assert!(matches!(open(&dir.path().join("no")), Err(EncoderError::Io { .. })));
}

#[test]
fn an_unknown_architecture_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    TinyModel { architecture: "rwkv9".into(), ..Default::default() }.write(&path).unwrap();
    let error = open(&path).err().unwrap();
    assert!(error.to_string().contains("'rwkv9'; supported: llama, "), "{error}");
}

#[test]
fn a_wrong_shape_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = tiny(dir.path());
    let key = b"feed_forward_length";
    let at = bytes.windows(key.len()).position(|w| w == key).unwrap() + key.len() + 4;
    let mut wrong = bytes.clone();
    wrong[at] = 96;
    std::fs::write(&path, wrong).unwrap();
    match open(&path) {
        Err(EncoderError::TensorShape { name, expected, found, .. }) => {
            assert_eq!(name, "blk.0.ffn_gate.weight");
            assert_eq!((expected, found), (vec![96, 32], vec![64, 32]));
        }
        other => panic!("{:?}", other.err()),
    }
}
