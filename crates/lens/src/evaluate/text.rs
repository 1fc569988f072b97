//! Evaluation on text: what a file is, every distinct exchange embedded once, and the figures.

use super::outputs::Outputs;
use super::{EvaluateOptions, EvaluatedFile, controls, gold, nothing_left};
use crate::data_source;
use crate::encoded::{EncoderOf, encode_rows, equal_sides, leave_out, left_out};
use crate::models::matrix;
use crate::{Error, Progress};
use lens_core::{Content, Exchange, PreferencePair, Threads};
use lens_data::bundle::Bundle;
use lens_data::{
    Candidates, JudgedRow, JudgedSet, KeyKind, Place, RankedRow, Reason, Row, VetReport, Vetted,
    content_key, group_by_prompt, prompt_numbers, read_judged_with, vet,
};
use lens_encoder::{Encoded, Input, Refused, TextEncoder};
use lens_eval::EvalError;
use lens_eval::figures::best_of_n::Scored;
use lens_eval::figures::heldout::PairRewards;
use lens_eval::figures::rewardbench2::Ranked;
use lens_eval::figures::worst::Texts;
use lens_eval::figures::{Benchmark, Evaluation, PairData, ScoredPairs, part_of, recognise};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// A file that was read and recognised.
pub(super) struct Prepared {
    pub(super) path: PathBuf,
    pub(super) benchmark: Benchmark,
    pub(super) material: Material,
    pub(super) trained_on: bool,
}

pub(super) enum Material {
    Pairs(Vetted),
    Ranked(Vec<Row<RankedRow>>, VetReport),
    Scored(Vec<Candidates>, VetReport),
}

/// Reads a file and finds out what it is.
pub(super) fn prepare(
    path: &Path,
    bundle: &Bundle,
    options: &EvaluateOptions,
    progress: &dyn Progress,
) -> Result<Prepared, Error> {
    if let Some(name) = &options.gold {
        let prepared = gold::prepare(path, name, options, progress)?;
        prepared.note_known(bundle, progress);
        return Ok(prepared);
    }
    let input = data_source::resolve(&path.into(), &options.encoder.runtime, progress)?;
    let mut set = read_judged_with(&input, &options.reading, progress)?;
    let benchmark = recognise(&set.rows, options.benchmark, path)?;
    let how = if options.benchmark.is_some() { "as asked" } else { "--benchmark says otherwise" };
    progress.note(&format!("{}: taken for {benchmark} ({how})", path.display()));
    keep_subsets(&mut set, benchmark, &options.subsets)?;
    let trained = |vetted: &Vetted| vetted.fingerprint() == bundle.manifest.data.fingerprint;
    let mut trained_on = false;
    let material = match benchmark {
        Benchmark::Pairs => {
            let mut vetted = vet(set.into_pairs());
            trained_on = trained(&vetted);
            vetted.leave_out_ties();
            Material::Pairs(vetted)
        }
        // The benchmark counts every pair, equal and repeated ones too.
        Benchmark::RewardBench => {
            let report = report(&set);
            let data = set.into_pairs();
            trained_on = trained(&vet(data.clone()));
            let mut all = Vetted::new(data.pairs, report);
            all.leave_out_ties();
            Material::Pairs(all)
        }
        Benchmark::RewardBench2 | Benchmark::RmBench => {
            let report = report(&set);
            let rows =
                set.rows.into_iter().filter_map(|row| row.filter_map(JudgedRow::into_ranked));
            Material::Ranked(rows.collect(), report)
        }
        Benchmark::BestOfN => {
            // Without one of its responses a prompt would have another best one.
            if let Some(bad) = set.malformed.first() {
                return Err(EvalError::MissingScore(Box::new(bad.clone())).into());
            }
            let report = report(&set);
            let rows =
                set.rows.into_iter().filter_map(|row| row.filter_map(JudgedRow::into_scored));
            let groups = group_by_prompt(rows);
            // The model is not needed to find that there is nothing to choose.
            let scored: Vec<Scored> = groups.iter().map(|g| scored(g, &mut || 0.0)).collect();
            lens_eval::figures::best_of_n::check(&scored, options.n, path)?;
            Material::Scored(groups, report)
        }
    };
    if let Some(n) = options.n.filter(|_| benchmark != Benchmark::BestOfN) {
        progress.note(&format!("warning: --n {n} is for best-of-n and says nothing here"));
    }
    if options.controls && !benchmark.is_of_pairs() {
        progress.note(&format!("warning: --controls are for pairs and say nothing of {benchmark}"));
    }
    if let Material::Pairs(vetted) = &material
        && vetted.used.is_empty()
    {
        return Err(nothing_left(path, &vetted.report));
    }
    let prepared = Prepared { path: path.to_owned(), benchmark, material, trained_on };
    prepared.note_known(bundle, progress);
    Ok(prepared)
}

