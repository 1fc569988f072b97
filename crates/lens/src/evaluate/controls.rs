//! The texts of the controls: the responses of pairs behind the prompts of others, and behind none.

use super::text::{Distinct, ScoredTexts, refusal, reward_of};
use crate::Error;
use lens_core::{Content, Message, PreferencePair};
use lens_data::Row;
use lens_encoder::TextEncoder;
use lens_eval::figures::Measured;
use lens_eval::figures::controls::{ControlRewards, Controls, controls, other_prompts};
use lens_eval::figures::heldout::PairRewards;

/// Scores the pairs with the texts of every control, and compares with their rewards as they are.
/// `score` embeds distinct exchanges, through the cache, and scores them.
pub(super) fn measure(
    rows: &[Row<PreferencePair>],
    real: &PairRewards,
    prompts: &[u32],
    encoder: &dyn TextEncoder,
    seed: u64,
    score: &dyn Fn(Distinct) -> Result<ScoredTexts, Error>,
) -> Result<Measured<Controls>, Error> {
    let pairs: Vec<&PreferencePair> = rows.iter().map(|row| &row.value).collect();
    let mut distinct = Distinct::default();
    let mut behind = |prompts: Vec<Content>| -> Vec<[usize; 2]> {
        let both = |(row, prompt): (&Row<PreferencePair>, &Content)| {
            let sides = [&row.value.chosen, &row.value.rejected];
            sides.map(|side| distinct.add(prompt, side, row.line))
        };
        rows.iter().zip(&prompts).map(both).collect()
    };
    let shuffled = match other_prompts(pairs.iter().map(|pair| &pair.prompt), seed) {
        Some(others) => {
            Ok(behind(others.into_iter().map(|other| pairs[other].prompt.clone()).collect()))
        }
        None => Err("all pairs have the same prompt".to_owned()),
    };
    let alone = match pairs.iter().all(|pair| pair.prompt.is_blank()) {
        true => Err("no pair has a prompt: the accuracy is that of responses alone".to_owned()),
        false => {
            let empty = without_prompt(&encoder.identity().template);
            let of = |pair: &&PreferencePair| match pair.prompt.is_blank() {
                true => pair.prompt.clone(),
                false => empty.clone(),
            };
            Ok(behind(pairs.iter().map(of).collect()))
        }
    };
    let scored = score(distinct)?;
    let rewards_of = |ids: Vec<[usize; 2]>| match refusal(&scored, ids.iter().flatten().copied()) {
        Some(refused) => Err(refused.to_string()),
        None => {
            let side = |side: usize| ids.iter().map(|ids| reward_of(&scored, ids[side])).collect();
            Ok(PairRewards { chosen: side(0), rejected: side(1) })
        }
    };
    let rewards = ControlRewards {
        real: real.clone(),
        shuffled: shuffled.and_then(&rewards_of),
        alone: alone.and_then(&rewards_of),
    };
    let found = controls(&rewards, &pairs, prompts, seed);
    Ok(found.map_or_else(|| Measured::absent("there is no pair"), Measured::Present))
}

/// A prompt that says nothing: no text where texts are joined, and an empty turn of the user in a chat,
/// for many templates refuse a chat that begins with the answer.
fn without_prompt(template: &str) -> Content {
    match template {
        "plain" => Content::Text(String::new()),
        _ => Content::Messages(vec![Message { role: "user".to_owned(), content: String::new() }]),
    }
}
