//! Settings of the heads.

use crate::activation::Activation;
use crate::bradley_terry::BradleyTerry;
use crate::embedded::Label;
use crate::error::{CoreError, require};
use serde::{Deserialize, Serialize};

/// The kind of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadKind {
    /// A small network, trained in steps and stopped early. The default.
    #[default]
    Mlp,
    /// Logistic regression on the difference of the two responses: linear, trained to its optimum,
    /// its penalty chosen on folds. Of the settings below it uses `members`, `folds`, `l2`,
    /// `combine`, and those of the labels.
    Logistic,
}

impl HeadKind {
    /// As settings have it.
    pub fn name(self) -> &'static str {
        match self {
            HeadKind::Mlp => "mlp",
            HeadKind::Logistic => "logistic",
        }
    }
}

/// How a logistic head combines several views side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Combine {
    /// One head on all of them, each made as wide as the others. The default.
    #[default]
    Joint,
    /// A head on each, with a penalty of its own; rewards are added with weights of at least 0,
    /// fitted on the folds.
    Stacked,
}

/// The weight of a logistic head's penalty, l2 / 2 |w|^2, against the sum of the losses.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(untagged)]
pub enum L2 {
    /// Chosen among [`super::logistic::PENALTIES`] by the log-loss on the folds. The default.
    #[default]
    #[serde(with = "auto_name")]
    Auto,
    /// This weight.
    Weight(f64),
}

/// `"auto"`, in an untagged enum.
mod auto_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str("auto")
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<(), D::Error> {
        match String::deserialize(from)?.as_str() {
            "auto" => Ok(()),
            other => Err(D::Error::custom(format!("`{other}` is neither a number nor `auto`"))),
        }
    }
}

/// Settings of the head, all ours (O).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadSettings {
    /// The kind of the head. Defaults to `mlp`.
    pub kind: HeadKind,
    /// With `logistic`, the weight of its penalty. Defaults to `auto`.
    pub l2: L2,
    /// With `logistic`, how several views are combined. Defaults to `joint`.
    pub combine: Combine,
    /// Widths of the hidden layers; empty for a linear head. Defaults to one layer of 64.
    pub hidden: Vec<usize>,
    /// Non-linearity of the hidden layers. Defaults to ReLU.
    pub activation: Activation,
    /// Members of the ensemble. Defaults to 5.
    pub members: usize,
    /// Folds of the prompts; member m is stopped early on fold m modulo this. 1 holds nothing out:
    /// every pair trains every member in every epoch. Defaults to 5.
    pub folds: usize,
    /// Most passes over the seed pairs. Defaults to 60.
    pub epochs: usize,
    /// Passes without a better log-loss on its fold after which a member is done. Defaults to 8.
    pub patience: usize,
    /// Seed pairs in a step; every step covers all combinations of its seed pairs. Defaults to 128.
    pub batch: usize,
    /// Adam's learning rate. Defaults to 0.0003.
    pub learning_rate: f64,
    /// Decoupled weight decay. Defaults to 0.3.
    pub weight_decay: f64,
    /// Share of the hidden units that are left out, others for every response and step. Defaults
    /// to 0.
    pub dropout: f64,
    /// Share of the labels taken to be wrong, smoothing the loss. Defaults to 0.
    pub label_smoothing: f64,
    /// Factor on the margins of the data: the reward difference of a pair is asked to exceed the
    /// result (Touvron et al. 2023, as in TRL). 0 ignores margins. Defaults to 1.
    pub margin_weight: f64,
    /// Half the width of a tie in units of reward, ln theta of Rao and Kupper (1967); used where the
    /// data has ties. Defaults to 0.5.
    pub tie_threshold: f64,
}

impl Default for HeadSettings {
    fn default() -> Self {
        HeadSettings {
            kind: HeadKind::Mlp,
            l2: L2::Auto,
            combine: Combine::Joint,
            hidden: vec![64],
            activation: Activation::Relu,
            members: 5,
            folds: 5,
            epochs: 60,
            patience: 8,
            batch: 128,
            learning_rate: 3e-4,
            weight_decay: 0.3,
            dropout: 0.0,
            label_smoothing: 0.0,
            margin_weight: 1.0,
            tie_threshold: 0.5,
        }
    }
}

impl HeadSettings {
    /// Widths of the hidden layers of such a head.
    pub fn layers(&self) -> &[usize] {
        match self.kind {
            HeadKind::Mlp => &self.hidden,
            HeadKind::Logistic => &[],
        }
    }

    /// The loss of each comparison, for data with these labels.
    pub(crate) fn loss(&self, labels: &[Label]) -> BradleyTerry {
        BradleyTerry::for_labels(self.label_smoothing, self.tie_threshold, labels)
    }

    /// Whether every setting is in its permitted range.
    ///
    /// # Errors
    /// [`CoreError::Setting`] names the first that is not.
    pub fn check(&self) -> Result<(), CoreError> {
        if let L2::Weight(l2) = self.l2 {
            let permitted = "`auto`, or a positive number";
            require(l2.is_finite() && l2 > 0.0, "head.l2", l2, permitted)?;
        }
        require(
            self.kind == HeadKind::Mlp || self.folds > 1 || self.l2 != L2::Auto,
            "head.l2",
            "auto",
            "a number where head.folds is 1: nothing is held out to choose by",
        )?;
        let widths = format!("{:?}", self.hidden);
        require(
            self.hidden.len() <= 16 && self.hidden.iter().all(|w| (1..=65_536).contains(w)),
            "head.hidden",
            widths,
            "at most 16 widths from 1 to 65536",
        )?;
        require((1..=256).contains(&self.members), "head.members", self.members, "from 1 to 256")?;
        require((1..=1000).contains(&self.folds), "head.folds", self.folds, "from 1 to 1000")?;
        require(self.epochs >= 1, "head.epochs", self.epochs, "at least 1")?;
        require(self.patience >= 1, "head.patience", self.patience, "at least 1")?;
        require(self.batch >= 1, "head.batch", self.batch, "at least 1")?;
        require(
            self.learning_rate.is_finite() && self.learning_rate > 0.0,
            "head.learning_rate",
            self.learning_rate,
            "a positive number",
        )?;
        require(
            self.weight_decay >= 0.0 && self.weight_decay * self.learning_rate < 1.0,
            "head.weight_decay",
            self.weight_decay,
            "at least 0 and below 1 / head.learning_rate",
        )?;
        require(
            (0.0..1.0).contains(&self.dropout),
            "head.dropout",
            self.dropout,
            "at least 0 and below 1",
        )?;
        require(
            self.margin_weight.is_finite() && self.margin_weight >= 0.0,
            "head.margin_weight",
            self.margin_weight,
            "a finite number of at least 0",
        )?;
        require(
            self.tie_threshold.is_finite() && self.tie_threshold > 0.0,
            "head.tie_threshold",
            self.tie_threshold,
            "a positive number",
        )?;
        require(
            (0.0..0.5).contains(&self.label_smoothing),
            "head.label_smoothing",
            self.label_smoothing,
            "at least 0 and below 0.5",
        )
    }
}