/// Keeps the rows of the subsets that were asked for.
fn keep_subsets(set: &mut JudgedSet, benchmark: Benchmark, asked: &[String]) -> Result<(), Error> {
    if asked.is_empty() {
        return Ok(());
    }
    let present: BTreeSet<&str> =
        set.rows.iter().filter_map(|row| part_of(row, benchmark)).collect();
    if let Some(unknown) = asked.iter().find(|name| !present.contains(name.as_str())) {
        return Err(EvalError::UnknownSubset {
            file: set.path.clone(),
            asked: unknown.clone(),
            present: present.into_iter().map(str::to_owned).collect(),
        }
        .into());
    }
    let before = set.rows.len();
    set.rows.retain(|row| part_of(row, benchmark).is_some_and(|p| asked.iter().any(|a| a == p)));
    set.read -= before - set.rows.len();
    Ok(())
}

/// What became of rows that are not vetted: all are used but the malformed ones.
fn report(set: &JudgedSet) -> VetReport {
    VetReport::all_but_malformed(set.rows.len(), &set.malformed, set.layout.files.len() > 1)
}

/// Distinct exchanges in the order in which they were first met, each with the line of its row.
#[derive(Default)]
pub(super) struct Distinct {
    known: HashMap<Exchange, usize>,
    lines: Vec<u64>,
}

impl Distinct {
    pub(super) fn add(&mut self, prompt: &Content, response: &Content, line: u64) -> usize {
        let next = self.lines.len();
        let exchange = Exchange { prompt: prompt.clone(), response: response.clone() };
        let at = *self.known.entry(exchange).or_insert(next);
        if at == next {
            self.lines.push(line);
        }
        at
    }

    /// The exchanges, and the line of each.
    fn into_lists(self) -> (Vec<Input>, Vec<u64>) {
        let mut all: Vec<(Exchange, usize)> = self.known.into_iter().collect();
        all.sort_unstable_by_key(|(_, at)| *at);
        (all.into_iter().map(|(exchange, _)| Input::Exchange(exchange)).collect(), self.lines)
    }
}

/// An exchange as the encoder has it, with its reward.
pub(super) struct ScoredText {
    encoded: Encoded,
    pub(super) reward: f32,
}

/// Every distinct exchange, or why it has no reward.
pub(super) type ScoredTexts = Vec<Result<ScoredText, Refused>>;

/// The reward model at work on a file.
struct Judge<'a> {
    path: &'a Path,
    bundle: &'a Bundle,
    encoder: &'a dyn TextEncoder,
    progress: &'a dyn Progress,
}

