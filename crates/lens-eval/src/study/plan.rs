//! The plan of a study: every cell, with the complete settings that decide its result.

use super::file::{EncoderChoice, StudyFile, leaves, overlay, set};
use super::rivals::{self, Auto, Rival, nested};
use crate::error::EvalError;
use lens_core::MethodSettings;
use serde::Serialize;
use sha2::{Digest, Sha256};
use toml::{Table, Value};

/// Most cells of a study.
pub const MOST_CELLS: usize = 100_000;

/// A setting that is varied.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GridAxis {
    /// Its dotted name.
    pub name: String,
    /// Its values, as tables show them.
    pub values: Vec<String>,
    #[serde(skip)]
    raw: Vec<Value>,
}

/// One way to train a head: a rival at one factor or try, at one point of the grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// Which rival.
    pub rival: usize,
    /// Training pairs for each seed pair.
    pub factor: usize,
    /// The variant that is tried, where the rival is tuned.
    pub tried: Option<String>,
    /// The value on each axis of the grid; none where the rival does not depend on it.
    pub grid: Vec<Option<String>>,
    /// Which views of the embeddings it sees, by name or number; all of them where none is named.
    pub views: Vec<String>,
    /// Whether its VAE is trained on the pool's other responses too, without their labels.
    pub unlabelled: bool,
    /// The settings that it chooses for itself.
    pub auto: Option<Auto>,
    /// The settings, whose seed each split moves on.
    pub settings: MethodSettings,
}

impl Arm {
    /// `4x`, or what is tried.
    pub fn variant(&self) -> String {
        match &self.tried {
            Some(tried) if self.factor > 1 => format!("{}x, {tried}", self.factor),
            Some(tried) => tried.clone(),
            None => format!("{}x", self.factor),
        }
    }
}

/// One training of a study.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Its number, in the order of the plan.
    pub index: usize,
    /// Which encoder.
    pub encoder: usize,
    /// Which number of seed pairs.
    pub seeds: usize,
    /// Which split.
    pub split: usize,
    /// Which arm.
    pub arm: usize,
    /// Which views of the embeddings it sees, by name or number; all of them where none is named.
    pub views: Vec<String>,
    /// Whether its VAE is trained on the pool's other responses too, without their labels.
    pub unlabelled: bool,
    /// The settings that it chooses for itself.
    pub auto: Option<Auto>,
    /// The complete settings of the method, the seed of the split included.
    pub settings: MethodSettings,
    /// A name of everything that decides the result, but for the embeddings.
    pub key: String,
}

/// A study, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The study file as resolved: it makes the same plan again.
    pub file: StudyFile,
    /// The encoders; one without a name where the study has but one.
    pub encoders: Vec<EncoderChoice>,
    /// Numbers of seed pairs.
    pub seeds: Vec<usize>,
    /// The rivals.
    pub rivals: Vec<Rival>,
    /// Which of them the others are compared with.
    pub baseline: usize,
    /// Augmentation factors.
    pub factors: Vec<usize>,
    /// The grid.
    pub grid: Vec<GridAxis>,
    /// Everything that is trained in each split.
    pub arms: Vec<Arm>,
}

impl Plan {
    /// Resolves a study on a pool of `pool` pairs. `base` are the settings of the method that the
    /// study's own lie in already ([`base_settings`]); its seed is the study's.
    ///
    /// # Errors
    /// [`EvalError::StudyKey`] names the key that asks for what cannot be.
    pub fn new(
        file: &StudyFile,
        base: &MethodSettings,
        encoders: Vec<EncoderChoice>,
        pool: usize,
    ) -> Result<Plan, EvalError> {
        if file.splits == 0 {
            return Err(file.bad("splits", "must be at least 1"));
        }
        let seeds = seed_numbers(file, pool)?;
        file.distinct("factors", &file.factors)?;
        if let Some(low) = file.factors.iter().find(|f| **f < 2) {
            let detail =
                format!("has {low}, but a factor is at least 2; the rival `none` does not augment");
            return Err(file.bad("factors", detail));
        }
        let names: Vec<&String> = encoders.iter().map(|e| &e.name).collect();
        file.distinct("encoders", &names)?;
        let rivals = rivals::resolve(file)?;
        let baseline = rivals.iter().position(|r| r.name == file.baseline).unwrap_or(0);
        let base = MethodSettings { augment: 2, ..base.clone() };
        let grid = grid_axes(file, &base)?;
        let per_split = [encoders.len(), seeds.len(), file.splits];
        let arms = arms(file, &base, &rivals, &grid, &per_split)?;
        let file = resolved(file, &base, &encoders, &seeds)?;
        let factors = file.factors.clone();
        Ok(Plan { file, encoders, seeds, rivals, baseline, factors, grid, arms })
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.points() * self.file.splits
    }

