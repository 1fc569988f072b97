//! The methods that a study can compare, by name: overlays of the method's settings.

use super::file::{StudyFile, leaves, set};
use crate::error::EvalError;
use toml::{Table, Value};

/// A method of a study.
#[derive(Debug, Clone, PartialEq)]
pub struct Rival {
    /// Its name.
    pub name: String,
    /// Its description.
    pub about: String,
    /// The settings in which it differs from the study's.
    pub settings: Table,
    /// Which views of the embeddings it sees, by name or number; all of them where none is named.
    pub views: Vec<String>,
    /// Whether its VAE is trained on the pool's other responses too, those held out among them, whose
    /// labels it does not see.
    pub unlabelled: bool,
    /// Whether it chooses views, head and augmentation by cross-validation on its seeds alone.
    pub auto: Option<Auto>,
    /// Settings that are tried one after the other, one of them chosen on the folds; a single empty
    /// one where nothing is tuned. Each with its name.
    pub tries: Vec<(Option<String>, Table)>,
}

/// The settings that a rival chooses for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// Views and head.
    Views,
    /// These, and augmentation.
    Augment,
}

/// A rival that has a name.
struct Known {
    name: &'static str,
    about: &'static str,
    settings: &'static str,
    tune: &'static [&'static str],
    auto: Option<Auto>,
}

/// The variants that `tuned` tries, the likeliest to help first: a study takes as many as it has factors, so that
/// tuning has the budget that the choice of a factor has.
const TUNED: &[&str] = &[
    "head.weight_decay = 0.1",
    "head.weight_decay = 1.0",
    "head.weight_decay = 0.03",
    "head.weight_decay = 3.0",
    "head.patience = 4",
    "head.patience = 16",
    "head.weight_decay = 0.1\nhead.patience = 16",
    "head.weight_decay = 1.0\nhead.patience = 16",
    "head.weight_decay = 0.1\nhead.patience = 4",
    "head.weight_decay = 1.0\nhead.patience = 4",
    "head.weight_decay = 0.03\nhead.patience = 4",
    "head.weight_decay = 3.0\nhead.patience = 16",
];

const KNOWN: &[Known] = &[
    Known {
        name: "none",
        about: "no augmentation",
        settings: "augment = 1",
        tune: &[],
        auto: None,
    },
    Known {
        name: "lens",
        about: "synthesis in the latent space of a VAE with divergence",
        settings: "",
        tune: &[],
        auto: None,
    },
    Known {
        name: "lens-no-divergence",
        about: "as lens, without the divergence term, and with a beta at which it does not collapse",
        settings: "vae.gamma = 0.0\nvae.beta = 0.03",
        tune: &[],
        auto: None,
    },
    Known {
        name: "lens-noise-only",
        about: "as lens, without the divergence and without choosing likely candidates",
        settings: "vae.gamma = 0.0\nvae.beta = 0.03\nsynthesis.candidates = 1",
        tune: &[],
        auto: None,
    },
    Known {
        name: "perturbation",
        about: "Gaussian noise on the embeddings themselves",
        settings: "source = \"perturbation\"",
        tune: &[],
        auto: None,
    },
    Known {
        name: "gaussian",
        about: "draws from Gaussians fitted to the embeddings of each side",
        settings: "source = \"gaussian\"",
        tune: &[],
        auto: None,
    },
    Known {
        name: "mixup",
        about: "mixtures of the embeddings of two pairs",
        settings: "source = \"mixup\"",
        tune: &[],
        auto: None,
    },
    Known {
        name: "tuned",
        about: "no augmentation, the head tuned with as many tries as there are factors",
        settings: "augment = 1",
        tune: TUNED,
        auto: None,
    },
    Known {
        name: "auto",
        about: "no augmentation; views and head chosen by cross-validation on the seeds",
        settings: "augment = 1",
        tune: &[],
        auto: Some(Auto::Views),
    },
    Known {
        name: "auto-augment",
        about: "as auto, and augmentation where it wins on the seeds",
        settings: "augment = 4",
        tune: &[],
        auto: Some(Auto::Augment),
    },
];

/// Every name with what it is.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    KNOWN.iter().map(|k| (k.name, k.about))
}

