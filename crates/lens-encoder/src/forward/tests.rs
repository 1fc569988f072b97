//! The forward pass against one written without any of its devices: one text at a time, one token
//! at a time, every sum in `f64`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::plan::{Rules, plan};
use super::*;
use crate::family::{Activation, Layout, RopeScaling};
use crate::model::memory::Precision;
use crate::model::{ModelFiles, decode};
use crate::testing::TinyModel;
use std::path::Path;

/// Keys and values of one layer: per token, per head.
type Heads = Vec<Vec<Vec<f64>>>;

struct Reference {
    files: ModelFiles,
    layout: Layout,
    spec: ModelSpec,
}

impl Reference {
    fn tensor(&self, name: &str) -> Vec<f64> {
        decode::whole(name, &self.files.raw(name).unwrap())
            .unwrap()
            .into_iter()
            .map(f64::from)
            .collect()
    }

    fn project(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weight = self.tensor(name);
        weight.chunks(x.len()).map(|w| w.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (mean + f64::from(self.spec.norm_eps)).sqrt();
        x.iter().zip(self.tensor(name)).map(|(v, w)| v * scale * w).collect()
    }

    fn heads(&self, i: usize, which: &str, pos: usize, x: &[f64]) -> Vec<Vec<f64>> {
        let rope = &self.spec.ropes[self.spec.layers[i].rope.unwrap()];
        assert_eq!(rope.scaling, RopeScaling::None);
        let hd = self.spec.head_dim;
        let all = self.project(&format!("blk.{i}.attn_{which}.weight"), x);
        let head = |h: &[f64]| {
            if which == "v" {
                return h.to_vec();
            }
            let h = self.norm(&format!("blk.{i}.attn_{which}_norm.weight"), h);
            let mut out = h.clone();
            for j in 0..hd / 2 {
                let angle = pos as f64 / rope.base.powf(2.0 * j as f64 / hd as f64);
                out[j] = h[j] * angle.cos() - h[j + hd / 2] * angle.sin();
                out[j + hd / 2] = h[j + hd / 2] * angle.cos() + h[j] * angle.sin();
            }
            out
        };
        all.chunks(hd).map(head).collect()
    }

    fn attend(
        &self,
        i: usize,
        q: &[Vec<f64>],
        pos: usize,
        keys: &Heads,
        values: &Heads,
    ) -> Vec<f64> {
        let spec = &self.spec;
        let first = spec.layers[i].window.map_or(0, |w| (pos + 1).saturating_sub(w));
        let mut out = Vec::new();
        for (h, q) in q.iter().enumerate() {
            let g = h / (spec.heads / spec.kv_heads);
            let scores: Vec<f64> = (first..=pos)
                .map(|t| {
                    let dot: f64 = q.iter().zip(&keys[t][g]).map(|(a, b)| a * b).sum();
                    (dot * f64::from(spec.attn_scale)).exp()
                })
                .collect();
            let total: f64 = scores.iter().sum();
            let mix =
                |j: usize| (first..=pos).map(|t| scores[t - first] * values[t][g][j]).sum::<f64>();
            out.extend((0..spec.head_dim).map(|j| mix(j) / total));
        }
        out
    }

    /// Hidden states of all tokens at every index of transformers' `hidden_states`.
    fn run(&self, ids: &[u32]) -> Vec<Vec<Vec<f64>>> {
        let spec = &self.spec;
        let table = self.tensor("token_embd.weight");
        let embed = |id: &u32| {
            let at = *id as usize * spec.dim;
            let row = &table[at..at + spec.dim];
            row.iter().map(|v| v * f64::from(spec.embed_scale)).collect::<Vec<f64>>()
        };
        let mut x: Vec<Vec<f64>> = ids.iter().map(embed).collect();
        let mut states = vec![x.clone()];
        for i in 0..spec.layers.len() {
            let name = |suffix: &str| format!("blk.{i}.{suffix}.weight");
            let normed: Vec<_> = x.iter().map(|x| self.norm(&name("attn_norm"), x)).collect();
            let all = |which: &str| -> Heads {
                let tokens = normed.iter().enumerate();
                tokens.map(|(pos, x)| self.heads(i, which, pos, x)).collect()
            };
            let (queries, keys, values) = (all("q"), all("k"), all("v"));
            for (pos, x) in x.iter_mut().enumerate() {
                let mixed = self.attend(i, &queries[pos], pos, &keys, &values);
                let out = self.project(&name("attn_output"), &mixed);
                let out = self.norm(&name("post_attention_norm"), &out);
                x.iter_mut().zip(out).for_each(|(x, o)| *x += o);
                let input = self.norm(&name("ffn_norm"), x);
                let gate = self.project(&name("ffn_gate"), &input);
                let up = self.project(&name("ffn_up"), &input);
                let inner: Vec<f64> = gate
                    .iter()
                    .zip(up)
                    .map(|(g, u)| {
                        let t = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044715 * g.powi(3));
                        0.5 * g * (1.0 + t.tanh()) * u
                    })
                    .collect();
                let out = self.project(&name("ffn_down"), &inner);
                let out = self.norm(&name("post_ffw_norm"), &out);
                x.iter_mut().zip(out).for_each(|(x, o)| *x += o);
            }
            states.push(x.clone());
        }
        let last = states.pop().unwrap();
        states.push(last.iter().map(|x| self.norm("output_norm.weight", x)).collect());
        states
    }
}

