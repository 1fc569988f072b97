use super::*;
use lens_core::Exchange;
use serde_json::json;

fn rows(rows: &[Value]) -> Result<ScoreSet, Error> {
    let lines: Vec<_> = rows.iter().map(Value::to_string).collect();
    let home = Home::new();
    read_exchanges(home.file("rows.jsonl", lines.join("\n")), &ReadOptions::default())
}

#[test]
fn every_kind_of_row_is_read_with_its_metadata() {
    let set = rows(&[
        json!({"prompt": "p", "response": "r", "id": 1}),
        json!({"prompt": "p", "responses": ["a", "b"], "scores": [1, 2]}),
        json!({"chosen": "c", "rejected": "r", "subset": "s"}),
        json!({"text": "t", "response_id": 4}),
        json!({"prompt": [{"role": "user", "content": "q"}],
               "response": [{"role": "assistant", "content": "a"}]}),
    ])
    .unwrap();
    let (p, r) = (text("p"), text("r"));
    assert_eq!(set.rows[0].value, ScoreRow::Single(Exchange { prompt: p.clone(), response: r }));
    let candidates = ScoreRow::Candidates { prompt: p, responses: vec![text("a"), text("b")] };
    assert_eq!(set.rows[1].value, candidates);
    assert!(matches!(&set.rows[2].value, ScoreRow::Pair(pair) if pair.prompt == text("")));
    assert_eq!(set.rows[3].value, ScoreRow::Text("t".to_owned()));
    assert!(matches!(&set.rows[4].value, ScoreRow::Single(_)));
    assert_eq!(set.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let names: Vec<_> = set.rows.iter().flat_map(|row| row.metadata.keys()).collect();
    assert_eq!(names, ["id", "scores", "subset", "response_id"]);
    assert_eq!((set.read, set.malformed.len()), (5, 0));
}

#[test]
fn a_repeated_prompt_is_taken_out_as_it_is_for_pairs() {
    let conversation = json!([{"role": "user", "content": "q"},
                              {"role": "assistant", "content": "a"}]);
    let set = rows(&[
        json!({"prompt": "q", "response": conversation}),
        json!({"prompt": [{"role": "user", "content": "q"}], "responses": [conversation]}),
    ])
    .unwrap();
    let (prompt, response) = (turns(&[("user", "q")]), turns(&[("assistant", "a")]));
    let single = Exchange { prompt: prompt.clone(), response: response.clone() };
    assert_eq!(set.rows[0].value, ScoreRow::Single(single));
    let candidates = ScoreRow::Candidates { prompt, responses: vec![response] };
    assert_eq!(set.rows[1].value, candidates);
}

#[test]
fn a_completion_is_a_response_and_the_end_of_a_conversation_is_one_too() {
    let said = |all: &[(&str, &str)]| -> Value {
        let turn = |(role, content): &(&str, &str)| json!({"role": role, "content": content});
        all.iter().map(turn).collect()
    };
    let (q, a, b) = (("user", "q"), ("assistant", "a"), ("assistant", "b"));
    let set = rows(&[
        json!({"prompt": "q", "completion": "a", "label": true}),
        json!({"prompt": said(&[q]), "completion": said(&[a])}),
        json!({"prompt": said(&[q]), "completion": said(&[q, a])}),
        json!({"messages": said(&[q, a])}),
        json!({"messages": said(&[("system", "s"), q, a, q, a, b]), "text": "rendered"}),
    ])
    .unwrap();
    let single = |prompt, response| ScoreRow::Single(Exchange { prompt, response });
    assert_eq!(set.rows[0].value, single(text("q"), text("a")));
    assert_eq!(set.rows[0].metadata["label"], true);
    for row in &set.rows[1..4] {
        assert_eq!(row.value, single(turns(&[q]), turns(&[a])), "line {}", row.line);
    }
    let before = turns(&[("system", "s"), q, a, q]);
    assert_eq!(set.rows[4].value, single(before, turns(&[a, b])));

    let set = rows(&[
        json!({"text": "fine"}),
        json!({"messages": said(&[q])}),
        json!({"messages": []}),
        json!({"messages": "q"}),
        json!({"completion": "a"}),
    ])
    .unwrap();
    let found: Vec<_> = set
        .malformed
        .described()
        .iter()
        .map(|row| (row.field.as_str(), row.found.as_str()))
        .collect();
    let expected = [
        ("messages", "a last turn of the user"),
        ("messages", "no message"),
        ("messages", "the text \"q\""),
        ("prompt", "none among: completion"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn whole_rows_keep_every_column_and_every_line() {
    let home = Home::new();
    let lines = [
        r#"{"id": 1, "prompt": "p", "response": "r", "n": null}"#,
        "no object",
        r#"{"prompt": "p", "answer": "r"}"#,
    ];
    let path = home.file("rows.jsonl", lines.join("\n"));
    let all = read_whole_rows_with(&path, &ReadOptions::default(), &Quiet).unwrap();
    let columns: Vec<String> = all.iter().map(|row| json!(row.columns).to_string()).collect();
    let expected =
        [r#"{"id":1,"prompt":"p","response":"r","n":null}"#, "{}", &lines[2].replace(' ', "")];
    assert_eq!(columns, expected);
    assert_eq!(all.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(matches!(all[0].value, Ok(ScoreRow::Single(_))));
    let problem = |at: usize| all[at].value.as_ref().unwrap_err().to_string();
    assert!(problem(1).contains("rows.jsonl:2: expected a JSON object"), "{}", problem(1));
    assert!(problem(2).contains("none among: prompt, answer"), "{}", problem(2));

    let strict = ReadOptions { strict: true, ..ReadOptions::default() };
    let error = read_whole_rows_with(&path, &strict, &Quiet).unwrap_err();
    assert!(matches!(&error, Error::Malformed(row) if row.line == 2), "{error}");
    let path = home.file("bad.jsonl", lines[1..].join("\n"));
    let error = read_whole_rows_with(&path, &ReadOptions::default(), &Quiet).unwrap_err();
    assert!(matches!(&error, Error::AllMalformed { read: 2, .. }), "{error}");
}

#[test]
fn malformed_rows_are_collected_with_their_line() {
    let set = rows(&[
        json!({"text": "fine"}),
        json!({"response": "r"}),
        json!({"prompt": "p", "responses": []}),
        json!({"prompt": "p", "responses": ["a", 3]}),
        json!({"text": 3}),
        json!({"question": "?"}),
    ])
    .unwrap();
    let found: Vec<_> =
        set.malformed.described().iter().map(|row| (row.line, row.field.as_str())).collect();
    let expected =
        [(2, "prompt"), (3, "responses"), (4, "responses[1]"), (5, "text"), (6, "(row)")];
    assert_eq!(found, expected);
    assert_eq!(set.malformed.described()[4].found, "none among: question");
    let lists = rows(&[json!({"prompt": "p", "chosen": ["a", "c"], "rejected": ["b"]})]);
    assert!(matches!(lists, Err(Error::UnsupportedShape { shape: BestOfN::Lists, .. })));
}

#[test]
fn rows_can_be_visited_one_by_one_and_left_early() {
    let home = Home::new();
    let path = home.file("rows.jsonl", "{\"text\":\"a\"}\nbroken\n{\"text\":\"b\"}\n");
    let options = ReadOptions::default();
    let mut seen = Vec::new();
    let count = visit_exchanges(&path, &options, &mut |row| {
        seen.push(row.map(|row| row.line).map_err(|row| row.line));
        ControlFlow::Continue(())
    });
    assert_eq!((count.unwrap(), seen), (3, vec![Ok(1), Err(2), Ok(3)]));
    let count = visit_exchanges(&path, &options, &mut |_| ControlFlow::Break(()));
    assert_eq!(count.unwrap(), 1);
    let strict = ReadOptions { strict: true, ..options.clone() };
    let failed = visit_exchanges(&path, &strict, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(failed, Err(Error::Malformed(row)) if row.line == 2));
    let empty =
        visit_exchanges(home.file("e.jsonl", "\n"), &options, &mut |_| ControlFlow::Break(()));
    assert!(matches!(empty, Err(Error::NoRows { .. })));
}

#[test]
fn the_prompt_of_every_kind_of_row_is_read() {
    let home = Home::new();
    let rows = [
        json!({"prompt": "p", "id": 1}),
        json!({"prompt": "p", "chosen": "c", "rejected": "r"}),
        json!({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}),
        json!({"prompt": "p", "chosen": ["c", "d"], "rejected": ["r"], "num_correct": 2}),
        json!({"prompt": [{"role": "user", "content": "q"}], "responses": ["a"]}),
        json!({"text": "t"}),
        json!({"prompt": " "}),
    ];
    let lines: Vec<_> = rows.iter().map(Value::to_string).collect();
    let file = home.file("rows.jsonl", lines.join("\n"));
    let set = read_prompts_with(file, &ReadOptions::default(), &Quiet).unwrap();
    let lines: Vec<_> = set.rows.iter().map(|row| row.line).collect();
    assert_eq!(lines, [1, 2, 3, 4, 5]);
    assert!([0, 1, 3].iter().all(|i| set.rows[*i].value == text("p")));
    assert!(set.rows.iter().all(|row| !row.value.is_blank()));
    let bad: Vec<_> =
        set.malformed.described().iter().map(|m| (m.line, m.field.as_str())).collect();
    assert_eq!((set.read, bad), (7, vec![(6, "prompt"), (7, "prompt")]));
}
