//! How much memory there is, and in which form weights fit into it.

use crate::error::{EncoderError, Result};
use serde::{Deserialize, Serialize};

/// In which form weights are held. None of them changes what is computed but [`Precision::Bf16`],
/// which rounds weights that are stored finer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Precision {
    /// [`Precision::F32`] if there is room, else [`Precision::Stored`].
    #[default]
    Auto,
    /// Decoded once, 4 bytes a weight: the fastest.
    F32,
    /// 2 bytes a weight, rounded to bfloat16 where they are stored finer; decoded when used.
    Bf16,
    /// As in the file, however it is quantised, and left there; read and decoded when used.
    Stored,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Stored => "stored",
        })
    }
}

impl std::str::FromStr for Precision {
    type Err = EncoderError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "stored" => Ok(Self::Stored),
            other => Err(EncoderError::InvalidOption {
                option: "weights",
                detail: format!("'{other}' is none of auto, f32, bf16, stored"),
            }),
        }
    }
}

/// The memory that a model needs, from which that of each form of its weights follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryNeeds {
    /// Number of weights in the blocks to run.
    pub elements: u64,
    /// Bytes of all files of weights, which the system keeps in memory while they are used.
    pub stored: u64,
    /// Buffers of one batch.
    pub workspace: u64,
}

impl MemoryNeeds {
    /// Bytes of the weights in a form that is not `Auto`.
    pub fn weights(&self, precision: Precision) -> u64 {
        match precision {
            Precision::Auto | Precision::F32 => self.elements * 4,
            Precision::Bf16 => self.elements * 2,
            Precision::Stored => self.stored,
        }
    }

    /// The form to use with so many bytes available (`None`: unknown).
    ///
    /// # Errors
    /// [`EncoderError::TooLarge`] where the asked form does not fit, or none does.
    pub fn choose(&self, asked: Precision, available: Option<u64>) -> Result<Precision> {
        let Some(available) = available else {
            return Ok(if asked == Precision::Auto { Precision::F32 } else { asked });
        };
        let fits = |precision| self.weights(precision) + self.workspace <= available;
        let chosen = match asked {
            // Room is left for the rest of the machine where there is a choice.
            Precision::Auto
                if self.weights(Precision::F32) + self.workspace <= available / 5 * 4 =>
            {
                Precision::F32
            }
            Precision::Auto => Precision::Stored,
            other => other,
        };
        if fits(chosen) {
            return Ok(chosen);
        }
        let advice = if chosen != Precision::Stored && fits(Precision::Stored) {
            "set weights = \"stored\" (or auto), which keeps them as they are in the file"
                .to_owned()
        } else {
            "use a smaller or a more strongly quantised model, or smaller batch_tokens".to_owned()
        };
        Err(EncoderError::TooLarge {
            weights: self.weights(chosen),
            workspace: self.workspace,
            available,
            advice,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn weights_take_the_fastest_form_that_fits() {
        let needs = MemoryNeeds { elements: 1000, stored: 600, workspace: 100 };
        let choose = |asked, available| needs.choose(asked, Some(available));
        assert_eq!(choose(Precision::Auto, 10_000).unwrap(), Precision::F32);
        assert_eq!(choose(Precision::Auto, 5_000).unwrap(), Precision::Stored);
        assert_eq!(choose(Precision::F32, 5_000).unwrap(), Precision::F32);
        assert_eq!(choose(Precision::Bf16, 2_100).unwrap(), Precision::Bf16);
        assert_eq!(needs.choose(Precision::Auto, None).unwrap(), Precision::F32);
        let error = choose(Precision::F32, 2_000).unwrap_err().to_string();
        assert!(error.contains("stored"), "{error}");
        let error = choose(Precision::Auto, 650).unwrap_err();
        let EncoderError::TooLarge { weights, workspace, available, advice } = error else {
            panic!("{error}")
        };
        assert_eq!((weights, workspace, available), (600, 100, 650));
        assert!(advice.contains("smaller"), "{advice}");
    }
}
