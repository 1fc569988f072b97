//! One conversation has one vector and one reward, whatever a user or a trainer makes of it: messages,
//! text, a transcript, a text that went through the template already, over files and over HTTP.

use crate::common::serving::{Reply, Serving};
use crate::common::{Lens, pairs};
use serde_json::{Value, json};
use std::path::Path;

/// A desk with the tiny models `qwen2` and `gemma3`, which have chat templates.
fn desk() -> Lens {
    let lens = Lens::new();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lens-encoder/tests/data/models");
    for model in ["qwen2", "gemma3"] {
        std::fs::create_dir(lens.path(model)).unwrap();
        for entry in std::fs::read_dir(models.join(model)).unwrap() {
            let path = entry.unwrap().path();
            let target = lens.path(model).join(path.file_name().unwrap());
            std::fs::copy(&path, target).unwrap();
        }
    }
    lens
}

/// What the template of a tiny model writes, and what a trainer puts around it.
struct Dialect {
    model: &'static str,
    bos: &'static str,
    open: fn(&str) -> String,
    end: &'static str,
    pad: &'static str,
}

const DIALECTS: [Dialect; 2] = [
    Dialect {
        model: "qwen2",
        bos: "",
        open: |role| format!("<|im_start|>{role}\n"),
        end: "<|im_end|>",
        pad: "<|endoftext|>",
    },
    Dialect {
        model: "gemma3",
        bos: "<bos>",
        open: |role| {
            let role = if role == "assistant" { "model" } else { role };
            format!("<start_of_turn>{role}\n")
        },
        end: "<end_of_turn>",
        pad: "<pad>",
    },
];

impl Dialect {
    /// The turns as the template writes them, up to where an answer goes.
    fn prompt(&self, turns: &[(&str, &str)]) -> String {
        let turn =
            |(role, text): &(&str, &str)| format!("{}{text}{}\n", (self.open)(role), self.end);
        let turns: String = turns.iter().map(turn).collect();
        format!("{}{turns}{}", self.bos, (self.open)("assistant"))
    }
}

fn messages(turns: &[(&str, &str)]) -> Value {
    turns.iter().map(|(role, text)| json!({"role": role, "content": text})).collect()
}

fn transcript(turns: &[(&str, &str)]) -> String {
    let mark = |role: &str| if role == "user" { "Human" } else { "Assistant" };
    turns.iter().map(|(role, text)| format!("\n\n{}: {text}", mark(role))).collect()
}

const QUESTIONS: [&str; 3] =
    ["How long should an egg boil?", "What mends a flat tyre?", "When are roses pruned?"];

/// The bytes of the arrays `chosen` and `rejected` of an embeddings file.
fn sides(lens: &Lens, file: &str) -> [Vec<u8>; 2] {
    let bytes = std::fs::read(lens.path(file)).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    ["chosen", "rejected"].map(|side| {
        let at = |i: usize| header[side]["data_offsets"][i].as_u64().unwrap() as usize;
        bytes[8 + length..][at(0)..at(1)].to_vec()
    })
}

/// Embeds the rows of a shape, with these words.
fn embedded(lens: &Lens, rows: &[Value], words: &str) -> [Vec<u8>; 2] {
    lens.rows("rows.jsonl", rows);
    lens.ok(&format!("embed rows.jsonl -o out.safetensors {words} --quiet"));
    sides(lens, "out.safetensors")
}

const ANSWERS: [&str; 2] = ["Look it up first.", "No idea, ask somebody else."];

/// A row for each question, which stands after two other turns, with both answers.
fn shapes(row: impl Fn(&[(&str, &str)], [&str; 2]) -> Value) -> Vec<Value> {
    let turns =
        |question| [("user", "Hello"), ("assistant", "Hi, what is it?"), ("user", question)];
    QUESTIONS.iter().map(|question| row(&turns(question), ANSWERS)).collect()
}

