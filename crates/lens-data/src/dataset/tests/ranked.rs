use super::*;
use serde_json::json;

fn rows(rows: &[Value]) -> Result<JudgedSet, Error> {
    let lines: Vec<_> = rows.iter().map(Value::to_string).collect();
    let home = Home::new();
    let file = home.file("rows.jsonl", lines.join("\n"));
    read_judged_with(file, &ReadOptions::default(), &Quiet)
}

fn texts(texts: &[&str]) -> Vec<Content> {
    texts.iter().map(|t| text(t)).collect()
}

#[test]
fn benchmarks_are_read_in_their_own_shapes() {
    let set = rows(&[
        json!({"prompt": "p", "chosen": "c", "rejected": "r", "subset": "hep-go", "id": 1}),
        json!({"id": "tied:3", "prompt": "p", "chosen": ["a", "b"], "rejected": ["c"],
               "num_correct": 2, "total_completions": 3, "subset": "Ties"}),
        json!({"prompt": "p", "chosen": ["1", "2", "3"], "rejected": ["4", "5", "6"],
               "domain": "chat"}),
        json!({"prompt": [{"role": "user", "content": "q"}],
               "chosen": [[{"role": "assistant", "content": "a"}]],
               "rejected": [[{"role": "assistant", "content": "b"}]]}),
        json!({"prompt": "p", "responses": ["a", "b"], "scores": [1, -0.5], "id": 2}),
        json!({"prompt": "p", "response": "a", "score": "2.5"}),
    ])
    .unwrap();
    assert_eq!((set.read, set.malformed.len()), (6, 0));
    let shapes: Vec<_> = set
        .rows
        .iter()
        .map(|row| match &row.value {
            JudgedRow::Ranked(r) => Some((r.shape, r.chosen.len(), r.rejected.len())),
            _ => None,
        })
        .collect();
    use BestOfN::{Lists, RewardBench2, RmBench};
    let expected = [None, Some((RewardBench2, 2, 1)), Some((RmBench, 3, 3)), Some((Lists, 1, 1))];
    assert_eq!(shapes[..4], expected);
    let scored = |i: usize| match &set.rows[i].value {
        JudgedRow::Scored(row) => row.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((scored(4).responses, scored(4).scores), (texts(&["a", "b"]), vec![1.0, -0.5]));
    assert_eq!((scored(5).responses, scored(5).scores), (texts(&["a"]), vec![2.5]));
    assert_eq!(set.rows[1].metadata["id"], "tied:3");
    assert_eq!(set.rows[4].metadata["id"], 2);
    let pairs = set.into_pairs();
    assert_eq!((pairs.read, pairs.pairs.len(), pairs.shapes[&Shape::Text]), (1, 1, 1));
}

#[test]
fn what_is_missing_or_no_number_is_named() {
    let set = rows(&[
        json!({"prompt": "p", "response": "a", "score": 1}),
        json!({"prompt": "p", "responses": ["a", "b"]}),
        json!({"prompt": "p", "responses": ["a", "b"], "scores": [1]}),
        json!({"prompt": "p", "responses": ["a", "b"], "scores": [1, null]}),
        json!({"prompt": "p", "response": "a"}),
        json!({"prompt": "p", "response": "a", "score": "NaN"}),
        json!({"prompt": "p", "chosen": ["a"], "rejected": []}),
        json!({"prompt": "p", "chosen": ["a", 3], "rejected": ["b"]}),
        json!({"prompt": "p", "responses": [], "scores": []}),
        json!({"text": "t"}),
    ])
    .unwrap();
    let found: Vec<_> =
        set.malformed.described().iter().map(|m| (m.line, m.field.as_str())).collect();
    let fields = ["scores", "scores", "scores[1]", "score", "score", "rejected", "chosen[1]"];
    let fields = fields.into_iter().chain(["responses", "(row)"]);
    let expected: Vec<_> = (2..).zip(fields).collect();
    assert_eq!(found, expected);
    assert_eq!(set.malformed.described()[1].expected, "a list of 2 scores, one for each response");
    assert_eq!(set.malformed.described()[4].expected, "a finite number");
}

#[test]
fn responses_to_one_prompt_come_together_from_rows_of_either_kind() {
    let set = rows(&[
        json!({"prompt": "p", "response": "a", "score": 1, "id": 7}),
        json!({"prompt": "q", "responses": ["x", "y"], "scores": [0, 1]}),
        json!({"prompt": [{"role": "user", "content": " p "}], "response": "b", "score": 2}),
        json!({"prompt": "p", "responses": ["a", "c"], "scores": [1, 3]}),
        json!({"prompt": "", "response": "a", "score": 1}),
        json!({"prompt": "", "response": "b", "score": 1}),
    ])
    .unwrap();
    let scored = set.rows.into_iter().filter_map(|row| row.filter_map(JudgedRow::into_scored));
    let groups = group_by_prompt(scored);
    let found: Vec<_> = groups.iter().map(|g| (g.line, g.rows, g.scores.clone())).collect();
    let (p, q) = ((1, 3, vec![1.0, 2.0, 1.0, 3.0]), (2, 1, vec![0.0, 1.0]));
    assert_eq!(found, [p, q, (5, 1, vec![1.0]), (6, 1, vec![1.0])]);
    assert_eq!(groups[0].responses, texts(&["a", "b", "a", "c"]));
    assert_eq!(groups[0].metadata["id"], 7);
}
