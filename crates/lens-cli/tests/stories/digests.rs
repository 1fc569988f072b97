//! The same seed and inputs give the same weights, rewards and figures as they ever did.
//!
//! Each case runs the real binary on small inputs that are made here, and compares SHA-256 digests
//! with those recorded in `data/digests.json`. A digest covers
//!
//! * `weights`: every tensor of a file of weights or embeddings (name, type, shape, bytes), not its metadata, which
//!   holds versions and paths;
//! * `rewards`: what `lens score` prints for some rows;
//! * `figures`: accuracies, intervals, log-losses and differences, as 64-bit numbers. No timings.
//!
//! Every case runs with one thread and with three, and gives the same bytes each time.
//!
//! Bytes depend on the platform: matrix products and kernels take the widest vectors that the
//! processor has, and another width sums in another order; exp, ln and the like come from the
//! system's mathematical library. So there are digests for each platform, which the test names and
//! prints. On a platform without digests the rewards and figures themselves are compared, within a
//! hundredth (`values`), and the test says so. To record digests there, run the test with an earlier
//! `lens`, one that is known to give the right bytes:
//!
//! ```sh
//! LENS_RECORD_DIGESTS=/path/to/earlier/lens cargo test --release -p lens-cli --test stories digests
//! ```
//!
//! It writes them into the file.
//!
//! A change that alters bytes on purpose records them anew in the same way, with the binary it
//! makes, and says so in its message.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;

use crate::common::{Lens, Said, pairs, safetensors};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The value of `--views` that takes the view and the head that the settings name, without a
/// search.
const NO_SEARCH: &str = "fixed";

/// Networks and trainings that are done in a moment. The augmented head is the one that is saved.
const SMALL: &str = "--set head.hidden=[8] --set head.epochs=8 --set head.learning_rate=0.003 \
    --set vae.hidden=8 --set vae.latent=4 --set vae.epochs=12 --set keep=augmented";

/// `lens run` on texts, by name.
const RUNS: [(&str, &str); 9] = [
    ("views and head are chosen", ""),
    ("views and augmentation are chosen", "--augment auto"),
    ("network, 4x", "--views=NO_SEARCH --augment 4"),
    ("network, augmentation is chosen", "--views=NO_SEARCH --augment auto"),
    ("network, no augmentation", "--views=NO_SEARCH --augment 1"),
    ("network, nine members", "--views=NO_SEARCH --augment 9 --set head.members=9 --seed 3"),
    ("logistic, one view", "--views=NO_SEARCH --set head.kind=logistic --pooling mean"),
    (
        "logistic, two views side by side",
        "--set head.kind=logistic --view layer=0,pooling=mean --view layer=-1,pooling=last",
    ),
    (
        "logistic, a head for each of two views",
        "--set head.kind=logistic --set head.combine=stacked \
         --view layer=3,pooling=mean --view layer=-1,pooling=last",
    ),
];

/// `lens train` on stored embeddings, by name.
const TRAININGS: [(&str, &str); 22] = [
    ("network, latent space", ""),
    ("network, no augmentation", "--augment 1"),
    ("network, 16x", "--augment 16"),
    ("network, any two responses of a step", "--set pairing=across"),
    ("network, perturbation", "--set source=perturbation"),
    ("network, gaussian", "--set source=gaussian"),
    ("network, mixup", "--set source=mixup"),
    ("network, not standardised", "--set standardise=false --augment 1"),
    ("network, linear", "--set head.hidden=[]"),
    (
        "network, two layers of tanh, dropout",
        "--set head.hidden=[8,6] --set head.activation=tanh --set vae.activation=tanh \
         --set head.dropout=0.2 --set head.label_smoothing=0.05",
    ),
    ("network, three members, two folds", "--set head.members=3 --set head.folds=2"),
    ("network, no folds", "--set head.folds=1"),
    ("logistic, latent space", "--set head.kind=logistic"),
    ("logistic, no augmentation", "--set head.kind=logistic --augment 1"),
    ("logistic, mixup", "--set head.kind=logistic --set source=mixup"),
    (
        "logistic, fixed penalty, light synthetic pairs",
        "--set head.kind=logistic --set head.l2=0.01 --set synthesis.weight=0.3",
    ),
    (
        "residual decoding, noise by the posterior",
        "--set synthesis.decoding=residual --set synthesis.noise=posterior --set synthesis.origin=draw",
    ),
    ("noise towards a neighbour", "--set synthesis.noise=neighbour"),
    ("around the middle of the pair", "--set synthesis.around=pair"),
    (
        "plausible codes, bounded divergence, warm-up",
        "--set synthesis.gate=plausible --set vae.w2_bound=4 --set vae.warm_up=4",
    ),
    ("ordered pairs", "--set head.kind=logistic --set synthesis.gate=ordered"),
    ("weight on uncertain pairs", "--set head.kind=logistic --set synthesis.emphasis=uncertain"),
];

