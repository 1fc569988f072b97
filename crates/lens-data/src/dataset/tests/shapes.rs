use super::*;
use serde_json::json;

#[test]
fn explicit_text_keeps_every_character_and_the_other_columns() {
    let data = pair(&json!({
        "id": 7, "prompt": " p\n", "chosen": "  c ", "rejected": "\tr", "margin": 1.5,
        "subset": "chat", "chosen_model": "m",
    }))
    .unwrap();
    let row = &data.pairs[0];
    let value = &row.value;
    assert_eq!(
        (&value.prompt, &value.chosen, &value.rejected),
        (&text(" p\n"), &text("  c "), &text("\tr"))
    );
    assert_eq!(value.margin, Some(1.5));
    assert_eq!(row.metadata.keys().collect::<Vec<_>>(), ["id", "subset", "chosen_model"]);
    assert_eq!((row.line, row.subset()), (1, Some("chat")));
    assert_eq!(data.shapes, BTreeMap::from([(Shape::Text, 1)]));
}

#[test]
fn margins_may_be_null_or_numbers_in_text() {
    let margin = |margin: Value| {
        good(&json!({"prompt": "p", "chosen": "c", "rejected": "r", "margin": margin})).0.margin
    };
    assert_eq!(margin(json!(null)), None);
    assert_eq!(margin(json!("")), None);
    assert_eq!(margin(json!(" 2 ")), Some(2.0));
    assert_eq!(margin(json!(0)), Some(0.0));
    for wrong in [json!("much"), json!(true), json!("inf"), json!("NaN")] {
        let row = json!({"prompt": "p", "chosen": "c", "rejected": "r", "margin": wrong});
        assert_eq!(bad(&row).0, "margin");
    }
}

#[test]
fn ties_are_truth_values_numbers_or_words_and_have_no_margin() {
    let row = |tie: Value, margin: Value| json!({"prompt": "p", "chosen": "c", "rejected": "r", "tie": tie, "margin": margin});
    let tie = |tie: Value| good(&row(tie, json!(null))).0.tie;
    for yes in [json!(true), json!(1), json!(1.0), json!("True"), json!(" yes "), json!("1")] {
        assert!(tie(yes.clone()), "{yes}");
    }
    for no in
        [json!(false), json!(null), json!(0), json!("FALSE"), json!("no"), json!(""), json!("0")]
    {
        assert!(!tie(no.clone()), "{no}");
    }
    for wrong in [json!(2), json!("perhaps"), json!([true]), json!({})] {
        assert_eq!(bad(&row(wrong, json!(null))).0, "tie");
    }
    let both = good(&row(json!(true), json!(0))).0;
    assert_eq!((both.tie, both.margin), (true, Some(0.0)));
    assert_eq!(bad(&row(json!(true), json!(0.5))).0, "margin");
    assert_eq!(bad(&row(json!(false), json!(1e300))).0, "margin");
    assert_eq!(good(&row(json!(0), json!(-2))).0.margin, Some(-2.0));

    let csv = "prompt,chosen,rejected,tie,margin\np,c,r,True,\np,c,s,,0.5\n";
    let data = Home::new().pairs("a.csv", csv).unwrap();
    let labels: Vec<_> = data.pairs.iter().map(|r| (r.value.tie, r.value.margin)).collect();
    assert_eq!(labels, [(true, None), (false, Some(0.5))]);
}

