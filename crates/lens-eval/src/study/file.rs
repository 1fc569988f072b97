//! The study file: which methods, on how many splits, over which grid.

use crate::error::EvalError;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// Keys of an encoder of a study: settings of `lens run` that decide how texts become
/// embeddings, or ready-made arrays.
pub const ENCODER_KEYS: &[&str] = &[
    "arrays",
    "batch_tokens",
    "bos",
    "chosen_key",
    "layer",
    "layers",
    "max_length",
    "model",
    "pooling",
    "rejected_key",
    "server",
    "server_api",
    "server_batch",
    "server_concurrency",
    "server_key_env",
    "server_retries",
    "server_timeout",
    "special_tokens",
    "template",
    "view",
    "weights",
];

/// A study as its user writes it, in TOML. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StudyFile {
    /// A short name. Defaults to that of the file.
    pub name: String,
    /// A headline.
    pub title: String,
    /// The question that the study answers, in one sentence.
    pub question: String,
    /// Seed of the splits, of everything random in them, and of the intervals. Defaults to 0.
    pub seed: u64,
    /// Random splits of the pool. Defaults to 10.
    pub splits: usize,
    /// Numbers of seed pairs: numbers, shares of the pool such as `"10%"`, or `"all"`, which is
    /// `"80%"` and the default. What is held out is what the largest of them leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Value>,
    /// The methods, by name. Defaults to `none` and `lens`.
    pub rivals: Vec<String>,
    /// The rival that all others are compared with. Defaults to `none`.
    pub baseline: String,
    /// Augmentation factors of the rivals that augment. Defaults to 4.
    pub factors: Vec<usize>,
    /// Layers to embed by, each an encoder of its own: numbers, or `"all"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Value>,
    /// Poolings to embed by, each an encoder of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub poolings: Vec<String>,
    /// Settings of the method for all rivals.
    #[serde(skip_serializing_if = "Table::is_empty")]
    pub settings: Table,
    /// Settings of the method by their dotted names, with a list of values each.
    #[serde(skip_serializing_if = "Table::is_empty")]
    pub grid: Table,
    /// Encoders by name, each with the settings in which it differs.
    #[serde(skip_serializing_if = "Table::is_empty")]
    pub encoders: Table,
    /// Rivals of one's own by name: settings of the method, and `tune`, lists of values to choose
    /// from.
    #[serde(skip_serializing_if = "Table::is_empty")]
    pub rival: Table,
    /// Where it was read, for messages.
    #[serde(skip)]
    pub origin: String,
}

impl Default for StudyFile {
    fn default() -> Self {
        StudyFile {
            name: String::new(),
            title: String::new(),
            question: String::new(),
            seed: 0,
            splits: 10,
            seeds: None,
            rivals: vec!["none".to_owned(), "lens".to_owned()],
            baseline: "none".to_owned(),
            factors: vec![4],
            layers: None,
            poolings: Vec::new(),
            settings: Table::new(),
            grid: Table::new(),
            encoders: Table::new(),
            rival: Table::new(),
            origin: String::new(),
        }
    }
}

/// Numbers of seed pairs, as they are asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SeedCount {
    /// So many.
    Pairs(usize),
    /// A share of the pool, in percent.
    Percent(f64),
}

impl SeedCount {
    /// Four fifths of the pool: the default, and `"all"`.
    pub const ALL: SeedCount = SeedCount::Percent(80.0);

    /// The number of pairs in a pool of `pool` pairs.
    pub fn in_pool(self, pool: usize) -> usize {
        match self {
            SeedCount::Pairs(n) => n,
            SeedCount::Percent(p) => (pool as f64 * p / 100.0).floor() as usize,
        }
    }
}

/// Layers, as they are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerAxis {
    /// Those of the encoder's own setting.
    Own,
    /// Every layer of the model.
    All,
    /// These.
    These(Vec<i32>),
}

/// One encoder of a study.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EncoderChoice {
    /// Its name in tables; empty where the study has but one.
    pub name: String,
    /// The settings in which it differs from those of the command.
    pub settings: Table,
}

impl StudyFile {
    /// Reads a study file's text. `origin` names it in messages.
    ///
    /// # Errors
    /// [`EvalError::StudySyntax`] with line and key where it is no study.
    pub fn parse(text: &str, origin: &str) -> Result<StudyFile, EvalError> {
        let mut file: StudyFile = toml::from_str(text).map_err(|e| EvalError::StudySyntax {
            origin: origin.to_owned(),
            detail: e.to_string().trim().to_owned(),
        })?;
        file.origin = origin.to_owned();
        for key in ["augment", "seed"] {
            if file.settings.contains_key(key) {
                let other = if key == "seed" { "`seed` of the study" } else { "`factors`" };
                let detail = format!("is not set here but by {other}");
                return Err(file.bad(format!("settings.{key}"), detail));
            }
        }
        file.seed_counts()?;
        file.layer_axis()?;
        file.encoder_tables()?;
        Ok(file)
    }

