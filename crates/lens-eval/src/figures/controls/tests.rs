#![allow(clippy::unwrap_used)]
use super::*;
use lens_core::Message;

fn text(text: impl Into<String>) -> Content {
    Content::Text(text.into())
}

fn pair(prompt: &str, chosen: &str, rejected: &str) -> PreferencePair {
    let (prompt, chosen, rejected) = (text(prompt), text(chosen), text(rejected));
    PreferencePair { prompt, chosen, rejected, margin: None, tie: false }
}

fn rewards(margins: &[f32]) -> PairRewards {
    PairRewards { chosen: margins.to_vec(), rejected: vec![0.0; margins.len()] }
}

/// Controls of pairs that each have a prompt of their own.
fn judge(pairs: &[PreferencePair], rewards: &ControlRewards) -> Controls {
    let prompts: Vec<u32> = (0..pairs.len() as u32).collect();
    controls(rewards, &pairs.iter().collect::<Vec<_>>(), &prompts, 0).unwrap()
}

fn none() -> Result<PairRewards, String> {
    Err("not asked for".to_owned())
}

#[test]
fn controls_by_hand() {
    let pairs = [
        pair("a", "long", "s"),
        pair("b", "longer", "s"),
        pair("c", "s", "long"),
        pair("d", "same", "size"),
    ];
    let given = ControlRewards {
        // Right, right, tied, wrong: 2.5 of 4.
        real: rewards(&[1.0, 2.0, 0.0, -1.0]),
        // Right, wrong, wrong, right: 2 of 4; differences 0, -1, -1/2, 1.
        shuffled: Ok(rewards(&[1.0, -1.0, -1.0, 1.0])),
        alone: none(),
    };
    let found = judge(&pairs, &given);
    assert_eq!((found.swapped.accuracy.value, found.mirrored), (1.5 / 4.0, true));
    assert_eq!(found.swapped.difference.value, -1.0 / 4.0);
    let shuffled = found.shuffled_prompts.get().unwrap();
    assert_eq!((shuffled.accuracy.value, shuffled.difference.value), (0.5, -0.125));
    // Longer, longer, shorter, as long.
    assert_eq!(found.longer_wins.accuracy.value, 2.5 / 4.0);
    assert_eq!(found.shorter_wins.accuracy.value, 1.5 / 4.0);
    // Credits 1, 1, 0, 1/2 against the model's 1, 1, 1/2, 0.
    assert_eq!(found.longer_wins.difference.value, 0.0);
    assert_eq!(found.responses_alone, Measured::absent("not asked for"));
    assert!(matches!(&found.prompts_alone, Measured::Absent { absent } if absent.contains("tie")));
    let few = Measured::absent("a fit to other prompts needs 5 different ones");
    assert_eq!((&found.length_alone, &found.features_alone), (&few, &few));
    assert_eq!(found.more_wins["characters"], 2.5 / 4.0);
    assert_eq!(found.more_wins["question_marks"], 0.5);
    let empty = ControlRewards { real: rewards(&[]), shuffled: none(), alone: none() };
    assert_eq!(controls(&empty, &[], &[], 0), None);
}

#[test]
fn shuffled_prompts_are_never_the_own_one_and_go_together() {
    let prompts = ["a", "b", "a", " b ", "c", "", " "].map(text);
    for seed in 0..50 {
        let others = other_prompts(&prompts, seed).unwrap();
        for (pair, &other) in others.iter().enumerate() {
            let keys = [pair, other].map(|i| content_key(&prompts[i]));
            assert_ne!(keys[0], keys[1], "pair {pair}, seed {seed}");
        }
        // Pairs of one prompt get the same one; every prompt but the first of equals is used.
        let same = [(0, 2), (1, 3), (5, 6)];
        assert!(same.iter().all(|&(a, b)| others[a] == others[b]), "{others:?}");
        let mut used: Vec<usize> = others.clone();
        used.sort_unstable();
        used.dedup();
        assert_eq!(used, [0, 1, 4, 5]);
    }
    let draws: Vec<_> = (0..20).map(|seed| other_prompts(&prompts, seed)).collect();
    assert_eq!(draws[3], other_prompts(&prompts, 3));
    assert!(draws.iter().any(|draw| *draw != draws[0]));
    // Two prompts have one way; one prompt has none.
    assert_eq!(other_prompts(&["a", "b", "b"].map(text), 9), Some(vec![1, 0, 0]));
    assert_eq!(other_prompts(&["a", "a "].map(text), 0), None);
    assert_eq!(other_prompts(&["", " "].map(text), 0), None);
}

