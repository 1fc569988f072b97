#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::dataset::{Compression, Format, Layout};
use crate::prompts::prompt_key;
use lens_core::{Content, Message};
use proptest::prelude::*;
use serde_json::{Map, json};

fn text(text: &str) -> Content {
    Content::Text(text.to_owned())
}

fn dataset(pairs: &[(&str, &str, &str)]) -> Dataset {
    let rows = (1..).zip(pairs).map(|(line, (prompt, chosen, rejected))| {
        let value = PreferencePair {
            prompt: text(prompt),
            chosen: text(chosen),
            rejected: text(rejected),
            margin: None,
            tie: false,
        };
        Row::new(line, value, Map::new())
    });
    Dataset {
        path: "pairs.jsonl".into(),
        pairs: rows.collect(),
        malformed: MalformedRows::default(),
        read: pairs.len(),
        layout: Layout {
            files: vec!["pairs.jsonl".into()],
            format: Format::JsonLines,
            compression: Compression::None,
            columns: Vec::new(),
            rows: pairs.len(),
            with_prompt_column: 0,
        },
        shapes: BTreeMap::new(),
        no_prompt: true,
    }
}

fn lines(vetted: &Vetted, reason: Reason) -> Vec<(u64, &str)> {
    let rows = vetted.report.left_out.get(&reason).map(Vec::as_slice).unwrap_or_default();
    rows.iter().map(|row| (row.line, row.detail.as_str())).collect()
}

#[test]
fn every_reason_is_found_and_listed_by_line() {
    let mut data = dataset(&[
        ("p", "good", "bad"),   // 1 contradicted by 6
        ("p", "good", " "),     // 2
        ("p", "", "bad"),       // 3
        ("p", " same", "same"), // 4
        ("p", "good", "bad"),   // 5 duplicate of 1
        ("p", "bad", "good"),   // 6
        ("q", "good", "bad"),   // 7 kept
        ("q", "good", "bad "),  // 8 duplicate of 7: white space apart
    ]);
    data.malformed.push(MalformedRow {
        file: "pairs.jsonl".into(),
        line: 9,
        field: "chosen".into(),
        expected: "text".into(),
        found: "null".into(),
    });
    data.read = 9;
    let vetted = vet(data);
    assert_eq!(vetted.used.iter().map(|row| row.line).collect::<Vec<_>>(), [7]);
    assert_eq!(lines(&vetted, Reason::Malformed), [(9, "chosen: expected text, found null")]);
    let blank = [(2, "rejected is blank"), (3, "chosen is blank")];
    assert_eq!(lines(&vetted, Reason::EmptySide), blank);
    assert_eq!(lines(&vetted, Reason::IdenticalSides).len(), 1);
    assert_eq!(lines(&vetted, Reason::Duplicate), [(5, "as line 1"), (8, "as line 7")]);
    let swapped = [(1, "line 6 has the sides swapped"), (6, "line 1 has the sides swapped")];
    assert_eq!(lines(&vetted, Reason::Contradiction), swapped);
    assert_eq!(vetted.report.read, vetted.report.used + vetted.report.left_out_total());
}

#[test]
fn a_tie_has_no_order_and_no_order_agrees_with_it() {
    let mut data = dataset(&[
        ("p", "a", "b"),  // 1 tie
        ("p", "b", "a"),  // 2 tie: the same one
        ("p", "a", "c"),  // 3 decided, 4 a tie of the same
        ("p", "c", "a"),  // 4 tie
        ("q", "a", "b"),  // 5 decided: another prompt
        ("r", "a", "b"),  // 6 decided, 7 the other way, 8 a tie: none is kept
        ("r", "b", "a"),  // 7
        ("r", "a", "b"),  // 8 tie
        ("s", "a", " a"), // 9 tie of one response
    ]);
    for line in [1, 2, 4, 8, 9] {
        data.pairs[line - 1].value.tie = true;
    }
    let mut vetted = vet(data);
    assert_eq!(vetted.used.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 5]);
    assert_eq!(lines(&vetted, Reason::Duplicate), [(2, "as line 1")]);
    assert_eq!(lines(&vetted, Reason::IdenticalSides)[0].0, 9);
    let against = [
        (3, "line 4 calls the two a tie"),
        (4, "line 3 prefers one of the two"),
        (6, "line 7 has the sides swapped"),
        (7, "line 6 has the sides swapped"),
        (8, "line 6 prefers one of the two"),
    ];
    assert_eq!(lines(&vetted, Reason::Contradiction), against);
    assert_eq!(vetted.report.read, vetted.report.used + vetted.report.left_out_total());

    // An evaluation has no use for those that are left.
    assert_eq!((vetted.leave_out_ties(), vetted.leave_out_ties()), (1, 0));
    assert_eq!(lines(&vetted, Reason::Tie), [(1, "")]);
    assert_eq!((vetted.used.len(), vetted.report.used), (1, 1));
}