    /// Whether there is no cell; there is always one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of (encoder, seeds, arm).
    pub fn points(&self) -> usize {
        self.encoders.len() * self.seeds.len() * self.arms.len()
    }

    /// The number of the cell at (encoder, seeds, split, arm).
    pub fn index(&self, encoder: usize, seeds: usize, split: usize, arm: usize) -> usize {
        ((encoder * self.seeds.len() + seeds) * self.file.splits + split) * self.arms.len() + arm
    }

    /// The cells of one group: all arms at (encoder, seeds, split).
    pub fn cells(&self, encoder: usize, seeds: usize, split: usize) -> Vec<Cell> {
        let one = |(arm, a): (usize, &Arm)| {
            let seed = self.file.seed.wrapping_add(split as u64);
            let settings = MethodSettings { seed, ..a.settings.clone() };
            let key = self.key(encoder, seeds, split, a, &settings);
            let index = self.index(encoder, seeds, split, arm);
            let Arm { views, unlabelled, auto, .. } = a.clone();
            Cell { index, encoder, seeds, split, arm, views, unlabelled, auto, settings, key }
        };
        self.arms.iter().enumerate().map(one).collect()
    }

    /// SHA-256, shortened, over everything that decides the result of a cell.
    fn key(
        &self,
        encoder: usize,
        seeds: usize,
        split: usize,
        arm: &Arm,
        settings: &MethodSettings,
    ) -> String {
        let largest = self.seeds.iter().max();
        let mut what = serde_json::json!({
            "form": "lens-study-cell-v2",
            "views": arm.views,
            "auto": arm.auto,
            "encoder": &self.encoders[encoder],
            "seeds": self.seeds[seeds],
            "held_out_beyond": largest,
            "study_seed": self.file.seed,
            "split": split,
            "method": settings,
        });
        if arm.unlabelled {
            what["unlabelled"] = true.into();
        }
        let hash = Sha256::digest(what.to_string());
        hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Arms that differ in nothing but factor and try: among these a rival chooses.
    pub fn families(&self) -> Vec<Vec<usize>> {
        let mut families: Vec<Vec<usize>> = Vec::new();
        for (i, arm) in self.arms.iter().enumerate() {
            let same = |f: &&mut Vec<usize>| {
                let first = &self.arms[f[0]];
                first.rival == arm.rival && first.grid == arm.grid
            };
            match families.iter_mut().find(same) {
                Some(family) => family.push(i),
                None => families.push(vec![i]),
            }
        }
        families
    }

    /// The family of the baseline that `family` is compared with: at the same point of the grid, as
    /// far as the baseline depends on it.
    pub fn baseline_family<'a>(
        &self,
        families: &'a [Vec<usize>],
        family: &[usize],
    ) -> Option<&'a Vec<usize>> {
        let grid = &self.arms[family[0]].grid;
        let fits = |f: &&Vec<usize>| {
            let arm = &self.arms[f[0]];
            let same = |(ours, theirs): (&Option<String>, &Option<String>)| {
                ours.is_none() || theirs.is_none() || ours == theirs
            };
            arm.rival == self.baseline && arm.grid.iter().zip(grid).all(same)
        };
        let mut fitting = families.iter().filter(fits);
        // Where the rival does not depend on an axis that the baseline does, nothing says which.
        match (fitting.next(), fitting.next()) {
            (Some(one), None) => Some(one),
            _ => None,
        }
    }

    /// The arm of the baseline that `arm` is compared with, of the family that fits: its only one,
    /// or the one of the same factor and try.
    pub fn baseline_arm(&self, family: &[usize], arm: usize) -> Option<usize> {
        match family {
            [one] => Some(*one),
            many => {
                let variant = self.arms[arm].variant();
                many.iter().copied().find(|&a| self.arms[a].variant() == variant)
            }
        }
    }

    /// The plan as a study file that makes it again.
    ///
    /// # Errors
    /// [`EvalError::StudySyntax`] where TOML has no room for a value.
    pub fn to_toml(&self) -> Result<String, EvalError> {
        toml::to_string(&self.file).map_err(|e| EvalError::StudySyntax {
            origin: self.file.origin.clone(),
            detail: e.to_string(),
        })
    }
}