fn open(dir: &Path, tiny: &TinyModel) -> Reference {
    let path = dir.join("tiny.gguf");
    tiny.write(&path).unwrap();
    let files = ModelFiles::open(&path).unwrap();
    let (spec, layout) = ModelSpec::from_files(&files).unwrap();
    Reference { files, layout, spec }
}

impl Reference {
    fn model(&self, layers: usize, max_length: usize) -> Model {
        let Self { files, layout, spec } = self;
        let weights = Weights::load(files, spec, layout, layers, Precision::F32).unwrap();
        Model::new(spec.clone(), weights, max_length)
    }
}

fn rules(budget: usize, sharing: bool) -> Rules {
    Rules { budget, sharing, long_from: None }
}

/// Largest difference relative to the vector's largest value.
fn distance(got: &[f32], want: &[f64]) -> f64 {
    let size = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let worst = got.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    worst / size
}

/// Texts with shared beginnings of several depths, some longer than window and block.
fn lists() -> Vec<Vec<u32>> {
    let base: Vec<u32> = (0..150u32).map(|i| 266 + (i * 37) % 100).collect();
    let tail = |at: usize, seed: u32, n: u32| -> Vec<u32> {
        base[..at].iter().copied().chain((0..n).map(|i| 266 + (i * seed + seed) % 110)).collect()
    };
    vec![
        vec![2],
        tail(1, 3, 5),
        tail(40, 7, 1),
        tail(40, 11, 30),
        tail(120, 13, 20),
        tail(120, 17, 100),
        base.clone(),
        base[..149].to_vec(),
    ]
}

#[test]
fn agrees_with_the_naive_forward_pass() {
    let dir = tempfile::tempdir().unwrap();
    for (heads, kv_heads, layers) in [(4, 2, 6), (6, 1, 2), (2, 2, 1)] {
        let tiny = TinyModel { heads, kv_heads, layers, ..Default::default() };
        let reference = open(dir.path(), &tiny);
        let spec = reference.spec.clone();
        assert_eq!(spec.activation, Activation::GeluTanh);
        let lists = lists();
        let want: Vec<_> = lists.iter().map(|ids| reference.run(ids)).collect();
        let model = reference.model(layers, 256);
        // Every layer alone, and all at once.
        let mut asked: Vec<Vec<usize>> = (0..=layers).map(|layer| vec![layer]).collect();
        asked.push((0..=layers).collect());
        for asked in asked {
            for poolings in [vec![Pooling::Last], vec![Pooling::Mean, Pooling::PromptLast]] {
                let requests: Vec<Vec<Request>> = lists
                    .iter()
                    .map(|ids| {
                        let of = |layer: &usize| {
                            let (layer, prompt) = (*layer, ids.len().div_ceil(2));
                            poolings.iter().map(move |p| Request { layer, pooling: *p, prompt })
                        };
                        asked.iter().flat_map(of).collect()
                    })
                    .collect();
                for (budget, sharing) in [(10_000, true), (200, true), (10_000, false), (1, false)]
                {
                    let mut ws = Workspace::default();
                    for batch in plan(&lists, rules(budget, sharing)) {
                        let got = model.run(&batch, &requests, &mut ws).unwrap();
                        for ((list, _), got) in batch.ends.iter().zip(got) {
                            for (got, request) in got.iter().zip(&requests[*list]) {
                                let want = pooled(&want[*list], request);
                                let off = distance(got, &want);
                                assert!(off < 2e-5, "{request:?} {budget} {list}: {off}");
                            }
                        }
                    }
                }
            }
        }
    }
}

fn pooled(states: &[Vec<Vec<f64>>], request: &Request) -> Vec<f64> {
    let states = &states[request.layer];
    match request.pooling {
        Pooling::Last => states.last().unwrap().clone(),
        Pooling::PromptLast => states[request.prompt - 1].clone(),
        Pooling::First => states[0].clone(),
        Pooling::Mean => (0..states[0].len())
            .map(|j| states.iter().map(|s| s[j]).sum::<f64>() / states.len() as f64)
            .collect(),
    }
}

#[test]
fn every_position_counts() {
    let dir = tempfile::tempdir().unwrap();
    let model = open(dir.path(), &TinyModel::default()).model(6, 64);
    let requests = [vec![Request { layer: 6, pooling: Pooling::Last, prompt: 0 }]];
    let run = |ids: Vec<u32>| {
        let batch = &plan(&[ids], rules(100, true))[0];
        model.run(batch, &requests, &mut Workspace::default()).unwrap()
    };
    let ids: Vec<u32> = (300..350).collect();
    let first = run(ids.clone());
    for at in [0, 20, 49] {
        let mut changed = ids.clone();
        changed[at] = 270;
        assert_ne!(run(changed), first);
    }
}
