//! What of a reward model a target can hold exactly, and as which tensors and files.

use super::ExportTarget;
use crate::Error;
use lens_core::RewardModel;
use lens_core::head::Layer;
use lens_data::bundle::Bundle;
use lens_encoder::{CheckpointClass, EncoderIdentity, HeadTensor, Pooling, View};
use serde_json::{Map, Value, json};

/// How a reward model becomes a checkpoint.
pub(super) struct Plan {
    /// The class of transformers.
    pub class: CheckpointClass,
    /// Blocks that are kept.
    pub layers: usize,
    /// What stands after every text, where the template writes it.
    pub suffix: Option<String>,
    /// The tensors of the head within the checkpoint.
    pub tensors: Vec<HeadTensor>,
    /// Entries of `config.json`.
    pub config: Map<String, Value>,
    /// The modules behind the model, for sentence-transformers.
    pub modules: Option<Modules>,
}

/// Modules of sentence-transformers: pooling, then dense layers.
pub(super) struct Modules {
    /// The poolings that lie side by side, in the order in which that library puts them.
    pub poolings: Vec<Pooling>,
    pub dense: Vec<Dense>,
}

/// A linear layer and what follows it.
pub(super) struct Dense {
    pub inputs: usize,
    pub outputs: usize,
    /// [outputs, inputs].
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    /// The class of PyTorch.
    pub activation: &'static str,
}

/// The order in which sentence-transformers puts poolings.
const ORDER: [Pooling; 3] = [Pooling::First, Pooling::Mean, Pooling::Last];

/// Plans an export.
///
/// # Errors
/// [`Error::NotExportable`] with what the target cannot hold, and what can.
pub(super) fn plan(
    bundle: &Bundle,
    encoder: &EncoderIdentity,
    target: ExportTarget,
) -> Result<Plan, Error> {
    let refuse = |reason: String, nearest: &'static str| {
        Err(Error::NotExportable { target: target.name(), reason, nearest })
    };
    let views = &encoder.views;
    if views.iter().any(|view| view.pooling == Pooling::PromptLast) {
        let what = "it reads the state at the end of the prompt, which no list of tokens shows";
        return refuse(what.into(), "a reward model of other views; `lens serve` has this one");
    }
    if encoder.dtype != "f32" {
        let what = "its embeddings were computed in bf16, and it would round otherwise";
        return refuse(what.into(), "training again without --weights bf16");
    }
    let deepest = views.iter().map(|view| view.layer).max().unwrap_or(encoder.layers);
    let model = &bundle.model;
    let linear = model.head.shape().hidden.is_empty();
    let not_last = views.iter().find(|view| view.layer != encoder.layers);
    match target {
        ExportTarget::Transformers => {
            let [view] = &views[..] else {
                let what =
                    format!("it reads {} views of a text, and a head there reads one", views.len());
                return refuse(what, REMOTE_OR_LAST);
            };
            if !linear {
                let what = "its head is a network, and a head there is one linear layer";
                return refuse(what.into(), "`--to sentence-transformers`, or a logistic head");
            }
            if let Some(view) = not_last {
                return refuse(inner(view), REMOTE_OR_LAST);
            }
            if view.pooling != Pooling::Last {
                let what = format!(
                    "it reads the {} of a text, and a head there the last token",
                    view.in_words()
                );
                return refuse(what, "`--to sentence-transformers`");
            }
            Ok(sequence_classification(model, view, encoder))
        }
        ExportTarget::SentenceTransformers => {
            if let Some(view) = not_last {
                return refuse(inner(view), "`--to remote-code`");
            }
            let suffix = views.first().and_then(|view| view.suffix.clone());
            if views.iter().any(|view| view.suffix != suffix) {
                let what = "its views end in different suffixes, and there a text is read once";
                return refuse(what.into(), "`--to remote-code`");
            }
            let poolings: Vec<Pooling> =
                ORDER.into_iter().filter(|p| views.iter().any(|v| v.pooling == *p)).collect();
            let modules = Modules { dense: dense(model, views, &poolings, encoder.dim), poolings };
            Ok(Plan {
                class: CheckpointClass::Bare,
                layers: encoder.layers,
                suffix,
                tensors: Vec::new(),
                config: Map::new(),
                modules: Some(modules),
            })
        }
        ExportTarget::RemoteCode => Ok(Plan {
            class: CheckpointClass::Within,
            layers: deepest.max(1),
            suffix: None,
            tensors: parameters(model),
            config: Map::new(),
            modules: None,
        }),
    }
}

const REMOTE_OR_LAST: &str = "`--to remote-code`, or training with --layer -1 --pooling last --views fixed \
                              --head logistic";

fn inner(view: &View) -> String {
    format!(
        "it reads {}, and transformers norms what it returns: only the last layer is the same",
        view.in_words()
    )
}