/// The settings of the method with a study's own in place of the defaults.
///
/// # Errors
/// [`EvalError::StudyKey`] for one that is not known or out of range.
pub fn base_settings(file: &StudyFile) -> Result<MethodSettings, EvalError> {
    let mut table =
        Table::try_from(MethodSettings::default()).map_err(|e| file.bad("settings", e))?;
    overlay(&mut table, &nested(file, "settings", &file.settings)?);
    let mut settings = method(file, "settings", table)?;
    settings.seed = file.seed;
    Ok(settings)
}

fn method(file: &StudyFile, key: &str, table: Table) -> Result<MethodSettings, EvalError> {
    let settings: MethodSettings = table.try_into().map_err(|e| file.bad(key, e))?;
    settings.check().map_err(|e| file.bad(key, e))?;
    Ok(settings)
}

fn seed_numbers(file: &StudyFile, pool: usize) -> Result<Vec<usize>, EvalError> {
    let seeds: Vec<usize> = file.seed_counts()?.into_iter().map(|s| s.in_pool(pool)).collect();
    if let Some(many) = seeds.iter().find(|n| **n >= pool) {
        let detail = format!(
            "has {many}, but the pool has {pool} pairs, of which some must be left to hold out"
        );
        return Err(file.bad("seeds", detail));
    }
    if seeds.contains(&0) {
        let detail = format!("has a share that is no pair of a pool of {pool}");
        return Err(file.bad("seeds", detail));
    }
    file.distinct("seeds", &seeds)?;
    Ok(seeds)
}

/// A setting's value as tables show it.
fn shown(settings: &MethodSettings, name: &str) -> Option<String> {
    let all = serde_json::to_value(settings).ok()?;
    let value = all.pointer(&format!("/{}", name.replace('.', "/")))?;
    Some(match value {
        serde_json::Value::String(text) => text.clone(),
        // 1.0 and 1 are one value.
        serde_json::Value::Number(n) if n.is_f64() => format!("{}", n.as_f64()?),
        other => other.to_string(),
    })
}

fn grid_axes(file: &StudyFile, base: &MethodSettings) -> Result<Vec<GridAxis>, EvalError> {
    let mut axes = Vec::new();
    for (name, values) in leaves(&file.grid) {
        let key = format!("grid.{name}");
        let Value::Array(raw) = values else {
            return Err(file.bad(key, "must be a list of values"));
        };
        if ["augment", "seed", "source"].contains(&name.as_str()) {
            let detail = "is not varied here: factors, splits and rivals are axes of their own";
            return Err(file.bad(key, detail));
        }
        let mut shown_values = Vec::new();
        for value in &raw {
            let settings = with(file, base, &key, &[(&name, value)])?;
            let label = shown(&settings, &name);
            shown_values.push(label.ok_or_else(|| file.bad(&key, "is no setting with a value"))?);
        }
        file.distinct(&key, &shown_values)?;
        axes.push(GridAxis { name, values: shown_values, raw });
    }
    Ok(axes)
}

/// `base` with some leaves set.
fn with(
    file: &StudyFile,
    base: &MethodSettings,
    key: &str,
    over: &[(&str, &Value)],
) -> Result<MethodSettings, EvalError> {
    let mut table = table(file, base)?;
    for (name, value) in over {
        set(&mut table, name, (*value).clone())
            .map_err(|part| file.bad(key, format!("`{part}` is no table of settings")))?;
    }
    method(file, key, table)
}

/// Settings as a table; the seed does not go through TOML, which has no room for all of them.
fn table(file: &StudyFile, settings: &MethodSettings) -> Result<Table, EvalError> {
    let settings = MethodSettings { seed: 0, ..settings.clone() };
    Table::try_from(&settings).map_err(|e| file.bad("settings", e))
}

