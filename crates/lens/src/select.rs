//! Selecting views, head and augmentation by nested cross-validation on the training pairs, and what
//! is said of it.

use crate::options::{MethodOptions, ViewSelection};
use crate::views::candidate_views;
use crate::{Error, Progress};
use lens_core::{CoreError, EmbeddedPairs, MethodSettings};
use lens_data::bundle::Kept;
use lens_encoder::{TextEncoder, ViewChoice};
use lens_eval::tuning::{Choices, Tried, Tuned, What, tune};
use lens_report::text::percent;
use lens_report::{Block, Cell, Column, Format, Section, Table, TableRow};

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
            progress.note(
                "the view of the texts is taken as it is: there is no other to select from",
            );
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
                "views and head are the first of their kind, not selected: {found} pairs are too few \
                 to select by ({needed} are needed)"
            ));
            Ok(None)
        }
        found => Ok(Some(found?)),
    }
}

fn choices(asked: usize, method: &MethodOptions) -> Choices {
    Choices {
        asked,
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
    let gain = tuned.nested.gain?;
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
    let mut lines = vec![(
        "selection".to_owned(),
        format!(
            "{} candidates compared by {}-fold cross-validation on the training pairs",
            tuned.tried.len(),
            nested.folds
        ),
    )];
    for (what, name) in KINDS {
        let of_kind: Vec<&Tried> = tuned.tried.iter().filter(|t| t.what == what).collect();
        if let Some(best) = of_kind.iter().find(|t| t.best).filter(|_| of_kind.len() > 1) {
            let loss = best.log_loss.unwrap_or(f64::NAN);
            let text = format!("{} (of {} candidates; log-loss {loss:.4})", best.label, of_kind.len());
            lines.push((format!("  {name}"), text));
        }
    }
    let augmented = nested.augmented.as_ref();
    let augmented =
        augmented.map_or(String::new(), |a| format!(", {} with augmentation", percent(a.value)));
    lines.push((
        "  accuracy there".to_owned(),
        format!(
            "{} as selected{augmented}; {} with the settings it started from",
            percent(nested.chosen.value),
            percent(nested.asked.value)
        ),
    ));
    lines
}

const KINDS: [(What, &str); 2] =
    [(What::Head, "views and head"), (What::Source, "source of synthetic pairs")];

fn kind(what: What) -> &'static str {
    KINDS.iter().find(|(of, _)| *of == what).map_or("", |(_, name)| name)
}

/// The report's section on the selection.
pub(crate) fn section(tuned: &Tuned) -> Section {
    let mut columns = vec![Column::text("for"), Column::text("candidate")];
    columns.extend([Column::number("log-loss"), Column::number("accuracy")]);
    let row = |tried: &Tried| {
        let loss = tried.log_loss.map_or("ran away".to_owned(), |x| format!("{x:.4}"));
        let accuracy = tried.accuracy.map_or(String::new(), percent);
        let cells = [kind(tried.what).to_owned(), tried.label.clone(), loss, accuracy];
        TableRow { cells: cells.map(Cell::text).into(), highlight: tried.best }
    };
    let nested = &tuned.nested;
    let interval = |name: &str, e: &lens_core::metrics::Estimate, format| {
        let cell = Cell::Interval { value: e.value, low: e.ci95[0], high: e.ci95[1], format };
        TableRow::plain(vec![Cell::text(name), cell])
    };
    let taken = match decision(tuned) {
        Some((_, decision)) => {
            format!(" Augmentation is taken only where it wins there: {decision}.")
        }
        None => String::new(),
    };
    let said = format!(
        "Views and head were selected on the training pairs alone: every candidate was trained {} times, \
         each without a part of the pairs, and judged on that part. The lowest of many figures is too \
         low, so below each part is judged by what the other parts would have selected.{taken}",
        nested.folds,
    );
    let mut rows = vec![
        interval("settings it started from, without augmentation", &nested.asked, Format::Percent),
        interval("selected, without augmentation", &nested.chosen, Format::Percent),
        interval("gain of selecting, points", &nested.gained, Format::Points),
    ];
    if let (Some(with), Some(difference)) = (&nested.augmented, &nested.difference) {
        rows.push(interval("selected, with augmentation", with, Format::Percent));
        rows.push(interval("gain of augmentation, points", difference, Format::Points));
    }
    let outer = Table {
        caption: "Accuracy on pairs that the selection did not see, 95% intervals".to_owned(),
        columns: vec![Column::text("settings"), Column::number("accuracy")],
        rows,
    };
    let tried = Table {
        caption:
            "All candidates, on the outer folds; the best of each kind stands out, and the next kind \
             starts from it"
                .to_owned(),
        columns,
        rows: tuned.tried.iter().map(row).collect(),
    };
    let blocks = vec![Block::Paragraph(said), Block::Table(outer), Block::Table(tried)];
    Section { id: "selection".to_owned(), heading: "How views and head were selected".to_owned(), blocks }
}
