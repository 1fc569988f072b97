//! An embedding server as a reward model remembers it.

use super::Difference;
use serde::{Deserialize, Serialize};

/// Relative distance at which the probes of two servers are of different models. One quantised model
/// differs from itself by up to 0.08 with another build or machine: llama.cpp rounds activations to
/// 8 bits.
const OTHER_MODEL: f64 = 0.15;

/// The interface by which a server is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerApi {
    /// Find out.
    #[default]
    Auto,
    /// `POST /v1/embeddings`, as OpenAI, vLLM, llama.cpp, Infinity and many others have it.
    OpenAi,
    /// `POST /embed` of text-embeddings-inference.
    Tei,
}

/// A server as a reward model remembers it: its model and its answers to fixed texts; no key, and no
/// address, so that a reward model does not decide where texts go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// Its address, in reward models of versions that kept it. Nothing is sent there unless its user
    /// names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The interface by which it is asked.
    pub api: ServerApi,
    /// The model's name there.
    pub model: String,
    /// Whether all vectors have length 1.
    pub normalised: bool,
    /// Random projections of its vectors of two fixed texts (the probe): another model under the
    /// same name gives others.
    pub sketch: Vec<f32>,
}

impl ServerRecord {
    /// [`relative_distance`] of the probes: 0 if the servers answered the same, about 1.4 if the
    /// answers have nothing in common.
    pub fn distance(&self, other: &Self) -> f64 {
        relative_distance(&self.sketch, &other.sketch)
    }

    /// A difference if the probes are those of two models, which the name alone does not tell.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let distance = self.distance(other);
        if distance <= OTHER_MODEL {
            return Vec::new();
        }
        vec![Difference {
            field: "vectors of the probe",
            ours: "those of training".to_owned(),
            theirs: format!("others (relative distance {distance:.2})"),
        }]
    }
}

/// Distance of two vectors relative to the length of the first: 0 if they are equal, about 1.4 if
/// they have nothing in common, infinite if their widths differ.
pub fn relative_distance(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let square = |v: f64| v * v;
    let apart: f64 = a.iter().zip(b).map(|(x, y)| square(f64::from(*x) - f64::from(*y))).sum();
    let size: f64 = a.iter().map(|x| square(f64::from(*x))).sum();
    apart.sqrt() / size.sqrt().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_model_under_the_same_name_is_a_difference() {
        let record = |sketch: &[f32]| ServerRecord {
            url: None,
            api: ServerApi::Tei,
            model: "m".into(),
            normalised: false,
            sketch: sketch.to_vec(),
        };
        let ours = record(&[3.0, 4.0]);
        assert!(ours.differences(&record(&[3.0, 4.4])).is_empty());
        assert_eq!(ours.differences(&record(&[3.0, 5.0]))[0].field, "vectors of the probe");
        assert_eq!(ours.distance(&record(&[3.0, 4.0, 0.0])), f64::INFINITY);
    }
}
