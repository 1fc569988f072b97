//! Expressions of a tokenizer's file, which take a bounded time on any text.

use super::guard::failed;
use crate::error::Result;
use onig::{MatchParam, Regex, Region, SearchOptions};
use std::time::{Duration, Instant};
use tokenizers::Offsets;
use tokenizers::pattern::Pattern;

/// Bytes of the longest expression: those of real tokenizers have a few hundred.
const MAX_BYTES: usize = 64 << 10;
/// The most that the numbers of repetitions in an expression may multiply to: each copies what it
/// repeats.
const MAX_REPETITIONS: u64 = 100_000;
/// Steps back that one match may take: a run of so many spaces needs as many.
const MAX_STEPS: u32 = 1_000_000;
/// Choices that one match may leave open, of some 40 bytes each.
const MAX_CHOICES: u32 = 2_000_000;
/// As many where matches are searched for, place by place, without a look at the clock.
const FEW_STEPS: u32 = 1000;
/// Time for all matches in a text, and for each of its bytes on top.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE_OF_BYTE: Duration = Duration::from_micros(5);

/// An expression, or text to be found as it is.
pub(super) struct Expression(Regex);

impl Expression {
    /// Compiles an expression.
    pub fn new(source: &str) -> Result<Self> {
        check_size(source)?;
        Regex::new(source).map(Self).map_err(failed)
    }

    /// Finds a text as it is.
    pub fn literal(text: &str) -> Result<Self> {
        Regex::new(&regex::escape(text)).map(Self).map_err(failed)
    }

    /// The expression for use on one text of so many bytes, from now on.
    pub fn on(&self, bytes: usize) -> Timed<'_> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Timed { regex: &self.0, until: Instant::now() + PATIENCE + PATIENCE_OF_BYTE * bytes }
    }
}

/// Refuses an expression that takes much memory when it is compiled.
pub(super) fn check_size(source: &str) -> Result<()> {
    if source.len() > MAX_BYTES {
        return Err(failed(format!("an expression has {} bytes", source.len())));
    }
    match repetitions(source) > MAX_REPETITIONS {
        true => Err(failed("an expression repeats itself too often")),
        false => Ok(()),
    }
}

/// The product of the numbers in braces.
fn repetitions(source: &str) -> u64 {
    let braces = source.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    let most = braces.filter_map(|(inside, _)| {
        let numbers = inside.split(',').filter_map(|number| number.trim().parse::<u64>().ok());
        numbers.max()
    });
    most.fold(1, |product: u64, most| product.saturating_mul(most.max(1)))
}

/// An expression that is used until a moment.
#[derive(Clone, Copy)]
pub(super) struct Timed<'a> {
    regex: &'a Regex,
    until: Instant,
}

impl Timed<'_> {
    /// The next match that begins at `from` or behind it.
    fn next(
        &self,
        text: &str,
        from: usize,
        region: &mut Region,
    ) -> tokenizers::Result<Option<Offsets>> {
        self.look_at_the_clock()?;
        let none = SearchOptions::SEARCH_OPTION_NONE;
        let few = limits(FEW_STEPS);
        region.clear();
        match self.regex.search_with_param(text, from, text.len(), none, Some(region), few) {
            Ok(found) => Ok(found.and_then(|_| region.pos(0))),
            // At some place it takes more.
            Err(_) => self.next_slowly(text, from, region),
        }
    }

    /// The same, with a look at the clock at every place.
    fn next_slowly(
        &self,
        text: &str,
        from: usize,
        region: &mut Region,
    ) -> tokenizers::Result<Option<Offsets>> {
        let none = SearchOptions::SEARCH_OPTION_NONE;
        for at in (from..=text.len()).filter(|at| text.is_char_boundary(*at)) {
            self.look_at_the_clock()?;
            region.clear();
            let many = limits(MAX_STEPS);
            let found = self.regex.match_with_param(text, at, none, Some(region), many);
            let found = found.map_err(|e| format!("an expression fails on this text: {e}"))?;
            if let Some(found) = found.and_then(|_| region.pos(0)) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn look_at_the_clock(&self) -> tokenizers::Result<()> {
        match Instant::now() > self.until {
            true => Err("an expression takes too long on this text".into()),
            false => Ok(()),
        }
    }
}

/// The limits of one match, or of one at each place.
fn limits(steps: u32) -> MatchParam {
    let mut limits = MatchParam::default();
    limits.set_retry_limit_in_match(steps);
    limits.set_match_stack_limit(MAX_CHOICES);
    limits
}

/// As the library's own expressions: what they match, and what lies between.
impl Pattern for Timed<'_> {
    fn find_matches(&self, text: &str) -> tokenizers::Result<Vec<(Offsets, bool)>> {
        if text.is_empty() {
            return Ok(vec![((0, 0), false)]);
        }
        let mut parts = Vec::new();
        let mut region = Region::new();
        let (mut done, mut from, mut last) = (0, 0, None);
        while from <= text.len()
            && let Some((start, end)) = self.next(text, from, &mut region)?
        {
            if start == end && last == Some(end) {
                // An empty match behind a match is none.
                from += text[from..].chars().next().map_or(1, char::len_utf8);
                continue;
            }
            (from, last) = (end, Some(end));
            if done != start {
                parts.push(((done, start), false));
            }
            parts.push(((start, end), true));
            done = end;
        }
        if done != text.len() {
            parts.push(((done, text.len()), false));
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use tokenizers::utils::SysRegex;

    /// The expressions of real tokenizers, and those that match nothing or the end.
    const SOURCES: [&str; 8] = [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"\p{N}{1,3}",
        r" {2,}",
        r"a*",
        r"$",
        r"(?<=a)b",
        r"",
    ];

    proptest! {
        #[test]
        fn matches_are_the_librarys(
            text in "[a-c 'sAß\u{3000}\u{1F600}0-9\r\n]{0,600}",
            run in "[ a\u{3000}]",
            times in 0usize..5000,
        ) {
            // With a run that takes many steps.
            let text = format!("{text}{}{text}", run.repeat(times));
            for source in SOURCES {
                let library = (&SysRegex::new(source).unwrap()).find_matches(&text).unwrap();
                let ours = Expression::new(source).unwrap();
                prop_assert_eq!(ours.on(text.len()).find_matches(&text).unwrap(), library);
            }
        }
    }

    #[test]
    fn what_takes_for_ever_is_an_error() {
        let start = Instant::now();
        let text = "a".repeat(3000) + "!";
        for source in [r"(a+)+$", r"(a|aa)+$", r"(a|a?)+$"] {
            let ours = Expression::new(source).unwrap();
            assert!(ours.on(text.len()).find_matches(&text).is_err(), "{source}");
        }
        // Each match is within its limit, and all of them together are not.
        let short = Expression::new("a").unwrap();
        let mut timed = short.on(text.len());
        timed.until = start;
        let error = timed.find_matches(&text).unwrap_err().to_string();
        assert!(error.contains("takes too long"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }

    #[test]
    fn expressions_that_grow_when_compiled_are_refused() {
        for source in ["((a{1000}){1000}){1000}", &"a".repeat(70_000), "(?:(?:a{9999}){9999})"] {
            assert!(Expression::new(source).is_err());
        }
        assert_eq!(repetitions(r"\p{N}{1,3}[x]{2}{}{,4}"), 24);
    }
}
