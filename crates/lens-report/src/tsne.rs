//! t-SNE: a map of points in two dimensions that keeps neighbours together (van der Maaten and
//! Hinton 2008), from a PCA start (Kobak and Berens 2019).
//!
//! Attraction runs over the nearest neighbours only, as in Barnes-Hut t-SNE (van der Maaten 2014);
//! repulsion is summed exactly over all pairs, which in vectors costs less than a tree for the
//! thousands of points that a plot can show. Each point's sums are formed in a fixed order by one
//! thread, without fused products: the same points give the same bits on any number of threads.

use crate::error::ReportError;
use crate::pca::{self, Noise, WIDTH};
use lens_core::Progress;
use rayon::prelude::*;

/// Points that are summed over side by side.
const LANES: usize = 16;
/// Where the points stand that fill up the last lanes: far enough to be felt by none.
const NOWHERE: f32 = 1e15;

/// Settings of t-SNE; the defaults are the usual ones.
#[derive(Debug, Clone, PartialEq)]
pub struct TsneSettings {
    /// Effective number of neighbours; no more than a third of the other points. Defaults to 30.
    pub perplexity: f64,
    /// Steps in all. Defaults to 750.
    pub iterations: usize,
    /// Of these, steps with attraction exaggerated, at first. Defaults to 250.
    pub exaggerated: usize,
    /// By how much. Defaults to 12.
    pub exaggeration: f64,
    /// Seed of the little that is random. Defaults to 0.
    pub seed: u64,
}

impl Default for TsneSettings {
    fn default() -> Self {
        TsneSettings {
            perplexity: 30.0,
            iterations: 750,
            exaggerated: 250,
            exaggeration: 12.0,
            seed: 0,
        }
    }
}

/// A map of `points`, `[n, dim]` row by row: a place for each, `[n]`, around the origin. Time and
/// the square of `n` grow together: 4,000 points take seconds.
///
/// # Errors
/// [`ReportError::Shape`] when the points are not a whole number of rows; [`ReportError::NotFinite`]
/// names the first value that is NaN or infinite; [`ReportError::Cancelled`].
pub fn tsne(
    points: &[f32],
    dim: usize,
    settings: &TsneSettings,
    progress: &dyn Progress,
) -> Result<Vec<[f32; 2]>, ReportError> {
    check(points, dim)?;
    let n = points.len().checked_div(dim).unwrap_or(0);
    if n < 2 {
        return Ok(vec![[0.0; 2]; n]);
    }
    let scores = pca::scores(points, dim, settings.seed);
    let affinities = Affinities::of(&scores, settings.perplexity);
    let mut map = Map::start(&scores, settings.seed);
    // The learning rate of Belkina et al. 2019, for the gradient without its factor 4.
    let rate = (n as f64 / settings.exaggeration.max(1.0)).max(200.0) as f32;
    let mut forces = Forces::new(n);
    progress.begin("map embeddings", settings.iterations as u64, "steps");
    for step in 0..settings.iterations {
        if progress.cancelled() {
            return Err(ReportError::Cancelled);
        }
        let early = step < settings.exaggerated;
        let exaggeration = if early { settings.exaggeration as f32 } else { 1.0 };
        forces.compute(&map, &affinities, exaggeration);
        map.step(&forces, rate, if early { 0.5 } else { 0.8 });
        progress.advance(1);
    }
    progress.end();
    Ok((0..n).map(|i| [map.x[i], map.y[i]]).collect())
}

fn check(points: &[f32], dim: usize) -> Result<(), ReportError> {
    if dim == 0 && points.is_empty() {
        return Ok(());
    }
    if dim == 0 || !points.len().is_multiple_of(dim) {
        return Err(ReportError::Shape { values: points.len(), width: dim });
    }
    match points.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(i) => Err(ReportError::NotFinite { row: i / dim, column: i % dim, value: points[i] }),
    }
}

