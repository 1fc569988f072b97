//! Files of arrays, and of embedded pairs.

use crate::scratch::in_file;
use lens_core::{Quiet, Rows};
use lens_data::{ArrayFile, StoreKeys, StoredPairs, StoredTable, StoredViews, ViewChoice};
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of embeddings that are copied into memory.
const MEMORY: usize = 1 << 20;

/// Every array of a `.safetensors` or `.npy` file, in each way in which arrays are read.
pub fn arrays(bytes: &[u8]) {
    in_file("input.safetensors", bytes, |path| {
        let Ok(file) = ArrayFile::open(path) else { return };
        let file = Arc::new(file);
        file.metadata();
        let keys = file.keys();
        let keys: Vec<Option<&str>> =
            std::iter::once(None).chain(keys.iter().map(|key| Some(&**key))).collect();
        for key in keys {
            let _ = (file.shape(key), file.vector(key), file.integers(key));
            let (whole, table) = (file.floats(key), file.table(key));
            assert_eq!(whole.is_ok(), table.is_ok(), "{:?} {:?}", whole.err(), table.err());
            let (Ok(whole), Ok(table)) = (whole, table) else { continue };
            let mut row = vec![0.0; whole.dim];
            for i in 0..whole.rows {
                table.read(i, &mut row);
                assert_eq!(whole.row(i), Some(&*row), "row {i}");
            }
        }
    });
}

/// Embedded pairs with everything beside them, views among it.
pub fn stored_pairs(bytes: &[u8]) {
    in_file("input.safetensors", bytes, |path| {
        let keys = StoreKeys { chosen: "chosen".to_owned(), rejected: "rejected".to_owned() };
        let files: Vec<PathBuf> = vec![path.to_owned()];
        let _ = StoredTable::open(path, Some("chosen"), &Quiet).map(|table| table.check_reads());
        if let Ok(file) = ArrayFile::open(path)
            && let Ok(views) = StoredViews::read(&file)
        {
            let _ = (views.columns(&[], 4), views.columns(&[ViewChoice::default()], 4));
        }
        let Ok(mut pairs) = StoredPairs::open(&files, &keys, MEMORY, &Quiet) else { return };
        let _ = pairs.select_views(&[ViewChoice::default()]);
        let _ = (pairs.equal_rows(), pairs.check_reads());
    });
}
