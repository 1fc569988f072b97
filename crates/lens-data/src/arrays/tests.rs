#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use half::{bf16, f16};
use proptest::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

struct Home(TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn open(&self, bytes: impl AsRef<[u8]>) -> Result<ArrayFile, Error> {
        ArrayFile::open(self.file("a", bytes))
    }
}

fn tensors(list: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Vec<u8> {
    let views = list.iter().map(|(name, dtype, shape, bytes)| {
        (*name, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

fn bytes<T, const N: usize>(values: &[T], to: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(to).collect()
}

fn npy(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

fn f32s(values: &[f32]) -> Vec<u8> {
    bytes(values, |v| v.to_le_bytes())
}

#[test]
fn all_float_types_of_safetensors_become_float32() {
    let values = [1.0f32, -2.5, 0.0, 4.0, 0.125, 96.0];
    let file = tensors(&[
        ("f16", Dtype::F16, &[2, 3], bytes(&values, |v| f16::from_f32(*v).to_le_bytes())),
        ("bf16", Dtype::BF16, &[2, 3], bytes(&values, |v| bf16::from_f32(*v).to_le_bytes())),
        ("f32", Dtype::F32, &[2, 3], f32s(&values)),
        ("f64", Dtype::F64, &[2, 3], bytes(&values, |v| f64::from(*v).to_le_bytes())),
        ("row", Dtype::I32, &[2], bytes(&[7i32, -1], |v| v.to_le_bytes())),
    ]);
    let home = Home::new();
    let file = home.open(file).unwrap();
    for key in ["f16", "bf16", "f32", "f64"] {
        let array = file.floats(Some(key)).unwrap();
        assert_eq!((array.shape(), array.data.as_slice()), ([2, 3], &values[..]), "{key}");
        assert_eq!((array.row(1), array.row(2)), (Some(&values[3..]), None));
    }
    assert_eq!(file.integers(Some("row")).unwrap(), [7, -1]);
    assert_eq!(file.shape(Some("row")).unwrap(), [2]);
}

#[test]
fn errors_name_key_shape_and_place() {
    let file = tensors(&[
        ("a", Dtype::F32, &[2, 2], f32s(&[1.0, 2.0, 3.0, f32::NAN])),
        ("b", Dtype::F64, &[1, 1], bytes(&[1e300f64], |v| v.to_le_bytes())),
        ("c", Dtype::F32, &[0, 2], Vec::new()),
        ("d", Dtype::F32, &[2], f32s(&[1.0, 2.0])),
        ("e", Dtype::F32, &[1, 2], f32s(&[1.0, 2.0])),
        ("g", Dtype::F32, &[1, 1], f32s(&[1.0])),
        ("i", Dtype::I64, &[1, 1], vec![0; 8]),
        ("u", Dtype::U64, &[1], vec![255; 8]),
    ]);
    let home = Home::new();
    let file = home.open(file).unwrap();
    let at = |key| match file.floats(Some(key)).unwrap_err() {
        Error::NotFinite { row, column, .. } => (row, column),
        other => panic!("{other}"),
    };
    assert_eq!((at("a"), at("b")), ((1, 1), (0, 0)));
    assert!(matches!(file.floats(Some("c")), Err(Error::EmptyArray { .. })));
    let rank = file.floats(Some("d")).unwrap_err();
    assert!(rank.to_string().contains("expected 2 axes, found shape [2]"), "{rank}");
    assert!(matches!(file.integers(Some("i")), Err(Error::WrongRank { .. })));
    assert!(matches!(file.floats(Some("i")), Err(Error::WrongElement { .. })));
    assert!(matches!(file.integers(Some("d")), Err(Error::WrongElement { .. })));
    assert!(matches!(file.integers(Some("u")), Err(Error::WrongElement { .. })));
    let missing = file.floats(Some("x")).unwrap_err().to_string();
    assert!(missing.contains("no array `x`") && missing.contains("`b`, `a`"), "{missing}");
    let unnamed = file.floats(None).unwrap_err().to_string();
    assert!(unnamed.contains("must be named"), "{unnamed}");
    let pair = file.float_pair("e", "g").unwrap_err();
    assert_eq!(pair.to_string(), "array `e` is [1, 2], but array `g` is [1, 1]");
}

#[test]
fn a_single_array_needs_no_key() {
    let home = Home::new();
    let file = home.open(tensors(&[("a", Dtype::F32, &[1, 1], f32s(&[1.0]))])).unwrap();
    assert_eq!(file.floats(None).unwrap().data, [1.0]);
}

#[test]
fn npy_in_both_orders_all_types_and_byte_orders() {
    let home = Home::new();
    let values = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
    let read = |file: Vec<u8>| home.open(file).unwrap().floats(None).unwrap();
    let half = bytes(&values, |v| f16::from_f32(*v).to_le_bytes());
    let double = bytes(&values, |v| f64::from(*v).to_be_bytes());
    for file in [
        npy("'<f4'", "False", "(2, 3)", &f32s(&values)),
        npy("\"<f2\"", "False", "( 2,3 ,)", &half),
        npy("'>f8'", "False", "(2, 3)", &double),
        npy("'<f4'", "True", "(2, 3)", &f32s(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0])),
    ] {
        let array = read(file);
        assert_eq!((array.shape(), array.data.as_slice()), ([2, 3], &values[..]));
    }
    let rows = npy("'<i4'", "False", "(2,)", &[1, 0, 0, 0, 255, 255, 255, 255]);
    assert_eq!(home.open(rows).unwrap().integers(None).unwrap(), [1, -1]);
    let file = home.open(npy("'<f4'", "False", "(1, 1)", &f32s(&[1.0]))).unwrap();
    assert!(matches!(file.floats(Some("x")), Err(Error::MissingArray { .. })));
    let structured = home.open(npy("[('a', '<f4')]", "False", "(1, 1)", &[0; 4]));
    assert!(structured.unwrap_err().to_string().contains("structured"));
    let object = home.open(npy("'|O'", "False", "(1, 1)", b"pickle")).unwrap();
    assert!(object.floats(None).unwrap_err().to_string().ends_with("found |O"));
}

#[test]
fn tampered_headers_are_refused_before_anything_is_allocated() {
    let home = Home::new();
    let refused = |file: Vec<u8>| match home.open(file) {
        Err(Error::Corrupt { detail, .. }) => detail,
        other => panic!("{other:?}"),
    };
    let huge = format!("({}, {})", u64::MAX, 2);
    assert!(refused(npy("'<f4'", "False", &huge, &[])).contains("too large"));
    assert!(refused(npy("'<f4'", "False", "(1000000000, 1)", &[])).contains("but 0 are there"));
    assert!(refused(npy("'<f4'", "False", "(1, 1)", &[0; 5])).contains("but 5 are there"));
    assert!(refused(npy("'<f4'", "False", "(99999999999999999999,)", &[])).contains("number"));
    let long = [b"\x93NUMPY\x02\x00".as_slice(), &u32::MAX.to_le_bytes()].concat();
    assert!(refused(long).contains("a header of 4294967295 bytes"));

    assert!(refused(u64::MAX.to_le_bytes().to_vec()).contains("bytes, more than"));
    assert!(refused(Vec::new()).contains("a file of 0 bytes"));
    let header = |json: &str| [&(json.len() as u64).to_le_bytes(), json.as_bytes()].concat();
    for json in [
        r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1000000000,1],"data_offsets":[0,4000000000]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[8,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,18446744073709551615]}}"#,
        r#"{"a":"#,
    ] {
        refused(header(json));
    }
    let deep = "[".repeat(100_000);
    refused(header(&format!("{{\"a\":{deep}")));
}

#[test]
fn other_files_are_named() {
    let home = Home::new();
    let zip = home.open(b"PK\x03\x04rest").unwrap_err();
    assert!(zip.to_string().contains(".npz"), "{zip}");
    assert!(matches!(ArrayFile::open(home.0.path()), Err(Error::IsFolder { .. })));
    let missing = ArrayFile::open(home.0.path().join("none"));
    assert!(matches!(missing, Err(Error::NotFound { .. })));
}

#[test]
fn what_is_written_is_read_and_has_the_same_bytes_each_time() {
    let home = Home::new();
    let path = home.0.path().join("out.safetensors");
    let a = Array2::new(2, 2, vec![1.0, -2.0, 3.5, 4.0]).unwrap();
    let b = Array2::new(1, 3, vec![0.1, 0.2, 0.3]).unwrap();
    let notes: BTreeMap<_, _> =
        ["model", "text", "pooling"].map(|k| (k.to_owned(), format!("{k} é\""))).into();
    write_safetensors(&path, &[("b", &b), ("a", &a)], &[("row", &[5, -6])], &notes).unwrap();
    let first = fs::read(&path).unwrap();
    write_safetensors(&path, &[("a", &a), ("b", &b)], &[("row", &[5, -6])], &notes).unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
    let header = u64::from_le_bytes(first[..8].try_into().unwrap());
    assert_eq!(header % 8, 0);
    let file = ArrayFile::open(&path).unwrap();
    assert_eq!(file.keys(), ["row", "a", "b"]);
    assert_eq!(file.floats(Some("a")).unwrap(), a);
    assert_eq!(file.floats(Some("b")).unwrap(), b);
    assert_eq!(file.integers(Some("row")).unwrap(), [5, -6]);
    assert_eq!(file.metadata(), notes);
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let home = Home::new();
    let path = home.0.path().join("out");
    let write = |floats: &[(&str, &Array2)]| {
        write_safetensors(&path, floats, &[("row", &[1])], &BTreeMap::new())
    };
    let good = Array2::new(1, 1, vec![1.0]).unwrap();
    let bad = Array2 { rows: 1, dim: 2, data: vec![0.0, f32::INFINITY] };
    let short = Array2 { rows: 3, dim: 2, data: vec![0.0] };
    let none = Array2 { rows: 0, dim: 2, data: Vec::new() };
    assert!(matches!(write(&[("x", &bad)]), Err(Error::NotFinite { column: 1, .. })));
    assert!(matches!(write(&[("x", &short)]), Err(Error::WrongLength { found: 1, .. })));
    assert!(matches!(write(&[("x", &none)]), Err(Error::EmptyArray { .. })));
    assert!(matches!(write(&[("row", &good)]), Err(Error::BadArrayName { .. })));
    assert!(matches!(write(&[("__metadata__", &good)]), Err(Error::BadArrayName { .. })));
    assert_eq!(fs::read_dir(home.0.path()).unwrap().count(), 0);
    assert!(Array2::new(usize::MAX, 2, Vec::new()).is_err());
    assert_eq!(short.row(1), None);
}

/// Opens whatever it is and asks for everything in it.
fn exercise(home: &Home, bytes: &[u8]) {
    if let Ok(file) = home.open(bytes) {
        let keys = file.keys();
        for key in keys.iter().map(|key| Some(key.as_str())).chain([None]) {
            let _ = (file.shape(key), file.floats(key), file.integers(key), file.metadata());
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        prefix in prop_oneof![Just(&b""[..]), Just(&b"\x93NUMPY\x01\x00"[..]), Just(&b"\x10\0\0\0\0\0\0\0{"[..])],
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        exercise(&Home::new(), &[prefix, &rest].concat());
    }

    #[test]
    fn damaged_files_never_panic(at in 0usize..400, byte: u8, cut in 0usize..400, is_npy: bool) {
        let mut file = if is_npy {
            npy("'<f4'", "False", "(2, 3)", &f32s(&[1.0; 6]))
        } else {
            tensors(&[
                ("a", Dtype::F32, &[2, 2], f32s(&[1.0; 4])),
                ("row", Dtype::I64, &[2], vec![0; 16]),
            ])
        };
        let at = at % file.len();
        file[at] = byte;
        let home = Home::new();
        exercise(&home, &file);
        file.truncate(cut % file.len());
        exercise(&home, &file);
    }

    #[test]
    fn the_header_parser_takes_any_text(text in "[\\{\\}\\(\\)'\":, a-z0-9<|TF_]{0,80}") {
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((text.len() as u16).to_le_bytes());
        file.extend(text.as_bytes());
        let _ = npy::parse(&file);
    }

    #[test]
    fn arrays_survive_a_round_trip(
        rows in 1usize..6, dim in 1usize..6,
        values in proptest::collection::vec(proptest::num::f32::NORMAL | proptest::num::f32::ZERO | proptest::num::f32::SUBNORMAL, 25),
        numbers in proptest::collection::vec(any::<i64>(), 0..5),
    ) {
        let home = Home::new();
        let path = home.0.path().join("x");
        let array = Array2::new(rows, dim, values[..rows * dim].to_vec()).unwrap();
        write_safetensors(&path, &[("x", &array)], &[("n", &numbers)], &BTreeMap::new()).unwrap();
        let file = ArrayFile::open(&path).unwrap();
        prop_assert_eq!(file.floats(Some("x")).unwrap(), array);
        prop_assert_eq!(file.integers(Some("n")).unwrap(), numbers);
    }
}

#[test]
fn stores_of_half_the_size_hold_the_rounded_values_and_refuse_those_too_large() {
    let home = Home::new();
    let path = home.0.path().join("half.safetensors");
    let a = Array2::new(2, 2, vec![1.0, -2.03, 3.5, 65504.0]).unwrap();
    let write = |array: &Array2, form| {
        let tensors = [
            ("a", Tensor::Floats(array, form)),
            ("margin", Tensor::Vector(&[0.5, 0.0])),
            ("tie", Tensor::Integers(&[0, 1])),
        ];
        write_tensors(&path, &tensors, &BTreeMap::new())
    };
    write(&a, FloatType::F16).unwrap();
    let file = ArrayFile::open(&path).unwrap();
    assert_eq!(file.keys(), ["tie", "margin", "a"]);
    let expected = [1.0, f16::from_f32(-2.03).to_f32(), 3.5, 65504.0];
    assert_eq!(file.floats(Some("a")).unwrap().data, expected);
    assert_eq!(file.vector(Some("margin")).unwrap(), [0.5, 0.0]);
    assert_eq!(file.integers(Some("tie")).unwrap(), [0, 1]);
    write(&a, FloatType::Bf16).unwrap();
    let stored = ArrayFile::open(&path).unwrap().floats(Some("a")).unwrap().data;
    assert_eq!(stored, a.data.iter().map(|&v| bf16::from_f32(v).to_f32()).collect::<Vec<_>>());

    let large = Array2::new(2, 2, vec![1.0, 2.0, 3.0, -65520.0]).unwrap();
    let refused = write(&large, FloatType::F16).unwrap_err().to_string();
    assert!(refused.contains("row 1, column 1: -65520 is too large for f16"), "{refused}");
    write(&large, FloatType::Bf16).unwrap();
    let largest = Array2::new(1, 1, vec![f32::MAX]).unwrap();
    assert!(matches!(write(&largest, FloatType::Bf16), Err(Error::TooLargeFor { row: 0, .. })));
    let bad = Array2::new(1, 1, vec![f32::NAN]).unwrap();
    assert!(matches!(write(&bad, FloatType::F16), Err(Error::NotFinite { .. })));
}

#[test]
fn truth_values_are_integers_and_vectors_have_one_axis() {
    let home = Home::new();
    let file = home
        .open(tensors(&[
            ("tie", Dtype::BOOL, &[3], vec![1, 0, 1]),
            ("margin", Dtype::F64, &[2], bytes(&[1.5f64, f64::NAN], |v| v.to_le_bytes())),
            ("wide", Dtype::F32, &[1, 1], f32s(&[1.0])),
        ]))
        .unwrap();
    assert_eq!(file.integers(Some("tie")).unwrap(), [1, 0, 1]);
    assert!(matches!(file.floats(Some("tie")), Err(Error::WrongRank { .. })));
    assert!(matches!(file.vector(Some("tie")), Err(Error::WrongElement { .. })));
    assert!(matches!(file.vector(Some("margin")), Err(Error::NotFinite { row: 1, .. })));
    assert!(matches!(file.vector(Some("wide")), Err(Error::WrongRank { .. })));
    let file = home.open(npy("'|b1'", "False", "(2,)", &[0, 1])).unwrap();
    assert_eq!(file.integers(None).unwrap(), [0, 1]);
}

#[test]
fn rows_written_as_they_come_make_the_file_that_is_written_at_once() {
    let home = Home::new();
    let values: Vec<f32> = (0..60).map(|i| i as f32 * 0.5 - 7.0).collect();
    let (a, b) = (home.0.path().join("a"), home.0.path().join("b"));
    let metadata = BTreeMap::from([("what".to_owned(), "a test".to_owned())]);
    let rejected: Vec<f32> = values.iter().map(|x| -x).collect();
    let arrays = [&values, &rejected].map(|v| Array2::new(20, 3, v.clone()).unwrap());
    let pair: Vec<i64> = (0..20).collect();
    write_safetensors(
        &a,
        &[("rejected", &arrays[1]), ("chosen", &arrays[0])],
        &[("pair", &pair), ("none", &[])],
        &metadata,
    )
    .unwrap();

    let shapes = [("rejected", [20, 3]), ("chosen", [20, 3])];
    let lengths = [("pair", 20), ("none", 0)];
    let mut writer = ArrayWriter::create(&b, &shapes, &lengths, &metadata).unwrap();
    pair.chunks(7).for_each(|part| writer.integers("pair", part).unwrap());
    values.chunks(4 * 3).for_each(|rows| writer.floats("chosen", rows).unwrap());
    rejected.chunks(9 * 3).for_each(|rows| writer.floats("rejected", rows).unwrap());
    assert!(!b.exists(), "seen before it is whole");
    let size = writer.finish().unwrap();
    assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    assert_eq!(size, fs::metadata(&b).unwrap().len());
    assert_eq!(ArrayFile::open(&b).unwrap().floats(Some("rejected")).unwrap().data, rejected);
}

#[test]
fn rows_that_were_not_promised_or_did_not_come_leave_no_file() {
    let home = Home::new();
    let path = home.0.path().join("out");
    let create = |shapes: &[(&str, [usize; 2])]| {
        ArrayWriter::create(&path, shapes, &[("pair", 2)], &BTreeMap::new())
    };
    let begun = || {
        let mut writer = create(&[("chosen", [2, 3]), ("rejected", [2, 3])]).unwrap();
        writer.integers("pair", &[0, 1]).unwrap();
        writer
    };
    let wrong = |e: Error| match e {
        Error::WrongRows { key, found, .. } => (key, found),
        e => panic!("{e}"),
    };
    // Too many, part of a row, out of turn, after its turn.
    let mut writer = begun();
    writer.floats("chosen", &[0.0; 3]).unwrap();
    assert_eq!(wrong(writer.floats("chosen", &[0.0; 6]).unwrap_err()), ("chosen".into(), 9));
    assert_eq!(wrong(begun().floats("chosen", &[0.0; 4]).unwrap_err()), ("chosen".into(), 4));
    assert_eq!(wrong(begun().floats("rejected", &[0.0; 3]).unwrap_err()), ("chosen".into(), 0));
    assert_eq!(wrong(begun().integers("pair", &[2]).unwrap_err()), ("pair".into(), 3));
    // Too few.
    writer = begun();
    writer.floats("chosen", &[0.0; 6]).unwrap();
    writer.floats("rejected", &[0.0; 3]).unwrap();
    assert_eq!(wrong(writer.finish().unwrap_err()), ("rejected".into(), 3));
    // No number, in the second block.
    writer = begun();
    writer.floats("chosen", &[0.0; 3]).unwrap();
    let error = writer.floats("chosen", &[0.0, f32::NAN, 0.0]).unwrap_err();
    assert!(matches!(&error, Error::NotFinite { row: 1, column: 1, .. }), "{error}");

    assert!(matches!(create(&[("chosen", [0, 3])]), Err(Error::EmptyArray { .. })));
    assert!(matches!(create(&[("pair", [1, 3])]), Err(Error::BadArrayName { .. })));
    for shape in [[usize::MAX, 2], [usize::MAX / 4, 4], [usize::MAX / 4, 2]] {
        assert!(matches!(create(&[("chosen", shape)]), Err(Error::TooLarge { .. })));
    }
    drop(writer);
    assert_eq!(fs::read_dir(home.0.path()).unwrap().count(), 0);
}