const STUDY: &str = r#"
splits = 2
seeds = [40, 80]
rivals = ["none", "lens", "perturbation", "gaussian", "mixup", "tuned", "auto"]
factors = [2, 4]

[settings]
head.hidden = [8]
head.epochs = 6
vae.hidden = 8
vae.latent = 4
vae.epochs = 6
"#;

/// What a digest is taken of, to digest.
type Digests = BTreeMap<String, String>;

/// Where the cases are run, and with which binary.
struct Desk {
    lens: Lens,
    earlier: Option<PathBuf>,
    threads: usize,
}

impl Desk {
    fn new(threads: usize) -> Desk {
        let lens = Lens::new();
        // Every fourth pair has its sides swapped; some have margins, some are ties.
        let mut rows = pairs(0..60);
        for (i, row) in rows.iter_mut().enumerate() {
            if i % 4 == 3 {
                let (better, worse) = (row["chosen"].clone(), row["rejected"].clone());
                (row["chosen"], row["rejected"]) = (worse, better);
            }
            match i % 10 {
                4 => row["margin"] = json!(0.25),
                9 => row["tie"] = json!(true),
                _ => {}
            }
        }
        lens.rows("pairs.jsonl", &rows);
        lens.rows("more.jsonl", &pairs(80..110));
        lens.rows("scored.jsonl", &pairs(200..208));
        lens.write("arrays.safetensors", arrays(120, 12, 1));
        lens.write("more.safetensors", arrays(40, 12, 2));
        lens.write("study.toml", STUDY);
        let earlier = std::env::var_os("LENS_RECORD_DIGESTS").map(PathBuf::from);
        Desk { lens, earlier, threads }
    }

    fn ok(&self, words: &str) -> Said {
        let words = words.replace("NO_SEARCH", NO_SEARCH);
        let mut command = self.lens.command(&words);
        if let Some(earlier) = &self.earlier {
            let ours = command;
            command = std::process::Command::new(earlier);
            command.args(ours.get_args()).current_dir(ours.get_current_dir().unwrap()).env_clear();
            command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
        }
        command.args(["--quiet", "--threads", &self.threads.to_string()]);
        let said = Said::from(command.output().unwrap());
        assert_eq!(said.code, 0, "lens {words}\n{}{}", said.out, said.err);
        said
    }

    /// Digests of a command's result, of the reward model in `bundle`, and of the rewards that it
    /// gives to the rows of `scored`.
    fn trained(&self, words: &str, bundle: &str, scored: &str) -> Digests {
        let result = self.ok(&format!("{words} -o {bundle} --json")).json();
        let rewards = self.ok(&format!("score {bundle} {scored} --json")).json_lines();
        let rewards: Vec<f64> = rewards.iter().flat_map(numbers_but_lines).collect();
        assert!(!rewards.is_empty());
        [
            ("figures", digest(&figures(&result))),
            ("rewards", digest(&rewards)),
            ("values", values(&[figures(&result), rewards.clone()].concat())),
            ("weights", self.tensors(&format!("{bundle}/model.safetensors"))),
        ]
        .map(|(what, digest)| (what.to_owned(), digest))
        .into()
    }

    /// Digest of the tensors of a safetensors file.
    fn tensors(&self, name: &str) -> String {
        let bytes = std::fs::read(self.lens.path(name)).unwrap();
        let (length, rest) = bytes.split_at(8);
        let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        let (header, data) = rest.split_at(length);
        let header: BTreeMap<String, Value> = serde_json::from_slice(header).unwrap();
        let mut hash = Sha256::new();
        for (name, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
            let at = |i: usize| entry["data_offsets"][i].as_u64().unwrap() as usize;
            hash.update(format!("{name} {} {}\n", entry["dtype"], entry["shape"]));
            hash.update(&data[at(0)..at(1)]);
        }
        hex(hash)
    }
}

