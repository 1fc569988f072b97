//! The losses of all comparisons of a step (docs/method.md, equation E12).
//!
//! The F comparisons of a seed pair have only 2 (1 + k) responses. Each response is scored once, the
//! losses are formed on differences of rewards, and one gradient for each *response* goes back.
//! [`super::step`] has the other identity.

use crate::bradley_terry::BradleyTerry;
use crate::embedded::Label;
use crate::linalg::Threads;
use crate::real::Real;
use rayon::prelude::*;

/// One comparison: response row `chosen` should beat response row `rejected`. Rows 0..2B are real
/// (the B chosen, then the B rejected), the rest synthetic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Comparison {
    pub chosen: u32,
    pub rejected: u32,
    /// The seed pairs of the batch that the two rows come from: a comparison trains a member only
    /// if neither is held out for it.
    pub pairs: [u32; 2],
    /// Which side should win, and by how much.
    pub label: Label,
}

/// Fewest losses that are worth a part.
const LEAST_LOSSES: usize = 2048;

/// The losses of a step, cut into parts, which threads share out; how many depends on the losses alone.
pub(crate) struct PairLosses<T> {
    threads: Threads,
    parts: Vec<Part<T>>,
}

/// Losses and gradients of some of the comparisons.
#[derive(Clone, Default)]
struct Part<T> {
    deltas: Vec<T>,
    losses: Vec<f64>,
}

impl<T: Real> PairLosses<T> {
    /// At most so many parts.
    pub(crate) fn new(parts: usize, threads: Threads) -> Self {
        PairLosses { threads, parts: vec![Part::default(); parts.max(1)] }
    }

    /// The loss on reward differences, and its gradient by every reward. `rewards` and `deltas` are
    /// [rows, M], `losses` [M]: the mean over the comparisons that train a member, 0 where none does.
    /// `trained` says whether member m trains on pair b, [M, B].
    pub(crate) fn losses_and_gradients(
        &mut self,
        comparisons: &[Comparison],
        trained: &[bool],
        form: BradleyTerry,
        rewards: &[T],
        deltas: &mut [T],
        losses: &mut [f64],
    ) {
        let members = losses.len();
        let pairs = trained.len() / members;
        let trains = |m: usize, c: &Comparison| {
            trained[m * pairs + c.pairs[0] as usize] && trained[m * pairs + c.pairs[1] as usize]
        };
        let share = |m| 1.0 / comparisons.iter().filter(|c| trains(m, c)).count() as f64;
        let shares: Vec<f64> = (0..members).map(share).collect();
        let work = |(part, comparisons): (&mut Part<T>, &[Comparison])| {
            part.deltas.clear();
            part.deltas.resize(rewards.len(), T::ZERO);
            part.losses.clear();
            part.losses.resize(members, 0.0);
            for c in comparisons {
                let (a, b) = (c.chosen as usize * members, c.rejected as usize * members);
                for (m, share) in shares.iter().enumerate() {
                    if !trains(m, c) {
                        continue;
                    }
                    let (loss, slope) =
                        form.loss_and_slope((rewards[a + m] - rewards[b + m]).widen(), c.label);
                    part.losses[m] += share * loss;
                    let slope = T::narrow(share * slope);
                    part.deltas[a + m] += slope;
                    part.deltas[b + m] -= slope;
                }
            }
        };
        let count = (comparisons.len() * members / LEAST_LOSSES).clamp(1, self.parts.len());
        let some = comparisons.chunks(comparisons.len().div_ceil(count).max(1));
        match &mut self.parts[..count] {
            [only] => work((only, comparisons)),
            several if self.threads == Threads::ONE => several.iter_mut().zip(some).for_each(work),
            several => several.par_iter_mut().zip(some.collect::<Vec<_>>()).for_each(work),
        }
        deltas.fill(T::ZERO);
        losses.fill(0.0);
        for part in &self.parts[..count] {
            deltas.iter_mut().zip(&part.deltas).for_each(|(d, &p)| *d += p);
            losses.iter_mut().zip(&part.losses).for_each(|(l, &p)| *l += p);
        }
    }
}