impl Judge<'_> {
    fn score(&self, distinct: Distinct) -> Result<ScoredTexts, Error> {
        let (inputs, lines) = distinct.into_lists();
        let place = |index: usize| (self.path, lines[index]);
        let encoded = encode_rows(self.encoder, &inputs, place, EncoderOf::Bundle, self.progress)?;
        let computed: Vec<&Encoded> = encoded.iter().flatten().collect();
        let embeddings = matrix(computed.iter().copied(), self.encoder.dim())?;
        let rewards = self.bundle.model.rewards(&embeddings, Threads::available())?;
        let mut rewards = rewards.into_iter();
        let scored = encoded.into_iter().map(|one| {
            one.map(|encoded| ScoredText { encoded, reward: rewards.next().unwrap_or(f32::NAN) })
        });
        Ok(scored.collect())
    }
}

/// Why one of these exchanges has no reward, if one has none.
pub(super) fn refusal(
    scored: &ScoredTexts,
    ids: impl IntoIterator<Item = usize>,
) -> Option<&Refused> {
    ids.into_iter().find_map(|id| scored[id].as_ref().err())
}

/// The reward of an exchange that is known to have one.
pub(super) fn reward_of(scored: &ScoredTexts, id: usize) -> f32 {
    scored[id].as_ref().map_or(f32::NAN, |text| text.reward)
}

/// A prompt of best-of-n, with rewards.
pub(super) fn scored(group: &Candidates, reward: &mut dyn FnMut() -> f32) -> Scored {
    let proxy = group.responses.iter().map(|_| reward()).collect();
    Scored { line: group.line, gold: group.scores.clone(), proxy }
}

impl Prepared {
    /// Warns of prompts that the model was trained on.
    pub(super) fn note_known(&self, bundle: &Bundle, progress: &dyn Progress) {
        let Some(trained) = bundle.trained.as_ref().filter(|t| t.by == KeyKind::Prompt) else {
            return;
        };
        let of_prompt = |p: &Content| content_key(p).is_some_and(|k| trained.fold(k).is_some());
        let (known, all, what) = match &self.material {
            Material::Pairs(vetted) => {
                let known = vetted.prompt_keys().filter(|&key| trained.fold(key).is_some());
                (known.count(), vetted.used.len(), "pairs")
            }
            Material::Ranked(rows, _) => {
                let known = rows.iter().filter(|r| of_prompt(&r.value.prompt)).count();
                (known, rows.len(), "rows")
            }
            Material::Scored(groups, _) => {
                let known = groups.iter().filter(|g| of_prompt(&g.prompt)).count();
                (known, groups.len(), "prompts")
            }
        };
        if known > 0 && !self.trained_on {
            progress.note(&format!(
                "warning: this model was trained on the prompts of {known} of the {all} {what} of {}",
                self.path.display()
            ));
        }
    }

