//! Stories of somebody who wants to see the synthetic responses, or to train something else on them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{Lens, cloud, npy, safetensors};
use lens_data::{ArrayFile, Bundle};
use serde_json::Value;

const DIM: usize = 6;

/// Arrays of 40 pairs, of which pair 7 has equal sides, and a reward model trained on them with
/// synthesis.
fn desk() -> Lens {
    let lens = Lens::new();
    let mut good = cloud(40, DIM, 0.2);
    let mut bad: Vec<f32> = cloud(41, DIM, -0.2)[DIM..].to_vec();
    bad[7 * DIM..8 * DIM].copy_from_slice(&good[7 * DIM..8 * DIM]);
    // One dimension is constant.
    good.iter_mut().chain(&mut bad).skip(3).step_by(DIM).for_each(|x| *x = 2.5);
    let arrays: [(&str, [usize; 2], &[f32]); 2] =
        [("chosen", [40, DIM], &good), ("rejected", [40, DIM], &bad)];
    lens.write("a.safetensors", safetensors(&arrays));
    lens.write("good.npy", npy([40, DIM], &good));
    lens.write("bad.npy", npy([40, DIM], &bad));
    lens.ok(
        "train a.safetensors --splits 1 --augment 9 --seed 5 --set vae.learning_rate=0.01 -o rm --quiet",
    );
    lens
}

fn floats(lens: &Lens, file: &str, key: &str) -> (usize, Vec<f32>) {
    let array = ArrayFile::open(lens.path(file)).unwrap().floats(Some(key)).unwrap();
    (array.dim, array.data)
}

fn integers(lens: &Lens, file: &str, key: &str) -> Vec<i64> {
    ArrayFile::open(lens.path(file)).unwrap().integers(Some(key)).unwrap()
}

#[test]
fn every_response_says_which_pair_it_was_made_of_and_is_what_the_plain_computation_gives() {
    let lens = desk();
    let said = lens.ok("synthesise rm a.safetensors -o s.safetensors --json");
    assert!(said.err.contains("left out: 1 of 40 pairs have equal embeddings"), "{}", said.err);
    let said = said.json();
    // The reward model's own factor and seed: k = ceil(sqrt(9)) - 1 = 2.
    for (field, value) in
        [("pairs", 39), ("left_out", 1), ("per_side", 2), ("responses", 156), ("seed", 5)]
    {
        assert_eq!(said[field], value, "{field}");
    }
    let bytes = std::fs::metadata(lens.path("s.safetensors")).unwrap().len();
    assert_eq!(said["bytes"], bytes);
    assert!(said["seconds"].as_f64().unwrap() > 0.0 && said["mb_per_s"].as_f64().unwrap() > 0.0);
    let pairs: Vec<i64> = (0..40).filter(|&i| i != 7).flat_map(|i| [i, i]).collect();
    assert_eq!(integers(&lens, "s.safetensors", "pair"), pairs);
    assert_eq!(integers(&lens, "s.safetensors", "copy"), [1, 2].repeat(39));

    lens.ok("synthesise rm a.safetensors -o z.safetensors --codes");
    let bundle = Bundle::read(&lens.path("rm")).unwrap();
    let (vae, standardiser) = (bundle.vae.unwrap(), bundle.model.standardiser);
    assert_eq!(standardiser.constant_dimensions(), 1);
    let shape = vae.shape();
    let part = |name: &str| {
        let (_, _, _, range) = shape.named().into_iter().find(|n| n.0 == name).unwrap();
        &vae.parameters()[range]
    };
    for side in ["chosen", "rejected"] {
        let (latent, codes) = floats(&lens, "z.safetensors", side);
        let (width, embeddings) = floats(&lens, "s.safetensors", side);
        assert_eq!((latent, width), (shape.latent, DIM));
        assert_eq!(embeddings.len() / width, 78);
        for (z, e) in codes.chunks(latent).zip(embeddings.chunks(width)) {
            let hidden: Vec<f64> = (0..shape.hidden)
                .map(|j| {
                    let weights = &part("vae.decoder.hidden.weight")[j * latent..(j + 1) * latent];
                    let sum: f64 =
                        weights.iter().zip(z).map(|(&w, &z)| f64::from(w) * f64::from(z)).sum();
                    (sum + f64::from(part("vae.decoder.hidden.bias")[j])).max(0.0)
                })
                .collect();
            for (i, &found) in e.iter().enumerate() {
                let out = part("vae.decoder.output.weight_transposed");
                let weighted = hidden.iter().enumerate();
                let sum: f64 = weighted.map(|(j, u)| u * f64::from(out[j * width + i])).sum();
                let x = sum + f64::from(part("vae.decoder.output.bias")[i]);
                let (mean, scale) =
                    (f64::from(standardiser.mean[i]), f64::from(standardiser.scale[i]));
                let plain = if scale == 0.0 { mean } else { x / scale + mean };
                assert!((plain - f64::from(found)).abs() < 1e-5, "{side} {i}: {plain} {found}");
            }
        }
    }
    // Their sides are apart as those of the data are.
    let mean = |side| {
        let (_, e) = floats(&lens, "s.safetensors", side);
        e.iter().sum::<f32>() / e.len() as f32
    };
    assert!(mean("chosen") > mean("rejected") + 0.1);
}

