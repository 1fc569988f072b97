//! Ties and margins beside stored embeddings.

use super::keys::{MARGIN, TIE};
use crate::arrays::ArrayFile;
use crate::error::Error;
use lens_core::Label;
use std::path::Path;

/// The labels of the stored pairs; `None` where the file holds neither margins nor ties.
pub(super) fn stored_labels(
    file: &ArrayFile,
    path: &Path,
    pairs: usize,
) -> Result<Option<Vec<Label>>, Error> {
    let keys = file.keys();
    let has = |key: &str| keys.iter().any(|k| k == key);
    if !has(MARGIN) && !has(TIE) {
        return Ok(None);
    }
    let margins = if has(MARGIN) { file.vector(Some(MARGIN))? } else { vec![0.0; pairs] };
    let ties = if has(TIE) { file.integers(Some(TIE))? } else { vec![0; pairs] };
    for (key, found) in [(MARGIN, margins.len()), (TIE, ties.len())] {
        if found != pairs {
            return Err(Error::WrongCount { path: path.to_owned(), key, expected: pairs, found });
        }
    }
    let label = |(row, (margin, tie)): (usize, (f32, i64))| match (tie, margin) {
        (0, margin) => Ok(Label::Preferred { margin }),
        (1, 0.0) => Ok(Label::Tie),
        (1, margin) => {
            Err(Error::TieWithMargin { path: path.to_owned(), key: MARGIN, row, margin })
        }
        (found, _) => Err(Error::NotATruthValue { path: path.to_owned(), key: TIE, row, found }),
    };
    margins.into_iter().zip(ties).enumerate().map(label).collect::<Result<_, _>>().map(Some)
}