    /// Embeds, scores, and reckons.
    pub(super) fn evaluate(
        self,
        bundle: &Bundle,
        encoder: &dyn TextEncoder,
        options: &EvaluateOptions,
        outputs: Option<&Outputs>,
        progress: &dyn Progress,
    ) -> Result<EvaluatedFile, Error> {
        let Prepared { path, benchmark, material, trained_on } = self;
        let seed = options.seed;
        let judge = Judge { path: &path, bundle, encoder, progress };
        let (rows, evaluation, rewards) = match material {
            Material::Pairs(mut vetted) => {
                let (chosen, rejected) = {
                    let ids = add_pairs(&vetted.used);
                    let scored = judge.score(ids.0)?;
                    pair_rewards(&mut vetted, benchmark, encoder, &ids.1, &scored)?
                };
                if vetted.used.is_empty() {
                    return Err(nothing_left(&path, &vetted.report));
                }
                let prompts = vetted.prompt_numbers();
                let lines: Vec<u64> = vetted.used.iter().map(|r| r.line).collect();
                let pairs =
                    ScoredPairs { chosen: &chosen, rejected: &rejected, prompts: &prompts, seed };
                let rows = Some(&*vetted.used);
                let data =
                    PairData { file: &path, pairs, lines: &lines, rows, worst: options.worst };
                let mut evaluation = Evaluation::of_pairs(benchmark, data)?;
                let rewards = PairRewards { chosen, rejected };
                if options.controls {
                    let scored = |distinct: Distinct| judge.score(distinct);
                    let rows = &vetted.used;
                    let found =
                        controls::measure(rows, &rewards, &prompts, encoder, seed, &scored)?;
                    evaluation.controls = found;
                }
                if let Some(outputs) = outputs {
                    outputs.write_pairs(
                        bundle,
                        &vetted.used,
                        &rewards.chosen,
                        &rewards.rejected,
                    )?;
                }
                (vetted.report, evaluation, rewards)
            }
            Material::Ranked(mut rows, mut report) => {
                let ranked = rank(&mut rows, &mut report, benchmark, &judge)?;
                if rows.is_empty() {
                    return Err(nothing_left(&path, &report));
                }
                let texts = |row: usize, chosen: usize, rejected: usize| {
                    let RankedRow { prompt, chosen: c, rejected: r, .. } = &rows[row].value;
                    Texts::new(prompt, &c[chosen], &r[rejected])
                };
                let of = match benchmark {
                    Benchmark::RmBench => {
                        Evaluation::of_rm_bench(&ranked, options.worst, seed, &path, texts)?
                    }
                    _ => Evaluation::of_rewardbench2(&ranked, options.worst, seed, &path, texts)?,
                };
                if let Some(outputs) = outputs {
                    outputs.write_ranked(bundle, &rows, &ranked, &of)?;
                }
                let all = |side: fn(&Ranked) -> &[f32]| ranked.iter().flat_map(side).copied();
                let chosen = all(|row| &row.chosen).collect();
                let rejected = all(|row| &row.rejected).collect();
                (report, of, PairRewards { chosen, rejected })
            }
            Material::Scored(mut groups, mut report) => {
                if outputs.is_some() {
                    return Err(Outputs::not_for(benchmark));
                }
                let mut distinct = Distinct::default();
                let add = |g: &Candidates, d: &mut Distinct| -> Vec<usize> {
                    g.responses.iter().map(|r| d.add(&g.prompt, r, g.line)).collect()
                };
                let mut ids: Vec<Vec<usize>> =
                    groups.iter().map(|g| add(g, &mut distinct)).collect();
                let all = judge.score(distinct)?;
                leave_out_groups(&mut groups, &mut ids, &mut report, &all);
                if groups.is_empty() {
                    return Err(nothing_left(&path, &report));
                }
                let mut rewards = ids.iter().flatten().map(|&id| reward_of(&all, id));
                let mut next = || rewards.next().unwrap_or(f32::NAN);
                let prompts: Vec<Scored> = groups.iter().map(|g| scored(g, &mut next)).collect();
                let texts = |prompt: usize, best: usize, picked: usize| {
                    let g = &groups[prompt];
                    Texts::new(&g.prompt, &g.responses[best], &g.responses[picked])
                };
                let of = Evaluation::of_best_of_n(
                    &prompts,
                    options.n,
                    options.worst,
                    seed,
                    &path,
                    texts,
                )?;
                (report, of, PairRewards { chosen: Vec::new(), rejected: Vec::new() })
            }
        };
        Ok(EvaluatedFile { path, rows, evaluation, trained_on, rewards, report: None })
    }
}

/// Leaves out prompts of which the template refuses a response: without it another one would be the
/// best. Each of their rows is counted, at the line of the first.
fn leave_out_groups(
    groups: &mut Vec<Candidates>,
    ids: &mut Vec<Vec<usize>>,
    report: &mut VetReport,
    scored: &ScoredTexts,
) {
    let why: Vec<Option<&Refused>> =
        ids.iter().map(|ids| refusal(scored, ids.iter().copied())).collect();
    let rows = groups.iter().zip(&why).filter_map(|(group, why)| Some((group, (*why)?)));
    let rows = rows
        .flat_map(|(group, why)| {
            vec![left_out(Place { file: None, line: group.line, part: 0 }, why); group.rows]
        })
        .collect();
    report.leave_out(Reason::TemplateRefused, rows);
    let mut kept = why.iter().map(Option::is_none);
    groups.retain(|_| kept.next() == Some(true));
    let mut kept = why.iter().map(Option::is_none);
    ids.retain(|_| kept.next() == Some(true));
}