#[test]
fn the_same_seed_gives_the_same_file_and_settings_can_be_tried_out() {
    let lens = desk();
    let read = |words: &str| {
        lens.ok(&format!("synthesise rm {words} -o s.safetensors --overwrite --quiet"));
        std::fs::read(lens.path("s.safetensors")).unwrap()
    };
    let own = read("a.safetensors");
    assert_eq!(own, read("a.safetensors --threads 1"));
    assert_eq!(own, read("a.safetensors --seed 5 --augment 9"));
    assert_ne!(own, read("a.safetensors --seed 6"));
    // Each pair has a stream of its own, and the first of a response's copies is its likeliest.
    assert!(read("a.safetensors --augment 4").len() < own.len());
    assert_ne!(own, read("a.safetensors --set synthesis.noise_variance=1"));
    // Without noise all copies are the decoded posterior mean.
    read("a.safetensors --set synthesis.noise_variance=0");
    let (_, chosen) = floats(&lens, "s.safetensors", "chosen");
    assert!(chosen.chunks(2 * DIM).all(|pair| pair[..DIM] == pair[DIM..]));
    // .npy files have no names.
    read("good.npy bad.npy");
    assert_eq!(integers(&lens, "s.safetensors", "pair").len(), 78);

    let metadata = lens.ok("info s.safetensors --json").json()["metadata"]["synthetic"].clone();
    let metadata: Value = serde_json::from_str(metadata.as_str().unwrap()).unwrap();
    for (key, value) in [("what", "embeddings"), ("origin", "mean"), ("pairs", "good.npy, bad.npy")]
    {
        assert_eq!(metadata[key], value);
    }
    assert_eq!((&metadata["seed"], &metadata["per_side"]), (&5.into(), &2.into()));
    // The settings in force are the reward model's where nothing else is said.
    let shown =
        lens.ok("synthesise rm a.safetensors -o x.safetensors --seed 3 --show-settings").out;
    assert!(shown.contains("augment = 9\n") && shown.contains("seed = 3\n"), "{shown}");
    assert!(!lens.path("x.safetensors").exists());
}

#[test]
fn what_is_written_can_be_scored_and_trained_on() {
    let lens = desk();
    let said = lens.ok("synthesise rm a.safetensors -o s.safetensors");
    assert!(said.out.contains("156 synthetic responses, ") && said.out.contains(" MB/s"));
    lens.ok("score rm s.safetensors --key chosen");
    // The copies of a pair have one prompt, so that splits do not tear them apart.
    let prompts = integers(&lens, "s.safetensors", "prompt");
    assert_eq!(prompts[..4], [0, 0, 1, 1]);
    lens.ok("train s.safetensors --splits 1 --augment 1 --set head.epochs=3");
}

#[test]
fn embeddings_of_pairs_keep_the_name_of_their_encoder() {
    let lens = Lens::with_reward_model();
    lens.ok("embed pairs.jsonl --model tiny.gguf -o e.safetensors");
    lens.ok("synthesise rm e.safetensors -o s.safetensors");
    // Nothing is to be warned of: the file says which encoder's they are.
    let said = lens.ok("score rm s.safetensors --key rejected");
    assert_eq!(said.err, "");
    lens.ok("embed pairs.jsonl --model tiny.gguf --layer 1 -o other.safetensors");
    let error = lens.fails(1, "synthesise rm other.safetensors -o x.safetensors");
    assert!(error.contains("layer"), "{error}");
    assert!(!lens.path("x.safetensors").exists());
}

