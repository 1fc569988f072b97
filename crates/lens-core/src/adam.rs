//! Adam with decoupled weight decay (Kingma and Ba 2015; Loshchilov and Hutter 2019).

use crate::real::Real;

/// Settings of one optimiser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AdamSettings {
    pub learning_rate: f64,
    pub weight_decay: f64,
}

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// First and second moments for one flat vector of parameters.
pub(crate) struct Adam<T> {
    first: Vec<T>,
    second: Vec<T>,
    steps: i32,
}

struct Factors<T> {
    keep1: T,
    take1: T,
    keep2: T,
    take2: T,
    rate: T,
    root: T,
    epsilon: T,
    shrink: T,
}

impl<T: Real> Adam<T> {
    pub(crate) fn new(len: usize) -> Self {
        Adam { first: vec![T::ZERO; len], second: vec![T::ZERO; len], steps: 0 }
    }

    /// One step along `-gradient`.
    pub(crate) fn step(&mut self, settings: AdamSettings, parameters: &mut [T], gradient: &[T]) {
        assert_eq!(parameters.len(), self.first.len());
        assert_eq!(parameters.len(), gradient.len());
        self.steps += 1;
        let factors = Factors {
            keep1: T::narrow(BETA1),
            take1: T::narrow(1.0 - BETA1),
            keep2: T::narrow(BETA2),
            take2: T::narrow(1.0 - BETA2),
            rate: T::narrow(settings.learning_rate / (1.0 - BETA1.powi(self.steps))),
            root: T::narrow(1.0 / (1.0 - BETA2.powi(self.steps)).sqrt()),
            epsilon: T::narrow(EPSILON),
            shrink: T::narrow(1.0 - settings.learning_rate * settings.weight_decay),
        };
        update(&factors, parameters, gradient, &mut self.first, &mut self.second);
    }
}

fn update<T: Real>(f: &Factors<T>, p: &mut [T], g: &[T], m: &mut [T], v: &mut [T]) {
    // The loop is plain; the dispatch compiles it for the widest vectors this machine has.
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m.iter_mut()).zip(v.iter_mut()) {
                *m = f.keep1 * *m + f.take1 * g;
                *v = f.keep2 * *v + f.take2 * g * g;
                *p = f.shrink * *p - f.rate * *m / (v.sqrt() * f.root + f.epsilon);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_step_is_the_learning_rate_against_the_sign() {
        let mut adam = Adam::new(2);
        let mut p = [1.0f64, -1.0];
        adam.step(AdamSettings { learning_rate: 0.1, weight_decay: 0.0 }, &mut p, &[3.0, -0.2]);
        assert!((p[0] - 0.9).abs() < 1e-7 && (p[1] + 0.9).abs() < 1e-7, "{p:?}");
    }

    #[test]
    fn finds_the_minimum_of_a_parabola_and_decay_pulls_it_to_zero() {
        for (decay, low, high) in [(0.0, 1.99, 2.01), (1.0, 0.5, 1.99)] {
            let mut adam = Adam::new(1);
            let mut p = [5.0f32];
            for _ in 0..4000 {
                let g = [2.0 * (p[0] - 2.0)];
                adam.step(AdamSettings { learning_rate: 0.01, weight_decay: decay }, &mut p, &g);
            }
            assert!((low..high).contains(&f64::from(p[0])), "{p:?} with decay {decay}");
        }
    }
}
