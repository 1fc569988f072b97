//! Which columns of stored embeddings hold which view of the texts, as the file says itself.

use super::keys::VIEWS;
use super::stored_encoder;
use crate::arrays::ArrayFile;
use crate::encoder::{View, ViewChoice};
use crate::error::Error;
use lens_core::EmbeddedPairs;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A view and the columns that hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredView {
    /// The first column, and the one after the last.
    pub columns: [usize; 2],
    /// The hidden state that they hold.
    pub view: View,
}

impl StoredView {
    fn range(&self) -> Range<usize> {
        self.columns[0]..self.columns[1]
    }
}

/// The views that a file says it holds; none where it says nothing, as files from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredViews {
    path: PathBuf,
    views: Vec<StoredView>,
    /// Blocks of the model, where the file says it: negative layers count from the last.
    layers: Option<usize>,
}

/// Columns of stored embeddings, and the view in each range where the file says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewColumns {
    /// Ranges of columns, in the order in which their views were asked for.
    pub columns: Vec<Range<usize>>,
    /// The view in each range; empty where the file does not say it.
    pub views: Vec<View>,
}

impl StoredViews {
    /// Reads the views of a file.
    ///
    /// # Errors
    /// [`Error::BadMetadata`].
    pub fn read(file: &ArrayFile) -> Result<StoredViews, Error> {
        let path = file.path().to_owned();
        let views = match file.metadata().get(VIEWS) {
            None => Vec::new(),
            Some(text) => serde_json::from_str(text).map_err(|e| Error::BadMetadata {
                path: path.clone(),
                key: VIEWS,
                detail: e.to_string(),
            })?,
        };
        let layers = stored_encoder(file).map(|record| record.identity.layers);
        Ok(StoredViews { path, views, layers })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The views, in the order of the file.
    pub fn list(&self) -> &[StoredView] {
        &self.views
    }

    /// The deepest layer that is stored; `None` where the file does not say its views.
    pub fn last_layer(&self) -> Option<usize> {
        self.views.iter().map(|v| v.view.layer).max()
    }

    /// The widths of the views of embeddings of `width` columns; one view where the file does not
    /// say what all of them hold.
    pub fn widths(&self, width: usize) -> Vec<usize> {
        let all = self.ranges();
        if covers_all(&all, width) { all.iter().map(Range::len).collect() } else { vec![width] }
    }

    /// The columns of the views that are asked for, of embeddings of `width` columns. Where none is
    /// asked for, those of all views, or all columns in one piece where the file does not say what
    /// all of them hold.
    ///
    /// # Errors
    /// [`Error::NoSuchView`]; [`Error::BadColumns`].
    pub fn columns(&self, asked: &[ViewChoice], width: usize) -> Result<ViewColumns, Error> {
        if asked.is_empty() {
            let all = self.ranges();
            if !covers_all(&all, width) {
                let whole = std::iter::once(0..width).collect();
                return Ok(ViewColumns { columns: whole, views: Vec::new() });
            }
            return Ok(ViewColumns { columns: all, views: self.views() });
        }
        let mut found = ViewColumns { columns: Vec::new(), views: Vec::new() };
        for asked in asked {
            let counted = |layers| asked.counted_from_zero(layers);
            let asked = self.layers.map_or_else(|| asked.clone(), counted);
            let mut here = self.views.iter().filter(|v| asked.asks_for(&v.view)).peekable();
            if here.peek().is_none() {
                let (path, held) = (self.path.clone(), self.views());
                return Err(Error::NoSuchView { path, asked, held });
            }
            for stored in here {
                let [from, to] = stored.columns;
                if from >= to || to > width {
                    let (path, key) = (self.path.clone(), VIEWS);
                    return Err(Error::BadColumns { path, key, from, to, width });
                }
                found.columns.push(from..to);
                found.views.push(stored.view.clone());
            }
        }
        Ok(found)
    }

    /// The same file, cut to these columns.
    pub(super) fn cut(&self, chosen: &ViewColumns) -> StoredViews {
        let mut end = 0;
        let place = |(columns, view): (&Range<usize>, &View)| {
            let start = end;
            end += columns.len();
            StoredView { columns: [start, end], view: view.clone() }
        };
        let views = chosen.columns.iter().zip(&chosen.views).map(place).collect();
        StoredViews { path: self.path.clone(), views, layers: self.layers }
    }

    fn ranges(&self) -> Vec<Range<usize>> {
        self.views.iter().map(StoredView::range).collect()
    }

    fn views(&self) -> Vec<View> {
        self.views.iter().map(|stored| stored.view.clone()).collect()
    }
}

/// Whether the ranges are all columns of embeddings of `width` columns, in their order.
pub fn covers_all(columns: &[Range<usize>], width: usize) -> bool {
    let mut end = 0;
    let follows = |range: &Range<usize>| {
        let follows = range.start == end && range.end > end;
        end = range.end;
        follows
    };
    columns.iter().all(follows) && end == width
}

/// The pairs with these columns side by side, each range a view. No embedding is copied.
///
/// # Errors
/// [`Error::Core`] for columns that are not there.
pub fn pairs_of_columns(
    pairs: &EmbeddedPairs,
    columns: &[Range<usize>],
) -> Result<EmbeddedPairs, Error> {
    if covers_all(columns, pairs.dim()) {
        return Ok(pairs.clone().with_views(columns.iter().map(Range::len).collect())?);
    }
    Ok(pairs.column_ranges(columns)?)
}
