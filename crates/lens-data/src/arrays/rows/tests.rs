#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::dataset::{fingerprint_arrays, fingerprint_rows};
use half::{bf16, f16};
use lens_core::Label;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// 7 rows of 300 values, exact in every float type.
const ROWS: usize = 7;
const DIM: usize = 300;

fn values() -> Vec<f32> {
    (0..ROWS * DIM).map(|i| ((i * 37) % 255) as f32 / 8.0 - 16.0).collect()
}

fn file(home: &TempDir, bytes: &[u8]) -> PathBuf {
    let path = home.path().join("a");
    fs::write(&path, bytes).unwrap();
    path
}

fn open(home: &TempDir, bytes: &[u8]) -> Arc<ArrayFile> {
    Arc::new(ArrayFile::open(file(home, bytes)).unwrap())
}

fn bytes<const N: usize>(values: &[f32], to: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&v| to(v)).collect()
}

/// A header, padded by some spaces more, so that the data may stand at any address.
fn safetensors(dtype: &str, [rows, dim]: [usize; 2], data: &[u8], spaces: usize) -> Vec<u8> {
    let end = data.len();
    let info = format!(r#"{{"dtype":"{dtype}","shape":[{rows},{dim}],"data_offsets":[0,{end}]}}"#);
    let header = format!("{{\"x\":{info}}}{}", " ".repeat(spaces));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn npy(descr: &str, order: &str, data: &[u8]) -> Vec<u8> {
    let header =
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({ROWS}, {DIM}), }}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

fn all_rows(table: &StoredRows) -> Vec<f32> {
    let mut out = vec![0.0; table.rows() * table.dim()];
    // Backwards: every row is found by itself.
    for (i, row) in out.chunks_exact_mut(table.dim()).enumerate().rev() {
        table.read(i, row);
    }
    assert!(table.failure().is_none());
    out
}

#[test]
fn every_type_and_byte_order_gives_the_values_that_were_stored_wherever_they_stand() {
    let home = tempfile::tempdir().unwrap();
    let values = values();
    let forms: [(&str, Vec<u8>); 4] = [
        ("F16", bytes(&values, |v| f16::from_f32(v).to_le_bytes())),
        ("BF16", bytes(&values, |v| bf16::from_f32(v).to_le_bytes())),
        ("F32", bytes(&values, f32::to_le_bytes)),
        ("F64", bytes(&values, |v| f64::from(v).to_le_bytes())),
    ];
    for (dtype, data) in &forms {
        for spaces in 0..8 {
            let file = open(&home, &safetensors(dtype, [ROWS, DIM], data, spaces));
            let table = file.table(Some("x")).unwrap();
            assert_eq!(table.shape(), [ROWS, DIM]);
            assert!(all_rows(&table) == values, "{dtype}, {spaces} spaces");
            assert_eq!(file.floats(None).unwrap().data, values);
        }
    }
    let mut columns = vec![0.0; values.len()];
    for (i, &value) in values.iter().enumerate() {
        columns[(i % DIM) * ROWS + i / DIM] = value;
    }
    for (descr, order, data) in [
        ("<f2", "False", bytes(&values, |v| f16::from_f32(v).to_le_bytes())),
        (">f2", "False", bytes(&values, |v| f16::from_f32(v).to_be_bytes())),
        ("<f4", "False", bytes(&values, f32::to_le_bytes)),
        (">f4", "False", bytes(&values, f32::to_be_bytes)),
        ("<f8", "False", bytes(&values, |v| f64::from(v).to_le_bytes())),
        (">f8", "False", bytes(&values, |v| f64::from(v).to_be_bytes())),
        ("<f4", "True", bytes(&columns, f32::to_le_bytes)),
        (">f8", "True", bytes(&columns, |v| f64::from(v).to_be_bytes())),
    ] {
        let file = open(&home, &npy(descr, order, &data));
        assert!(all_rows(&file.table(None).unwrap()) == values, "{descr} {order}");
    }
}

#[test]
fn all_halves_become_what_they_are() {
    let home = tempfile::tempdir().unwrap();
    let finite: Vec<u16> = (0..=u16::MAX).filter(|&b| f16::from_bits(b).is_finite()).collect();
    let data: Vec<u8> = finite.iter().flat_map(|b| b.to_le_bytes()).collect();
    let file = open(&home, &safetensors("F16", [1, finite.len()], &data, 1));
    let read = all_rows(&file.table(None).unwrap());
    assert!(
        read.iter().zip(&finite).all(|(v, &b)| v.to_bits() == f16::from_bits(b).to_f32().to_bits())
    );
    let finite: Vec<u16> = (0..=u16::MAX).filter(|&b| bf16::from_bits(b).is_finite()).collect();
    let data: Vec<u8> = finite.iter().flat_map(|b| b.to_le_bytes()).collect();
    let file = open(&home, &safetensors("BF16", [1, finite.len()], &data, 1));
    let read = all_rows(&file.table(None).unwrap());
    assert!(
        read.iter()
            .zip(&finite)
            .all(|(v, &b)| v.to_bits() == bf16::from_bits(b).to_f32().to_bits())
    );
}

#[test]
fn of_several_bad_values_the_first_is_named() {
    let home = tempfile::tempdir().unwrap();
    // Several blocks, so that several threads look.
    let (rows, dim) = (40, BLOCK_VALUES / 8);
    let mut data = vec![0u8; rows * dim * 2];
    let infinity = f16::INFINITY.to_le_bytes();
    for (row, column) in [(39, 0), (17, 5), (17, 6), (30, 1)] {
        let at = 2 * (row * dim + column);
        data[at..at + 2].copy_from_slice(&infinity);
    }
    let file = open(&home, &safetensors("F16", [rows, dim], &data, 0));
    match file.table(None).unwrap_err() {
        Error::NotFinite { row, column, value, key, .. } => {
            assert_eq!((row, column, value, key.as_str()), (17, 5, f32::INFINITY, "x"));
        }
        other => panic!("{other}"),
    }
    let file = open(&home, &safetensors("F64", [1, 1], &1e300f64.to_le_bytes(), 0));
    assert!(matches!(file.table(None), Err(Error::NotFinite { row: 0, column: 0, .. })));
    let file = open(&home, &safetensors("I64", [1, 1], &[0; 8], 0));
    assert!(matches!(file.table(None), Err(Error::WrongElement { .. })));
    let file = open(&home, &safetensors("F32", [0, 3], &[], 0));
    assert!(matches!(file.table(None), Err(Error::EmptyArray { .. })));
}

#[test]
fn many_threads_read_at_once() {
    let home = tempfile::tempdir().unwrap();
    let values = values();
    let data = bytes(&values, |v| f16::from_f32(v).to_le_bytes());
    let file = open(&home, &safetensors("F16", [ROWS, DIM], &data, 3));
    let table = file.table(None).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (table, values) = (&table, &values);
            scope.spawn(move || {
                let mut row = vec![0.0; DIM];
                for step in 0..2000 {
                    let i = (step * 5 + thread) % ROWS;
                    table.read(i, &mut row);
                    assert!(row == values[i * DIM..(i + 1) * DIM]);
                }
            });
        }
    });
}

