use super::*;
use lens_core::Message;
use proptest::prelude::*;

/// Two responses of the same kind.
fn sides() -> impl Strategy<Value = (Content, Content)> {
    let message = ("(user|assistant|system)", any::<String>())
        .prop_map(|(role, content)| Message { role, content });
    let messages = proptest::collection::vec(message, 1..4).prop_map(Content::Messages);
    let text = any::<String>().prop_map(Content::Text);
    prop_oneof![(text.clone(), text), (messages.clone(), messages)]
}

/// Pieces of JSON that make valid rows, and nearly valid ones, likely.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(&b"{\"prompt\":"[..]),
        Just(&b",\"chosen\":"[..]),
        Just(&b",\"rejected\":"[..]),
        Just(&b"\"text\""[..]),
        Just(&b"[{\"role\":\"user\",\"content\":\"x\"}]"[..]),
        Just(&b",\"responses\":[\"a\",\"b\"],\"scores\":"[..]),
        Just(&b"[1,2]"[..]),
        Just(&b"[\"x\"]"[..]),
        Just(&b"null"[..]),
        Just(&b"}"[..]),
        Just(&b"\n"[..]),
        Just(&b"\r\n"[..]),
        Just(&b"["[..]),
        Just(&b","[..]),
        Just(&b"\""[..]),
        Just(&b"\xff"[..]),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

const NAMES: [&str; 8] =
    ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz", "a.jsonl.zst", "a"];
const MAGICS: [&[u8]; 5] = [b"", b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"PAR1", b"\xef\xbb\xbf"];

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        name in proptest::sample::select(&NAMES[..]),
        magic in proptest::sample::select(&MAGICS[..]),
        rest in prop_oneof![pieces(), proptest::collection::vec(any::<u8>(), 0..300)],
    ) {
        let home = Home::new();
        let path = home.file(name, [magic, &rest].concat());
        if let Ok(data) = read(&path) {
            prop_assert!(!data.pairs.is_empty());
            prop_assert_eq!(data.read, data.pairs.len() + data.malformed.len());
        }
        let _ = read_exchanges(&path, &ReadOptions::default());
        if let Ok(set) = read_judged_with(&path, &ReadOptions::default(), &Quiet) {
            prop_assert_eq!(set.read, set.rows.len() + set.malformed.len());
        }
    }

    #[test]
    fn any_pair_with_a_prompt_survives_json_lines(
        prompt in any::<String>().prop_filter("not blank", |p| !p.trim().is_empty()),
        (chosen, rejected) in sides(),
        margin in proptest::option::of(-1e9f64..1e9), tie: bool,
    ) {
        let margin = margin.filter(|_| !tie);
        let pair = PreferencePair { prompt: text(&prompt), chosen, rejected, margin, tie };
        let data = super::pair(&serde_json::to_value(&pair).unwrap()).unwrap();
        if !data.shapes.contains_key(&Shape::RepeatedPrompt) {
            prop_assert_eq!(&data.pairs[0].value, &pair);
        }
    }

    #[test]
    fn csv_survives_a_round_trip(rows in proptest::collection::vec(
        (any::<String>(), any::<String>(), any::<String>()), 1..5)) {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["prompt", "chosen", "rejected"]).unwrap();
        for (prompt, chosen, rejected) in &rows {
            writer.write_record([prompt, chosen, rejected]).unwrap();
        }
        let data = Home::new().pairs("a.csv", writer.into_inner().unwrap()).unwrap();
        prop_assert_eq!(data.pairs.len(), rows.len());
        for (row, (prompt, chosen, rejected)) in data.pairs.iter().zip(&rows) {
            let value = &row.value;
            prop_assert_eq!(&value.prompt, &text(prompt));
            prop_assert_eq!((&value.chosen, &value.rejected), (&text(chosen), &text(rejected)));
        }
    }

    #[test]
    fn a_split_transcript_puts_together_again(start in "(\n\nAssistant:|a|é|è|\n){0,6}",
        a in "(\n\nAssistant:|a|é|è){0,4}", b in "(\n\nAssistant:|a|é|è){0,4}") {
        let (chosen, rejected) = (format!("\n\nHuman: {start}{a}"), format!("\n\nHuman: {start}{b}"));
        let row = serde_json::json!({"chosen": chosen, "rejected": rejected});
        let (pair, shape) = good(&row);
        let join = |side: &Content| match (&pair.prompt, side) {
            (Content::Text(prompt), Content::Text(side)) => format!("{prompt}{side}"),
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(join(&pair.chosen), chosen);
        prop_assert_eq!(join(&pair.rejected), rejected);
        if let (Content::Text(prompt), Shape::Transcript) = (&pair.prompt, shape) {
            prop_assert!(prompt.ends_with("\n\nAssistant:"));
        }
    }
}