/// The figures of a result of `lens run` or `lens train`.
fn figures(result: &Value) -> Vec<f64> {
    let heldout = if result["heldout"].is_object() { &result["heldout"] } else { result };
    let found = ["none", "augmented", "difference"].map(|part| numbers(&heldout[part]));
    assert!(!found[0].is_empty(), "no figures: {result}");
    found.concat()
}

/// All numbers of a value, in their order.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Number(number) => vec![number.as_f64().unwrap()],
        Value::Array(all) => all.iter().flat_map(numbers).collect(),
        Value::Object(all) => all.values().flat_map(numbers).collect(),
        _ => Vec::new(),
    }
}

fn numbers_but_lines(row: &Value) -> Vec<f64> {
    let mut row = row.clone();
    row.as_object_mut().unwrap().remove("line").unwrap();
    numbers(&row)
}

fn digest(numbers: &[f64]) -> String {
    let mut hash = Sha256::new();
    numbers.iter().for_each(|number| hash.update(number.to_bits().to_le_bytes()));
    hex(hash)
}

/// Numbers as text, with four digits behind the point.
fn values(numbers: &[f64]) -> String {
    numbers.iter().map(|number| format!("{number:.4}")).collect::<Vec<_>>().join(" ")
}

/// Whether what was found is what is recorded: all digests, or on another platform the values alone, to
/// a hundredth.
fn agree(found: &Digests, expected: &Digests, same_platform: bool) -> bool {
    if same_platform {
        return found == expected;
    }
    let parsed = |digests: &Digests| -> Vec<f64> {
        let text = digests.get("values").map_or("", String::as_str);
        text.split_whitespace().map(|number| number.parse().unwrap()).collect()
    };
    let (found, expected) = (parsed(found), parsed(expected));
    let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 0.01 * (1.0 + b.abs());
    found.len() == expected.len() && found.iter().zip(&expected).all(close)
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Embedded pairs whose first two dimensions tell preferred from rejected, though not surely; the
/// same for the same arguments.
fn arrays(n: usize, dim: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let mut side = |sign: f32| -> Vec<f32> {
        (0..n * dim).map(|i| noise() + if i % dim < 2 { sign * 0.12 } else { 0.0 }).collect()
    };
    let (chosen, rejected) = (side(1.0), side(-1.0));
    safetensors(&[("chosen", [n, dim], &chosen), ("rejected", [n, dim], &rejected)])
}

/// What the bytes depend on besides the inputs: the processor's widest vectors, and the
/// mathematical functions of the system.
fn platform() -> String {
    let mut hash = Sha256::new();
    for i in 1..=1000 {
        let x = f64::from(i) * 0.0137;
        let wide = [
            x.exp(),
            (-x).exp(),
            x.exp_m1(),
            x.ln(),
            x.ln_1p(),
            x.tanh(),
            x.sin(),
            x.cos(),
            x.powf(1.3),
        ];
        wide.iter().for_each(|y| hash.update(y.to_le_bytes()));
        let x = x as f32;
        let narrow = [
            x.exp(),
            (-x).exp(),
            x.exp_m1(),
            x.ln(),
            x.ln_1p(),
            x.tanh(),
            x.sin(),
            x.cos(),
            x.powf(1.3),
        ];
        narrow.iter().for_each(|y| hash.update(y.to_le_bytes()));
    }
    format!("{} {}, libm {}", std::env::consts::ARCH, vectors(), &hex(hash)[..8])
}

#[cfg(target_arch = "x86_64")]
fn vectors() -> &'static str {
    match (is_x86_feature_detected!("avx512f"), is_x86_feature_detected!("avx2")) {
        (true, _) => "AVX-512",
        (false, true) if is_x86_feature_detected!("fma") => "AVX2",
        _ => "SSE2",
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn vectors() -> &'static str {
    "baseline"
}

/// The recorded digests: platform, what was run, case, digests.
type Recorded = BTreeMap<String, BTreeMap<String, BTreeMap<String, Digests>>>;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/digests.json");

fn recorded() -> Recorded {
    serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap()
}

/// Writes digests into the file. Other tests may be about to do the same.
fn record(platform: &str, name: &str, found: BTreeMap<String, Digests>) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap();
    let mut all = recorded();
    all.entry(platform.to_owned()).or_default().insert(name.to_owned(), found);
    std::fs::write(FILE, serde_json::to_string_pretty(&all).unwrap() + "\n").unwrap();
}