/// How near each point is to its neighbours: a sparse symmetric matrix whose sum is 1.
struct Affinities {
    /// Where each row begins, and where the last one ends.
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl Affinities {
    fn of(scores: &[f32], perplexity: f64) -> Self {
        let n = scores.len() / WIDTH;
        let most = n - 1;
        let perplexity = perplexity.min(most as f64 / 3.0).max(1.0);
        let k = ((3.0 * perplexity).ceil() as usize).clamp(1, most);
        let (near, squares) = neighbours(scores, k);
        let conditional: Vec<Vec<f64>> =
            squares.par_chunks_exact(k).map(|squares| calibrate(squares, perplexity)).collect();

        // The transpose, its rows sorted because points are passed in order.
        let mut of: Vec<Vec<(u32, f64)>> = vec![Vec::new(); n];
        for (i, (near, p)) in near.chunks_exact(k).zip(&conditional).enumerate() {
            near.iter().zip(p).for_each(|(&j, &p)| of[j as usize].push((i as u32, p)));
        }
        let mut all = Affinities { starts: vec![0], columns: Vec::new(), values: Vec::new() };
        let scale = 1.0 / (2.0 * n as f64);
        for ((near, p), back) in near.chunks_exact(k).zip(&conditional).zip(of) {
            let mut both: Vec<(u32, f64)> = near.iter().copied().zip(p.iter().copied()).collect();
            both.extend(back);
            both.sort_by_key(|&(j, _)| j);
            for (j, p) in both {
                match all.columns.last() {
                    Some(&last)
                        if last == j && all.columns.len() > all.starts[all.starts.len() - 1] =>
                    {
                        let at = all.values.len() - 1;
                        all.values[at] += (p * scale) as f32;
                    }
                    _ => {
                        all.columns.push(j);
                        all.values.push((p * scale) as f32);
                    }
                }
            }
            all.starts.push(all.columns.len());
        }
        all
    }
}

/// The `k` nearest other points of each in ascending order of their numbers, `[n, k]`, and the
/// squares of their distances.
fn neighbours(scores: &[f32], k: usize) -> (Vec<u32>, Vec<f64>) {
    let n = scores.len() / WIDTH;
    // Blocks of LANES points, dimension by dimension: no sum across a vector is needed.
    let blocks = n.div_ceil(LANES);
    let mut turned = vec![0.0f32; blocks * WIDTH * LANES];
    for (i, row) in scores.chunks_exact(WIDTH).enumerate() {
        let block = &mut turned[i / LANES * WIDTH * LANES..];
        row.iter().enumerate().for_each(|(d, &v)| block[d * LANES + i % LANES] = v);
    }
    let mut near = vec![0u32; n * k];
    let mut squares = vec![0.0f64; n * k];
    near.par_chunks_exact_mut(k)
        .zip(squares.par_chunks_exact_mut(k))
        .enumerate()
        .with_min_len(16)
        .for_each_init(
            || (vec![0.0f32; blocks * LANES], Vec::with_capacity(n)),
            |(distances, keys), (i, (near, squares))| {
                let row = &scores[i * WIDTH..(i + 1) * WIDTH];
                distances_to(row, &turned, distances);
                keys.clear();
                // Distances are not negative, so their bits sort as they do; equal ones by number.
                let key = |j: usize| (u64::from(distances[j].to_bits()) << 32) | j as u64;
                keys.extend((0..n).filter(|&j| j != i).map(key));
                let (_, _, _) = keys.select_nth_unstable(k - 1);
                keys[..k].sort_unstable_by_key(|key| *key as u32);
                for ((near, square), key) in near.iter_mut().zip(squares).zip(&keys[..k]) {
                    *near = *key as u32;
                    *square = f64::from(f32::from_bits((*key >> 32) as u32));
                }
            },
        );
    (near, squares)
}

fn distances_to(row: &[f32], turned: &[f32], distances: &mut [f32]) {
    pulp::Arch::new().dispatch(Distances { row, turned, distances });
}

// A type, not a closure: see the note in `pca`.
struct Distances<'a> {
    row: &'a [f32],
    turned: &'a [f32],
    distances: &'a mut [f32],
}

impl pulp::WithSimd for Distances<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let blocks = self.turned.chunks_exact(WIDTH * LANES);
        for (block, out) in blocks.zip(self.distances.chunks_exact_mut(LANES)) {
            let mut sum = [0.0f32; LANES];
            for (&a, lanes) in self.row.iter().zip(block.chunks_exact(LANES)) {
                for l in 0..LANES {
                    let d = a - lanes[l];
                    sum[l] += d * d;
                }
            }
            out.copy_from_slice(&sum);
        }
    }
}

