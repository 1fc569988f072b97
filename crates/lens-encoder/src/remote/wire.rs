//! The JSON that goes to and fro.

use lens_core::Message;
use lens_data::encoder::ServerApi;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Which program serves, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    Vllm,
    LlamaCpp,
    Tei,
    Other,
}

/// The input that a vector is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Payload {
    Text(String),
    Chat(Vec<Message>),
}

impl Payload {
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Chat(turns) => turns.iter().map(|m| m.role.len() + m.content.len()).sum(),
        }
    }
}

/// The body of a request. A conversation goes alone; what is not normalised is asked for in the
/// words that each server has for it.
pub(super) fn request(flavour: Flavour, model: &str, payloads: &[Payload]) -> Vec<u8> {
    let text = |payload: &Payload| match payload {
        Payload::Text(text) => Some(Value::from(text.as_str())),
        Payload::Chat(_) => None,
    };
    let texts = || payloads.iter().filter_map(text).collect::<Value>();
    let mut body = Map::new();
    if flavour == Flavour::Tei {
        body.insert("inputs".into(), texts());
        body.insert("normalize".into(), false.into());
        body.insert("truncate".into(), false.into());
        return Value::Object(body).to_string().into_bytes();
    }
    body.insert("model".into(), model.into());
    match payloads {
        [Payload::Chat(turns)] => {
            body.insert("messages".into(), json!(turns));
        }
        _ => {
            body.insert("input".into(), texts());
        }
    }
    body.insert("encoding_format".into(), "float".into());
    match flavour {
        Flavour::Vllm => body.insert("use_activation".into(), false.into()),
        Flavour::LlamaCpp => body.insert("embd_normalize".into(), (-1).into()),
        _ => None,
    };
    Value::Object(body).to_string().into_bytes()
}

/// The problem of an answer; positions are those in the request.
#[derive(Debug, PartialEq)]
pub(super) enum AnswerFault {
    Garbage(String),
    Count { found: usize },
    NotFinite { at: usize },
}

#[derive(Deserialize)]
struct OpenAiAnswer {
    data: Vec<Item>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Item {
    index: Option<usize>,
    embedding: Vector,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<Option<f64>>),
    Base64(String),
    /// `null`.
    Nothing(()),
}

/// The vectors of an answer to `n` texts, in their order, and the tokens of all, if it says.
pub(super) fn vectors(
    api: ServerApi,
    body: &[u8],
    n: usize,
) -> Result<(Vec<Vec<f32>>, Option<u64>), AnswerFault> {
    if api == ServerApi::Tei {
        let rows: Vec<Vector> = parsed(body)?;
        if rows.len() != n {
            return Err(AnswerFault::Count { found: rows.len() });
        }
        let rows = rows.into_iter().enumerate().map(|(at, v)| numbers(v, at));
        return Ok((rows.collect::<Result<_, _>>()?, None));
    }
    let answer: OpenAiAnswer = parsed(body)?;
    let tokens = answer.usage.and_then(|u| u.prompt_tokens);
    if answer.data.len() != n {
        return Err(AnswerFault::Count { found: answer.data.len() });
    }
    let mut rows: Vec<Option<Vec<f32>>> = vec![None; n];
    let indexed = answer.data.iter().filter(|i| i.index.is_some()).count();
    if indexed != 0 && indexed != n {
        return Err(AnswerFault::Garbage("some vectors have an index, others none".into()));
    }
    for (position, item) in answer.data.into_iter().enumerate() {
        let at = item.index.unwrap_or(position);
        match rows.get_mut(at) {
            Some(row @ None) => *row = Some(numbers(item.embedding, at)?),
            Some(_) => return Err(AnswerFault::Garbage(format!("two vectors with index {at}"))),
            None => return Err(AnswerFault::Garbage(format!("index {at} among {n} vectors"))),
        }
    }
    Ok((rows.into_iter().flatten().collect(), tokens))
}

fn parsed<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, AnswerFault> {
    serde_json::from_slice(body).or_else(|e| {
        // Python's json writes NaN and Infinity as if they were JSON.
        let plain = without_nan(body).and_then(|body| serde_json::from_slice(&body).ok());
        plain.ok_or_else(|| AnswerFault::Garbage(e.to_string()))
    })
}

/// The text with `NaN` and `Infinity` as `null`; `None` if there are none.
fn without_nan(body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len());
    let (mut at, mut in_text, mut found) = (0, false, false);
    while at < body.len() {
        let rest = &body[at..];
        let word: Option<&[u8]> = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .map(str::as_bytes)
            .find(|w| !in_text && rest.starts_with(w));
        if let Some(word) = word {
            out.extend_from_slice(b"null");
            at += word.len();
            found = true;
            continue;
        }
        match body[at] {
            b'\\' if in_text => {
                out.extend_from_slice(&rest[..rest.len().min(2)]);
                at += 2;
                continue;
            }
            b'"' => in_text = !in_text,
            _ => {}
        }
        out.push(body[at]);
        at += 1;
    }
    found.then_some(out)
}

