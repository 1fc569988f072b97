//! Which columns of stored embeddings are which view of the texts, as the file says itself.

use crate::commands::embed::VIEWS_KEY;
use crate::embedding::stored_encoder;
use crate::error::CliError;
use lens_data::ArrayFile;
use lens_encoder::{EncoderIdentity, View};
use serde::Deserialize;
use std::ops::Range;
use std::path::Path;

/// A view and its columns.
#[derive(Deserialize)]
pub struct StoredView {
    /// From, and up to but not with.
    pub columns: [usize; 2],
    /// What it is.
    pub view: View,
}

/// The views that a file says it holds, none where it says nothing, and how many layers the model has
/// above the embedding.
pub fn stored_views(
    file: &ArrayFile,
    path: &Path,
) -> Result<(Vec<StoredView>, Option<usize>), CliError> {
    let damaged = |e: serde_json::Error| {
        CliError::Refused(format!("{}: metadata `{VIEWS_KEY}`: {e}", path.display()))
    };
    let views = match file.metadata().get(VIEWS_KEY) {
        None => Vec::new(),
        Some(text) => serde_json::from_str(text).map_err(damaged)?,
    };
    let identity = stored_encoder(file)
        .and_then(|record| serde_json::from_value::<EncoderIdentity>(record.identity).ok());
    Ok((views, identity.map(|id| id.layers)))
}

/// Whether these are all columns, in their order.
pub fn covers(columns: &[Range<usize>], width: usize) -> bool {
    let mut end = 0;
    let next = |c: &Range<usize>| {
        let next = c.start == end && c.end > end;
        end = c.end;
        next
    };
    columns.iter().all(next) && end == width
}

/// The widths of the views of embeddings so wide: one where the file does not tell all of it.
pub fn widths(views: &[StoredView], width: usize) -> Vec<usize> {
    let all: Vec<Range<usize>> = views.iter().map(|v| v.columns[0]..v.columns[1]).collect();
    if covers(&all, width) { all.iter().map(Range::len).collect() } else { vec![width] }
}