/// A row for each question, whose sides part with the first of three further turns.
fn parted(write: impl Fn(&[(&str, &str)]) -> Value) -> Vec<Value> {
    let ends = [
        [("user", "Thank you, and then?"), ("assistant", "Then let it cool.")],
        [("user", "That is a pity."), ("assistant", "It is.")],
    ];
    let row = |question: &&str| {
        let side = |i: usize| {
            let begins = [("user", "Hello"), ("assistant", "Hi."), ("user", *question)];
            write(&[&begins[..], &[("assistant", ANSWERS[i])], &ends[i]].concat())
        };
        json!({"chosen": side(0), "rejected": side(1)})
    };
    QUESTIONS.iter().map(row).collect()
}

#[test]
fn the_same_pairs_have_the_same_embeddings_in_every_shape() {
    let lens = desk();
    for dialect in &DIALECTS {
        let chat = format!("--model {} --template chat", dialect.model);
        let of_messages = shapes(|turns, [good, bad]| {
            json!({
                "prompt": messages(turns),
                "chosen": messages(&[("assistant", good)]),
                "rejected": messages(&[("assistant", bad)]),
            })
        });
        let wanted = embedded(&lens, &of_messages, &chat);
        let of_transcripts = shapes(|turns, [good, bad]| {
            let prompt = transcript(turns);
            json!({
                "chosen": format!("{prompt}\n\nAssistant: {good}"),
                "rejected": format!("{prompt}\n\nAssistant: {bad}"),
            })
        });
        assert_eq!(embedded(&lens, &of_transcripts, &chat), wanted, "{}", dialect.model);
        let of_texts = shapes(|turns, [good, bad]| {
            json!({
                "prompt": format!("{}\n\nAssistant:", transcript(turns)),
                "chosen": good,
                "rejected": bad,
            })
        });
        assert_eq!(embedded(&lens, &of_texts, &chat), wanted, "{}", dialect.model);
        // Rendered elsewhere: with and without what the template writes behind the last token.
        for newline in ["", "\n"] {
            let of_rendered = shapes(|turns, [good, bad]| {
                let end = format!("{}{newline}", dialect.end);
                json!({
                    "prompt": dialect.prompt(turns),
                    "chosen": format!("{good}{end}"),
                    "rejected": format!("{bad}{end}"),
                })
            });
            let parse =
                format!("--model {} --special-tokens parse --template plain", dialect.model);
            assert_eq!(embedded(&lens, &of_rendered, &parse), wanted, "{}", dialect.model);
        }
    }
}

#[test]
fn transcripts_that_part_before_their_last_turn_are_the_conversations_they_tell() {
    let lens = desk();
    let (as_messages, as_text) = (parted(messages), parted(|turns| json!(transcript(turns))));
    for words in ["--model qwen2", "--model gemma3", "--model qwen2 --template plain"] {
        let wanted = embedded(&lens, &as_messages, words);
        assert_ne!(wanted[0], wanted[1]);
        assert_eq!(embedded(&lens, &as_text, words), wanted, "{words}");
    }
}

