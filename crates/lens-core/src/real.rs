//! The number type of the numerics: `f32` in production, `f64` where gradients are checked.

use std::fmt::Debug;
use std::ops::{AddAssign, SubAssign};

use num_traits::Float;

/// A floating-point number. Sealed: only `f32` and `f64`.
pub trait Real:
    Float + Default + Debug + Send + Sync + 'static + AddAssign + SubAssign + sealed::Sealed
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// The nearest number of this type.
    fn narrow(value: f64) -> Self;
    /// The same number as `f64`.
    fn widen(self) -> f64;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn narrow(value: f64) -> Self {
                value as $t
            }
            #[inline(always)]
            fn widen(self) -> f64 {
                self as f64
            }
        }
    };
}
real!(f32);
real!(f64);