/// A linear head on the last token: `score.weight` [1, d] is the mean of the members' weights times the
/// standardisation's scale; what that shifts rewards by stands as `score.bias`, which vLLM adds, and as
/// `mean` in the configuration, which OpenRLHF takes away.
fn sequence_classification(model: &RewardModel, view: &View, encoder: &EncoderIdentity) -> Plan {
    let (weight, bias) = folded(model);
    let d = weight.len();
    let mut config = Map::new();
    let mut set = |key: &str, value: Value| {
        config.insert(key.to_owned(), value);
    };
    set("num_labels", 1.into());
    set("id2label", json!({"0": "reward"}));
    set("label2id", json!({"reward": 0}));
    set("problem_type", "regression".into());
    set("sbert_ce_default_activation_function", "torch.nn.modules.linear.Identity".into());
    set("mean", (-bias).into());
    set("std", 1.0.into());
    Plan {
        class: CheckpointClass::SequenceClassification,
        layers: encoder.layers,
        suffix: view.suffix.clone(),
        tensors: vec![
            HeadTensor { name: "score.weight".into(), shape: vec![1, d], values: weight },
            HeadTensor { name: "score.bias".into(), shape: vec![1], values: vec![bias as f32] },
        ],
        config,
        modules: None,
    }
}

/// A linear ensemble as one vector [d] and a constant: reward = vector x + constant.
fn folded(model: &RewardModel) -> (Vec<f32>, f64) {
    let shape = model.head.shape();
    let (mean, scale) = (&model.standardiser.mean, &model.standardiser.scale);
    let mut constant = 0.0f64;
    let weight = (0..shape.dim)
        .map(|j| {
            let members =
                (0..shape.members).map(|m| f64::from(model.head.parameters()[m * shape.dim + j]));
            let weight = members.sum::<f64>() / shape.members as f64 * f64::from(scale[j]);
            constant -= weight * f64::from(mean[j]);
            weight as f32
        })
        .collect();
    (weight, constant)
}

/// The head as dense layers on poolings side by side: the standardisation goes into the first of them,
/// members lie side by side, and the last takes their mean.
fn dense(model: &RewardModel, views: &[View], poolings: &[Pooling], d: usize) -> Vec<Dense> {
    let shape = model.head.shape();
    let width = poolings.len() * d;
    // Where a column of the pooled vector stands in the embedding.
    let column = |j: usize| {
        let view = views.iter().position(|view| view.pooling == poolings[j / d]).unwrap_or(0);
        view * d + j % d
    };
    let layers = shape.layers();
    let parameters = model.head.parameters();
    let mut all = Vec::with_capacity(layers.len());
    for (number, layer) in layers.iter().enumerate() {
        let Layer { inputs, outputs, weights, bias } = layer;
        let (weights, biases) = (&parameters[weights.clone()], &parameters[bias.clone()]);
        let (first, last) = (number == 0, number + 1 == layers.len());
        let rows = if last { 1 } else { shape.members * outputs };
        let columns = if first { width } else { shape.members * inputs };
        let mut weight = vec![0.0f64; rows * columns];
        let mut constant = vec![0.0f64; rows];
        let share = if last { 1.0 / shape.members as f64 } else { 1.0 };
        for m in 0..shape.members {
            for o in 0..*outputs {
                let (row, from) = (if last { 0 } else { m * outputs + o }, m * outputs + o);
                if let Some(bias) = biases.get(from) {
                    constant[row] += f64::from(*bias);
                }
                for i in 0..(if first { width } else { *inputs }) {
                    let at = if first { column(i) } else { i };
                    let mut value = f64::from(weights[from * inputs + at]) * share;
                    if first {
                        value *= f64::from(model.standardiser.scale[at]);
                        constant[row] -= value * f64::from(model.standardiser.mean[at]);
                    }
                    weight[row * columns + if first { i } else { m * inputs + i }] += value;
                }
            }
        }
        all.push(Dense {
            inputs: columns,
            outputs: rows,
            weight: weight.into_iter().map(|w| w as f32).collect(),
            bias: constant.into_iter().map(|b| b as f32).collect(),
            activation: match (last, model.head.activation()) {
                (true, _) => "torch.nn.modules.linear.Identity",
                (false, lens_core::activation::Activation::Relu) => {
                    "torch.nn.modules.activation.ReLU"
                }
                (false, lens_core::activation::Activation::Tanh) => {
                    "torch.nn.modules.activation.Tanh"
                }
            },
        });
    }
    all
}

/// All parameters as they are, in the names of `modeling_lens.py`.
fn parameters(model: &RewardModel) -> Vec<HeadTensor> {
    let shape = model.head.shape();
    let row = |name: &str, values: &[f32]| HeadTensor {
        name: name.to_owned(),
        shape: vec![values.len()],
        values: values.to_vec(),
    };
    let mut all = vec![
        row("standardiser_mean", &model.standardiser.mean),
        row("standardiser_scale", &model.standardiser.scale),
    ];
    for (j, layer) in shape.layers().into_iter().enumerate() {
        let values = model.head.parameters()[layer.weights.clone()].to_vec();
        let rows = shape.members * layer.outputs;
        let name = format!("head_{j}_weight");
        all.push(HeadTensor { name, shape: vec![rows, layer.inputs], values });
        if !layer.bias.is_empty() {
            all.push(row(&format!("head_{j}_bias"), &model.head.parameters()[layer.bias]));
        }
    }
    all
}