/// Probabilities of the neighbours at these squared distances, under the Gaussian whose width gives
/// them the perplexity asked for: found by bisection.
fn calibrate(squares: &[f64], perplexity: f64) -> Vec<f64> {
    let nearest = squares.iter().copied().fold(f64::INFINITY, f64::min);
    let mean = squares.iter().map(|s| s - nearest).sum::<f64>() / squares.len() as f64;
    let even = vec![1.0 / squares.len() as f64; squares.len()];
    if !(mean.is_finite() && mean > 0.0) {
        // All are equally far: no width tells them apart.
        return even;
    }
    let target = perplexity.ln();
    let (mut low, mut high) = (0.0f64, f64::INFINITY);
    let mut precision = 1.0 / mean;
    let mut p = even;
    for _ in 0..64 {
        let mut sum = 0.0;
        let mut weighted = 0.0;
        for (p, s) in p.iter_mut().zip(squares) {
            *p = (-(s - nearest) * precision).exp();
            sum += *p;
            weighted += *p * (s - nearest);
        }
        // H = ln(sum) + precision * mean distance, in nats.
        let entropy = sum.ln() + precision * weighted / sum;
        p.iter_mut().for_each(|p| *p /= sum);
        if (entropy - target).abs() < 1e-6 {
            break;
        }
        if entropy > target {
            low = precision;
            precision = if high.is_finite() { 0.5 * (low + high) } else { 2.0 * precision };
        } else {
            high = precision;
            precision = 0.5 * (low + high);
        }
        if !precision.is_finite() {
            break;
        }
    }
    p
}

/// The places, and how they move.
struct Map {
    n: usize,
    /// Padded to whole lanes.
    x: Vec<f32>,
    y: Vec<f32>,
    speed: Vec<[f32; 2]>,
    gain: Vec<[f32; 2]>,
}

impl Map {
    /// The first two components, so small that no point repels another at first, and a jitter by
    /// which equal points come apart.
    fn start(scores: &[f32], seed: u64) -> Self {
        let n = scores.len() / WIDTH;
        let square: f64 = scores.chunks_exact(WIDTH).map(|r| f64::from(r[0]).powi(2)).sum();
        let deviation = (square / n as f64).sqrt();
        let scale = if deviation > 0.0 { 1e-4 / deviation } else { 0.0 };
        let mut noise = Noise::new(!seed);
        let padded = n.div_ceil(LANES) * LANES;
        let (mut x, mut y) = (vec![NOWHERE; padded], vec![NOWHERE; padded]);
        for (i, row) in scores.chunks_exact(WIDTH).enumerate() {
            x[i] = (f64::from(row[0]) * scale + 1e-6 * noise.symmetric()) as f32;
            y[i] = (f64::from(row[1]) * scale + 1e-6 * noise.symmetric()) as f32;
        }
        Map { n, x, y, speed: vec![[0.0; 2]; n], gain: vec![[1.0; 2]; n] }
    }

    /// One step of gradient descent with momentum and the gains of Jacobs 1988.
    fn step(&mut self, forces: &Forces, rate: f32, momentum: f32) {
        for axis in 0..2 {
            let places = if axis == 0 { &mut self.x } else { &mut self.y };
            let mut sum = 0.0f64;
            for (i, place) in places[..self.n].iter_mut().enumerate() {
                let (gradient, speed) = (forces.gradient[i][axis], &mut self.speed[i][axis]);
                let gain = &mut self.gain[i][axis];
                *gain = if (gradient > 0.0) == (*speed > 0.0) {
                    (*gain * 0.8).max(0.01)
                } else {
                    *gain + 0.2
                };
                *speed = momentum * *speed - rate * *gain * gradient;
                *place += *speed;
                sum += f64::from(*place);
            }
            let mean = (sum / self.n as f64) as f32;
            places[..self.n].iter_mut().for_each(|p| *p -= mean);
        }
    }
}

/// The gradient of the Kullback-Leibler divergence, less its factor 4.
struct Forces {
    /// Of each point: the sum of its weights, and what repels it.
    repulsion: Vec<(f32, [f32; 2])>,
    gradient: Vec<[f32; 2]>,
}

impl Forces {
    fn new(n: usize) -> Self {
        Forces { repulsion: vec![(0.0, [0.0; 2]); n], gradient: vec![[0.0; 2]; n] }
    }

