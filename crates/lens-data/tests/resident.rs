//! A store larger than a process may become: its rows are read, and the process stays small.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use half::f16;
use lens_core::{EmbeddedPairs, Embeddings, Quiet, Rows, Standardiser};
use lens_data::{ArrayFile, StoredRows, fingerprint_rows};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

const PAIRS: usize = 24_000;
const DIM: usize = 2048;

/// What the value at a place is.
fn value(side: usize, row: usize, column: usize) -> f16 {
    f16::from_f32(((side * 7 + row * 13 + column) % 101) as f32 / 16.0 - 3.0)
}

/// Written piece by piece, so that this process never holds it either.
fn write_store(path: &Path) -> u64 {
    let size = PAIRS * DIM * 2;
    let entry = |name: &str, from: usize| {
        let to = from + size;
        format!(
            r#""{name}":{{"dtype":"F16","shape":[{PAIRS},{DIM}],"data_offsets":[{from},{to}]}}"#
        )
    };
    let header = format!("{{{},{}}}", entry("chosen", 0), entry("rejected", size));
    let mut out = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    out.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    out.write_all(header.as_bytes()).unwrap();
    for side in 0..2 {
        for row in 0..PAIRS {
            let bytes: Vec<u8> =
                (0..DIM).flat_map(|column| value(side, row, column).to_le_bytes()).collect();
            out.write_all(&bytes).unwrap();
        }
    }
    out.flush().unwrap();
    (2 * size) as u64
}

/// The largest this process has been, mapped pages of files included.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_store_is_read_at_random_in_little_memory() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("store.safetensors");
    let size = write_store(&path);
    let before = peak_bytes();

    let file = Arc::new(ArrayFile::open(&path).unwrap());
    let tables = ["chosen", "rejected"].map(|key| Arc::new(file.table(Some(key)).unwrap()));
    let [a, b] = &tables;
    assert_eq!(fingerprint_rows(&[&**a, &**b], &[], &Quiet).unwrap().len(), 64);
    let embeddings = |table: &Arc<StoredRows>| Embeddings::new(Arc::clone(table) as Arc<dyn Rows>);
    let pairs = EmbeddedPairs::new(embeddings(a), embeddings(b)).unwrap();
    assert_eq!(Standardiser::fit(&pairs).constant_dimensions(), 0);
    // All rows of both sides, twice, in an order without an order, on four threads.
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let tables = &tables;
            scope.spawn(move || {
                let mut row = vec![0.0; DIM];
                for step in (thread..2 * PAIRS).step_by(4) {
                    // Steps of a prime that does not divide their number visit every row.
                    let i = (step * 7919) % PAIRS;
                    for (side, table) in tables.iter().enumerate() {
                        table.read(i, &mut row);
                        let column = step % DIM;
                        assert_eq!(row[column], value(side, i, column).to_f32());
                    }
                }
            });
        }
    });
    assert!(tables.iter().all(|table| table.failure().is_none()));

    let grown = peak_bytes() - before;
    eprintln!("{} MB more at the peak, for a store of {} MB", grown >> 20, size >> 20);
    assert!(grown < size / 4, "{grown} bytes more, for a store of {size}");
}

/// Seconds that this thread was on a processor, whoever else wants it.
fn cpu_seconds() -> f64 {
    let status = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    status.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// Time of the checking pass (by the clock, all threads), and processor time of fingerprint and
/// rows (one thread), on files in the page cache:
/// `cargo test --release --workspace --test resident -- --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn how_fast() {
    use std::time::Instant;
    let (rows, dim) = (32_768usize, 4096usize);
    let home = tempfile::tempdir().unwrap();
    for (dtype, size) in [("F16", 2), ("BF16", 2), ("F32", 4), ("F64", 8)] {
        let path = home.path().join(dtype);
        let end = rows * dim * size;
        let header = format!(
            r#"{{"x":{{"dtype":"{dtype}","shape":[{rows},{dim}],"data_offsets":[0,{end}]}}}} "#
        );
        let mut out = std::fs::File::create(&path).unwrap();
        out.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
        out.write_all(header.as_bytes()).unwrap();
        let zeros = vec![0u8; dim * size * 64];
        (0..rows / 64).for_each(|_| out.write_all(&zeros).unwrap());
        drop(out);
        let file = Arc::new(ArrayFile::open(&path).unwrap());
        let start = Instant::now();
        let table = file.table(None).unwrap();
        let check = start.elapsed().as_secs_f64();
        let start = cpu_seconds();
        fingerprint_rows(&[&table], &[], &Quiet).unwrap();
        let hash = cpu_seconds() - start;
        let mut row = vec![0.0; dim];
        let start = cpu_seconds();
        (0..rows).for_each(|step| table.read(step * 7919 % rows, &mut row));
        let read = (cpu_seconds() - start) / rows as f64;
        eprintln!(
            "{dtype}: {} MB checked in {check:.2} s, fingerprint {hash:.2} s, {:.2} us a row",
            end >> 20,
            read * 1e6
        );
        std::fs::remove_file(&path).unwrap();
    }
}