#[test]
fn rows_that_went_through_a_template_are_refused_before_anything_is_computed() {
    let lens = desk();
    let mut rows = pairs(0..30);
    for (i, row) in rows.iter_mut().enumerate().filter(|(i, _)| i % 4 == 3) {
        let prompt = format!("Question {i}: what of it?");
        row["prompt"] = DIALECTS[0].prompt(&[("user", &prompt)]).into();
    }
    // To quote a token is no reason.
    rows[0]["prompt"] = "What is <|im_start|> for, and why </s>?".into();
    lens.rows("rendered.jsonl", &rows);
    let wanted =
        "7 rows went through a chat template already (rendered.jsonl lines 4, 8, 12, 16, 20, ..)";
    for words in [
        "run rendered.jsonl --model qwen2 -o rm",
        "embed rendered.jsonl --model qwen2 -o out.safetensors",
        "embed rendered.jsonl --model qwen2 -o out.safetensors --special-tokens parse",
        "embed rendered.jsonl --model qwen2 -o out.safetensors --template plain",
    ] {
        let error = lens.fails(1, words);
        assert!(error.contains(wanted), "{words}: {error}");
        assert!(error.contains("--special-tokens parse --template plain"), "{words}: {error}");
    }
    assert_eq!(lens.cached_bytes(), 0);
    // Held-out pairs of a file of their own, and the rows that a reward model scores.
    lens.rows("pairs.jsonl", &pairs(0..30));
    let error = lens.fails(1, "run pairs.jsonl --model qwen2 --eval rendered.jsonl -o rm");
    assert!(error.contains("(rendered.jsonl lines"), "{error}");
    lens.ok("run pairs.jsonl --model qwen2 --views fixed -o rm --quiet");
    for words in ["eval rm rendered.jsonl", "score rm rendered.jsonl --json"] {
        let error = lens.fails(1, words);
        assert!(error.contains(wanted) && error.contains("give messages"), "{words}: {error}");
    }
    let text = DIALECTS[0].prompt(&[("user", "What of it?")]);
    lens.rows("texts.jsonl", &[json!({"text": "What of it?"}), json!({"text": text})]);
    let error = lens.fails(1, "score rm texts.jsonl");
    assert!(error.contains("1 row went through a chat template already"), "{error}");
    assert!(error.contains("(texts.jsonl line 2)"), "{error}");
}

/// The reward of an answer with one; some routes write its digits as those of a double.
fn reward(path: &str, reply: &Reply) -> f32 {
    let answer = reply.ok();
    let found = match path {
        "/v1/reward" => &answer["results"][0]["reward"],
        "/get_reward" => &answer["rewards"][0],
        "/v1/score/evaluation" => &answer["scores"][0],
        "/classify" => &answer["data"][0]["probs"][0],
        "/pooling" => &answer["data"][0]["data"][0],
        "/v1/embeddings" => &answer["data"][0]["embedding"][0],
        _ => &answer[0]["score"],
    };
    found.as_f64().unwrap_or_else(|| panic!("{path}: {answer}")) as f32
}

#[test]
fn a_conversation_has_one_reward_on_every_route_under_both_templates() {
    let lens = desk();
    lens.rows("pairs.jsonl", &pairs(0..40));
    let turns = [("user", "Hello"), ("assistant", "Hi."), ("user", QUESTIONS[0])];
    let answer = "Seven minutes, then cold water.";
    for dialect in &DIALECTS {
        for template in ["chat", "plain"] {
            lens.ok(&format!(
                "run pairs.jsonl --model {} --template {template} --views fixed --augment 1 \
                 --overwrite -o rm --quiet",
                dialect.model
            ));
            let server = Serving::start(&lens, "rm");
            let whole = [&turns[..], &[("assistant", answer)]].concat();
            let chat = json!({"messages": messages(&whole)});
            let wanted = reward("/v1/reward", &server.post("/v1/reward", &chat));
            let same = |path: &str, body: Value| {
                let got = reward(path, &server.post(path, &body));
                assert_eq!(got, wanted, "{} {template} {path}: {body}", dialect.model);
            };
            for path in ["/classify", "/pooling", "/v1/embeddings"] {
                same(path, chat.clone());
            }
            same(
                "/v1/reward",
                json!({"prompt": messages(&turns), "responses": [messages(&whole[3..])]}),
            );
            same(
                "/v1/reward",
                json!({"prompt": format!("{}\n\nAssistant:", transcript(&turns)), "responses": [answer]}),
            );

            // What a trainer decodes: as generated, whole, padded on either side, BOS or not.
            let Dialect { bos, end, pad, .. } = dialect;
            let (begun, end, behind) = match template {
                "chat" => (format!("{}{answer}", dialect.prompt(&turns)), *end, "\n"),
                // The tokenizer's own EOS ends a plain text.
                _ if dialect.model == "gemma3" => {
                    (format!("{bos}{}", transcript(&whole)), "<eos>", "")
                }
                _ => (format!("{bos}{}", transcript(&whole)), *end, ""),
            };
            let bare = begun.strip_prefix(bos).unwrap_or(&begun);
            for text in [
                format!("{begun}{end}"),
                format!("{begun}{end}{behind}"),
                format!("{bare}{end}"),
                format!("{begun}{end}{pad}{pad}{pad}"),
                format!("{begun}{end}{behind}{pad}"),
                format!("{pad}{pad}{begun}{end}"),
                format!("{pad}{bare}{end}{behind}{pad}{pad}"),
                begun.clone(),
            ] {
                same("/get_reward", json!({"query": [text], "prompts": [""], "labels": [null]}));
                same("/v1/score/evaluation", json!({"messages": [text]}));
                same("/classify", json!({"input": text}));
                same("/predict", json!({"inputs": text, "raw_scores": true}));
            }
            server.stop();
        }
    }
}