#[test]
fn what_cannot_be_synthesised_is_refused_and_nothing_is_replaced() {
    let lens = desk();
    let names = lens.names("");
    lens.ok("train a.safetensors --splits 1 --augment 1 --set head.epochs=2 -o plain --quiet");
    let error = lens.fails(1, "synthesise plain a.safetensors -o s.safetensors");
    assert!(error.contains("plain: has no VAE"), "{error}");
    assert!(error.contains("--augment 2"), "{error}");
    let error = lens.fails(1, "synthesise rm a.safetensors -o s.safetensors --augment 1");
    assert!(error.contains("augment = 1 is no synthesis"), "{error}");
    for factor in ["0", "4097"] {
        let words = format!("synthesise rm a.safetensors -o s.safetensors --augment {factor}");
        assert!(lens.fails(2, &words).contains("augment"));
    }
    let error = lens.fails(1, "synthesise gone a.safetensors -o s.safetensors");
    assert!(error.contains("gone: no such file"), "{error}");
    let wide = cloud(4, 5, 0.0);
    let other = cloud(5, 5, 0.1)[5..].to_vec();
    let arrays: [(&str, [usize; 2], &[f32]); 2] =
        [("chosen", [4, 5], &wide), ("rejected", [4, 5], &other)];
    lens.write("w.safetensors", safetensors(&arrays));
    let error = lens.fails(1, "synthesise rm w.safetensors -o s.safetensors");
    assert!(error.contains("expected (4, 6), found (4, 5)"), "{error}");
    // Codes of any size, but no embedding beyond the range of numbers.
    let huge = "--set synthesis.noise_variance=1e77";
    let error = lens.fails(1, &format!("synthesise rm a.safetensors -o s.safetensors {huge}"));
    assert!(error.contains("array `chosen`, row ") && error.contains("not finite"), "{error}");
    assert!(
        lens.names("").iter().all(|n| names.contains(n) || n == "plain" || n == "w.safetensors")
    );

    lens.write("s.safetensors", "mine");
    let error = lens.fails(1, "synthesise rm a.safetensors -o s.safetensors");
    assert!(error.contains("s.safetensors: exists already"), "{error}");
    assert!(error.contains("--overwrite"), "{error}");
    assert_eq!(lens.read("s.safetensors"), "mine");
    let before = lens.files("rm");
    let error = lens.fails(1, "synthesise rm a.safetensors -o a.safetensors --overwrite");
    assert!(error.contains("is the very file that is read"), "{error}");
    lens.fails(1, "synthesise rm a.safetensors -o rm --overwrite");
    assert!(before == lens.files("rm"));
    let error = lens.fails(1, "synthesise rm a.safetensors -o s.safetensors --overwrite");
    assert!(error.contains("is no file of arrays, so it is not replaced"), "{error}");
    assert_eq!(lens.read("s.safetensors"), "mine");
    std::fs::copy(lens.path("a.safetensors"), lens.path("s.safetensors")).unwrap();
    lens.ok("synthesise rm a.safetensors -o s.safetensors --overwrite");
}

#[test]
fn ctrl_c_leaves_nothing() {
    let lens = desk();
    let mut before = lens.names("");
    // 64 times as many rows a side: seconds of work, were it not interrupted.
    let (good, bad) = (cloud(20_000, DIM, 0.2), cloud(20_001, DIM, -0.2)[DIM..].to_vec());
    let arrays: [(&str, [usize; 2], &[f32]); 2] =
        [("chosen", [20_000, DIM], &good), ("rejected", [20_000, DIM], &bad)];
    lens.write("many.safetensors", safetensors(&arrays));
    before.push("many.safetensors".to_owned());
    before.sort();
    let words = "synthesise rm many.safetensors -o s.safetensors --augment 4096 \
                 --set synthesis.candidates=64";
    let mut run = lens.start(words);
    let temporary = || lens.names("").iter().any(|n| n.starts_with(".s.safetensors.tmp-"));
    run.until("the file is begun", temporary);
    run.interrupt();
    let said = run.end();
    assert_eq!((said.code, said.out.as_str()), (130, ""), "{}", said.err);
    assert!(said.err.contains("nothing half-written is left"), "{}", said.err);
    assert_eq!(lens.names(""), before);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_and_leaves_nothing() {
    let lens = desk();
    let error = lens.fails(1, "synthesise rm a.safetensors -o /dev/full");
    assert!(error.contains("no space left on the disk"), "{error}");
}

/// With the noise gone, residual decoding gives the pairs back; plain decoding does not.
#[test]
fn responses_are_decoded_as_the_settings_say() {
    let lens = desk();
    let made = |decoding: &str| {
        lens.ok(&format!(
            "synthesise rm a.safetensors -o s.safetensors --overwrite --quiet \
             --set synthesis.noise_variance=0 --set synthesis.decoding={decoding}"
        ));
        floats(&lens, "s.safetensors", "chosen").1
    };
    let (plain, residual) = (made("plain"), made("residual"));
    let (_, all) = floats(&lens, "a.safetensors", "chosen");
    let left = all.chunks(DIM).enumerate().filter(|(i, _)| *i != 7).map(|(_, row)| row);
    let real: Vec<f32> = left.flat_map(|row| [row, row].concat()).collect();
    let off = |made: &[f32]| made.iter().zip(&real).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off(&residual) < 1e-4 && off(&plain) > 0.1, "{} {}", off(&residual), off(&plain));
    let refused = lens.fails(
        1,
        "synthesise rm a.safetensors -o z.safetensors --codes --set synthesis.decoding=residual",
    );
    assert!(refused.contains("--codes"), "{refused}");
}
