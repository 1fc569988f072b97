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
    #[inline(always)]
    pub(crate) fn apply<T: Real>(self, values: &mut [T]) {
        match self {
            Activation::Relu => {
                // Without a branch, so that the loop vectorises. A NaN stays one: training looks for it.
                for x in values {
                    *x = if *x < T::ZERO { T::ZERO } else { *x };
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
    #[inline(always)]
    pub(crate) fn backward<T: Real>(self, outputs: &[T], gradient: &mut [T]) {
        match self {
            Activation::Relu => {
                for (g, &y) in gradient.iter_mut().zip(outputs) {
                    *g = if y <= T::ZERO { T::ZERO } else { *g };
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