/// Refuses system turns, as the template of Gemma 2 does.
const NO_SYSTEM: &str = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}\
    {{ raise_exception('There is no system role here') }}{% endif %}{% for m in messages %}\
    {{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}";

#[test]
fn a_row_that_the_template_refuses_costs_that_row_alone() {
    let lens = desk();
    lens.write("no-system.jinja", NO_SYSTEM);
    let rows: Vec<Value> = pairs(0..30)
        .into_iter()
        .enumerate()
        .map(|(i, row)| {
            let user = ("user", row["prompt"].as_str().unwrap());
            let system = [("system", "Be brief."), user];
            let turns = if matches!(i, 6 | 9 | 20) { &system[..] } else { &system[1..] };
            json!({
                "prompt": messages(turns), "chosen": messages(&[("assistant", row["chosen"].as_str().unwrap())]),
                "rejected": messages(&[("assistant", row["rejected"].as_str().unwrap())]),
            })
        })
        .collect();
    lens.rows("rows.jsonl", &rows);
    let model = "--model qwen2 --template no-system.jinja";
    let refused_lines = |report: &Value| -> Vec<(u64, String)> {
        let lines = report["lines"]["template-refused"].as_array().into_iter().flatten();
        lines
            .map(|l| (l["line"].as_u64().unwrap(), l["detail"].as_str().unwrap().to_owned()))
            .collect()
    };
    let why = "template 'custom' refuses it: There is no system role here";

    let words = format!("run rows.jsonl {model} --views fixed --overwrite -o rm --json");
    let run = lens.ok(&words).json();
    let mut lines = refused_lines(&run["pairs"]);
    lines.extend(refused_lines(&run["heldout_pairs"]));
    lines.sort();
    assert_eq!(lines, [7, 10, 21].map(|line| (line, why.to_owned())));
    let used = |report: &str| run[report]["used"].as_u64().unwrap();
    assert_eq!(used("pairs") + used("heldout_pairs"), 27);
    let report = lens.read("rm/report.md");
    assert!(report.contains("template-refused") && report.contains(why), "{report}");

    let eval = lens.ok("eval rm rows.jsonl --json").json();
    let eval = if eval.is_array() { eval[0].clone() } else { eval };
    let lines: Vec<u64> = refused_lines(&eval["pairs"]).iter().map(|(line, _)| *line).collect();
    assert_eq!((lines, &eval["pairs"]["used"]), (vec![7, 10, 21], &json!(27)));

    let said = lens.ok("score rm rows.jsonl --json");
    let scored = said.json_lines();
    assert_eq!(scored.len(), 30);
    for row in &scored {
        match row["line"].as_u64().unwrap() {
            7 | 10 | 21 => assert_eq!(row["error"], why),
            line => assert!(row["chosen"].is_f64() && row["rejected"].is_f64(), "line {line}"),
        }
    }
    assert!(said.err.contains("3 of 30 rows are refused by the template"), "{}", said.err);

    let embed = lens.ok(&format!("embed rows.jsonl {model} -o out.safetensors --json"));
    let result = embed.json();
    assert_eq!((&result["embedded"], &result["refused"]), (&json!(27), &json!(3)));
    assert_eq!(result["tensors"]["chosen"][0], 27);
    assert!(embed.err.contains(&format!("left out: rows.jsonl:7: {why}")), "{}", embed.err);

    // Over HTTP the index of the text is named, and the next request goes on.
    let server = Serving::start(&lens, "rm");
    let chat = |system: bool| {
        let turns = [("system", "Be brief."), ("user", "What of it?"), ("assistant", "Nothing.")];
        messages(if system { &turns } else { &turns[1..] })
    };
    let batch = json!({"messages": [chat(false), chat(true), chat(false)]});
    let refused = server.post("/v1/reward", &batch).refusal(422);
    assert!(refused.contains("text 1: ") && refused.contains("no system role here"), "{refused}");
    server.post("/v1/reward", &json!({"messages": chat(false)})).ok();
    server.stop();
}

/// Leaves out what was thought before an answer.
const FORGETS: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + \
    m.content.split('</think>')[-1].strip() + '<|im_end|>\n' }}{% endfor %}";

