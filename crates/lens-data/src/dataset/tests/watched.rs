use super::parquet_files::flat;
use super::*;
use parquet::basic::Compression as Codec;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts, and asks to stop when it has been asked so often.
struct Watch {
    asked: AtomicUsize,
    stop_after: usize,
    stage: Mutex<Vec<(u64, u64, String)>>,
}

impl Watch {
    fn until(stop_after: usize) -> Watch {
        Watch { asked: AtomicUsize::new(0), stop_after, stage: Mutex::default() }
    }
}

impl Progress for Watch {
    fn begin(&self, _stage: &str, total: u64, unit: &str) {
        self.stage.lock().unwrap().push((0, total, unit.to_owned()));
    }
    fn advance(&self, n: u64) {
        self.stage.lock().unwrap().last_mut().unwrap().0 += n;
    }
    fn end(&self) {}
    fn note(&self, _line: &str) {}
    fn cancelled(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed) >= self.stop_after
    }
}

/// Four pairs in every format, with the unit in which their progress is told.
fn files(home: &Home) -> Vec<(PathBuf, &'static str)> {
    let row = r#"{"prompt": "p", "chosen": "a", "rejected": "b"}"#;
    vec![
        (home.file("a.jsonl", format!("{row}\n").repeat(4)), "bytes"),
        (home.file("a.json", format!("[{}]", [row; 4].join(","))), "bytes"),
        (home.file("a.csv", format!("prompt,chosen,rejected\n{}", "p,a,b\n".repeat(4))), "bytes"),
        (home.file("a.parquet", flat(Codec::SNAPPY)), "rows"),
    ]
}

#[test]
fn progress_reaches_the_end_of_a_file() {
    let home = Home::new();
    for (path, unit) in files(&home) {
        let watch = Watch::until(usize::MAX);
        let data = read_pairs_with(&path, &ReadOptions::default(), &watch).unwrap();
        assert_eq!(data.read, 4);
        let total = if unit == "rows" { 4 } else { fs::metadata(&path).unwrap().len() };
        assert_eq!(*watch.stage.lock().unwrap(), [(total, total, unit.to_owned())]);
    }
}

#[test]
fn reading_stops_where_that_is_asked_for() {
    let home = Home::new();
    for (path, _) in files(&home) {
        let options = ReadOptions::default();
        let pairs = read_pairs_with(&path, &options, &Watch::until(2));
        assert!(matches!(pairs, Err(Error::Cancelled)), "{pairs:?}");
        let rows = read_exchanges_with(&path, &options, &Watch::until(0));
        assert!(matches!(rows, Err(Error::Cancelled)), "{rows:?}");
    }
}
