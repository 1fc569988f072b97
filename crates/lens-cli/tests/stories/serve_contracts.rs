//! Stories of trainers that ask for rewards over HTTP: what each sends, and what each reads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::serving::{Reply, Serving};
use crate::common::{Lens, TinyModel, pairs};
use serde_json::{Value, json};

/// Rewards agree to rounding, whatever else was in the batch: the tolerance of the encoder's tests.
#[track_caller]
fn close(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len(), "{a:?} {b:?}");
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{a} {b}");
    }
}

#[track_caller]
fn numbers(value: &Value) -> Vec<f64> {
    let all = value.as_array().unwrap_or_else(|| panic!("no list: {value}"));
    all.iter().map(|v| v.as_f64().unwrap_or_else(|| panic!("no number: {v}"))).collect()
}

#[track_caller]
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// What `lens score` says of rows of this file.
fn scored(lens: &Lens, rows: &[Value]) -> Vec<f64> {
    lens.rows("rows.jsonl", rows);
    let lines = lens.ok("score rm rows.jsonl --json").json_lines();
    let one = |line: &Value| match line.get("rewards") {
        Some(all) => numbers(all),
        None => vec![line["reward"].as_f64().unwrap()],
    };
    lines.iter().flat_map(one).collect()
}

fn texts() -> Vec<String> {
    ["It is number 7, so yes!", "Number 7 is no", "Quite another text.", "x"]
        .map(str::to_owned)
        .to_vec()
}

fn rewards_of_texts(lens: &Lens) -> Vec<f64> {
    scored(lens, &texts().iter().map(|t| json!({"text": t})).collect::<Vec<_>>())
}

#[test]
fn openrlhf_reads_rewards_and_scores_as_long_as_its_queries() {
    let lens = Lens::with_reward_model();
    let expected = rewards_of_texts(&lens);
    let server = Serving::start(&lens, "rm");
    let body = json!({"query": texts(), "prompts": texts(), "labels": [null, 0.0, "x", null]});
    let answer = server.post("/get_reward", &body).ok();
    assert_eq!(keys(&answer), ["rewards", "scores", "extra_logs"]);
    close(&numbers(&answer["rewards"]), &expected);
    assert_eq!(answer["rewards"], answer["scores"]);
    for (name, list) in answer["extra_logs"].as_object().unwrap() {
        assert_eq!(numbers(list).len(), 4, "{name}");
    }
    // As current clients ask: a sample a call, and nothing but the query.
    for (text, reward) in texts().iter().zip(&expected) {
        let one = server.post("/get_reward", &json!({"query": [text]})).ok();
        close(&numbers(&one["rewards"]), &[*reward]);
    }
    server.post("/get_reward", &json!({"query": []})).refusal(422);
    server.post("/get_reward", &json!({"query": [1]})).refusal(422);
    server.post("/get_reward", &json!({"queries": ["a"]})).refusal(422);
    server.stop();
}

#[test]
fn llamafactory_reads_scores_whatever_model_it_names() {
    let lens = Lens::with_reward_model();
    let expected = rewards_of_texts(&lens);
    let server = Serving::start(&lens, "rm");
    // What its client sends.
    let body = json!({"model": "model", "messages": texts()});
    let answer = server.post("/v1/score/evaluation", &body).ok();
    assert_eq!(keys(&answer), ["id", "object", "model", "scores"]);
    assert_eq!((&answer["object"], &answer["model"]), (&json!("score.evaluation"), &json!("rm")));
    close(&numbers(&answer["scores"]), &expected);
    let other = json!({"model": "other", "messages": texts()});
    assert!(server.post("/v1/score/evaluation", &other).refusal(404).contains("there is: rm"));
    server.stop();
}