    /// An error of one key of this file.
    pub fn bad(&self, key: impl Into<String>, detail: impl ToString) -> EvalError {
        EvalError::StudyKey {
            origin: self.origin.clone(),
            key: key.into(),
            detail: detail.to_string().trim().to_owned(),
        }
    }

    /// Refuses an axis that is empty or has a value twice.
    pub fn distinct<T: PartialEq + std::fmt::Debug>(
        &self,
        key: &str,
        values: &[T],
    ) -> Result<(), EvalError> {
        if values.is_empty() {
            return Err(self.bad(key, "is empty: an axis needs at least one value"));
        }
        match values.iter().enumerate().find(|(i, v)| values[..*i].contains(v)) {
            Some((_, twice)) => Err(self.bad(key, format!("has {twice:?} twice"))),
            None => Ok(()),
        }
    }

    /// The numbers of seed pairs.
    ///
    /// # Errors
    /// [`EvalError::StudyKey`] for what is neither a number nor a share.
    pub fn seed_counts(&self) -> Result<Vec<SeedCount>, EvalError> {
        let one = |value: &Value| -> Result<SeedCount, EvalError> {
            let wrong = || {
                let expected = "a positive number, a share such as \"10%\", or \"all\"";
                self.bad("seeds", format!("has {value}, but {expected} is expected"))
            };
            match value {
                Value::Integer(n) => match usize::try_from(*n) {
                    Ok(n) if n > 0 => Ok(SeedCount::Pairs(n)),
                    _ => Err(wrong()),
                },
                Value::String(text) if text == "all" => Ok(SeedCount::ALL),
                Value::String(text) => {
                    let share = text.strip_suffix('%').and_then(|p| p.trim().parse::<f64>().ok());
                    let share = share.filter(|p| *p > 0.0 && *p < 100.0);
                    share.map(SeedCount::Percent).ok_or_else(wrong)
                }
                _ => Err(wrong()),
            }
        };
        let counts = match &self.seeds {
            None => vec![SeedCount::ALL],
            Some(Value::Array(values)) => values.iter().map(one).collect::<Result<_, _>>()?,
            Some(value) => vec![one(value)?],
        };
        self.distinct("seeds", &counts)?;
        Ok(counts)
    }

    /// The layers.
    ///
    /// # Errors
    /// [`EvalError::StudyKey`] for what is neither `"all"` nor a list of numbers.
    pub fn layer_axis(&self) -> Result<LayerAxis, EvalError> {
        let wrong = || self.bad("layers", "must be \"all\" or a list of numbers");
        match &self.layers {
            None => Ok(LayerAxis::Own),
            Some(Value::String(all)) if all == "all" => Ok(LayerAxis::All),
            Some(Value::Array(values)) => {
                let number = |v: &Value| v.as_integer().and_then(|n| i32::try_from(n).ok());
                let layers: Option<Vec<i32>> = values.iter().map(number).collect();
                let layers = layers.ok_or_else(wrong)?;
                self.distinct("layers", &layers)?;
                Ok(LayerAxis::These(layers))
            }
            Some(_) => Err(wrong()),
        }
    }

    /// The encoders as they are named, before layers and poolings.
    ///
    /// # Errors
    /// [`EvalError::StudyKey`] for a setting that is none of an encoder.
    pub fn encoder_tables(&self) -> Result<Vec<EncoderChoice>, EvalError> {
        if self.encoders.is_empty() {
            return Ok(vec![EncoderChoice { name: String::new(), settings: Table::new() }]);
        }
        let one = |(name, value): (&String, &Value)| {
            let key = format!("encoders.{name}");
            let Value::Table(settings) = value else {
                return Err(self.bad(key, "must be a table of settings of the encoder"));
            };
            if let Some(unknown) = settings.keys().find(|k| !ENCODER_KEYS.contains(&k.as_str())) {
                let detail =
                    format!("is no setting of an encoder; those are {}", ENCODER_KEYS.join(", "));
                return Err(self.bad(format!("{key}.{unknown}"), detail));
            }
            Ok(EncoderChoice { name: name.clone(), settings: settings.clone() })
        };
        self.encoders.iter().map(one).collect()
    }