#[test]
fn message_lists_with_a_prompt_of_either_kind() {
    let (pair, shape) = good(&json!({
        "prompt": [{"role": "user", "content": "hi"}],
        "chosen": [{"role": "assistant", "content": "yes", "name": "x"}],
        "rejected": [{"role": "assistant", "content": [{"type": "text", "text": "n"}, {"text": "o"}]}],
    }));
    assert_eq!((pair.prompt, shape), (turns(&[("user", "hi")]), Shape::Messages));
    assert_eq!(pair.rejected, turns(&[("assistant", "no")]));
    let (pair, shape) = good(&json!({
        "prompt": "hi",
        "chosen": [{"role": "assistant", "content": "yes"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }));
    assert_eq!((pair.prompt, shape), (text("hi"), Shape::Messages));
    let (pair, shape) = good(&json!({
        "prompt": [{"role": "user", "content": "hi"}], "chosen": "yes", "rejected": "no",
    }));
    assert_eq!((pair.chosen, shape), (text("yes"), Shape::Messages));
}

#[test]
fn a_prompt_that_the_responses_repeat_is_not_doubled() {
    let side = |answer: &str| {
        json!([{"role": "system", "content": "s"}, {"role": "user", "content": "hi"},
               {"role": "assistant", "content": answer}])
    };
    let prompt = turns(&[("system", "s"), ("user", "hi")]);
    for given in [
        json!("hi"),
        json!(" hi\n"),
        json!([{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]),
    ] {
        let (pair, shape) =
            good(&json!({"prompt": given, "chosen": side("yes"), "rejected": side("no")}));
        assert_eq!((pair.prompt, shape), (prompt.clone(), Shape::RepeatedPrompt));
        assert_eq!(pair.chosen, turns(&[("assistant", "yes")]));
    }
    let (pair, shape) =
        good(&json!({"prompt": "other", "chosen": side("yes"), "rejected": side("no")}));
    assert_eq!((pair.prompt, shape), (text("other"), Shape::Messages));
}

#[test]
fn common_turns_are_the_implicit_prompt() {
    let (pair, shape) = good(&json!({
        "chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                   {"role": "user", "content": "c"}, {"role": "assistant", "content": "yes"}],
        "rejected": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                     {"role": "user", "content": "c"}, {"role": "assistant", "content": "no"}],
    }));
    assert_eq!(shape, Shape::ImplicitMessages);
    assert_eq!(pair.prompt, turns(&[("user", "a"), ("assistant", "b"), ("user", "c")]));
    assert_eq!(pair.chosen, turns(&[("assistant", "yes")]));
    assert_eq!(pair.rejected, turns(&[("assistant", "no")]));
}

#[test]
fn equal_or_contained_conversations_keep_a_response_each() {
    let user = json!({"role": "user", "content": "a"});
    let answer = json!({"role": "assistant", "content": "b"});
    let (pair, _) = good(&json!({"chosen": [user, answer], "rejected": [user, answer]}));
    assert_eq!((pair.chosen.clone(), pair.prompt), (pair.rejected, turns(&[("user", "a")])));
    let (pair, _) = good(&json!({"chosen": [user, answer], "rejected": [user, answer, user]}));
    assert_eq!(pair.chosen, turns(&[("assistant", "b")]));
    assert_eq!(pair.rejected, turns(&[("assistant", "b"), ("user", "a")]));
    let (pair, _) = good(&json!({"chosen": [user], "rejected": [answer]}));
    assert_eq!(pair.prompt, turns(&[]));
    let (pair, _) = good(&json!({"chosen": [], "rejected": [answer]}));
    assert!(pair.chosen.is_blank());
}

#[test]
fn transcripts_split_at_the_last_common_turn() {
    let start = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: more\n\nAssistant:";
    let (pair, shape) = good(&json!({
        "chosen": format!("{start} sure, é"), "rejected": format!("{start} sure, è"),
    }));
    assert_eq!(shape, Shape::Transcript);
    assert_eq!(pair.prompt, text(start));
    assert_eq!((pair.chosen, pair.rejected), (text(" sure, é"), text(" sure, è")));

    // What differs before the last turn stays in the responses.
    let (pair, _) = good(&json!({
        "chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
        "rejected": "\n\nHuman: a\n\nAssistant: x",
    }));
    assert_eq!(pair.prompt, text("\n\nHuman: a\n\nAssistant:"));
    assert_eq!(pair.chosen, text(" b\n\nHuman: c\n\nAssistant: d"));

    let (pair, _) = good(&json!({"prompt": null, "chosen": start, "rejected": start}));
    assert_eq!((pair.prompt, pair.chosen), (text(start), text("")));
}

#[test]
fn other_text_has_an_empty_prompt() {
    for (chosen, rejected) in [("yes", "no"), ("\n\nHuman: a", "\n\nHuman: b"), ("", "x")] {
        let (pair, shape) = good(&json!({"chosen": chosen, "rejected": rejected}));
        assert_eq!((pair.prompt, shape), (text(""), Shape::NoPrompt));
        assert_eq!((pair.chosen, pair.rejected), (text(chosen), text(rejected)));
    }
    let quoting = "He wrote \n\nAssistant: no";
    let (pair, _) = good(&json!({"chosen": quoting, "rejected": quoting}));
    assert_eq!(pair.chosen, text(quoting));
}

#[test]
fn best_of_n_shapes_are_named_and_refused() {
    let shape = |row: Value| match pair(&row) {
        Err(error @ Error::UnsupportedShape { shape, line: 1, .. }) => {
            assert!(error.to_string().contains("the evaluation command reads"), "{error}");
            shape
        }
        other => panic!("{other:?}"),
    };
    let three = json!(["a", "b", "c"]);
    let rewardbench = json!({"prompt": "p", "chosen": ["a"], "rejected": three, "num_correct": 1,
        "total_completions": 4, "subset": "s", "id": "1"});
    assert_eq!(shape(rewardbench), BestOfN::RewardBench2);
    let rm_bench = json!({"prompt": "p", "chosen": three, "rejected": three, "domain": "chat"});
    assert_eq!(shape(rm_bench), BestOfN::RmBench);
    let lists = json!({"prompt": "p", "chosen": ["a", "b"], "rejected": three});
    assert_eq!(shape(lists), BestOfN::Lists);
    let responses = json!({"prompt": "p", "responses": ["a", "b"]});
    assert_eq!(shape(responses), BestOfN::Responses);
}

#[test]
fn ranked_completions_become_pairs() {
    let completion = |rank: i64, answer: &str| json!({"rank": rank, "completion": [{"role": "assistant", "content": answer}]});
    let row = |completions: Value| {
        json!({"context": [{"role": "user", "content": "hi"}], "task": "t",
               "completions": completions})
    };
    for completions in [
        json!([completion(0, "yes"), completion(1, "no")]),
        json!([completion(1, "no"), completion(0, "yes")]),
    ] {
        let (pair, shape) = good(&row(completions));
        assert_eq!(shape, Shape::Ranked);
        assert_eq!(pair.prompt, turns(&[("user", "hi")]));
        assert_eq!(pair.chosen, turns(&[("assistant", "yes")]));
        assert_eq!(pair.rejected, turns(&[("assistant", "no")]));
    }
    let three = json!([completion(2, "c"), completion(0, "a"), completion(1, "b")]);
    let data = pair(&row(three)).unwrap();
    let sides = |row: &Row<PreferencePair>| {
        (row.part, row.value.chosen.clone(), row.value.rejected.clone())
    };
    let said = |text: &str| turns(&[("assistant", text)]);
    let expected =
        [(0, said("a"), said("c")), (1, said("b"), said("c")), (2, said("a"), said("b"))];
    assert_eq!(data.pairs.iter().map(sides).collect::<Vec<_>>(), expected);
    assert_eq!((data.layout.rows, data.read), (1, 3));
    let tie = json!([completion(0, "a"), completion(0, "b")]);
    assert_eq!(bad(&row(tie.clone())).2, "0 for all that have one");
    let with_tie = |completions: Value| {
        let mut row = row(completions);
        row["tie"] = json!(true);
        row
    };
    assert!(good(&with_tie(tie)).0.tie);
    let decided = json!([completion(0, "a"), completion(1, "b")]);
    assert_eq!(bad(&with_tie(decided)).2, "0 and 1");
    assert_eq!(bad(&row(json!([completion(0, "a"), {"rank": "x"}]))).0, "completions[1].rank");
    assert_eq!(bad(&row(json!([completion(0, "a"), {"rank": 1}]))).0, "completions[1].completion");
}

#[test]
fn malformed_rows_name_field_expected_and_found() {
    let message = |message: Value| {
        bad(&json!({"chosen": [{"role": "user", "content": "a"}, message], "rejected": "r"}))
    };
    let places = [
        (json!("text"), "chosen[1]"),
        (json!({"content": "x"}), "chosen[1].role"),
        (json!({"role": 3, "content": "x"}), "chosen[1].role"),
        (json!({"role": "user"}), "chosen[1].content"),
        (json!({"role": "user", "content": null}), "chosen[1].content"),
        (json!({"role": "user", "content": [{"type": "image"}]}), "chosen[1].content[0]"),
        (json!({"role": "a", "content": "x", "tool_calls": [{}]}), "chosen[1].tool_calls"),
    ];
    for (row, place) in places {
        assert_eq!(message(row).0, place);
    }
    let fine = json!({"role": "assistant", "content": "x", "tool_calls": null});
    assert_eq!(
        message(fine),
        ("rejected".into(), "a list of messages, as `chosen` is".into(), "text".into())
    );
    let missing = bad(&json!({"prompt": "p", "question": "q", "chosen": "c"}));
    assert_eq!(
        missing,
        (
            "rejected".into(),
            "text or a list of messages".into(),
            "none among: prompt, question, chosen".into()
        )
    );
    assert_eq!(bad(&json!({})).2, "none among: nothing");
    let null = bad(&json!({"prompt": "p", "chosen": null, "rejected": "r"}));
    assert_eq!((null.0.as_str(), null.2.as_str()), ("chosen", "null"));
    let long = bad(&json!({"prompt": {"x": "y".repeat(500)}, "chosen": "c", "rejected": "r"}));
    assert_eq!((long.0.as_str(), long.2.as_str()), ("prompt", "an object with x"));
    assert_eq!(bad(&json!(["a"])).0, "(row)");
}
