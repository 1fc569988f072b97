//! How good a reward model is, and whether a method helps: figures of benchmarks ([`figures`]),
//! methods compared on several splits ([`study`]), settings chosen on the seeds alone ([`tuning`]).
//!
//! No language model and no network: rewards and embeddings come in, figures go out.
//!
//! A figure by hand: of four pairs the first and the last are in the right order, and the second is a tie.
//!
//! ```
//! use lens_eval::figures::{ScoredPairs, accuracy::accuracy};
//!
//! let (chosen, rejected) = ([2.0, 1.0, 0.0, 5.0], [1.0, 1.0, 3.0, 4.0]);
//! // Each pair answers a prompt of its own; intervals resample prompts, with this seed.
//! let pairs = ScoredPairs { chosen: &chosen, rejected: &rejected, prompts: &[0, 1, 2, 3], seed: 1 };
//! let accuracy = accuracy(&pairs).ok_or("there is no pair")?;
//! assert_eq!(accuracy.half.value, 2.5 / 4.0);
//! assert_eq!(accuracy.wrong.value, 2.0 / 4.0); // RewardBench 1: a tie is wrong
//! # Ok::<(), &str>(())
//! ```
//!
//! A study: the head without augmentation against synthesis in latent space, on two splits.
//!
//! ```
//! use lens_core::{EmbeddedPairs, Matrix, Quiet};
//! use lens_eval::study::{
//!     StudyFile, analyse, engine, plan::{Plan, base_settings}, run, runner::MethodRunner,
//!     summary::DataSummary,
//! };
//!
//! // Twenty pairs of embeddings of width 2; the chosen ones lie further along both dimensions.
//! let side = |shift: f32| Matrix::new((0..40).map(|i| shift + (i % 7) as f32).collect(), 20, 2);
//! let pool = EmbeddedPairs::new(side(0.5)?, side(-0.5)?)?;
//!
//! let text = "splits = 2\nseeds = 10\nrivals = [\"none\", \"lens\"]\n[settings]\nvae.epochs = 2\nhead.epochs = 2";
//! let file = StudyFile::parse(text, "study.toml")?;
//! let encoders = file.encoder_axis(|_| Ok::<_, lens_eval::EvalError>(2))?;
//! let plan = Plan::new(&file, &base_settings(&file)?, encoders, pool.len())?;
//! let parts = engine::parts(&plan, &pool)?;
//! let runner = MethodRunner { pools: &[pool.clone()], views: &[vec![]] };
//! let runs = run(&plan, &parts, Default::default(), &runner, &|_, _| Ok(()), &Quiet)?;
//! let summary = analyse(&plan, &parts, &runs, &pool.prompts, DataSummary::default());
//! assert_eq!(summary.rows.len(), 2);
//! assert!(summary.to_markdown().contains("lens 4x"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod error;
pub mod figures;
pub mod study;
pub mod tuning;

pub use error::EvalError;

/// Runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
