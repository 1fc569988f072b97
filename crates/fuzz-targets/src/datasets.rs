//! Datasets in every format, read in every way in which rows are read.

use crate::scratch::in_file;
use lens_core::Quiet;
use lens_data::{
    ColumnNames, DataSource, ReadOptions, read_exchanges, read_judged_with, read_pairs,
    read_prompts_with, read_whole_rows_with, survey, vet, visit_exchanges,
};
use std::ops::ControlFlow;
use std::path::Path;

/// Begins a first line with the names of columns: it is no part of the file.
const COLUMNS: &[u8] = b"columns: ";

/// JSON, an object a line or a list.
pub fn json(bytes: &[u8]) {
    read_text("input.jsonl", bytes);
}

/// CSV; with a tab in its first line, TSV.
pub fn csv(bytes: &[u8]) {
    let (_, file) = named_columns(bytes);
    let first = file.split(|b| *b == b'\n').next().unwrap_or_default();
    read_text(if first.contains(&b'\t') { "input.tsv" } else { "input.csv" }, bytes);
}

/// Parquet.
pub fn parquet(bytes: &[u8]) {
    in_file("input.parquet", bytes, |path| read(path, &ReadOptions::default()));
}

/// Arrow, as a file or as a stream.
pub fn arrow(bytes: &[u8]) {
    in_file("input.arrow", bytes, |path| read(path, &ReadOptions::default()));
}

/// JSON lines, compressed with gzip.
pub fn gzip(bytes: &[u8]) {
    in_file("input.jsonl.gz", bytes, |path| read(path, &ReadOptions::default()));
}

/// JSON lines, compressed with Zstandard.
pub fn zstd(bytes: &[u8]) {
    in_file("input.jsonl.zst", bytes, |path| read(path, &ReadOptions::default()));
}

fn read_text(name: &str, bytes: &[u8]) {
    let (columns, file) = named_columns(bytes);
    let no_prompt = columns.is_none() && file.len().is_multiple_of(2);
    let columns = columns.unwrap_or_default();
    let options = ReadOptions { columns, no_prompt, ..ReadOptions::default() };
    in_file(name, file, |path| read(path, &options));
}

/// The names that an input gives to columns, and the rest of it.
fn named_columns(bytes: &[u8]) -> (Option<ColumnNames>, &[u8]) {
    let named = bytes.strip_prefix(COLUMNS).and_then(|rest| {
        let end = rest.iter().position(|b| *b == b'\n')?;
        let names = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
        Some((names, &rest[end + 1..]))
    });
    named.map_or((None, bytes), |(names, rest)| (Some(names), rest))
}

fn read(path: &Path, options: &ReadOptions) {
    let source = DataSource::new([path.to_owned()]);
    // What is told of a dataset that is never held in memory must be what is told of one that is.
    let surveyed = survey(&source, options, &Quiet);
    match read_pairs(source.clone(), options) {
        Err(error) => assert!(surveyed.is_err(), "surveyed, but: {error}"),
        Ok(dataset) => {
            let vetted = vet(dataset);
            let surveyed = surveyed.expect("what can be read can be surveyed");
            assert_eq!(surveyed.report, vetted.report);
            assert_eq!(surveyed.fingerprint, vetted.fingerprint());
            vetted.prompt_numbers();
        }
    }
    let _ = read_exchanges(source.clone(), options);
    let _ = read_judged_with(source.clone(), options, &Quiet);
    let _ = read_prompts_with(source.clone(), options, &Quiet);
    let _ = read_whole_rows_with(source.clone(), options, &Quiet);
    let strict = ReadOptions { strict: true, ..options.clone() };
    let _ = visit_exchanges(source, &strict, &mut |_| ControlFlow::Continue(()));
}
