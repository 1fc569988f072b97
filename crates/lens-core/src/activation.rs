//! Activations of the VAE and the head, with their derivatives.

use crate::real::Real;
use serde::{Deserialize, Serialize};

/// The non-linearity of a hidden layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// max(0, x). The default.
    #[default]
    Relu,
    /// Hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// Applies it in place.
    pub(crate) fn apply<T: Real>(self, values: &mut [T]) {
        match self {
            Activation::Relu => {
                for x in values {
                    if *x < T::ZERO {
                        *x = T::ZERO;
                    }
                }
            }
            Activation::Tanh => {
                for x in values {
                    *x = x.tanh();
                }
            }
        }
    }

    /// Multiplies `gradient` by the derivative, given the *outputs* of the layer.
    pub(crate) fn backward<T: Real>(self, outputs: &[T], gradient: &mut [T]) {
        match self {
            Activation::Relu => {
                for (g, &y) in gradient.iter_mut().zip(outputs) {
                    if y <= T::ZERO {
                        *g = T::ZERO;
                    }
                }
            }
            Activation::Tanh => {
                for (g, &y) in gradient.iter_mut().zip(outputs) {
                    *g = *g * (T::ONE - y * y);
                }
            }
        }
    }
}