#[test]
fn message_sides_are_compared_turn_by_turn() {
    let side = |content: &str| {
        Content::Messages(vec![Message {
            role: "assistant".to_owned(),
            content: content.to_owned(),
        }])
    };
    let mut data = dataset(&[("p", "a", "b"), ("p", "a", "b")]);
    data.pairs[0].value.chosen = side("same ");
    data.pairs[0].value.rejected = side(" same");
    data.pairs[1].value.chosen = Content::Messages(Vec::new());
    data.pairs[1].value.rejected = side("x");
    let vetted = vet(data);
    assert_eq!(lines(&vetted, Reason::IdenticalSides)[0].0, 1);
    assert_eq!(lines(&vetted, Reason::EmptySide)[0].0, 2);
}

#[test]
fn the_report_as_json_has_counts_and_lines_and_comes_back() {
    let mut vetted = vet(dataset(&[("p", "a", "b"), ("p", "a", "b"), ("q", "c", "d")]));
    let rows = [3, 99].map(|line| LeftOut::on_line(line, "at 512 tokens"));
    assert_eq!(vetted.leave_out(Reason::EqualAfterTruncation, rows), 1);
    assert_eq!(vetted.leave_out(Reason::TooLong, []), 0);
    let json = serde_json::to_value(&vetted.report).unwrap();
    assert_eq!(
        json,
        json!({
            "read": 3, "used": 1,
            "left_out": {"duplicate": 1, "equal-after-truncation": 1},
            "lines": {
                "duplicate": [{"line": 2, "detail": "as line 1"}],
                "equal-after-truncation": [{"line": 3, "detail": "at 512 tokens"}],
            },
        })
    );
    assert_eq!(serde_json::from_value::<VetReport>(json).unwrap(), vetted.report);
}

