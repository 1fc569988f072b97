//! Selecting views, head and augmentation by nested cross-validation on the training pairs, and what
//! is said of it.

use crate::options::{MethodOptions, ViewSelection};
use crate::views::{candidate_views, exportable_views};
use crate::{Error, Progress};
use lens_core::{CoreError, EmbeddedPairs, MethodSettings};
use lens_data::bundle::Kept;
use lens_encoder::{TextEncoder, ViewChoice};
use lens_eval::tuning::{CandidateKind, Choices, Tuned, tune};
use lens_report::text::percent;

/// Sets the encoder to every view that is a candidate, and returns these: what was asked for, where
/// views are not to be selected or there is no other.
pub(crate) fn set_candidate_views(
    encoder: &mut dyn TextEncoder,
    asked: &[ViewChoice],
    selection: ViewSelection,
    progress: &dyn Progress,
) -> Result<Vec<ViewChoice>, Error> {
    let found = match encoder.server() {
        Some(_) => None,
        None if selection == ViewSelection::Exportable => {
            Some(exportable_views(asked, encoder.identity())?)
        }
        None => candidate_views(asked, encoder.identity()),
    };
    match (selection, found) {
        (ViewSelection::Fixed, _) if asked.len() == 1 && encoder.identity().views.len() <= 1 => {
            Ok(asked.to_vec())
        }
        (_, Some(candidates)) => {
            if candidates.len() > encoder.identity().views.len() {
                encoder.set_views(&candidates)?;
            }
            Ok(candidates)
        }
        (_, None) => {
            progress
                .note("the view of the texts is taken as it is: there is no other to choose from");
            Ok(asked.to_vec())
        }
    }
}

/// Searches, from the settings as they are, among the views of the pairs. `asked` of the candidates,
/// the first, were asked for. `None` where the selection may be passed over and there are too few pairs
/// for it.
pub(crate) fn search(
    pairs: &EmbeddedPairs,
    candidates: &[ViewChoice],
    asked: usize,
    method: &MethodOptions,
    progress: &dyn Progress,
) -> Result<Option<Tuned>, Error> {
    let names: Vec<String> = candidates.iter().map(ViewChoice::to_string).collect();
    let choices = choices(asked, method);
    match tune(pairs, &names, &method.settings, &choices, progress) {
        Err(CoreError::TooFewPairs { needed, found, .. }) if method.may_pass_over_selection() => {
            progress.note(&format!(
                "views and head are the first of their kind, not chosen: {found} pairs are too few \
                 to choose by ({needed} are needed)"
            ));
            Ok(None)
        }
        found => Ok(Some(found?)),
    }
}

fn choices(asked: usize, method: &MethodOptions) -> Choices {
    Choices {
        given_views: asked,
        heads: method.views != ViewSelection::Fixed,
        augment: method.select_augmentation,
        ..Choices::default()
    }
}

/// The search on stored embeddings, whose views are taken as they are.
pub(crate) struct StoredSearch {
    names: Vec<String>,
    choices: Choices,
}

impl StoredSearch {
    /// A search on embeddings of `views` views.
    pub(crate) fn new(views: usize, method: &MethodOptions) -> Self {
        let names = match views {
            1 => vec!["the embeddings".to_owned()],
            n => (1..=n).map(|i| format!("view {i}")).collect(),
        };
        StoredSearch { names, choices: choices(views, method) }
    }

    /// Searches on these pairs alone.
    pub(crate) fn tune(
        &self,
        pairs: &EmbeddedPairs,
        settings: &MethodSettings,
        progress: &dyn Progress,
    ) -> Result<Tuned, CoreError> {
        tune(pairs, &self.names, settings, &self.choices, progress)
    }
}

/// `settings` with what was selected: the head, and the augmentation where that was to be selected.
pub(crate) fn selected_settings(
    settings: &MethodSettings,
    tuned: &Tuned,
    method: &MethodOptions,
) -> MethodSettings {
    match method.select_augmentation {
        true => tuned.settings.clone(),
        false => MethodSettings { head: tuned.settings.head.clone(), ..settings.clone() },
    }
}

/// Which head is kept, and why, where augmentation was tried.
pub(crate) fn decision(tuned: &Tuned) -> Option<(Kept, String)> {
    let gain = tuned.nested.log_loss_gain?;
    let why = format!(
        "on {} outer folds of the training pairs, each judged by heads that did not see it, it changes \
         log-loss by {:+.4}, standard error {:.4}",
        tuned.nested.folds, -gain.mean, gain.standard_error
    );
    Some(match tuned.augment {
        true => (Kept::Augmented, format!("augmented ({why})")),
        false => (Kept::None, format!("without augmentation, which does not win here ({why})")),
    })
}

/// Lines of the result table about the selection.
pub(crate) fn lines(tuned: &Tuned) -> Vec<(String, String)> {
    let nested = &tuned.nested;
    let mut lines = vec![("selection".to_owned(), tuned.comparison())];
    for kind in [CandidateKind::Head, CandidateKind::Source] {
        let candidates = tuned.of_kind(kind).count();
        if let Some(best) = tuned.best_of(kind).filter(|_| candidates > 1) {
            let loss = best.log_loss.unwrap_or(f64::NAN);
            let text = format!("{} (log-loss {loss:.4}, best of {candidates})", best.label);
            lines.push((format!("  {}", kind.name()), text));
        }
    }
    let augmented = nested.augmented.as_ref();
    let augmented =
        augmented.map_or(String::new(), |a| format!(", {} with augmentation", percent(a.value)));
    lines.push((
        "  accuracy there".to_owned(),
        format!(
            "{} with the chosen settings{augmented}; {} with the given ones",
            percent(nested.chosen.value),
            percent(nested.given.value)
        ),
    ));
    lines
}
