//! Which pairs are left out, told by what is kept of each: 80 bytes, however long its texts are.

use super::{LeftOut, Reason};
use crate::dataset::{Place, Row};
use crate::turns::JudgementKey;
use lens_core::PreferencePair;
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What is kept of a pair.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    place: Place,
    key: JudgementKey,
    /// Of the columns that are not read, but for names of rows.
    metadata: u64,
    tie: bool,
    blank_chosen: bool,
    blank_rejected: bool,
    blank_prompt: bool,
}

impl Entry {
    pub fn of(row: &Row<PreferencePair>) -> Entry {
        let PreferencePair { prompt, chosen, rejected, tie, .. } = &row.value;
        let mut metadata = DefaultHasher::new();
        for (name, value) in &row.metadata {
            let lower = name.to_ascii_lowercase();
            if !matches!(lower.as_str(), "id" | "uid" | "uuid" | "idx" | "index")
                && !lower.ends_with("_id")
            {
                (name, value.to_string()).hash(&mut metadata);
            }
        }
        Entry {
            place: row.place(),
            key: JudgementKey::new(prompt, chosen, rejected),
            metadata: metadata.finish(),
            tie: *tie,
            blank_chosen: chosen.is_blank(),
            blank_rejected: rejected.is_blank(),
            blank_prompt: prompt.is_blank(),
        }
    }

    fn fault(&self, prompts: Prompts) -> Option<(Reason, &'static str)> {
        match (self.blank_chosen, self.blank_rejected) {
            (true, true) => Some((Reason::EmptySide, "chosen and rejected are blank")),
            (true, false) => Some((Reason::EmptySide, "chosen is blank")),
            (false, true) => Some((Reason::EmptySide, "rejected is blank")),
            (false, false) if self.key.chosen == self.key.rejected => {
                Some((Reason::IdenticalSides, "chosen and rejected are the same"))
            }
            (false, false) if self.blank_prompt && prompts == Prompts::Wanted => {
                Some((Reason::NoPrompt, "the prompt is missing or blank"))
            }
            (false, false) => None,
        }
    }
}

/// Whether every pair has to have a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prompts {
    /// Some pair has one, or a column for it.
    Wanted,
    /// No pair has one, or the caller says that blank ones are meant.
    Optional,
}

impl Prompts {
    /// What holds for a dataset, of which `with_column` rows have a column for the prompt.
    pub fn wanted(entries: &[Entry], with_column: usize, no_prompt: bool) -> Prompts {
        let some = with_column > 0 || entries.iter().any(|entry| !entry.blank_prompt);
        if some && !no_prompt { Prompts::Wanted } else { Prompts::Optional }
    }
}

/// What became of the pairs.
pub(super) struct Decided {
    /// Of each pair, whether it is used.
    pub keep: Vec<bool>,
    /// The others, by reason.
    pub left_out: BTreeMap<Reason, Vec<LeftOut>>,
}

pub(super) fn decide(entries: &[Entry], prompts: Prompts) -> Decided {
    let mut left_out: BTreeMap<Reason, Vec<LeftOut>> = BTreeMap::new();
    let mut leave_out = |reason: Reason, entry: &Entry, detail: String| {
        left_out.entry(reason).or_default().push(LeftOut::at(entry.place.clone(), detail));
    };
    let mut keep = vec![true; entries.len()];
    let mut first = First::default();
    for (index, entry) in entries.iter().enumerate() {
        if let Some((reason, detail)) = entry.fault(prompts) {
            leave_out(reason, entry, detail.to_owned());
            keep[index] = false;
        } else if let Some(earlier) = first.enter(entry, index) {
            let earlier = &entries[earlier];
            let differ = unread_differ(entry, earlier);
            leave_out(Reason::Duplicate, entry, format!("as line {}{differ}", earlier.place));
            keep[index] = false;
        }
    }
    for (index, entry) in
        entries.iter().enumerate().filter(|(index, _)| keep[*index]).collect::<Vec<_>>()
    {
        if let Some((other, words)) = first.contradiction(entry) {
            let other = &entries[other];
            let detail = format!("line {} {words}{}", other.place, unread_differ(entry, other));
            leave_out(Reason::Contradiction, entry, detail);
            keep[index] = false;
        }
    }
    Decided { keep, left_out }
}

/// Says that two rows with the same conversations are told apart by something that is not read.
fn unread_differ(a: &Entry, b: &Entry) -> &'static str {
    match a.metadata == b.metadata {
        true => "",
        false => "; the rows differ in columns that are not read",
    }
}

/// Where each judgement stands first.
#[derive(Default)]
struct First {
    decided: HashMap<JudgementKey, usize>,
    ties: HashMap<JudgementKey, usize>,
}

impl First {
    /// Enters a judgement, unless it stands earlier: then where.
    fn enter(&mut self, entry: &Entry, index: usize) -> Option<usize> {
        let known =
            if entry.tie { self.tie(entry.key) } else { self.decided.get(&entry.key).copied() };
        if known.is_none() {
            let judgements = if entry.tie { &mut self.ties } else { &mut self.decided };
            judgements.insert(entry.key, index);
        }
        known
    }

    fn tie(&self, key: JudgementKey) -> Option<usize> {
        self.ties.get(&key).or_else(|| self.ties.get(&key.swapped())).copied()
    }

    /// The judgement that says otherwise of the same two responses, and what it says.
    fn contradiction(&self, entry: &Entry) -> Option<(usize, &'static str)> {
        let other_way = self.decided.get(&entry.key.swapped()).copied();
        if entry.tie {
            let one = self.decided.get(&entry.key).copied().or(other_way)?;
            return Some((one, "prefers one of the two"));
        }
        let reversed = other_way.map(|other| (other, "has the sides swapped"));
        reversed.or_else(|| Some((self.tie(entry.key)?, "calls the two a tie")))
    }
}
