//! Sentences that several jobs say.

use crate::Progress;
use lens_core::head::HeadSettings;
use lens_data::{Dataset, LabelCounts, MalformedRows, Reason, Shape, VetReport, Vetted};

/// Most malformed rows that are named while a job runs; the report has more.
const MOST_NAMED: usize = 3;

/// Names the first malformed rows, and how many more there are.
pub(crate) fn malformed(rows: &MalformedRows, progress: &dyn Progress) {
    for row in rows.described().iter().take(MOST_NAMED) {
        progress.note(&format!("left out: {row}"));
    }
    if rows.len() > MOST_NAMED {
        let more = rows.len() - MOST_NAMED;
        progress.note(&format!("left out: {more} more malformed rows (see the report)"));
    }
}

/// Names every malformed row that is described, and how many more there are: for jobs without a report.
pub(crate) fn each_malformed(rows: &MalformedRows, progress: &dyn Progress) {
    for row in rows.described() {
        progress.note(&format!("left out: {row}"));
    }
    if rows.undescribed() > 0 {
        let more = rows.undescribed();
        progress.note(&format!("left out: {more} more malformed rows"));
    }
}

/// Says what of the layout of pairs their user has to know: pairs without any prompt, and columns of text
/// that are not read.
pub(crate) fn layout(data: &Dataset, progress: &dyn Progress) {
    let n = data.shapes.get(&Shape::NoPrompt).copied().unwrap_or(0);
    if n > 0 && !data.no_prompt {
        progress.note(&format!(
            "warning: {n} of {} pairs have no prompt: no column holds one, and both sides do not begin \
             with the same turns",
            data.pairs.len()
        ));
    }
    for column in data.layout.columns.iter().filter(|c| c.may_be_prompt_unread()) {
        progress.note(&format!(
            "warning: the column `{}`, which may belong to the prompt, is not read (in {} rows)",
            column.column, column.rows
        ));
    }
    if data.shapes.contains_key(&Shape::RepeatedPrompt) {
        let n = data.shapes[&Shape::RepeatedPrompt];
        progress.note(&format!("the responses of {n} pairs repeat their prompts: read once"));
    }
}

/// Says how many pairs are left out because they have no prompt.
pub(crate) fn no_prompt(vetted: &Vetted, progress: &dyn Progress) {
    let n = vetted.report.count(Reason::NoPrompt);
    if n > 0 {
        progress.note(&format!(
            "left out: {n} pairs have no prompt where others have one (--no-prompt keeps them)"
        ));
    }
}

/// Says which labels beyond preferences training uses, and by which settings.
pub(crate) fn labels(counts: &LabelCounts, head: &HeadSettings, progress: &dyn Progress) {
    let Some(words) = counts.summary() else { return };
    let mut by = Vec::new();
    if counts.ties > 0 {
        by.push(format!("head.tie_threshold = {}", head.tie_threshold));
    }
    if counts.margins > 0 {
        let ignored = if head.margin_weight == 0.0 { ": margins are ignored" } else { "" };
        by.push(format!("head.margin_weight = {}{ignored}", head.margin_weight));
    }
    let (pairs, by) = (counts.pairs, by.join(", "));
    progress.note(&format!("labels of the {pairs} training pairs: {words} ({by})"));
}

/// Says how many stored pairs are left out because both sides have equal embeddings.
pub(crate) fn equal_embeddings(report: &VetReport, progress: &dyn Progress) {
    let equal = report.left_out_total();
    if equal > 0 {
        let all = report.read;
        progress
            .note(&format!("left out: {equal} of {all} pairs have equal embeddings on both sides"));
    }
}
