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
    let found: Vec<_> = set.malformed.iter().map(|row| (row.line, row.field.as_str())).collect();
    let expected =
        [(2, "prompt"), (3, "responses"), (4, "responses[1]"), (5, "text"), (6, "(row)")];
    assert_eq!(found, expected);
    assert_eq!(set.malformed[4].found, "none among: question");
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
    let bad: Vec<_> = set.malformed.iter().map(|m| (m.line, m.field.as_str())).collect();
    assert_eq!((set.read, bad), (7, vec![(6, "prompt"), (7, "prompt")]));
}
