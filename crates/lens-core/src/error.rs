//! The one error type of this crate.

use thiserror::Error;

/// An error between embeddings and a reward model.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum CoreError {
    /// A setting is outside the range in which the method is defined.
    #[error("setting `{name}` is {value}, but must be {expected}")]
    Setting {
        /// The name of the setting, as in the configuration file.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// The permitted range.
        expected: &'static str,
    },
    /// Two arrays that belong together differ in shape.
    #[error("{what}: expected {expected:?}, found {found:?}")]
    Shape {
        /// Which arrays.
        what: &'static str,
        /// Rows and columns expected.
        expected: (usize, usize),
        /// Rows and columns found.
        found: (usize, usize),
    },
    /// Too few pairs to train or evaluate on.
    #[error("{what}: {found} pairs, but at least {needed} are needed")]
    TooFewPairs {
        /// Which step needed them.
        what: &'static str,
        /// How many it needs.
        needed: usize,
        /// How many there were.
        found: usize,
    },
    /// An embedding holds NaN or infinity.
    #[error("{what}: row {row} (0-based), column {column} is {value}, not a finite number")]
    NotFinite {
        /// Which array.
        what: &'static str,
        /// The row, counted from 0.
        row: usize,
        /// The column, counted from 0.
        column: usize,
        /// The value.
        value: f32,
    },
    /// A margin is NaN or infinity: no difference of rewards could be asked for.
    #[error("the margin of pair {pair} (0-based) is {margin}, not a finite number")]
    Margin {
        /// The pair, counted from 0.
        pair: usize,
        /// The value.
        margin: f32,
    },
    /// All pairs have two equal embeddings: there is nothing to learn an order from.
    #[error(
        "all {pairs} pairs have equal embeddings on both sides: there is no difference to learn from"
    )]
    NoDifference {
        /// How many pairs there are.
        pairs: usize,
    },
    /// No dimension of the embeddings varies by more than rounding.
    #[error(
        "all {dim} dimensions of the embeddings are the same in all {pairs} pairs, to rounding: there \
         is nothing to learn from"
    )]
    AllConstant {
        /// How many dimensions there are.
        dim: usize,
        /// How many pairs there are.
        pairs: usize,
    },
    /// Training left the region in which its figures mean anything.
    #[error("{stage} diverged at step {step}: {figures}; {advice}")]
    Diverged {
        /// `VAE` or `head`.
        stage: &'static str,
        /// The optimiser step, counted from 1.
        step: u64,
        /// The figures at that step.
        figures: String,
        /// The settings to try.
        advice: String,
    },
    /// An earlier model cannot be trained further with these settings.
    #[error("the earlier model has {name} = {found}, but {expected} is asked for")]
    WarmStart {
        /// The setting or size.
        name: &'static str,
        /// The value that the settings or the data ask for.
        expected: String,
        /// The value that the earlier model has.
        found: String,
    },
    /// The user asked to stop.
    #[error("stopped while training the {stage}")]
    Cancelled {
        /// `VAE` or `head`.
        stage: &'static str,
    },
}

impl CoreError {
    /// Training, or a fit, ran away at optimiser step `step` (0 where there are no steps): the figures
    /// there, and the settings to try.
    pub(crate) fn diverged(
        stage: &'static str,
        step: u64,
        figures: impl Into<String>,
        advice: impl Into<String>,
    ) -> CoreError {
        CoreError::Diverged { stage, step, figures: figures.into(), advice: advice.into() }
    }

    /// Whether the pairs and settings allow no model: training ran away, or there is nothing to learn
    /// from. Where many settings are compared, that is a result and no failure.
    pub fn is_without_model(&self) -> bool {
        matches!(
            self,
            CoreError::Diverged { .. }
                | CoreError::NoDifference { .. }
                | CoreError::AllConstant { .. }
        )
    }
}

/// Checks one setting: `Err` with its name, value and permitted range unless `ok`.
pub(crate) fn require(
    ok: bool,
    name: &'static str,
    value: impl ToString,
    expected: &'static str,
) -> Result<(), CoreError> {
    if ok { Ok(()) } else { Err(CoreError::Setting { name, value: value.to_string(), expected }) }
}

/// Checks that an earlier model fits: `Err` with both values unless they are equal.
pub(crate) fn require_same<T: PartialEq + std::fmt::Debug>(
    name: &'static str,
    found: T,
    expected: T,
) -> Result<(), CoreError> {
    if found == expected {
        return Ok(());
    }
    let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
    Err(CoreError::WarmStart { name, expected, found })
}