/// The exchanges of pairs, and where each side of each stands among them.
fn add_pairs(rows: &[Row<PreferencePair>]) -> (Distinct, Vec<[usize; 2]>) {
    let mut distinct = Distinct::default();
    let ids = rows
        .iter()
        .map(|Row { line, value: pair, .. }| {
            [&pair.chosen, &pair.rejected].map(|side| distinct.add(&pair.prompt, side, *line))
        })
        .collect();
    (distinct, ids)
}

/// The rewards of both sides. Pairs that the template refuses are left out; so are those that are the
/// same to the encoder, but of RewardBench, where they are ties.
fn pair_rewards(
    vetted: &mut Vetted,
    benchmark: Benchmark,
    encoder: &dyn TextEncoder,
    ids: &[[usize; 2]],
    scored: &ScoredTexts,
) -> Result<(Vec<f32>, Vec<f32>), Error> {
    let mut unusable = Vec::new();
    let (mut chosen, mut rejected) = (Vec::new(), Vec::new());
    for (&[a, b], row) in ids.iter().zip(&vetted.used) {
        let (a, b) = match (&scored[a], &scored[b]) {
            (Ok(a), Ok(b)) => (a, b),
            (Err(why), _) | (_, Err(why)) => {
                unusable.push((Reason::TemplateRefused, left_out(row.place(), why)));
                continue;
            }
        };
        let equal = match benchmark {
            Benchmark::RewardBench => None,
            _ => equal_sides(encoder, row, &a.encoded, &b.encoded)?,
        };
        match equal {
            Some(equal) => unusable.push(equal),
            None => {
                chosen.push(a.reward);
                rejected.push(b.reward);
            }
        }
    }
    leave_out(vetted, unusable);
    Ok((chosen, rejected))
}

/// The rewards of rows with several responses a side. Rows that the template refuses are left out.
fn rank(
    rows: &mut Vec<Row<RankedRow>>,
    report: &mut VetReport,
    benchmark: Benchmark,
    judge: &Judge,
) -> Result<Vec<Ranked>, Error> {
    let mut distinct = Distinct::default();
    let mut ids: Vec<[Vec<usize>; 2]> = rows
        .iter()
        .map(|Row { line, value, .. }| {
            [&value.chosen, &value.rejected]
                .map(|side| side.iter().map(|r| distinct.add(&value.prompt, r, *line)).collect())
        })
        .collect();
    let scored = judge.score(distinct)?;
    let why = |ids: &[Vec<usize>; 2]| refusal(&scored, ids.iter().flatten().copied());
    let refused =
        rows.iter().zip(&ids).filter_map(|(row, ids)| Some(left_out(row.place(), why(ids)?)));
    report.leave_out(Reason::TemplateRefused, refused.collect());
    let mut kept = ids.iter().map(|ids| why(ids).is_none());
    rows.retain(|_| kept.next() == Some(true));
    ids.retain(|ids| why(ids).is_none());

    let rewards = |ids: &[usize]| ids.iter().map(|&id| reward_of(&scored, id)).collect();
    let prompts = prompt_numbers(rows.iter().map(|r| &r.value.prompt));
    let one = |((row, [chosen, rejected]), prompt): ((&Row<RankedRow>, &[Vec<usize>; 2]), u32)| {
        // Files of numbers only have numbers for ids.
        let id = row.metadata.get("id").filter(|id| !id.is_null());
        Ranked {
            line: row.line,
            subset: part_of(row, benchmark).map(str::to_owned),
            id: id.map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned)),
            chosen: rewards(chosen),
            rejected: rewards(rejected),
            prompt,
        }
    };
    Ok(rows.iter().zip(&ids).zip(prompts).map(one).collect())
}
