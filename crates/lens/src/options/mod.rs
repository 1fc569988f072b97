//! What a caller decides: one struct of options for each job, with defaults, checked once before any
//! work is done.

mod model;
mod reproduce;
mod stored;
mod table;

pub use model::{BundleModelOptions, ModelOptions, RuntimeOptions, ServerOptions, server_key};
pub use stored::StoredPairsOptions;

pub(crate) use model::template;
pub(crate) use reproduce::{quoted, run_command, run_settings, train_command, train_settings};
pub(crate) use stored::unless_unreadable;
pub(crate) use table::EncoderTable;

use crate::Error;
use lens_core::MethodSettings;
use serde::{Deserialize, Serialize};

/// Which head a training saves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// The augmented one if it is clearly better on the seed pairs' own folds.
    #[default]
    Auto,
    /// The one without augmentation.
    None,
    /// The one with augmentation.
    Augmented,
}

/// How views of the texts, and the kind of head on them, are selected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ViewSelection {
    /// The views and the head that the options name.
    Fixed,
    /// By nested cross-validation on the training pairs alone.
    Auto,
    /// As [`ViewSelection::Auto`]; where there are too few pairs to select by, as
    /// [`ViewSelection::Fixed`], with a note.
    #[default]
    AutoIfEnough,
    /// As [`ViewSelection::AutoIfEnough`], among poolings of the last layer alone: whatever is selected
    /// can be [exported](crate::export()) to sentence-transformers, and a linear head on the last token
    /// to transformers.
    Exportable,
}

/// The method's settings, and which of them are selected by the job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MethodOptions {
    /// Every setting of the method; where some are selected, the point to start from.
    pub settings: MethodSettings,
    /// Whether views and head are selected. Defaults to [`ViewSelection::AutoIfEnough`].
    pub views: ViewSelection,
    /// Whether the source of synthetic pairs and its noise, or none, are selected by nested
    /// cross-validation. Defaults to `false`.
    pub select_augmentation: bool,
    /// Which head is saved. Defaults to [`Keep::Auto`].
    pub keep: Keep,
}

impl MethodOptions {
    /// Whether cross-validation on the training pairs has something to select.
    pub fn selects(&self) -> bool {
        self.views != ViewSelection::Fixed || self.select_augmentation
    }

    /// Whether a selection for which there are too few pairs is passed over.
    pub(crate) fn may_pass_over_selection(&self) -> bool {
        let passes = [ViewSelection::AutoIfEnough, ViewSelection::Exportable];
        passes.contains(&self.views) && !self.select_augmentation
    }

    /// These settings, with nothing left to select.
    pub(crate) fn settled(&self, settings: MethodSettings) -> Self {
        MethodOptions {
            settings,
            views: ViewSelection::Fixed,
            select_augmentation: false,
            keep: self.keep,
        }
    }
}

/// Checks that a number is at least 1.
pub(crate) fn at_least_one(option: &str, n: usize) -> Result<(), Error> {
    match n {
        0 => Err(Error::option(option, "must be at least 1")),
        _ => Ok(()),
    }
}
