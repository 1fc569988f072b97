//! One prompt with responses that are compared with each other.

use super::{Asked, Beside, Text, TextOrChat, bytes_of};
use crate::failure::Failure;
use lens_core::Content;
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use std::fmt;
use std::sync::Arc;

/// Most responses that are compared with each other.
const MAX_RESPONSES: usize = 64;

/// The responses of a body, of which no more are kept than are compared.
pub(crate) struct Responses {
    kept: Vec<TextOrChat>,
    count: usize,
}

impl<'de> Deserialize<'de> for Responses {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(ResponsesVisitor)
    }
}

struct ResponsesVisitor;

impl<'de> Visitor<'de> for ResponsesVisitor {
    type Value = Responses;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of responses")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Responses, A::Error> {
        let mut kept = Vec::new();
        while kept.len() < MAX_RESPONSES {
            match seq.next_element()? {
                Some(response) => kept.push(response),
                None => return Ok(Responses { count: kept.len(), kept }),
            }
        }
        let mut count = kept.len();
        while seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Responses { kept, count })
    }
}

/// One prompt with several responses.
pub(crate) struct Compared {
    prompt: Content,
    responses: Vec<Content>,
}

impl Compared {
    /// What stands in `prompt` and `responses` of a body, whose other fields are `beside`.
    ///
    /// # Errors
    /// 422 for too many responses, and for messages with fields that cannot be scored.
    pub fn read(
        prompt: TextOrChat,
        responses: Responses,
        beside: Beside,
    ) -> Result<Compared, Failure> {
        if responses.count > MAX_RESPONSES {
            let n = responses.count;
            let message =
                format!("{n} responses to a prompt; at most {MAX_RESPONSES} are compared");
            return Err(Failure::field("responses", message));
        }
        let prompt = prompt.read("prompt", beside)?;
        let one =
            |(i, response): (usize, TextOrChat)| response.read(&format!("responses[{i}]"), beside);
        let responses =
            responses.kept.into_iter().enumerate().map(one).collect::<Result<_, _>>()?;
        Ok(Compared { prompt, responses })
    }
}

impl Asked for Compared {
    fn count(&self) -> usize {
        self.responses.len()
    }

    /// Each response counts with the prompt, which is computed before it.
    fn bytes(&self) -> usize {
        let prompts = bytes_of(&self.prompt).saturating_mul(self.responses.len());
        prompts.saturating_add(self.responses.iter().map(|r| bytes_of(r).max(1)).sum())
    }

    fn texts(self) -> Result<Vec<Text>, Failure> {
        let prompt = Arc::new(self.prompt);
        let one = |response| Text::Exchange { prompt: Arc::clone(&prompt), response };
        Ok(self.responses.into_iter().map(one).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(prompt: &str, responses: &str) -> Result<Compared, Failure> {
        let prompt = serde_json::from_str(prompt).unwrap();
        Compared::read(prompt, serde_json::from_str(responses).unwrap(), Beside::default())
    }

    #[test]
    fn a_prompt_is_shared_by_its_responses_and_counted_with_each() {
        let compared =
            read(r#""four""#, r#"["a", "bc", [{"role": "user", "content": "d"}]]"#).unwrap();
        assert_eq!((compared.count(), compared.bytes()), (3, 4 * 3 + 3 + 29));
        let texts = compared.texts().unwrap();
        let Text::Exchange { prompt, .. } = &texts[0] else { unreachable!() };
        assert_eq!((&**prompt, Arc::strong_count(prompt)), (&Content::Text("four".into()), 3));
    }

    #[test]
    fn too_many_responses_are_counted_and_not_kept() {
        let responses: Responses =
            serde_json::from_str(&format!("[{}7]", "\"a\",".repeat(9999))).unwrap();
        assert_eq!((responses.kept.len(), responses.count), (64, 10_000));
        let refused = read("\"p\"", &format!("[{}\"\"]", "\"a\",".repeat(64))).err().unwrap();
        assert!(refused.message.contains("65 responses"), "{}", refused.message);
    }
}