/// Compares what `cases` gives, with one thread and with three, with what is recorded under `name`.
fn holds(name: &str, cases: impl Fn(&Desk) -> BTreeMap<String, Digests>) {
    let platform = platform();
    let recording = std::env::var_os("LENS_RECORD_DIGESTS").is_some();
    let all = recorded();
    let own = all.get(&platform);
    match own {
        Some(_) => println!("{name}: compared with the digests for {platform}"),
        None => println!(
            "{name}: no digests are recorded for {platform}: values are compared, within a hundredth; \
             tests/digests.rs says how to record digests"
        ),
    }
    let known = own.or_else(|| all.values().next());
    for threads in [1, 3] {
        let found = cases(&Desk::new(threads));
        if recording {
            record(&platform, name, found);
            continue;
        }
        let expected = known.and_then(|known| known.get(name)).expect("digests for every job");
        let cases: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        let other: Vec<String> = cases
            .into_iter()
            .filter(|case| match (found.get(*case), expected.get(*case)) {
                (Some(found), Some(expected)) => !agree(found, expected, own.is_some()),
                _ => true,
            })
            .map(|case| {
                let (found, expected) = (found.get(case), expected.get(case));
                format!("{case}\n    found    {found:?}\n    expected {expected:?}")
            })
            .collect();
        assert!(
            other.is_empty(),
            "{name}, {threads} threads, {platform}: other bytes\n{}",
            other.join("\n")
        );
    }
}

#[test]
fn a_run_gives_the_recorded_bytes() {
    holds("run", |desk| {
        let mut all: BTreeMap<String, Digests> = RUNS
            .iter()
            .enumerate()
            .map(|(i, (name, words))| {
                let words = format!("run pairs.jsonl --model tiny.gguf {SMALL} {words}");
                ((*name).to_owned(), desk.trained(&words, &format!("rm-{i}"), "scored.jsonl"))
            })
            .collect();
        // The reward model of the first case, trained further on other pairs.
        let further = desk.trained("run more.jsonl --warm-start rm-0", "further", "scored.jsonl");
        all.insert("trained further".to_owned(), further);
        desk.ok("embed pairs.jsonl --model tiny.gguf --layers all -o embedded.safetensors");
        let embedded = desk.tensors("embedded.safetensors");
        all.insert(
            "embeddings of all layers".to_owned(),
            [("weights".to_owned(), embedded)].into(),
        );
        all
    });
}

#[test]
fn training_on_stored_embeddings_gives_the_recorded_bytes() {
    holds("train", |desk| {
        let mut all = BTreeMap::new();
        for (i, (name, words)) in TRAININGS.iter().enumerate() {
            let words = format!("train arrays.safetensors --splits 2 {SMALL} {words}");
            let digests = desk.trained(&words, &format!("rm-{i}"), "more.safetensors --key chosen");
            all.insert((*name).to_owned(), digests);
        }
        let words =
            format!("train arrays.safetensors --splits 2 --views auto --augment auto {SMALL}");
        let digests = desk.trained(&words, "chosen", "more.safetensors --key chosen");
        all.insert("head and augmentation are chosen".to_owned(), digests);
        let words = "train more.safetensors --splits 2 --warm-start rm-0";
        let digests = desk.trained(words, "further", "more.safetensors --key rejected");
        all.insert("trained further".to_owned(), digests);
        desk.ok("synthesise rm-0 arrays.safetensors -o synthetic.safetensors");
        let synthetic = [("weights".to_owned(), desk.tensors("synthetic.safetensors"))];
        all.insert("synthetic responses".to_owned(), synthetic.into());
        all
    });
}

#[test]
fn a_study_gives_the_recorded_figures() {
    holds("study", |desk| {
        let result = desk.ok("study study.toml arrays.safetensors -o study --json").json();
        let mut all = BTreeMap::new();
        for row in result["rows"].as_array().unwrap() {
            // The same rival and seeds again are another factor, or a try, and then what was chosen.
            let rival = format!("{}, {} seeds", row["rival"].as_str().unwrap(), row["seeds"]);
            let before = all.keys().filter(|name: &&String| name.starts_with(&rival)).count();
            let name = format!("{rival}, row {}", before + 1);
            let figures = ["accuracy", "by_split", "log_loss", "fold_log_loss", "difference"];
            let figures = figures.map(|part| numbers(&row[part]));
            assert!(!figures[0].is_empty(), "{row}");
            let figures = figures.concat();
            let digests =
                [("figures".to_owned(), digest(&figures)), ("values".to_owned(), values(&figures))];
            all.insert(name, digests.into());
        }
        all
    });
}