#[test]
fn sides_that_differ_only_in_what_the_template_leaves_out_are_told_from_shortened_ones() {
    let lens = desk();
    lens.write("forgets.jinja", FORGETS);
    let mut rows = pairs(0..24);
    let long = "one two three four five six seven eight ".repeat(40);
    for (i, answer) in [(2, "It is so.".to_owned()), (5, format!("{long} so it is."))] {
        rows[i]["chosen"] = format!("<think>Let me see.</think>{answer}").into();
        rows[i]["rejected"] = format!("<think>Whatever.</think>{answer}").into();
    }
    rows[8]["chosen"] = format!("{long} and a good end").into();
    rows[8]["rejected"] = format!("{long} and a bad end").into();
    lens.rows("rows.jsonl", &rows);
    let words = "run rows.jsonl --model qwen2 --template forgets.jinja --max-length 120 --holdout 0 \
        --views fixed -o rm --json";
    let report = lens.ok(words).json()["pairs"].clone();
    let left_out = json!({"equal-after-truncation": 1, "equal-tokens": 2});
    assert_eq!(report["left_out"], left_out);
    for (i, line) in [3, 6].into_iter().enumerate() {
        let row = &report["lines"]["equal-tokens"][i];
        assert_eq!(row["line"], line);
        let detail = row["detail"].as_str().unwrap();
        assert!(detail.contains("template writes both sides the same"), "{detail}");
        assert!(!detail.contains("max_length"), "{detail}");
    }
    let shortened = &report["lines"]["equal-after-truncation"][0];
    assert_eq!(shortened["line"], 9);
    assert!(shortened["detail"].as_str().unwrap().contains("raise max_length"));
}

#[test]
fn what_a_message_says_beside_its_text_is_refused_on_every_route() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm");
    let call = json!([{"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]);
    let asked = json!({"role": "user", "content": "Will it rain?"});
    let called = json!({"role": "assistant", "content": "", "tool_calls": call});
    let harmless = json!({"role": "assistant", "content": "It will.", "name": null, "refusal": null,
        "tool_calls": []});
    for path in ["/v1/reward", "/classify", "/v1/classify", "/pooling", "/v1/embeddings"] {
        let refused = server.post(path, &json!({"messages": [asked, called]})).refusal(422);
        assert!(refused.contains("messages[1].tool_calls"), "{path}: {refused}");
        let body = json!({"messages": [asked, harmless], "tools": call});
        let refused = server.post(path, &body).refusal(422);
        assert!(refused.contains("`tools`"), "{path}: {refused}");
        server.post(path, &json!({"messages": [asked, harmless], "tools": null})).ok();
    }
    let body = json!({"prompt": [asked], "responses": [[harmless], [called]]});
    let refused = server.post("/v1/reward", &body).refusal(422);
    assert!(refused.contains("responses[1][0].tool_calls"), "{refused}");
    server.stop();
}
