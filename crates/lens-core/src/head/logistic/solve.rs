//! The optimum of many logistic problems on the same differences: a task for each fold and penalty.
//!
//! A task minimises, over w,
//!
//!   sum over its comparisons of weight * loss(offset + d w) + l2 / 2 |w|^2
//!
//! where d is a row of differences, and the loss is that of [`BradleyTerry`], convex in its argument.
//! All tasks go through L-BFGS side by side, so that the differences are read once a step for all of
//! them, in one matrix product.
//!
//! With fewer comparisons than dimensions the optimum lies in the span of the differences, w = D' a,
//! and the same algorithm runs on a, [N], with the inner product a' (D D') b: a gradient is then
//! represented by the slopes of the losses + l2 a, and nothing of width d is touched again after the
//! one product D D'. Every vector is kept with its image, what it gives on every comparison (D w, or
//! D D' a), which makes the line search free.

use crate::bradley_terry::BradleyTerry;
use crate::embedded::Label;
use crate::linalg::{Target, Threads, View, dot, matmul};
use crate::progress::Progress;
use crate::real::Real;
use rayon::prelude::*;
use std::collections::VecDeque;

/// Steps that L-BFGS remembers.
const MEMORY: usize = 10;
/// Most steps of a task.
const MOST_STEPS: usize = 300;

/// The comparisons, which all tasks share.
pub(crate) struct Comparisons<'a, T> {
    /// Differences of the two sides, [N, d].
    pub differences: &'a [T],
    /// d.
    pub dim: usize,
    /// The label of each, `[N]`.
    pub labels: &'a [Label],
    /// The loss.
    pub form: BradleyTerry,
}

/// One problem.
#[derive(Clone)]
pub(crate) struct Task<'a> {
    /// Weight of each comparison, `[N]`; the task is not trained on those of weight 0.
    pub weights: &'a [f64],
    /// Constant part of every reward difference, `[N]`; empty for none.
    pub offset: &'a [f64],
    /// Weight of the penalty.
    pub l2: f64,
}

/// The optimum of a task.
#[derive(Clone)]
pub(crate) struct Solved {
    /// Reward difference of every comparison, trained on or not, the offset included, `[N]`.
    pub margins: Vec<f64>,
    /// Steps it took.
    #[cfg(test)]
    pub steps: usize,
    /// The loss it reached, penalty included.
    pub objective: f64,
}

/// The optima of all tasks.
pub(crate) struct Optima<T> {
    /// One for each task.
    pub solved: Vec<Solved>,
    /// [tasks, r].
    vectors: Vec<T>,
    r: usize,
    dual: bool,
}

impl<T: Real> Optima<T> {
    /// The weights w of some tasks, [tasks, d].
    pub(crate) fn weights(
        &self,
        data: &Comparisons<'_, T>,
        tasks: &[usize],
        threads: Threads,
    ) -> Vec<T> {
        let wanted: Vec<T> = tasks
            .iter()
            .flat_map(|&t| &self.vectors[t * self.r..(t + 1) * self.r])
            .copied()
            .collect();
        if !self.dual {
            return wanted;
        }
        let mut w = vec![T::ZERO; tasks.len() * data.dim];
        let a = View::new(&wanted, tasks.len(), self.r);
        let d = View::new(data.differences, self.r, data.dim);
        matmul(Target::new(&mut w, data.dim), a, d, T::ONE, false, threads);
        w
    }
}

/// A vector w (or a, in the dual) and its image: the reward difference that it gives each comparison.
#[derive(Clone)]
struct Vector<T> {
    own: Vec<T>,
    image: Vec<T>,
}

impl<T: Real> Vector<T> {
    fn zero(r: usize, n: usize) -> Self {
        Vector { own: vec![T::ZERO; r], image: vec![T::ZERO; n] }
    }

    fn add(&mut self, scale: f64, other: &Vector<T>) {
        let scale = T::narrow(scale);
        self.own.iter_mut().zip(&other.own).for_each(|(x, &y)| *x += scale * y);
        self.image.iter_mut().zip(&other.image).for_each(|(x, &y)| *x += scale * y);
    }

    fn scale(&mut self, scale: f64) {
        let scale = T::narrow(scale);
        self.own.iter_mut().chain(&mut self.image).for_each(|x| *x = *x * scale);
    }
}

/// The state of a task during the iterations.
struct State<T> {
    at: Vector<T>,
    gradient: Vector<T>,
    first: f64,
    history: VecDeque<(Vector<T>, Vector<T>, f64)>,
    /// The step that was just taken, and the gradient before it.
    before: Option<(Vector<T>, Vector<T>)>,
    slopes: Vec<T>,
    steps: usize,
    done: bool,
}