/// The rivals of a study, in its order.
///
/// # Errors
/// [`EvalError::StudyKey`] for a name that nothing is known of, one that is there twice, and for
/// rivals of one's own that are not among the study's.
pub fn resolve(file: &StudyFile) -> Result<Vec<Rival>, EvalError> {
    file.distinct("rivals", &file.rivals)?;
    for name in file.rival.keys() {
        if KNOWN.iter().any(|k| k.name == name) {
            let detail = "is the name of a rival that is built in";
            return Err(file.bad(format!("rival.{name}"), detail));
        }
        if !file.rivals.contains(name) {
            return Err(file.bad(format!("rival.{name}"), "is not among `rivals`"));
        }
    }
    let one = |name: &String| -> Result<Rival, EvalError> {
        if let Some(known) = KNOWN.iter().find(|k| k.name == name) {
            let table = |text: &str| {
                toml::from_str::<Table>(text).map_err(|e| file.bad(format!("rivals.{name}"), e))
            };
            let tries = known.tune.iter().take(file.factors.len().max(1));
            let tries = tries.map(|text| Ok((Some(said(text)), table(text)?)));
            let mut tries = tries.collect::<Result<Vec<_>, EvalError>>()?;
            if tries.is_empty() {
                tries.push((None, Table::new()));
            }
            return Ok(Rival {
                name: name.clone(),
                about: known.about.to_owned(),
                settings: table(known.settings)?,
                views: Vec::new(),
                unlabelled: false,
                auto: known.auto,
                tries,
            });
        }
        match file.rival.get(name) {
            Some(Value::Table(own)) => of_table(file, name, own),
            Some(_) => Err(file.bad(format!("rival.{name}"), "must be a table of settings")),
            None => {
                let names: Vec<&str> = KNOWN.iter().map(|k| k.name).collect();
                let detail = format!(
                    "names `{name}`, which is none of {}, and there is no table [rival.{name}]",
                    names.join(", ")
                );
                Err(file.bad("rivals", detail))
            }
        }
    };
    let rivals = file.rivals.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    if !file.rivals.contains(&file.baseline) {
        let detail = format!("is `{}`, which is not among `rivals`", file.baseline);
        return Err(file.bad("baseline", detail));
    }
    Ok(rivals)
}

/// A rival of the user's own.
fn of_table(file: &StudyFile, name: &str, own: &Table) -> Result<Rival, EvalError> {
    let key = format!("rival.{name}");
    let mut settings = own.clone();
    let about = match settings.remove("about") {
        None => String::new(),
        Some(Value::String(about)) => about,
        Some(_) => return Err(file.bad(format!("{key}.about"), "must be a text")),
    };
    let views = match settings.remove("views") {
        None => Vec::new(),
        Some(views) => {
            let one = |view: &Value| match view {
                Value::String(name) => Some(name.clone()),
                Value::Integer(number) => usize::try_from(*number).ok().map(|n| n.to_string()),
                _ => None,
            };
            let views: Option<Vec<String>> =
                views.as_array().and_then(|views| views.iter().map(one).collect());
            let detail = "must be a list of views: their names, or their numbers from 0 on";
            let views = views.ok_or_else(|| file.bad(format!("{key}.views"), detail))?;
            file.distinct(&format!("{key}.views"), &views)?;
            views
        }
    };
    let unlabelled = match settings.remove("unlabelled") {
        None => false,
        Some(Value::Boolean(unlabelled)) => unlabelled,
        Some(_) => return Err(file.bad(format!("{key}.unlabelled"), "must be true or false")),
    };
    let auto = match settings.remove("auto").as_ref().map(Value::as_str) {
        None => None,
        Some(Some("views")) => Some(Auto::Views),
        Some(Some("augment")) => Some(Auto::Augment),
        Some(_) => {
            return Err(file.bad(format!("{key}.auto"), "must be \"views\" or \"augment\""));
        }
    };
    if auto.is_some() && !settings.contains_key("augment") {
        let augment = if auto == Some(Auto::Views) { 1 } else { 4 };
        settings.insert("augment".to_owned(), Value::Integer(augment));
    }
    let mut tries = vec![(None, Table::new())];
    match settings.remove("tune") {
        None => {}
        Some(Value::Table(tune)) => {
            for (setting, values) in leaves(&tune) {
                let key = format!("{key}.tune.{setting}");
                let Value::Array(values) = values else {
                    return Err(file.bad(key, "must be a list of values"));
                };
                file.distinct(&key, &values)?;
                let mut product: Vec<(Option<String>, Table)> = Vec::new();
                for (label, table) in &tries {
                    for value in &values {
                        let mut table: Table = table.clone();
                        set(&mut table, &setting, value.clone())
                            .map_err(|part| file.bad(&key, format!("`{part}` is no table")))?;
                        let this = format!("{setting}={value}");
                        let label = label.as_ref().map_or(this.clone(), |l| format!("{l}, {this}"));
                        product.push((Some(label), table));
                    }
                }
                tries = product;
            }
        }
        Some(_) => return Err(file.bad(format!("{key}.tune"), "must be a table of lists")),
    }
    let settings = nested(file, &key, &settings)?;
    if unlabelled && auto.is_some() {
        let detail = "does not go with `auto`, which trains on its seeds alone";
        return Err(file.bad(format!("{key}.unlabelled"), detail));
    }
    Ok(Rival { name: name.to_owned(), about, settings, views, unlabelled, auto, tries })
}

/// A table whose dotted keys have become tables.
pub(crate) fn nested(file: &StudyFile, key: &str, table: &Table) -> Result<Table, EvalError> {
    let mut out = Table::new();
    for (name, value) in leaves(table) {
        set(&mut out, &name, value)
            .map_err(|part| file.bad(format!("{key}.{name}"), format!("`{part}` is no table")))?;
    }
    Ok(out)
}

/// Settings in one line.
fn said(text: &str) -> String {
    text.replace(" = ", "=").replace('\n', ", ")
}
