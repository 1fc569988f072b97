//! The result of tuning for people: sentences, figures with labels, and a section of a report.

use super::{CandidateKind, CandidateResult, Tuned};
use lens_core::metrics::Estimate;
use lens_report::text::percent;
use lens_report::{Block, Cell, Column, Format, Section, Table, TableRow};

/// A figure of the choice with its label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// Its label: `chosen views and head, without augmentation`.
    pub label: &'static str,
    /// The figure with its interval.
    pub estimate: Estimate,
    /// A share ([`Format::Percent`]) or a difference of shares ([`Format::Points`]).
    pub format: Format,
}

impl Tuned {
    /// The candidates of one kind, in the order in which they were trained.
    pub fn of_kind(&self, kind: CandidateKind) -> impl Iterator<Item = &CandidateResult> {
        self.candidates.iter().filter(move |candidate| candidate.kind == kind)
    }

    /// The chosen candidate of a kind; `None` where there was none, or training diverged for all of them.
    pub fn best_of(&self, kind: CandidateKind) -> Option<&CandidateResult> {
        self.of_kind(kind).find(|candidate| candidate.best)
    }

    /// `3 candidates, compared by 5-fold cross-validation on the training pairs alone`.
    pub fn comparison(&self) -> String {
        format!(
            "{} candidate{}, compared by {}-fold cross-validation on the training pairs alone",
            self.candidates.len(),
            lens_report::text::plural(self.candidates.len()),
            self.nested.folds
        )
    }

    /// Accuracies of the given and of the chosen settings, and their differences, on pairs that neither
    /// training nor choice has seen. Those with augmentation are there where it was tried.
    pub fn figures(&self) -> Vec<Figure> {
        let nested = &self.nested;
        let accuracy = |label, estimate| Figure { label, estimate, format: Format::Percent };
        let difference = |label, estimate| Figure { label, estimate, format: Format::Points };
        let mut figures = vec![
            accuracy("given settings, without augmentation", nested.given),
            accuracy("chosen views and head, without augmentation", nested.chosen),
            difference("gain from choosing views and head, points", nested.chosen_minus_given),
        ];
        if let (Some(augmented), Some(gain)) = (nested.augmented, nested.augmented_minus_plain) {
            figures.push(accuracy("chosen views and head, with augmentation", augmented));
            figures.push(difference("gain from augmentation, points", gain));
        }
        figures
    }

    /// Whether augmentation is used, and why: `not used: it changes the log-loss by -0.0012 (standard
    /// error 0.0031), which is not clear`. `None` where it was not tried.
    pub fn augmentation_verdict(&self) -> Option<String> {
        let gain = self.nested.log_loss_gain?;
        let (used, clear) = match (self.augment, gain.mean > 0.0) {
            (true, _) => ("used", "a clear gain"),
            (false, true) => ("not used", "no clear gain"),
            (false, false) => ("not used", "no gain"),
        };
        // A lower log-loss is better.
        Some(format!(
            "{used}: it changes the log-loss by {:+.4} (standard error {:.4}), {clear}",
            -gain.mean, gain.standard_error
        ))
    }

    /// The choice as a section of a report: how it was made, its figures, and every candidate.
    pub fn section(&self) -> Section {
        let mut said = format!(
            "{}. Each candidate was trained {} times, each time without one fold of the pairs, and judged \
             on that fold. The best of many figures is too good an estimate, so here each fold is judged \
             by what the other folds would have chosen.",
            self.comparison(),
            self.nested.folds,
        );
        if let Some(verdict) = self.augmentation_verdict() {
            said += &format!(" Augmentation is {verdict}.");
        }
        let row = |figure: Figure| {
            let Estimate { value, ci95: [low, high] } = figure.estimate;
            let cell = Cell::Interval { value, low, high, format: figure.format };
            TableRow::plain(vec![Cell::text(figure.label), cell])
        };
        let figures = Table {
            caption: "Accuracy on pairs that the choice has not seen, with 95% intervals"
                .to_owned(),
            columns: vec![Column::text("settings"), Column::number("accuracy")],
            rows: self.figures().into_iter().map(row).collect(),
        };
        let candidates =
            Block::Folded { summary: "What was tried".into(), blocks: vec![self.all_candidates()] };
        Section {
            id: "tuning".into(),
            heading: "How the settings were chosen".into(),
            blocks: vec![Block::Paragraph(said), Block::Table(figures), candidates],
        }
    }