#[test]
fn verl_reads_the_last_number_of_the_last_entry() {
    let lens = Lens::with_reward_model();
    let expected = rewards_of_texts(&lens);
    let server = Serving::start(&lens, "rm");
    for path in ["/classify", "/v1/classify"] {
        let body = json!({"model": "rm", "input": texts(), "activation": false});
        let answer = server.post(path, &body).ok();
        assert_eq!(keys(&answer), ["id", "object", "created", "model", "data", "usage"]);
        let last = &answer["data"][3];
        assert_eq!(keys(last), ["index", "label", "probs", "num_classes"]);
        assert_eq!((&last["index"], &last["num_classes"]), (&json!(3), &json!(1)));
        close(&numbers(&last["probs"]), &expected[3..]);
        // One text, and the default.
        let one = server.post(path, &json!({"model": "rm", "input": texts()[0]})).ok();
        close(&numbers(&one["data"][0]["probs"]), &expected[..1]);
    }
    let pressed = json!({"model": "rm", "input": texts(), "activation": true});
    let pressed = server.post("/classify", &pressed).ok();
    for (entry, reward) in pressed["data"].as_array().unwrap().iter().zip(&expected) {
        let manifest = lens.json("rm/lens.json");
        let of = |name: &str| manifest[name].as_f64().unwrap();
        let normalised = (reward - of("reward_mean")) / of("reward_deviation");
        close(&numbers(&entry["probs"]), &[1.0 / (1.0 + (-normalised).exp())]);
    }

    let body = json!({"model": "rm", "input": texts(), "encoding_format": "float"});
    let answer = server.post("/v1/embeddings", &body).ok();
    assert_eq!(keys(&answer), ["object", "model", "data", "usage"]);
    assert_eq!(keys(&answer["data"][3]), ["index", "object", "embedding"]);
    close(&numbers(&answer["data"][3]["embedding"]), &expected[3..]);
    let tokens = answer["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(tokens > 4 && answer["usage"]["total_tokens"] == tokens);
    let coded = json!({"model": "rm", "input": texts(), "encoding_format": "base64"});
    let coded = server.post("/v1/embeddings", &coded).ok();
    assert_eq!(float(&coded["data"][3]["embedding"]), answer["data"][3]["embedding"][0]);

    let answer = server.post("/pooling", &json!({"model": "rm", "input": texts()})).ok();
    assert_eq!(keys(&answer["data"][0]), ["index", "object", "data"]);
    close(&numbers(&answer["data"][0]["data"]), &expected[..1]);
    server.stop();
}

/// A little-endian f32 in base64, as exact as JSON has it.
fn float(text: &Value) -> f64 {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0u64;
    let text = text.as_str().unwrap().as_bytes();
    assert_eq!((text.len(), &text[6..]), (8, &b"=="[..]));
    for letter in &text[..6] {
        bits = bits << 6 | LETTERS.iter().position(|l| l == letter).unwrap() as u64;
    }
    let bytes = (bits >> 4) as u32;
    f64::from(f32::from_le_bytes(bytes.to_be_bytes()))
}

#[test]
fn rerankers_get_the_best_first() {
    let lens = Lens::with_reward_model();
    let prompt = "Question 3: what of it?";
    let responses = ["Number 21 is no", "It is number 21, so yes!", "Perhaps."];
    let expected = scored(&lens, &[json!({"prompt": prompt, "responses": responses})]);
    let order = {
        let mut order = [0, 1, 2];
        order.sort_by(|a: &usize, b| expected[*b].total_cmp(&expected[*a]));
        order
    };
    let server = Serving::start(&lens, "rm");
    for path in ["/rerank", "/v1/rerank", "/v2/rerank"] {
        let body = json!({"model": "rm", "query": prompt, "documents": responses});
        let answer = server.post(path, &body).ok();
        assert_eq!(keys(&answer), ["id", "model", "usage", "results"]);
        let results = answer["results"].as_array().unwrap();
        for (result, index) in results.iter().zip(order) {
            assert_eq!(keys(result), ["index", "document", "relevance_score"]);
            assert_eq!(result["index"], index);
            assert_eq!(result["document"], json!({"text": responses[index]}));
            close(&[result["relevance_score"].as_f64().unwrap()], &[expected[index]]);
        }
        let body = json!({"query": prompt, "documents": responses, "top_n": 1});
        let best = server.post(path, &body).ok();
        assert_eq!(best["results"].as_array().unwrap().len(), 1);
        assert_eq!(best["results"][0]["index"], order[0]);
    }
    for path in ["/score", "/v1/score"] {
        for (query, document) in [("queries", "documents"), ("text_1", "text_2")] {
            let answer = server.post(path, &json!({query: prompt, document: responses})).ok();
            assert_eq!(keys(&answer), ["id", "object", "created", "model", "data", "usage"]);
            let scores: Vec<f64> = answer["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|d| d["score"].as_f64().unwrap())
                .collect();
            close(&scores, &expected);
        }
        let each = json!({"queries": [prompt, prompt, prompt], "documents": responses});
        assert_eq!(server.post(path, &each).ok()["data"].as_array().unwrap().len(), 3);
        let uneven = json!({"queries": [prompt, prompt], "documents": responses});
        assert!(server.post(path, &uneven).refusal(422).contains("2 queries to 3 documents"));
    }

    // text-embeddings-inference, on the same path.
    let body = json!({"query": prompt, "texts": responses, "raw_scores": true});
    let answer = server.post("/rerank", &body).ok();
    for (result, index) in answer.as_array().unwrap().iter().zip(order) {
        assert_eq!((keys(result), &result["index"]), (vec!["index", "score"], &json!(index)));
        close(&[result["score"].as_f64().unwrap()], &[expected[index]]);
    }
    let body = json!({"query": prompt, "texts": responses, "return_text": true});
    let answer = server.post("/rerank", &body).ok();
    assert_eq!(answer[0]["text"], responses[order[0]]);
    let score = answer[0]["score"].as_f64().unwrap();
    assert!(0.0 < score && score < 1.0, "{answer}");
    server.stop();
}

#[test]
fn for_tei_a_flat_list_of_two_is_one_pair_and_a_batch_is_a_list_of_lists() {
    let lens = Lens::with_reward_model();
    let (a, b) = (&texts()[0], &texts()[1]);
    let single = rewards_of_texts(&lens);
    let pair = scored(&lens, &[json!({"prompt": a, "response": b})]);
    let server = Serving::start(&lens, "rm");
    let ask = |inputs: Value| {
        server.post("/predict", &json!({"inputs": inputs, "raw_scores": true})).ok()
    };
    let score = |answer: &Value| {
        assert_eq!(keys(&answer[0]), ["score", "label"]);
        answer[0]["score"].as_f64().unwrap()
    };
    close(&[score(&ask(json!([a, b])))], &pair);
    close(&[score(&ask(json!(a)))], &single[..1]);
    close(&[score(&ask(json!([a])))], &single[..1]);
    let batch = ask(json!([[a], [b]]));
    close(&[score(&batch[0]), score(&batch[1])], &single[..2]);
    close(&[score(&ask(json!([[a, b]]))[0])], &pair);
    let message = server.post("/predict", &json!({"inputs": [a, b, a]})).refusal(422);
    assert!(message.contains("neither a text nor a pair"), "{message}");
    let pressed = server.post("/predict", &json!({"inputs": a})).ok();
    assert!((0.0..1.0).contains(&score(&pressed)));
    server.stop();
}

#[test]
fn our_own_route_says_all_there_is_to_say() {
    let lens = Lens::with_reward_model();
    let prompt = "Question 3: what of it?";
    let responses = ["It is number 21, so yes!", "Number 21 is no", "It is number 21, so yes!"];
    let expected = scored(&lens, &[json!({"prompt": prompt, "responses": responses})]);
    let server = Serving::start(&lens, "rm --pairs pairs.jsonl");
    let body = json!({"prompt": prompt, "responses": responses, "nearest": 2});
    let answer = server.post("/v1/reward", &body).ok();
    assert_eq!(
        keys(&answer),
        ["id", "object", "created", "model", "results", "best", "wins", "usage"]
    );
    assert_eq!((&answer["object"], &answer["best"]), (&json!("reward"), &json!(0)));
    for (i, result) in answer["results"].as_array().unwrap().iter().enumerate() {
        assert_eq!(
            keys(result),
            [
                "index",
                "reward",
                "normalised",
                "deviation",
                "novelty",
                "tokens",
                "truncated",
                "nearest"
            ]
        );
        assert_eq!((&result["index"], &result["truncated"]), (&json!(i), &json!(false)));
        close(&[result["reward"].as_f64().unwrap()], &[expected[i]]);
        assert!(result["deviation"].as_f64().unwrap() > 0.0);
        let novelty = &result["novelty"];
        assert_eq!(keys(novelty), ["distance", "threshold", "out_of_distribution"]);
        let far = novelty["distance"].as_f64().unwrap() > novelty["threshold"].as_f64().unwrap();
        assert_eq!(novelty["out_of_distribution"], far);
        let hits = result["nearest"].as_array().unwrap();
        assert_eq!(hits.len(), 2);
        assert_eq!(keys(&hits[0]), ["side", "cosine", "prompt", "chosen", "rejected"]);
    }
    // Both were trained on: each is its own nearest.
    let nearest = |i: usize| &answer["results"][i]["nearest"][0];
    for (i, side) in [(0, "chosen"), (1, "rejected")] {
        let hit = nearest(i);
        assert_eq!((&hit["side"], &hit[side]), (&json!(side), &json!(responses[i])), "{hit}");
        assert!((hit["cosine"].as_f64().unwrap() - 1.0).abs() < 1e-4, "{hit}");
    }
    let wins = |i: usize, j: usize| answer["wins"][i][j].as_f64().unwrap();
    assert!((wins(0, 1) - 1.0 / (1.0 + (expected[1] - expected[0]).exp())).abs() < 1e-4);
    assert!((wins(0, 1) + wins(1, 0) - 1.0).abs() < 1e-12 && wins(0, 2) == 0.5);

    // Messages: a conversation, or several.
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let chat = json!([turn("user", prompt), turn("assistant", responses[0])]);
    let one = server.post("/v1/reward", &json!({"messages": chat})).ok();
    assert!(one.get("wins").is_none() && one.get("best").is_none());
    let two = server.post("/v1/reward", &json!({"messages": [chat, chat]})).ok();
    close(
        &[two["results"][1]["reward"].as_f64().unwrap()],
        &[one["results"][0]["reward"].as_f64().unwrap()],
    );
    let as_chat =
        json!({"prompt": [turn("user", prompt)], "responses": [[turn("assistant", responses[0])]]});
    let same = server.post("/v1/reward", &as_chat).ok();
    close(
        &[same["results"][0]["reward"].as_f64().unwrap()],
        &[one["results"][0]["reward"].as_f64().unwrap()],
    );
    for (body, message) in [
        (json!({}), "one of these is needed"),
        (json!({"prompt": "a"}), "one of these is needed"),
        (json!({"prompt": "a", "responses": ["b"], "messages": []}), "one of these is needed"),
        (json!({"messages": []}), "no message"),
        (json!({"prompt": "a", "responses": []}), "no text"),
        (json!({"prompt": "a", "responses": vec!["b"; 65]}), "at most 64"),
        (json!({"messages": [{"role": "user"}]}), "messages with `role` and `content`"),
        (json!({"messages": chat, "nearest": 101}), "at most 100"),
    ] {
        let refused = server.post("/v1/reward", &body).refusal(422);
        assert!(refused.contains(message), "{body}: {refused}");
    }
    server.stop();
    let server = Serving::start(&lens, "rm");
    let refused = server.post("/v1/reward", &json!({"messages": chat, "nearest": 1})).refusal(422);
    assert!(refused.contains("--pairs"), "{refused}");
    server.stop();
}

/// The rewards of an answer of `/v1/reward`.
fn rewards(reply: &Reply) -> Vec<f64> {
    let answer = reply.ok();
    answer["results"].as_array().unwrap().iter().map(|r| r["reward"].as_f64().unwrap()).collect()
}

#[test]
fn embeddings_come_as_lists_as_base64_and_as_bytes() {
    let lens = Lens::with_reward_model();
    let rows = crate::common::cloud(3, 32, 0.1);
    lens.write("x.safetensors", crate::common::safetensors(&[("chosen", [3, 32], &rows)]));
    let lines = lens.ok("score rm x.safetensors --key chosen --json").json_lines();
    let expected: Vec<f64> = lines.iter().map(|l| l["reward"].as_f64().unwrap()).collect();
    let server = Serving::start(&lens, "rm");
    let lists: Vec<&[f32]> = rows.chunks(32).collect();
    let listed = server.post("/v1/reward", &json!({"embeddings": lists}));
    close(&rewards(&listed), &expected);
    assert_eq!(listed.ok()["usage"]["total_tokens"], 0);
    // Nothing like what was trained on, and the answer says so.
    assert_eq!(listed.ok()["results"][0]["novelty"]["out_of_distribution"], true);
    let one = server.post("/v1/reward", &json!({"embeddings": lists[1]}));
    close(&rewards(&one), &expected[1..2]);

    let bytes: Vec<u8> = rows.iter().flat_map(|x| x.to_le_bytes()).collect();
    let stream = ("content-type", "application/octet-stream");
    let sent = |dtype: &str, bytes: &[u8]| {
        server.call("POST", "/v1/reward", &[stream, ("x-lens-dtype", dtype)], bytes)
    };
    close(&rewards(&sent("f32", &bytes)), &expected);
    // bf16: the upper half of an f32, for values that it holds.
    let coarse: Vec<f32> = rows.iter().map(|x| f32::from_bits(x.to_bits() & 0xffff_0000)).collect();
    let halves: Vec<u8> = coarse.iter().flat_map(|x| x.to_le_bytes()[2..].to_vec()).collect();
    let of_coarse: Vec<&[f32]> = coarse.chunks(32).collect();
    let as_lists = rewards(&server.post("/v1/reward", &json!({"embeddings": of_coarse})));
    close(&rewards(&sent("bf16", &halves)), &as_lists);

    let plain = [stream, ("x-lens-dtype", "f32"), ("accept", "application/octet-stream")];
    let answer = server.call("POST", "/v1/reward", &plain, &bytes);
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    let values: Vec<f64> = answer
        .body
        .chunks(4)
        .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
        .collect();
    close(&values, &expected);

    let mut broken = rows.clone();
    broken[33] = f32::NAN;
    let broken: Vec<u8> = broken.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert!(sent("f32", &broken).refusal(422).contains("row 1, column 1"));
    assert!(sent("f32", &bytes[..100]).refusal(422).contains("row 0"));
    assert!(sent("f64", &bytes).refusal(422).contains("f64"));
    let missing = server.call("POST", "/v1/reward", &[stream], &bytes).refusal(422);
    assert!(missing.contains("missing"), "{missing}");
    server.stop();
}

const CHAT: &str = "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n\
    {{ m.content | trim }}<end_of_turn>\n{% endfor %}\
    {% if add_generation_prompt %}<start_of_turn>assistant\n{% endif %}";

#[test]
fn a_text_that_went_through_the_template_already_is_the_conversation_it_came_from() {
    let lens = Lens::new();
    let chat = TinyModel { chat_template: Some(CHAT.to_owned()), ..TinyModel::default() };
    lens.model("chat.gguf", &chat);
    lens.rows("pairs.jsonl", &pairs(0..60));
    lens.ok("run pairs.jsonl --model chat.gguf --views fixed -o rm --quiet");
    let server = Serving::start(&lens, "rm");
    let (prompt, response) = ("What of 3?", "It is number 21, so yes!");
    let body = json!({"prompt": prompt, "responses": [response]});
    let expected = rewards(&server.post("/v1/reward", &body));
    let turns = format!(
        "<start_of_turn>user\n{prompt}<end_of_turn>\n<start_of_turn>assistant\n{response}<end_of_turn>\n"
    );
    // With the BOS that a decoded text has, and without: one BOS.
    for text in [format!("<bos>{turns}"), turns.clone()] {
        let answer = server.post("/get_reward", &json!({"query": [text]})).ok();
        close(&numbers(&answer["rewards"]), &expected);
        let answer = server.post("/classify", &json!({"input": text})).ok();
        close(&numbers(&answer["data"][0]["probs"]), &expected);
        let answer = server.post("/v1/score/evaluation", &json!({"messages": [text]})).ok();
        close(&numbers(&answer["scores"]), &expected);
    }
    // What a user typed into a conversation is no special token.
    let typed = json!({"prompt": prompt, "responses": [format!("{response}<end_of_turn>\n<start_of_turn>user\nA")]});
    let cut = json!({"query": [format!("{turns}<start_of_turn>user\nA<end_of_turn>\n")]});
    let typed = rewards(&server.post("/v1/reward", &typed));
    let cut = numbers(&server.post("/get_reward", &cut).ok()["rewards"]);
    assert!((typed[0] - cut[0]).abs() > 1e-6, "{typed:?} {cut:?}");
    server.stop();
}

#[test]
fn several_models_have_names_and_the_first_is_the_default() {
    let lens = Lens::with_reward_model();
    lens.ok("run pairs.jsonl --model tiny.gguf --views fixed --seed 5 -o other --quiet");
    let arrays = crate::common::safetensors(&[
        ("chosen", [20, 4], &crate::common::cloud(20, 4, 1.0)),
        ("rejected", [20, 4], &crate::common::cloud(20, 4, -1.0)),
    ]);
    lens.write("arrays.safetensors", arrays);
    lens.ok("train arrays.safetensors -o vectors --quiet");
    let server = Serving::start(&lens, "rm vectors --name judge/v2=other");
    let models = server.get("/v1/models").ok();
    let names: Vec<&Value> = models["data"].as_array().unwrap().iter().map(|m| &m["id"]).collect();
    assert_eq!(names, [&json!("rm"), &json!("vectors"), &json!("judge/v2")]);
    assert_eq!(models["object"], "list");
    let of = |model: Value| {
        let body = json!({"model": model, "prompt": "a", "responses": ["b"]});
        rewards(&server.post("/v1/reward", &body))[0]
    };
    assert_eq!(of(json!("rm")), of(Value::Null));
    assert_ne!(of(json!("rm")), of(json!("judge/v2")));
    let text = json!({"model": "vectors", "prompt": "a", "responses": ["b"]});
    let refused = server.post("/v1/reward", &text).refusal(422);
    assert!(refused.contains("takes embeddings, not text"), "{refused}");
    let row = json!({"model": "vectors", "embeddings": [[1.0, 2.0, 3.0, 4.0]]});
    assert_eq!(rewards(&server.post("/v1/reward", &row)).len(), 1);
    let wide = json!({"model": "rm", "embeddings": [[1.0, 2.0, 3.0, 4.0]]});
    assert!(
        server
            .post("/v1/reward", &wide)
            .refusal(422)
            .contains("row 0 has 4 columns, the model needs 32")
    );
    let unknown = server.post("/v1/reward", &json!({"model": "gpt", "embeddings": []}));
    assert_eq!(
        (unknown.refusal(404).contains("gpt"), unknown.code()),
        (true, "model_not_found".to_owned())
    );
    server.stop();

    let server = Serving::start(&lens, "rm --any-model");
    let body = json!({"model": "whatever", "input": "a"});
    assert_eq!(server.post("/classify", &body).ok()["model"], "rm");
    server.stop();
    let error = lens.fails(2, "serve rm --name rm=other");
    assert!(error.contains("two models are called `rm`"), "{error}");
    let error = lens.fails(1, "serve absent");
    assert!(error.contains("absent"), "{error}");
}

#[test]
fn long_texts_are_shortened_and_the_answer_says_so() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm");
    let long = "what ".repeat(3000);
    let body = json!({"prompt": long, "responses": ["yes", "no"]});
    let answer = server.post("/v1/reward", &body);
    assert_eq!(answer.header("x-lens-truncated"), Some("2"));
    let first = &answer.ok()["results"][0];
    assert_eq!((&first["truncated"], &first["tokens"]), (&json!(true), &json!(512)));
    let answer = server.post("/get_reward", &json!({"query": [long, "short"]})).ok();
    assert_eq!(answer["extra_logs"]["truncated"], json!([1.0, 0.0]));
    server.stop();
}

#[test]
fn the_server_describes_itself() {
    let lens = Lens::with_reward_model();
    let server = Serving::start(&lens, "rm");
    assert_eq!(server.get("/health").ok(), json!({"status": "ok"}));
    assert_eq!(server.get("/ready").ok(), json!({"status": "ready", "models": ["rm"]}));
    let described = server.get("/openapi.json").ok();
    assert_eq!(described["openapi"], "3.1.0");
    // Every example of the description is a request that is answered.
    for (path, operations) in described["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let example = &operation["requestBody"]["content"]["application/json"]["example"];
            let reply = server.call(
                &method.to_uppercase(),
                path,
                &[],
                if example.is_null() { Vec::new() } else { example.to_string().into_bytes() }
                    .as_slice(),
            );
            assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text());
            let kinds = operation["responses"]["200"]["content"].as_object().unwrap();
            let kind = reply.header("content-type").unwrap().split(';').next().unwrap();
            assert!(kinds.contains_key(kind), "{path}: {kind}");
        }
    }
    for (path, kind) in [
        ("/", "text/html"),
        ("/docs", "text/html"),
        ("/page.js", "text/javascript"),
        ("/docs.js", "text/javascript"),
        ("/page.css", "text/css"),
        ("/docs.css", "text/css"),
    ] {
        let file = server.get(path);
        assert_eq!(file.status, 200);
        assert!(file.header("content-type").unwrap().starts_with(kind));
        // Nothing comes from elsewhere.
        let text = file.text().replace("http://www.w3.org/2000/svg", "the name of SVG");
        assert!(!text.contains("http://") && !text.contains("https://"), "{path}");
    }
    server.post("/get_reward", &json!({"query": ["a", "b", "c"]})).ok();
    assert_eq!(server.metric("lens_requests_total{route=\"/get_reward\",status=\"200\"}"), 2.0);
    assert!(server.metric("lens_texts_total") >= 4.0);
    assert!(server.metric("lens_rewards_total") >= 4.0);
    assert_eq!(server.metric("lens_models"), 1.0);
    assert!(server.metric("lens_encoder_seconds_total") > 0.0);
    assert_eq!(server.metric("lens_queue_texts"), 0.0);
    server.stop();
}