    fn compute(&mut self, map: &Map, affinities: &Affinities, exaggeration: f32) {
        self.repulsion
            .par_iter_mut()
            .zip(self.gradient.par_iter_mut())
            .enumerate()
            .with_min_len(64)
            .for_each(|(i, (repulsion, gradient))| {
                let at = Repel { from: [map.x[i], map.y[i]], x: &map.x, y: &map.y };
                *repulsion = pulp::Arch::new().dispatch(at);
                *gradient = attract(i, map, affinities);
            });
        // A point's weight on itself is 1.
        let sum: f64 = self.repulsion.iter().map(|r| f64::from(r.0) - 1.0).sum();
        let scale = if sum > 0.0 { (1.0 / sum) as f32 } else { 0.0 };
        for (gradient, (_, repulsion)) in self.gradient.iter_mut().zip(&self.repulsion) {
            for axis in 0..2 {
                gradient[axis] = exaggeration * gradient[axis] - scale * repulsion[axis];
            }
        }
    }
}

/// Sum over all points of w = 1 / (1 + d^2), and of w^2 times the way from them.
struct Repel<'a> {
    from: [f32; 2],
    x: &'a [f32],
    y: &'a [f32],
}

impl pulp::WithSimd for Repel<'_> {
    type Output = (f32, [f32; 2]);

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> Self::Output {
        let [px, py] = self.from;
        let (mut weight, mut fx, mut fy) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
        for (x, y) in self.x.chunks_exact(LANES).zip(self.y.chunks_exact(LANES)) {
            for l in 0..LANES {
                let (dx, dy) = (px - x[l], py - y[l]);
                let w = 1.0 / (1.0 + dx * dx + dy * dy);
                weight[l] += w;
                let square = w * w;
                fx[l] += square * dx;
                fy[l] += square * dy;
            }
        }
        let mut total = [0.0f32; 3];
        for l in 0..LANES {
            total[0] += weight[l];
            total[1] += fx[l];
            total[2] += fy[l];
        }
        (total[0], [total[1], total[2]])
    }
}

