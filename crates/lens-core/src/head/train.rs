//! Training of a head of either kind.

use super::data::{HeadData, HeadReport};
use super::ensemble::Head;
use super::settings::{HeadKind, HeadSettings};
use super::{logistic, mlp};
use crate::error::CoreError;
use crate::linalg::Threads;
use crate::progress::Progress;

/// Trains an ensemble: a fresh one, or `start` further. Only real pairs decide when a member stops.
/// `stage` names the training in curves.
///
/// # Errors
/// [`CoreError::TooFewPairs`] below two prompts where some are to be held out, or when every pair
/// is a tie; [`CoreError::NoDifference`] when every pair has equal sides; [`CoreError::WarmStart`]
/// when `start` has other sizes than the settings ask for; [`CoreError::Diverged`];
/// [`CoreError::Cancelled`].
pub fn train(
    data: HeadData<'_>,
    settings: &HeadSettings,
    start: Option<&Head>,
    seed: u64,
    threads: Threads,
    stage: &str,
    progress: &dyn Progress,
) -> Result<(Head, HeadReport), CoreError> {
    threads.inside(|| match settings.kind {
        HeadKind::Mlp => mlp::train(data, settings, start, seed, threads, stage, progress),
        HeadKind::Logistic => {
            logistic::train(data, settings, start, seed, threads, stage, progress)
        }
    })
}