/// Twelve pairs of 10 and 100 characters, of which the longer is preferred in nine.
fn mostly_longer() -> Vec<PreferencePair> {
    let (long, short) = ("x".repeat(100), "x".repeat(10));
    (0..12)
        .map(|i| match i % 4 {
            0 => pair(&format!("{i}"), &short, &long),
            _ => pair(&format!("{i}"), &long, &short),
        })
        .collect()
}

#[test]
fn a_fit_finds_out_on_other_prompts_which_length_is_preferred() {
    let real = rewards(&[1.0; 12]);
    let given = |real: PairRewards| ControlRewards { real, shuffled: none(), alone: none() };
    // Without any fold the longer one wins most of the others: it is chosen everywhere.
    let found = judge(&mostly_longer(), &given(real.clone()));
    let fit = found.length_alone.get().unwrap();
    assert_eq!((fit.accuracy.value, fit.difference.value), (9.0 / 12.0, -3.0 / 12.0));
    assert_eq!(found.features_alone.get().unwrap().accuracy.value, 9.0 / 12.0);

    // The middle length always wins: neither longer nor shorter sees it, a fit does.
    let (short, middle, long) = ("x".repeat(5), "x".repeat(50), "x".repeat(500));
    let middle: Vec<_> = (0..20)
        .map(|i| pair(&format!("{i}"), &middle, if i % 2 == 0 { &short } else { &long }))
        .collect();
    let found = judge(&middle, &given(rewards(&[1.0; 20])));
    assert_eq!(found.longer_wins.accuracy.value, 0.5);
    assert_eq!(found.length_alone.get().unwrap().accuracy.value, 1.0);

    // As long on both sides: nothing to read.
    let same: Vec<_> = (0..10).map(|i| pair(&format!("{i}"), "abc", "xyz")).collect();
    let found = judge(&same, &given(rewards(&[1.0; 10])));
    assert_eq!(found.length_alone.get().unwrap().accuracy.value, 0.5);
}

#[test]
fn a_leak_in_a_mark_that_can_be_counted_is_found() {
    // As long on both sides; what is preferred asks back.
    let pairs: Vec<_> = (0..10).map(|i| pair(&format!("{i}"), "Why so?", "Not so!")).collect();
    let given = ControlRewards { real: rewards(&[1.0; 10]), shuffled: none(), alone: none() };
    let found = judge(&pairs, &given);
    assert_eq!(found.length_alone.get().unwrap().accuracy.value, 0.5);
    assert_eq!(found.features_alone.get().unwrap().accuracy.value, 1.0);
    assert_eq!(found.more_wins["question_marks"], 1.0);
    let said = found.findings().join("; ");
    assert!(said.contains("simple features of the text is not clearly worse"), "{said}");
    assert!(!said.contains("a length"), "{said}");
}

#[test]
fn features_by_hand() {
    let markdown = "# A `b`\n- one\n 2. two\n* three\n3.four | - no";
    let counts = |text: &str| FEATURES.map(|feature| (feature.count)(text));
    // One of #, two of `, one of *, one of |, and two items of lists.
    assert_eq!(counts(markdown), [43, 13, 5, 7, 0]);
    assert_eq!(counts("\u{e4}? So?\n\nYes"), [11, 3, 3, 0, 2]);
    assert_eq!(counts(""), [0; 5]);
    let turn = |content: &str| Message { role: "assistant".into(), content: content.into() };
    let messages = Content::Messages(vec![turn("ab"), turn("c")]);
    let [l, two] = [3.0f64.ln_1p(), 2.0f64.ln_1p()];
    assert!((l - 4.0f64.ln()).abs() < 1e-12);
    assert_eq!(readers::length(&messages), [l, l * l]);
    assert_eq!(readers::features(&messages), [l, two, two, 0.0, 0.0, l * l]);
}

#[test]
fn what_makes_no_clear_difference_is_said() {
    let pairs = mostly_longer();
    // Right with the prompts, by chance without them: the intervals are clear of 0.
    let half: Vec<f32> = (0..12).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let given = ControlRewards {
        real: rewards(&[1.0; 12]),
        shuffled: Ok(rewards(&half)),
        alone: Ok(rewards(&[1.0; 12])),
    };
    let found = judge(&pairs, &given);
    assert!(found.shuffled_prompts.get().unwrap().is_clearly_worse());
    let said = found.findings().join("; ");
    assert!(said.contains("without any prompt"), "{said}");
    assert!(!said.contains("prompts of other pairs"), "{said}");
    let listed = found.listed().map(|(name, control)| (name, control.get().is_some()));
    let absent: Vec<_> = listed.iter().filter(|(_, is)| !is).map(|(name, _)| *name).collect();
    assert_eq!(absent, ["prompts alone"]);
}
