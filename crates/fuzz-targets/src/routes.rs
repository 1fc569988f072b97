//! Requests to the server, without a socket.

use crate::bundles::made;
use lens_core::{Exchange, Progress};
use lens_data::Bundle;
use lens_encoder::{
    EncodeStats, Encoded, EncoderIdentity, Input, Result, SpecialTokens, TemplateChoice,
    TextEncoder, ViewChoice,
};
use lens_server::testing::InProcess;
use lens_server::{BoxedError, ModelSource, Options};
use std::path::Path;
use std::sync::LazyLock;

/// Width of the embeddings.
const DIM: usize = 3;

static SERVER: LazyLock<InProcess> = LazyLock::new(|| {
    let options = Options { models: vec![("rm".to_owned(), "rm".into())], ..Options::default() };
    InProcess::open(options, Box::new(Made)).expect("the server starts")
});

/// A request, as HTTP has it: `POST /v1/reward`, lines of headers, a blank line, and the body.
pub fn routes(bytes: &[u8]) {
    let (head, body) = match bytes.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&bytes[..at], &bytes[at + 2..]),
        None => (bytes, &[][..]),
    };
    let Ok(head) = std::str::from_utf8(head) else { return };
    let mut lines = head.lines();
    let Some((method, path)) = lines.next().and_then(|line| line.split_once(' ')) else { return };
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers: Vec<(&str, &str)> =
        std::iter::once(("host", "localhost")).chain(headers).collect();
    let Some(answer) = SERVER.call(method, path, &headers, body) else { return };
    assert!(answer.status < 500, "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    if answer.media_type.as_deref() == Some("application/json") {
        serde_json::from_slice::<serde_json::Value>(&answer.body).expect("the answer is JSON");
    }
}

/// The reward model of the corpus, with an encoder that makes vectors of bytes.
struct Made;

impl ModelSource for Made {
    fn bundle(&self, _: &Path) -> std::result::Result<Bundle, BoxedError> {
        Ok(made())
    }

    fn encoder(
        &self,
        _: &Bundle,
        _: &Path,
        _: bool,
    ) -> std::result::Result<Option<Box<dyn TextEncoder>>, BoxedError> {
        Ok(Some(Box::new(Sums(identity()))))
    }
}

/// Makes a vector of the sums of a text's bytes.
struct Sums(EncoderIdentity);

fn identity() -> EncoderIdentity {
    EncoderIdentity {
        model_file: "sums".into(),
        model_sha256: String::new(),
        architecture: String::new(),
        dim: DIM,
        layers: 1,
        template: "plain".into(),
        template_sha256: String::new(),
        add_bos: false,
        add_eos: false,
        special_tokens: SpecialTokens::Text,
        views: Vec::new(),
        dtype: "f32".into(),
        max_length: 64,
    }
}

fn encoded(text: &str) -> Encoded {
    let sum = |step: usize| text.bytes().step_by(step).map(f32::from).sum::<f32>() / 1000.0;
    let vector: [f32; DIM] = [sum(1), sum(2), sum(3)];
    Encoded {
        vector: vector.into(),
        tokens: text.len(),
        truncated: text.len() > 64,
        ids_hash: text.len() as u128,
    }
}

impl TextEncoder for Sums {
    fn identity(&self) -> &EncoderIdentity {
        &self.0
    }

    fn template(&self) -> &TemplateChoice {
        &TemplateChoice::Plain
    }

    fn set_views(&mut self, _: &[ViewChoice]) -> Result<()> {
        Ok(())
    }

    fn stats(&self) -> EncodeStats {
        EncodeStats::default()
    }

    fn encode_exchanges(&self, all: &[Exchange], _: &dyn Progress) -> Result<Vec<Encoded>> {
        Ok(all.iter().map(|exchange| encoded(&format!("{exchange:?}"))).collect())
    }

    fn encode_texts(&self, texts: &[String], _: &dyn Progress) -> Result<Vec<Encoded>> {
        Ok(texts.iter().map(|text| encoded(text)).collect())
    }

    fn encode_inputs(&self, inputs: &[Input], _: &dyn Progress) -> Result<Vec<Encoded>> {
        Ok(inputs.iter().map(|input| encoded(&format!("{input:?}"))).collect())
    }
}