/// Whether a head that is trained without augmentation depends on a setting.
fn concerns_heads(name: &str) -> bool {
    name == "standardise" || name.starts_with("head.")
}

/// Everything that is trained in each of the splits, with a bound on how much that is in all.
fn arms(
    file: &StudyFile,
    base: &MethodSettings,
    rivals: &[Rival],
    grid: &[GridAxis],
    per_split: &[usize],
) -> Result<Vec<Arm>, EvalError> {
    let too_many = |arms: usize| {
        let cells = per_split.iter().try_fold(arms, |n, &m| n.checked_mul(m));
        cells.is_none_or(|n| n > MOST_CELLS)
    };
    let refused = || {
        let detail = format!(
            "is too much: encoders times seeds times splits times rivals, factors and grid are more \
             than {MOST_CELLS} trainings"
        );
        file.bad("grid", detail)
    };
    let mut arms: Vec<Arm> = Vec::new();
    for (number, rival) in rivals.iter().enumerate() {
        for (tried, tune) in &rival.tries {
            let mut over = rival.settings.clone();
            overlay(&mut over, tune);
            let key = format!("rival.{}", rival.name);
            let set_here: Vec<String> = leaves(&over).into_iter().map(|(name, _)| name).collect();
            let factors = match over.get("augment") {
                None => file.factors.clone(),
                Some(fixed) => {
                    let fixed = fixed.as_integer().and_then(|n| usize::try_from(n).ok());
                    vec![
                        fixed
                            .ok_or_else(|| file.bad(&key, "has an `augment` that is no number"))?,
                    ]
                }
            };
            if set_here.iter().any(|name| name == "seed") {
                return Err(file.bad(&key, "has a `seed`, but all rivals have that of the study"));
            }
            for factor in factors {
                let counts = |axis: &&GridAxis| {
                    let overridden = set_here.contains(&axis.name);
                    !overridden && (factor > 1 || concerns_heads(&axis.name))
                };
                let axes: Vec<&GridAxis> = grid.iter().filter(counts).collect();
                let points = axes.iter().try_fold(1usize, |n, a| n.checked_mul(a.values.len()));
                let points = points.filter(|n| !too_many(arms.len().saturating_add(*n)));
                for point in 0..points.ok_or_else(refused)? {
                    let mut table = table(file, base)?;
                    let mut labels = vec![None; grid.len()];
                    // The last axis varies fastest.
                    let mut rest = point;
                    for axis in axes.iter().rev() {
                        let at = rest % axis.values.len();
                        rest /= axis.values.len();
                        set(&mut table, &axis.name, axis.raw[at].clone())
                            .map_err(|part| file.bad("grid", format!("`{part}` is no table")))?;
                        if let Some(i) = grid.iter().position(|a| a.name == axis.name) {
                            labels[i] = Some(axis.values[at].clone());
                        }
                    }
                    overlay(&mut table, &over);
                    let augment = i64::try_from(factor).map_err(|e| file.bad("factors", e))?;
                    table.insert("augment".to_owned(), augment.into());
                    let settings = method(file, &key, table)?;
                    let Rival { views, unlabelled, auto, .. } = rival.clone();
                    arms.push(Arm {
                        rival: number,
                        factor,
                        tried: tried.clone(),
                        grid: labels,
                        views,
                        unlabelled,
                        auto,
                        settings,
                    });
                }
            }
        }
    }
    Ok(arms)
}

/// The study file that makes this plan again, whatever the command line added to the first.
fn resolved(
    file: &StudyFile,
    base: &MethodSettings,
    encoders: &[EncoderChoice],
    seeds: &[usize],
) -> Result<StudyFile, EvalError> {
    let mut settings = table(file, base)?;
    settings.remove("augment");
    settings.remove("seed");
    let number = |&n: &usize| i64::try_from(n).map(Value::from).map_err(|e| file.bad("seeds", e));
    let seeds = seeds.iter().map(number).collect::<Result<Vec<_>, _>>()?;
    let named = encoders.iter().filter(|e| !e.name.is_empty());
    Ok(StudyFile {
        seeds: Some(Value::Array(seeds)),
        layers: None,
        poolings: Vec::new(),
        settings,
        encoders: named.map(|e| (e.name.clone(), Value::Table(e.settings.clone()))).collect(),
        ..file.clone()
    })
}