#[test]
fn the_fingerprint_is_that_of_the_values() {
    let home = tempfile::tempdir().unwrap();
    let values = values();
    let array = crate::Array2::new(ROWS, DIM, values.clone()).unwrap();
    let wanted = fingerprint_arrays(&[&array, &array]);
    for data in [
        safetensors("F32", [ROWS, DIM], &bytes(&values, f32::to_le_bytes), 0),
        safetensors("F16", [ROWS, DIM], &bytes(&values, |v| f16::from_f32(v).to_le_bytes()), 1),
    ] {
        let table = open(&home, &data).table(None).unwrap();
        assert_eq!(
            fingerprint_rows(&[&table, &table], &[Label::default(); 3], &Quiet).unwrap(),
            wanted
        );
        let tie = [Label::default(), Label::Tie];
        let margin = [Label::default(), Label::Preferred { margin: 0.5 }];
        let others =
            [tie, margin].map(|l| fingerprint_rows(&[&table, &table], &l, &Quiet).unwrap());
        assert!(others[0] != wanted && others[1] != wanted && others[0] != others[1]);
    }
}

#[test]
fn a_file_that_becomes_shorter_is_told_and_gives_no_value() {
    let home = tempfile::tempdir().unwrap();
    let data = bytes(&values(), |v| f16::from_f32(v).to_le_bytes());
    let whole = safetensors("F16", [ROWS, DIM], &data, 0);
    let file = open(&home, &whole);
    let table = file.table(None).unwrap();
    let writer = fs::OpenOptions::new().write(true).open(home.path().join("a")).unwrap();
    writer.set_len(whole.len() as u64 - 10).unwrap();
    let mut row = vec![0.0; DIM];
    table.read(ROWS - 2, &mut row);
    assert!(table.failure().is_none() && row.iter().all(|v| v.is_finite()));
    table.read(ROWS - 1, &mut row);
    assert!(row.iter().all(|v| v.is_nan()));
    let failure = table.failure().unwrap().to_string();
    assert!(failure.contains("cannot read") && failure.contains("shorter"), "{failure}");
}

#[test]
fn checking_stops_when_asked_to() {
    struct Stopped;
    impl Progress for Stopped {
        fn begin(&self, _: &str, _: u64, _: &str) {}
        fn advance(&self, _: u64) {}
        fn end(&self) {}
        fn note(&self, _: &str) {}
        fn cancelled(&self) -> bool {
            true
        }
    }
    let home = tempfile::tempdir().unwrap();
    let data = bytes(&values(), f32::to_le_bytes);
    let file = open(&home, &safetensors("F32", [ROWS, DIM], &data, 0));
    assert!(matches!(file.table_with(None, &Stopped), Err(Error::Cancelled)));
    let table = file.table(None).unwrap();
    assert!(matches!(fingerprint_rows(&[&table], &[], &Stopped), Err(Error::Cancelled)));
}
