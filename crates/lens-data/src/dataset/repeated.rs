//! Prompts in text that all responses of a dataset repeat: a column for the prompt, and responses that
//! hold the whole text. One response that begins with its prompt may well do so of itself; where every
//! row does, it is how the file is written.

use super::exchanges::ScoreRow;
use lens_core::{Content, PreferencePair};

/// Rows that have to agree before a repetition is a habit of the file.
const AGREEING: usize = 2;

/// Takes the prompt out of the responses of all pairs, if each of them repeats it on both sides. Returns
/// whether it did.
pub(super) fn strip_from_pairs<'a>(pairs: impl Iterator<Item = &'a mut PreferencePair>) -> bool {
    strip(
        pairs.map(|PreferencePair { prompt, chosen, rejected, .. }| {
            (&*prompt, vec![chosen, rejected])
        }),
    )
}

/// As [`strip_from_pairs`], of rows to be scored.
pub(super) fn strip_from_rows<'a>(rows: impl Iterator<Item = &'a mut ScoreRow>) -> bool {
    strip(rows.filter_map(|row| match row {
        ScoreRow::Single(exchange) => Some((&exchange.prompt, vec![&mut exchange.response])),
        ScoreRow::Candidates { prompt, responses } => {
            Some((&*prompt, responses.iter_mut().collect()))
        }
        ScoreRow::Pair(pair) => Some((&pair.prompt, vec![&mut pair.chosen, &mut pair.rejected])),
        ScoreRow::Text(_) => None,
    }))
}

fn strip<'a>(rows: impl Iterator<Item = (&'a Content, Vec<&'a mut Content>)>) -> bool {
    let mut habit = Habit::default();
    let mut found = Vec::new();
    for (prompt, responses) in rows {
        habit.look_at(prompt, responses.iter().map(|response| &**response));
        if habit.broken {
            return false;
        }
        found.push((prompt, responses));
    }
    if !habit.is_one() {
        return false;
    }
    for (prompt, responses) in found.into_iter().filter(|(prompt, _)| !prompt.is_blank()) {
        for response in responses {
            if let (Content::Text(prompt), Content::Text(text)) = (prompt, response) {
                text.drain(..prompt.len());
            }
        }
    }
    true
}

/// Whether all rows that pass by have prompts in text that every response repeats, two different ones at
/// least. Rows without a prompt say nothing.
#[derive(Default)]
pub(super) struct Habit {
    broken: bool,
    rows: usize,
    first: Option<String>,
    different: bool,
}

impl Habit {
    pub fn look_at<'a>(
        &mut self,
        prompt: &Content,
        responses: impl IntoIterator<Item = &'a Content>,
    ) {
        let Content::Text(prompt) = prompt else {
            self.broken = true;
            return;
        };
        if self.broken || prompt.trim().is_empty() {
            return;
        }
        let repeats = |side: &Content| matches!(side, Content::Text(text) if text.starts_with(prompt.as_str()));
        self.broken = !responses.into_iter().all(repeats);
        self.rows += 1;
        let first = self.first.get_or_insert_with(|| prompt.clone());
        self.different |= first != prompt;
    }

    pub fn is_one(&self) -> bool {
        !self.broken && self.rows >= AGREEING && self.different
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn pair(prompt: &str, chosen: &str, rejected: &str) -> PreferencePair {
        let text = |text: &str| Content::Text(text.to_owned());
        let (prompt, chosen, rejected) = (text(prompt), text(chosen), text(rejected));
        PreferencePair { prompt, chosen, rejected, margin: None, tie: false }
    }

    #[test]
    fn only_what_every_row_repeats_is_taken_out() {
        let mut all = [pair("Why?", "Why? So.", "Why? No."), pair("How?", "How? So.", "How?")];
        assert!(strip_from_pairs(all.iter_mut()));
        assert_eq!(all, [pair("Why?", " So.", " No."), pair("How?", " So.", "")]);
        // Greetings repeat themselves, and one row is no habit.
        let mut some = [pair("Hi", "Hi there", "Hi!"), pair("How?", "So.", "How? No.")];
        assert!(!strip_from_pairs(some.iter_mut()));
        assert!(!strip_from_pairs([pair("Hi", "Hi there", "Hi!")].iter_mut()));
        let mut same = [pair("Hi", "Hi there", "Hi!"), pair("Hi", "Hi you", "Hi.")];
        assert!(!strip_from_pairs(same.iter_mut()));
    }
}