    /// Names in the order in which people count: `layer 2` before `layer 10`. TOML's tables have no
    /// order of their own.
    fn in_order(a: &EncoderChoice, b: &EncoderChoice) -> std::cmp::Ordering {
        let parts = |name: &str| -> Vec<(String, u64)> {
            let (mut parts, mut text, mut number) = (Vec::new(), String::new(), None::<u64>);
            for c in name.chars() {
                if let Some(digit) = c.to_digit(10) {
                    let tens = number.unwrap_or(0).saturating_mul(10);
                    number = Some(tens.saturating_add(u64::from(digit)));
                    continue;
                }
                if let Some(number) = number.take() {
                    parts.push((std::mem::take(&mut text), number));
                }
                text.push(c);
            }
            parts.push((text, number.unwrap_or(0)));
            parts
        };
        parts(&a.name).cmp(&parts(&b.name)).then_with(|| a.name.cmp(&b.name))
    }

    /// The encoders with an entry for each layer and pooling. `depth` says how many layers an encoder
    /// has above the embedding; it is only asked where the study wants all of them.
    ///
    /// # Errors
    /// As [`StudyFile::encoder_tables`], and those of `depth`.
    pub fn encoder_axis<E: From<EvalError>>(
        &self,
        mut depth: impl FnMut(&EncoderChoice) -> Result<usize, E>,
    ) -> Result<Vec<EncoderChoice>, E> {
        let axis = self.layer_axis()?;
        if !self.poolings.is_empty() {
            self.distinct("poolings", &self.poolings)?;
        }
        let mut all = Vec::new();
        for encoder in self.encoder_tables()? {
            let layers: Vec<Option<i32>> = match &axis {
                LayerAxis::Own => vec![None],
                LayerAxis::These(layers) => layers.iter().copied().map(Some).collect(),
                LayerAxis::All => {
                    let last = i32::try_from(depth(&encoder)?).unwrap_or(i32::MAX);
                    (0..=last).map(Some).collect()
                }
            };
            let poolings: Vec<Option<&String>> = match self.poolings.is_empty() {
                true => vec![None],
                false => self.poolings.iter().map(Some).collect(),
            };
            let used = [("layer", axis != LayerAxis::Own), ("pooling", !self.poolings.is_empty())];
            for (key, _) in used.into_iter().filter(|(_, used)| *used) {
                let taken = [key, "view", "layers"];
                if let Some(taken) = taken.into_iter().find(|k| encoder.settings.contains_key(*k)) {
                    let key = format!("{key}s");
                    let detail = format!("and `{taken}` of an encoder exclude each other");
                    return Err(self.bad(key, detail).into());
                }
            }
            for pooling in &poolings {
                for layer in &layers {
                    let EncoderChoice { name, mut settings } = encoder.clone();
                    let mut names = vec![name];
                    if let Some(layer) = layer {
                        names.push(format!("layer {layer}"));
                        settings.insert("layer".to_owned(), i64::from(*layer).into());
                    }
                    if let Some(pooling) = pooling {
                        names.push(format!("pooling {pooling}"));
                        settings.insert("pooling".to_owned(), pooling.as_str().into());
                    }
                    names.retain(|n| !n.is_empty());
                    all.push(EncoderChoice { name: names.join(", "), settings });
                }
            }
        }
        let names: Vec<&String> = all.iter().map(|e| &e.name).collect();
        self.distinct("encoders", &names)?;
        all.sort_by(Self::in_order);
        Ok(all)
    }
}

/// Values of `over` take the place of those in `table`; what `over` does not name stays, also
/// within tables.
pub fn overlay(table: &mut Table, over: &Table) {
    for (key, value) in over {
        match (table.get_mut(key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => overlay(inner, value),
            (_, value) => {
                table.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The leaves of a table by their dotted names, in its order. A key that has dots itself is as good
/// as tables within tables.
pub fn leaves(table: &Table) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                all.extend(leaves(inner).into_iter().map(|(k, v)| (format!("{key}.{k}"), v)));
            }
            value => all.push((key.clone(), value.clone())),
        }
    }
    all
}

/// Sets a leaf by its dotted name.
///
/// # Errors
/// The part of the name that is no table.
pub fn set(table: &mut Table, name: &str, value: Value) -> Result<(), String> {
    let (mut table, mut rest) = (table, name);
    while let Some((first, tail)) = rest.split_once('.') {
        let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
        table = inner.as_table_mut().ok_or_else(|| first.to_owned())?;
        rest = tail;
    }
    table.insert(rest.to_owned(), value);
    Ok(())
}