/// Solves `tasks` until the gradient is `tolerance` of what it was at first. `None` where the user
/// asked to stop.
pub(crate) fn solve<T: Real>(
    data: &Comparisons<'_, T>,
    tasks: &[Task<'_>],
    tolerance: f64,
    threads: Threads,
    progress: &dyn Progress,
) -> Option<Optima<T>> {
    let (n, d) = (data.labels.len(), data.dim);
    let dual = n <= d;
    let rows = View::new(data.differences, n, d);
    let gram = dual.then(|| {
        let mut gram = vec![T::ZERO; n * n];
        matmul(Target::new(&mut gram, n), rows, rows.t(), T::ONE, false, threads);
        gram
    });
    let r = if dual { n } else { d };
    let inner = |a: &Vector<T>, b: &Vector<T>| {
        if dual { dot(&a.own, &b.image) } else { dot(&a.own, &b.own) }
    };
    let mut states: Vec<State<T>> = tasks
        .iter()
        .map(|_| State {
            at: Vector::zero(r, n),
            gradient: Vector::zero(r, n),
            first: f64::INFINITY,
            history: VecDeque::new(),
            before: None,
            slopes: vec![T::ZERO; n],
            steps: 0,
            done: false,
        })
        .collect();
    let each = |states: &mut [State<T>], work: &(dyn Fn(&mut State<T>, &Task<'_>) + Sync)| {
        let both = states.par_iter_mut().zip(tasks).filter(|(s, _)| !s.done);
        both.for_each(|(state, task)| work(state, task));
    };
    loop {
        if progress.cancelled() {
            return None;
        }
        each(&mut states, &|state, task| slopes(data, task, state));
        gradients(data, tasks, &mut states, gram.as_deref(), threads);
        each(&mut states, &|state, task| {
            if let Some((step, old)) = state.before.take() {
                let mut change = state.gradient.clone();
                change.add(-1.0, &old);
                let curvature = inner(&step, &change);
                if curvature > 1e-12 * inner(&step, &step) {
                    if state.history.len() == MEMORY {
                        state.history.pop_front();
                    }
                    state.history.push_back((step, change, 1.0 / curvature));
                }
            }
            let size = inner(&state.gradient, &state.gradient).max(0.0).sqrt();
            if state.steps == 0 {
                state.first = size;
            }
            if size <= tolerance * state.first || state.steps == MOST_STEPS {
                state.done = true;
                return;
            }
            let mut p = direction(state, &inner);
            let length = line_search(data, task, &state.at, &p, &inner);
            if length <= 0.0 {
                // No step reduces the objective beyond rounding.
                state.done = true;
                return;
            }
            p.scale(length);
            state.at.add(1.0, &p);
            state.before = Some((p, state.gradient.clone()));
            state.steps += 1;
        });
        if states.iter().all(|s| s.done) {
            break;
        }
    }
    let solved = states.iter().zip(tasks).map(|(state, task)| {
        let margins =
            (0..n).map(|i| offset(task, i) + state.at.image[i].widen()).collect::<Vec<_>>();
        let loss =
            |i: usize| task.weights[i] * data.form.loss_and_slope(margins[i], data.labels[i]).0;
        let losses: f64 = (0..n).filter(|&i| task.weights[i] > 0.0).map(loss).sum();
        let objective = losses + 0.5 * task.l2 * inner(&state.at, &state.at);
        Solved {
            margins,
            #[cfg(test)]
            steps: state.steps,
            objective,
        }
    });
    let solved = solved.collect();
    let vectors = states.into_iter().flat_map(|s| s.at.own).collect();
    Some(Optima { solved, vectors, r, dual })
}

fn offset(task: &Task<'_>, i: usize) -> f64 {
    task.offset.get(i).copied().unwrap_or(0.0)
}

/// The slope of every loss at the task's current point.
fn slopes<T: Real>(data: &Comparisons<'_, T>, task: &Task<'_>, state: &mut State<T>) {
    for (i, slope) in state.slopes.iter_mut().enumerate() {
        *slope = T::ZERO;
        if task.weights[i] > 0.0 {
            let margin = offset(task, i) + state.at.image[i].widen();
            *slope =
                T::narrow(task.weights[i] * data.form.loss_and_slope(margin, data.labels[i]).1);
        }
    }
}

/// The gradients of all tasks that are on their way, with their images.
fn gradients<T: Real>(
    data: &Comparisons<'_, T>,
    tasks: &[Task<'_>],
    states: &mut [State<T>],
    gram: Option<&[T]>,
    threads: Threads,
) {
    let (n, d) = (data.labels.len(), data.dim);
    let going: Vec<usize> = (0..tasks.len()).filter(|&t| !states[t].done).collect();
    let c = going.len();
    let rows = View::new(data.differences, n, d);
    let mut own = match gram {
        Some(_) => going.iter().flat_map(|&t| &states[t].slopes).copied().collect::<Vec<T>>(),
        None => {
            let slopes: Vec<T> = going.iter().flat_map(|&t| &states[t].slopes).copied().collect();
            let mut out = vec![T::ZERO; c * d];
            let slopes = View::new(&slopes, c, n);
            matmul(Target::new(&mut out, d), slopes, rows, T::ONE, false, threads);
            out
        }
    };
    let r = own.len() / c.max(1);
    for (g, &t) in own.chunks_exact_mut(r.max(1)).zip(&going) {
        let l2 = T::narrow(tasks[t].l2);
        g.iter_mut().zip(&states[t].at.own).for_each(|(g, &w)| *g += l2 * w);
    }
    let mut images = vec![T::ZERO; c * n];
    let target = Target::new(&mut images, n);
    match gram {
        Some(gram) => {
            let gram = View::new(gram, n, n);
            matmul(target, View::new(&own, c, n), gram, T::ONE, false, threads);
        }
        None => matmul(target, View::new(&own, c, d), rows.t(), T::ONE, false, threads),
    }
    for (at, &t) in going.iter().enumerate() {
        states[t].gradient.own.copy_from_slice(&own[at * r..(at + 1) * r]);
        states[t].gradient.image.copy_from_slice(&images[at * n..(at + 1) * n]);
    }
}

/// The search direction of L-BFGS (Nocedal and Wright 2006, algorithm 7.4).
fn direction<T: Real>(
    state: &State<T>,
    inner: &impl Fn(&Vector<T>, &Vector<T>) -> f64,
) -> Vector<T> {
    let mut q = state.gradient.clone();
    let mut shares = Vec::with_capacity(state.history.len());
    for (s, y, rho) in state.history.iter().rev() {
        let share = rho * inner(s, &q);
        q.add(-share, y);
        shares.push(share);
    }
    let scale = match state.history.back() {
        Some((_, y, rho)) => 1.0 / (rho * inner(y, y)),
        None => 1.0 / inner(&state.gradient, &state.gradient).max(0.0).sqrt().max(1e-30),
    };
    q.scale(scale);
    for ((s, y, rho), share) in state.history.iter().zip(shares.into_iter().rev()) {
        q.add(share - rho * inner(y, &q), s);
    }
    q.scale(-1.0);
    q
}

/// Line search: the step along `p` with the least objective, to a tenth of the first slope; 0 where
/// the objective does not fall.
fn line_search<T: Real>(
    data: &Comparisons<'_, T>,
    task: &Task<'_>,
    at: &Vector<T>,
    p: &Vector<T>,
    inner: &impl Fn(&Vector<T>, &Vector<T>) -> f64,
) -> f64 {
    let (across, along) = (inner(at, p), inner(p, p));
    let trained: Vec<(usize, f64, f64)> = (0..data.labels.len())
        .filter(|&i| task.weights[i] > 0.0)
        .map(|i| (i, offset(task, i) + at.image[i].widen(), p.image[i].widen()))
        .collect();
    let slope = |t: f64| {
        let losses: f64 = trained
            .iter()
            .map(|&(i, m, dm)| {
                task.weights[i] * data.form.loss_and_slope(m + t * dm, data.labels[i]).1 * dm
            })
            .sum();
        losses + task.l2 * (across + t * along)
    };
    let first = slope(0.0);
    if first.is_nan() || first >= 0.0 {
        return 0.0;
    }
    // The slope grows with t: bracket its root, then draw the bracket together.
    let enough = 0.1 * first.abs();
    let (mut low, mut at_low, mut high) = (0.0, first, 1.0);
    let mut at_high = slope(high);
    for _ in 0..60 {
        if at_high >= 0.0 || at_high.abs() <= enough {
            break;
        }
        (low, at_low) = (high, at_high);
        high *= 2.0;
        at_high = slope(high);
    }
    if at_high.abs() <= enough || at_high < 0.0 {
        return high;
    }
    for _ in 0..40 {
        // Never closer to an end than a tenth, so that the bracket always shrinks.
        let share = (at_low / (at_low - at_high)).clamp(0.1, 0.9);
        let middle = low + share * (high - low);
        let here = slope(middle);
        if here.abs() <= enough {
            return middle;
        }
        if here < 0.0 {
            (low, at_low) = (middle, here);
        } else {
            (high, at_high) = (middle, here);
        }
    }
    low
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::progress::Quiet;

    struct Case {
        differences: Vec<f64>,
        labels: Vec<Label>,
        weights: Vec<f64>,
        offset: Vec<f64>,
        form: BradleyTerry,
        d: usize,
    }

    fn case(n: usize, d: usize, tie: f64) -> Case {
        let value = |i: usize| ((i * 7919 % 1009) as f64 * 0.37).sin() + 0.1;
        let label = |i: usize| match i % 5 {
            0 if tie > 0.0 => Label::Tie,
            1 => Label::Preferred { margin: 0.5 },
            _ => Label::default(),
        };
        Case {
            differences: (0..n * d).map(value).collect(),
            labels: (0..n).map(label).collect(),
            weights: (0..n).map(|i| if i % 4 == 0 { 0.0 } else { 0.5 + (i % 3) as f64 }).collect(),
            offset: (0..n).map(|i| 0.1 * (i % 7) as f64 - 0.3).collect(),
            form: BradleyTerry { smoothing: 0.05, tie_threshold: tie },
            d,
        }
    }

    impl Case {
        fn data(&self) -> Comparisons<'_, f64> {
            Comparisons {
                differences: &self.differences,
                dim: self.d,
                labels: &self.labels,
                form: self.form,
            }
        }

        /// The gradient by w, straight from the formula.
        fn gradient(&self, w: &[f64], l2: f64) -> Vec<f64> {
            let mut g: Vec<f64> = w.iter().map(|w| l2 * w).collect();
            for (i, row) in self.differences.chunks_exact(self.d).enumerate() {
                let margin: f64 =
                    self.offset[i] + row.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
                let slope = self.weights[i] * self.form.loss_and_slope(margin, self.labels[i]).1;
                g.iter_mut().zip(row).for_each(|(g, x)| *g += slope * x);
            }
            g
        }
    }

    /// At the optimum of a convex function its gradient is 0: with more and with fewer
    /// comparisons than dimensions, with ties, margins, weights, offsets, and pairs left out.
    #[test]
    fn the_gradient_is_zero_where_it_stops() {
        for (n, d) in [(30, 4), (12, 40), (20, 20), (1, 3)] {
            for tie in [0.0, 0.5] {
                let mut case = case(n, d, tie);
                if n == 1 {
                    case.weights = vec![0.5];
                }
                let task = |l2| Task { weights: &case.weights, offset: &case.offset, l2 };
                let tasks = [0.01, 1.0, 50.0].map(task);
                let data = case.data();
                let optima = solve(&data, &tasks, 1e-9, Threads::ONE, &Quiet).unwrap();
                let weights = optima.weights(&data, &[0, 1, 2], Threads::ONE);
                for ((w, task), solved) in weights.chunks(d).zip(&tasks).zip(&optima.solved) {
                    let at_zero = case.gradient(&vec![0.0; d], task.l2);
                    let size = |g: &[f64]| g.iter().map(|x| x * x).sum::<f64>().sqrt();
                    let left = size(&case.gradient(w, task.l2)) / size(&at_zero);
                    assert!(left < 1e-7, "{n} x {d}, tie {tie}, l2 {}: {left:e}", task.l2);
                    let row = &case.differences[..d];
                    let own: f64 = row.iter().zip(w).map(|(x, w)| x * w).sum();
                    assert!((solved.margins[0] - case.offset[0] - own).abs() < 1e-9);
                    assert!(solved.steps < MOST_STEPS, "{}", solved.steps);
                }
            }
        }
    }

    /// One comparison, one dimension: minimise log(1 + e^-w) + w^2 / 2, whose derivative is
    /// w - 1 / (1 + e^w), 0 at 0.401058..
    #[test]
    fn an_optimum_by_hand() {
        let data = Comparisons {
            differences: &[1.0f64],
            dim: 1,
            labels: &[Label::default()],
            form: BradleyTerry { smoothing: 0.0, tie_threshold: 0.0 },
        };
        let task = Task { weights: &[1.0], offset: &[], l2: 1.0 };
        let optima = solve(&data, &[task], 1e-10, Threads::ONE, &Quiet).unwrap();
        let w = optima.solved[0].margins[0];
        assert!((w - 1.0 / (1.0 + w.exp())).abs() < 1e-9);
        assert!((w - 0.401058).abs() < 1e-6, "{w}");
        let objective = (1.0 + (-w).exp()).ln() + 0.5 * w * w;
        assert!((optima.solved[0].objective - objective).abs() < 1e-9);
    }

    #[test]
    fn single_precision_finds_the_same_margins() {
        let case = case(60, 200, 0.0);
        let data = case.data();
        let task = Task { weights: &case.weights, offset: &[], l2: 0.3 };
        let exact = solve(&data, std::slice::from_ref(&task), 1e-10, Threads::ONE, &Quiet).unwrap();
        let differences: Vec<f32> = case.differences.iter().map(|&x| x as f32).collect();
        let data = Comparisons {
            differences: &differences,
            dim: 200,
            labels: &case.labels,
            form: case.form,
        };
        let single = solve(&data, &[task], 1e-4, Threads::ONE, &Quiet).unwrap();
        for (a, b) in exact.solved[0].margins.iter().zip(&single.solved[0].margins) {
            assert!((a - b).abs() < 0.01, "{a} {b}");
        }
    }
}