fn numbers(vector: Vector, at: usize) -> Result<Vec<f32>, AnswerFault> {
    let values: Vec<f32> = match vector {
        Vector::Numbers(values) => values
            .into_iter()
            .map(|v| v.map(|v| v as f32).ok_or(AnswerFault::NotFinite { at }))
            .collect::<Result<_, _>>()?,
        Vector::Base64(text) => {
            let bytes = base64(&text).filter(|b| b.len().is_multiple_of(4));
            let bytes =
                bytes.ok_or_else(|| AnswerFault::Garbage(format!("vector {at}: bad base64")))?;
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        }
        Vector::Nothing(_) => return Err(AnswerFault::NotFinite { at }),
    };
    if values.iter().all(|v| v.is_finite()) {
        Ok(values)
    } else {
        Err(AnswerFault::NotFinite { at })
    }
}

/// Standard base64, padded or not; `None` if it is not that.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.chunks(4) {
        let mut bits = 0u32;
        for b in group {
            let value = match b {
                b'A'..=b'Z' => b - b'A',
                b'a'..=b'z' => b - b'a' + 26,
                b'0'..=b'9' => b - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = (bits << 6) | u32::from(value);
        }
        let bytes = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        bits <<= 6 * (4 - group.len()) as u32;
        out.extend_from_slice(&bits.to_be_bytes()[1..=bytes]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn openai(body: &str, n: usize) -> Result<Vec<Vec<f32>>, AnswerFault> {
        vectors(ServerApi::OpenAi, body.as_bytes(), n).map(|(v, _)| v)
    }

    #[test]
    fn vectors_are_put_in_order_by_their_index() {
        let body = r#"{"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}],
            "usage": {"prompt_tokens": 7}}"#;
        let got = vectors(ServerApi::OpenAi, body.as_bytes(), 2).unwrap();
        assert_eq!(got, (vec![vec![1.0], vec![2.0]], Some(7)));
        let none = r#"{"data": [{"embedding": [1.5]}, {"embedding": "AAAAQAAAgD8="}]}"#;
        assert_eq!(openai(none, 2).unwrap(), [vec![1.5], vec![2.0, 1.0]]);
        assert_eq!(openai(none, 3), Err(AnswerFault::Count { found: 2 }));
        for twice in [
            "[{\"index\":0,\"embedding\":[1]},{\"index\":0,\"embedding\":[1]}]",
            "[{\"index\":0,\"embedding\":[1]},{\"index\":2,\"embedding\":[1]}]",
            "[{\"index\":0,\"embedding\":[1]},{\"embedding\":[1]}]",
            "[{\"index\":0,\"embedding\":\"?\"},{\"index\":1,\"embedding\":[1]}]",
        ] {
            let got = openai(&format!("{{\"data\":{twice}}}"), 2);
            assert!(matches!(got, Err(AnswerFault::Garbage(_))), "{twice}: {got:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_named() {
        for bad in ["NaN", "null", "Infinity", "-Infinity", "1e39"] {
            let body = format!(
                r#"{{"model": "a \"NaN\" model", "data": [{{"embedding": [1]}}, {{"embedding": [{bad}]}}]}}"#
            );
            assert_eq!(openai(&body, 2), Err(AnswerFault::NotFinite { at: 1 }), "{bad}");
        }
        let nan = openai(r#"{"data": [{"embedding": "AADAfw=="}]}"#, 1);
        assert_eq!(nan, Err(AnswerFault::NotFinite { at: 0 }));
        assert_eq!(
            openai(r#"{"data": [{"embedding": null}]}"#, 1),
            Err(AnswerFault::NotFinite { at: 0 })
        );
        let tei = vectors(ServerApi::Tei, b"[[1, 2], [3, NaN]]", 2);
        assert_eq!(tei, Err(AnswerFault::NotFinite { at: 1 }));
        for garbage in ["", "{", "{\"data\": 1}", "[]", "\"NaN\"", "\\"] {
            assert!(matches!(openai(garbage, 1), Err(AnswerFault::Garbage(_))), "{garbage}");
        }
    }

    #[test]
    fn each_server_is_asked_not_to_normalise_in_its_own_words() {
        let texts = [Payload::Text("a".into()), Payload::Text("b".into())];
        let ask = |flavour| String::from_utf8(request(flavour, "m", &texts)).unwrap();
        assert_eq!(
            ask(Flavour::Vllm),
            r#"{"model":"m","input":["a","b"],"encoding_format":"float","use_activation":false}"#
        );
        assert!(ask(Flavour::LlamaCpp).contains(r#""embd_normalize":-1"#));
        assert_eq!(ask(Flavour::Tei), r#"{"inputs":["a","b"],"normalize":false,"truncate":false}"#);
        assert!(!ask(Flavour::Other).contains("normal"));
        let turn = Message { role: "user".into(), content: "hi".into() };
        let chat = request(Flavour::Vllm, "m", &[Payload::Chat(vec![turn])]);
        let chat = String::from_utf8(chat).unwrap();
        assert!(chat.contains(r#""messages":[{"role":"user","content":"hi"}]"#), "{chat}");
    }
}