#[test]
fn names_agree_with_serde() {
    for reason in [
        Reason::Malformed,
        Reason::EmptySide,
        Reason::IdenticalSides,
        Reason::NoPrompt,
        Reason::Duplicate,
        Reason::Contradiction,
        Reason::Tie,
        Reason::Overlap,
        Reason::TrainedOn,
        Reason::TooLong,
        Reason::EqualAfterTruncation,
        Reason::EqualTokens,
        Reason::TemplateRefused,
    ] {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
}

#[test]
fn shared_prompts_are_found_across_shapes_and_can_be_left_out() {
    let mut vetted = vet(dataset(&[("p ", "a", "b"), ("q", "a", "b"), ("", "a", "b")]));
    let mut heldout = dataset(&[("x", "a", "b"), ("p", "c", "d"), ("", "c", "d")]);
    heldout.pairs[1].value.prompt =
        Content::Messages(vec![Message { role: "user".to_owned(), content: "p".to_owned() }]);
    let shared = shared_prompts(&vetted, &vet(heldout));
    assert_eq!(shared.iter().map(|row| row.line).collect::<Vec<_>>(), [1]);
    assert_eq!(shared[0].detail, "the prompt is that of line 2 of the held-out set");
    assert_eq!(vetted.leave_out(Reason::Overlap, shared), 1);
    assert_eq!((vetted.report.used, vetted.report.left_out_total()), (2, 1));
}

#[test]
fn prompts_stay_in_step_with_the_pairs() {
    let rows =
        [("p", "a", "b"), ("", "a", "b"), ("q", "a", "b"), ("p ", "c", "d"), (" ", "c", "d")];
    let mut vetted = vet(dataset(&rows));
    assert_eq!(vetted.prompt_numbers(), [0, 1, 2, 0, 3]);
    assert_eq!(vetted.prompt_count(), 4);
    vetted.leave_out(Reason::TooLong, [LeftOut::on_line(1, "")]);
    assert_eq!(vetted.prompt_numbers(), [0, 1, 2, 3]);
    let keys: Vec<i64> = vetted.used.iter().map(|row| prompt_key(&row.value)).collect();
    assert_eq!(vetted.prompt_keys().collect::<Vec<_>>(), keys);
    assert_eq!(Vetted::new(vetted.used.clone(), vetted.report.clone()), vetted);
}

#[test]
fn a_share_of_the_prompts_is_held_out_and_nothing_is_lost() {
    let prompts: Vec<String> = (0..50).map(|i| format!("p{i}")).collect();
    let rows: Vec<_> = prompts.iter().flat_map(|p| [(&**p, "a", "b"), (&**p, "c", "d")]).collect();
    let mut data = dataset(&rows);
    // Left out before: it stays in the report of the first set.
    data.pairs[0].value.chosen = text(" ");
    let all = vet(data);
    let (train, heldout) = all.clone().hold_out(0.2, 0, |_| true);
    assert_eq!(train.used.len() + heldout.used.len(), 99);
    assert_eq!(heldout.prompt_count(), 10);
    assert!(shared_prompts(&train, &heldout).is_empty());
    assert_eq!(
        (train.report.read + heldout.report.read, heldout.report.left_out_total()),
        (100, 0)
    );
    for set in [&train, &heldout] {
        assert_eq!(set.report.used, set.used.len());
        assert_eq!(set.report.read, set.report.used + set.report.left_out_total());
        assert_eq!(*set, Vetted::new(set.used.clone(), set.report.clone()));
    }
    assert_eq!(train.report.summary(), "1 empty-side");
    // Another seed, another share; and only those that may be.
    assert_ne!(all.clone().hold_out(0.2, 1, |_| true).1, heldout);
    let (train, none) = all.clone().hold_out(0.0, 0, |_| true);
    assert_eq!((&train, none.used.len()), (&all, 0));
    let allowed: Vec<i64> = all.prompt_keys().skip(90).collect();
    let (_, heldout) = all.hold_out(0.4, 0, |key| allowed.contains(&key));
    assert_eq!(heldout.prompt_count(), 2);
    assert!(heldout.prompt_keys().all(|key| allowed.contains(&key)));
}

#[test]
fn what_was_left_out_is_summed_up_counted_and_listed() {
    let data = dataset(&[("p", "a", "b"), ("p", "a", "b"), ("q", "", "b"), ("p", "a", "b")]);
    let report = vet(data).report;
    assert_eq!(report.summary(), "1 empty-side, 2 duplicate");
    assert_eq!(report.counts(), [("duplicate".to_owned(), 2), ("empty-side".to_owned(), 1)].into());
    let listed: Vec<(Reason, u64)> = report.rows_left_out().map(|(r, row)| (r, row.line)).collect();
    let expected = [(Reason::EmptySide, 3), (Reason::Duplicate, 2), (Reason::Duplicate, 4)];
    assert_eq!(listed, expected);
    assert_eq!(VetReport::all_used(7).summary(), "none");
    let row = MalformedRow {
        file: "pairs.jsonl".into(),
        line: 9,
        field: "chosen".into(),
        expected: "text".into(),
        found: "null".into(),
    };
    let mut malformed = MalformedRows::default();
    malformed.push(row);
    let report = VetReport::all_but_malformed(3, &malformed, false);
    assert_eq!((report.read, report.used, report.summary().as_str()), (4, 3, "1 malformed"));
}

#[test]
fn the_same_judgement_in_two_shapes_is_one() {
    let turn = |role: &str, text: &str| Message { role: role.into(), content: text.into() };
    let mut data =
        dataset(&[("Why?", "So.", "No."), ("Why?", "So.", "No."), ("Why?", "No.", "So.")]);
    data.pairs[1].value = PreferencePair {
        prompt: Content::Messages(vec![turn("user", "Why?")]),
        chosen: Content::Messages(vec![turn("assistant", "So.")]),
        rejected: Content::Messages(vec![turn("assistant", "No. ")]),
        margin: None,
        tie: false,
    };
    data.pairs[2].value.prompt = text("\n\nHuman: Why?\n\nAssistant:");
    data.pairs[2].metadata.insert("note".to_owned(), json!("other"));
    let vetted = vet(data);
    assert_eq!(lines(&vetted, Reason::Duplicate), [(2, "as line 1")]);
    let differ = "; the rows differ in columns that are not read";
    let swapped = |line: u64| format!("line {line} has the sides swapped{differ}");
    let (first, third) = (swapped(3), swapped(1));
    assert_eq!(lines(&vetted, Reason::Contradiction), [(1, &*first), (3, &*third)]);
}

#[test]
fn a_missing_prompt_is_a_fault_where_others_have_one() {
    let rows = [("p", "a", "b"), (" ", "a", "b"), ("", "", "b")];
    let strictly = |rows: &[(&str, &str, &str)]| vet(Dataset { no_prompt: false, ..dataset(rows) });
    let vetted = strictly(&rows);
    assert_eq!(lines(&vetted, Reason::NoPrompt), [(2, "the prompt is missing or blank")]);
    assert_eq!(vetted.report.summary(), "1 empty-side, 1 no-prompt");
    assert_eq!(vet(dataset(&rows)).used.len(), 2);
    // Where no pair has one, nothing is missing; where a column for it is blank, all are.
    assert_eq!(strictly(&rows[1..]).used.len(), 1);
    let mut blank = dataset(&rows[1..]);
    (blank.no_prompt, blank.layout.with_prompt_column) = (false, 2);
    assert_eq!(vet(blank).used.len(), 0);
}

#[test]
fn the_fingerprint_is_that_of_the_used_pairs() {
    let once = vet(dataset(&[("p", "a", "b")]));
    let twice = vet(dataset(&[("p", "a", "b"), ("p", "a", "b")]));
    assert_eq!(once.fingerprint(), twice.fingerprint());
}

proptest! {
    #[test]
    fn every_row_is_accounted_for(
        rows in proptest::collection::vec(("[pq]", "[ ab]", "[ ab]"), 1..40),
        more in proptest::collection::vec(0u64..60, 0..10),
    ) {
        let rows: Vec<_> = rows.iter().map(|(p, c, r)| (&**p, &**c, &**r)).collect();
        let mut vetted = vet(dataset(&rows));
        let check = |vetted: &Vetted| {
            let report = &vetted.report;
            let mut lines: Vec<u64> = report.left_out.values().flatten().map(|r| r.line).collect();
            lines.extend(vetted.used.iter().map(|row| row.line));
            lines.sort_unstable();
            lines == (1..=rows.len() as u64).collect::<Vec<_>>()
                && report.used == vetted.used.len()
                && report.read == report.used + report.left_out_total()
        };
        prop_assert!(check(&vetted));
        // What is left has no pair twice, in either direction.
        for (i, a) in vetted.used.iter().enumerate() {
            for b in &vetted.used[..i] {
                let sides = |row: &Row<PreferencePair>| {
                    let PreferencePair { prompt, chosen, rejected, .. } = row.value.clone();
                    [prompt, chosen, rejected].map(|side| match side {
                        Content::Text(text) => text.trim().to_owned(),
                        Content::Messages(_) => unreachable!(),
                    })
                };
                let ([p, c, r], [q, d, s]) = (sides(a), sides(b));
                prop_assert!(p != q || !((c == d && r == s) || (c == s && r == d)));
            }
        }
        let lines = more.into_iter().map(|line| LeftOut::on_line(line, ""));
        vetted.leave_out(Reason::TooLong, lines);
        prop_assert!(check(&vetted));
    }
}
