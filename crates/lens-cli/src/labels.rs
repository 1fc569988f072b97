//! How the labels of training pairs are told to the user.

use crate::progress::Reporter;
use crate::settings::Settings;
use lens_core::Progress;
use lens_data::LabelCounts;

/// Notes which labels beyond the preference training uses, and by which settings.
pub fn note(labels: &LabelCounts, settings: &Settings, reporter: &Reporter) {
    let Some(summary) = labels.summary() else { return };
    let head = &settings.head;
    let mut by = Vec::new();
    if labels.ties > 0 {
        by.push(format!("head.tie_threshold = {}", head.tie_threshold));
    }
    if labels.margins > 0 {
        let ignored = if head.margin_weight == 0.0 { ": margins are ignored" } else { "" };
        by.push(format!("head.margin_weight = {}{ignored}", head.margin_weight));
    }
    let (pairs, by) = (labels.pairs, by.join(", "));
    reporter.note(&format!("labels of the {pairs} training pairs: {summary} ({by})"));
}