    fn all_candidates(&self) -> Block {
        let row = |candidate: &CandidateResult| {
            let log_loss = candidate.log_loss.map_or("diverged".to_owned(), |l| format!("{l:.4}"));
            let accuracy = candidate.accuracy.map_or(String::new(), percent);
            let chosen = if candidate.best { "best" } else { "" };
            let cells = [candidate.kind.name(), &candidate.label, &log_loss, &accuracy, chosen];
            TableRow { cells: cells.map(Cell::text).into(), highlight: candidate.best }
        };
        Block::Table(Table {
            caption: "Every candidate on the folds that it was not trained on; sources are tried with the \
                      best views and head"
                .into(),
            columns: vec![
                Column::text("for"),
                Column::text("candidate"),
                Column::number("log-loss"),
                Column::number("accuracy"),
                Column::text(""),
            ],
            rows: self.candidates.iter().map(row).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tuning::Nested;
    use lens_core::MethodSettings;
    use lens_core::method::FoldGain;
    use lens_report::Report;

    fn tuned(augment: bool, gain: Option<f64>) -> Tuned {
        let estimate = |value: f64| Estimate { value, ci95: [value - 0.01, value + 0.01] };
        let candidate = |kind, label: &str, log_loss: Option<f64>, best| CandidateResult {
            kind,
            label: label.into(),
            views: vec![0],
            log_loss,
            accuracy: log_loss.map(|_| 0.8),
            diverged: log_loss.is_none().then(|| "why".into()),
            best,
        };
        let source = |label, loss, best| candidate(CandidateKind::Source, label, loss, best);
        let mut candidates = vec![
            candidate(CandidateKind::Head, "mlp on one, as given", Some(0.5), false),
            candidate(CandidateKind::Head, "logistic on all 2 views", Some(0.45), true),
        ];
        if gain.is_some() {
            candidates.push(source("mixup, 4x", Some(0.44), true));
            candidates.push(source("lens, 4x", None, false));
        }
        Tuned {
            views: vec![0, 1],
            view_names: vec!["one".into(), "two".into()],
            settings: MethodSettings::default(),
            augment,
            candidates,
            nested: Nested {
                folds: 5,
                given: estimate(0.79),
                chosen: estimate(0.808),
                chosen_minus_given: estimate(0.018),
                augmented: gain.map(|_| estimate(0.81)),
                augmented_minus_plain: gain.map(|_| estimate(0.002)),
                log_loss_gain: gain.map(|mean| FoldGain { mean, standard_error: 0.003 }),
            },
        }
    }

    fn markdown(tuned: &Tuned) -> String {
        Report { sections: vec![tuned.section()], ..Report::default() }.to_markdown()
    }

    #[test]
    fn a_choice_of_heads_in_words() {
        let tuned = tuned(false, None);
        assert_eq!(
            tuned.comparison(),
            "2 candidates, compared by 5-fold cross-validation on the training pairs alone"
        );
        assert_eq!(tuned.best_of(CandidateKind::Head).unwrap().label, "logistic on all 2 views");
        assert_eq!(tuned.best_of(CandidateKind::Source), None);
        assert_eq!(tuned.augmentation_verdict(), None);
        assert_eq!(tuned.figures().len(), 3);
        let text = markdown(&tuned);
        for line in [
            "| given settings, without augmentation | 79.0% (78.0% to 80.0%) |",
            "| chosen views and head, without augmentation | 80.8% (79.8% to 81.8%) |",
            "### What was tried",
            "| views and head | mlp on one, as given | 0.5000 | 80.0% | |",
            "| **views and head** | logistic on all 2 views | 0.4500 | 80.0% | best |",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("ugmentation is"), "{text}");
    }

    #[test]
    fn augmentation_is_used_or_not_with_its_reason() {
        let verdict = |augment, gain| tuned(augment, Some(gain)).augmentation_verdict().unwrap();
        assert_eq!(
            verdict(true, 0.01),
            "used: it changes the log-loss by -0.0100 (standard error 0.0030), a clear gain"
        );
        assert!(verdict(false, 0.001).starts_with("not used: it changes the log-loss by -0.0010"));
        assert!(verdict(false, 0.001).ends_with("no clear gain"));
        assert!(
            verdict(false, -0.01).contains("+0.0100")
                && verdict(false, -0.01).ends_with(", no gain")
        );
        let text = markdown(&tuned(true, Some(0.01)));
        for line in [
            "Augmentation is used: it changes",
            "| gain from augmentation, points | +0.2 (\u{2212}0.8 to +1.2) |",
            "| **source of synthetic pairs** | mixup, 4x | 0.4400 | 80.0% | best |",
            "| source of synthetic pairs | lens, 4x | diverged | | |",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