fn attract(i: usize, map: &Map, affinities: &Affinities) -> [f32; 2] {
    let row = affinities.starts[i]..affinities.starts[i + 1];
    let (px, py) = (map.x[i], map.y[i]);
    let (mut fx, mut fy) = (0.0f32, 0.0f32);
    for (&j, &p) in affinities.columns[row.clone()].iter().zip(&affinities.values[row]) {
        let (dx, dy) = (px - map.x[j as usize], py - map.y[j as usize]);
        let force = p / (1.0 + dx * dx + dy * dy);
        fx += force * dx;
        fy += force * dy;
    }
    [fx, fy]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use lens_core::Quiet;

    /// `per` points around each of `clusters` far centres, in turn.
    fn clusters(per: usize, clusters: usize, dim: usize) -> Vec<f32> {
        let mut noise = Noise::new(3);
        let mut points = Vec::new();
        for i in 0..per * clusters {
            for d in 0..dim {
                let centre = if d == i % clusters { 10.0 } else { 0.0 };
                // The sum of three uniform numbers is nearly Gaussian.
                let spread: f64 = (0..3).map(|_| noise.symmetric()).sum();
                points.push((centre + spread) as f32);
            }
        }
        points
    }

    fn map(points: &[f32], dim: usize) -> Vec<[f32; 2]> {
        let map = tsne(points, dim, &TsneSettings::default(), &Quiet).unwrap();
        assert!(map.iter().flatten().all(|v| v.is_finite()));
        assert_eq!(map.len(), points.len() / dim);
        map
    }

    #[test]
    fn far_clusters_stay_apart() {
        let map = map(&clusters(150, 3, 20), 20);
        let square = |a: [f32; 2], b: [f32; 2]| (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2);
        let (mut same, mut all) = (0, 0);
        for i in 0..map.len() {
            let mut others: Vec<usize> = (0..map.len()).filter(|&j| j != i).collect();
            others.sort_by(|&a, &b| square(map[i], map[a]).total_cmp(&square(map[i], map[b])));
            same += others[..10].iter().filter(|&&j| j % 3 == i % 3).count();
            all += 10;
        }
        assert!(same as f64 / all as f64 > 0.95, "{same} of {all}");
        // And they are spread: not all in one place.
        let widest = map.iter().map(|p| p[0].abs().max(p[1].abs())).fold(0.0, f32::max);
        assert!(widest > 5.0, "{widest}");
    }

    #[test]
    fn constant_points_duplicates_and_few_points_are_mapped() {
        map(&[1.5; 60 * 4], 4);
        let mut doubled = clusters(20, 2, 5);
        doubled.extend(doubled.clone());
        map(&doubled, 5);
        for n in 0..12 {
            map(&clusters(n, 1, 3), 3);
        }
        // On a line, where the second component is nothing.
        map(&(0..200).map(|i| i as f32).collect::<Vec<_>>(), 1);
        // Large and small values.
        let wide: Vec<f32> = clusters(40, 2, 4).iter().map(|v| v * 1e36).collect();
        map(&wide, 4);
        let tiny: Vec<f32> = clusters(40, 2, 4).iter().map(|v| v * 1e-36).collect();
        map(&tiny, 4);
    }

    #[test]
    fn what_is_no_table_or_not_finite_is_refused() {
        let refused = |points: &[f32], dim| {
            tsne(points, dim, &TsneSettings::default(), &Quiet).unwrap_err().to_string()
        };
        assert!(refused(&[0.0; 7], 3).contains("points to map"));
        assert!(refused(&[0.0; 7], 0).contains("points to map"));
        assert!(refused(&[0.0, 1.0, f32::NAN, 2.0], 2).contains("row 1 (0-based), column 0"));
    }

    #[test]
    fn the_same_bits_whatever_the_number_of_threads() {
        let points = clusters(60, 3, 30);
        let settings = TsneSettings { iterations: 120, exaggerated: 60, ..Default::default() };
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| tsne(&points, 30, &settings, &Quiet).unwrap())
        };
        let one = on(1);
        assert_eq!(one, on(2));
        assert_eq!(one, on(5));
    }

    #[test]
    fn the_gradient_is_that_of_the_divergence() {
        let points = clusters(4, 3, 6);
        let scores = pca::scores(&points, 6, 0);
        let affinities = Affinities::of(&scores, 3.0);
        let n = 12;
        assert!((affinities.values.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        let mut noise = Noise::new(9);
        let mut map = Map::start(&scores, 0);
        for i in 0..n {
            (map.x[i], map.y[i]) = (noise.symmetric() as f32, noise.symmetric() as f32);
        }
        let divergence = |place: &[[f64; 2]]| {
            let w = |i: usize, j: usize| {
                let d = [place[i][0] - place[j][0], place[i][1] - place[j][1]];
                1.0 / (1.0 + d[0] * d[0] + d[1] * d[1])
            };
            let all: f64 = (0..n)
                .flat_map(|i| (0..n).map(move |j| (i, j)))
                .filter(|(i, j)| i != j)
                .map(|(i, j)| w(i, j))
                .sum();
            let mut kl = 0.0;
            for i in 0..n {
                for at in affinities.starts[i]..affinities.starts[i + 1] {
                    let p = f64::from(affinities.values[at]);
                    kl += p * (p * all / w(i, affinities.columns[at] as usize)).ln();
                }
            }
            kl
        };
        let place: Vec<[f64; 2]> =
            (0..n).map(|i| [f64::from(map.x[i]), f64::from(map.y[i])]).collect();
        let mut forces = Forces::new(n);
        forces.compute(&map, &affinities, 1.0);
        for i in 0..n {
            for axis in 0..2 {
                let at = |h: f64| {
                    let mut moved = place.clone();
                    moved[i][axis] += h;
                    divergence(&moved)
                };
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                let analytic = 4.0 * f64::from(forces.gradient[i][axis]);
                assert!((numeric - analytic).abs() < 1e-5, "{i} {axis}: {numeric} {analytic}");
            }
        }
    }

    #[test]
    fn calibration_meets_the_perplexity() {
        let squares: Vec<f64> = (0..90).map(|i| 4.0 + (i * i) as f64 * 0.01).collect();
        let p = calibrate(&squares, 30.0);
        let entropy: f64 = -p.iter().map(|p| p * p.ln()).sum::<f64>();
        assert!((entropy.exp() - 30.0).abs() < 1e-3, "{}", entropy.exp());
        assert!(calibrate(&[0.0; 5], 30.0).iter().all(|&p| (p - 0.2).abs() < 1e-12));
    }
}
