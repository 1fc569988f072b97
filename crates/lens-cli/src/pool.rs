//! The pool of a study: the same pairs as each of its encoders has them.
//!
//! Text is embedded once for all encoders that differ only in which hidden states they take; stored
//! embeddings are cut by the views that they say they hold. A pair that one encoder cannot tell the
//! sides of is left out for all, so that they are compared on the same pairs.

use crate::commands::embed::VIEWS_KEY;
use crate::commands::run::left_out;
use crate::commands::train::{Loaded, file_name, load, names};
use crate::embedding::{
    encode_pairs, equal_side, matrix, note_truncated, open_encoder, prompt_numbers,
};
use crate::error::CliError;
use crate::labels::Labels;
use crate::progress::Reporter;
use crate::settings::{Settings, bad};
use crate::stored_views::{StoredView, covers, stored_views};
use lens_core::{EmbeddedPairs, Label, PreferencePair, Progress};
use lens_data::vet::LeftOut;
use lens_data::{ArrayFile, Reason, Vetted, read_pairs_with, vet};
use lens_encoder::{EncoderIdentity, LayerChoice, View, ViewChoice};
use lens_eval::EvalError;
use lens_eval::study::file::{EncoderChoice, StudyFile, overlay};
use lens_eval::study::store::{self, Identity};
use lens_eval::study::summary::{DataSummary, EncoderSummary};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Settings that say which hidden states are taken.
const VIEW_SETTINGS: [&str; 4] = ["layer", "layers", "pooling", "view"];
/// Settings that say where stored embeddings are.
const ARRAY_SETTINGS: [&str; 3] = ["arrays", "chosen_key", "rejected_key"];

/// What a study is run on.
pub struct Pool {
    /// The encoders, with an entry for each layer and pooling.
    pub encoders: Vec<EncoderChoice>,
    /// The pairs as each of them has them.
    pub pairs: Vec<EmbeddedPairs>,
    /// What the views are called that lie side by side in each; none where nothing says it.
    pub views: Vec<Vec<String>>,
    /// What names them.
    pub identity: Identity,
    /// What is said of them.
    pub summary: DataSummary,
    stored: Vec<Loaded>,
}

impl Pool {
    /// What came of work on the pairs, unless the embeddings could not be read meanwhile.
    pub fn sound<T>(&self, result: Result<T, CliError>) -> Result<T, CliError> {
        self.stored.iter().try_fold((), |(), loaded| loaded.sound(Ok::<(), CliError>(())))?;
        result
    }
}

fn cut(pairs: &EmbeddedPairs, columns: &[Range<usize>]) -> Result<EmbeddedPairs, CliError> {
    if covers(columns, pairs.dim()) {
        return Ok(pairs.clone().with_views(columns.iter().map(Range::len).collect())?);
    }
    Ok(pairs.parts(columns)?)
}

/// All columns, in one piece.
fn whole(width: usize) -> Vec<Range<usize>> {
    std::iter::once(0..width).collect()
}

/// Whether a file holds embeddings, not text.
pub fn is_stored(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "safetensors")
}

/// The settings of one encoder of a study.
fn settings_of(choice: &EncoderChoice, settings: &Settings) -> Result<Settings, CliError> {
    let origin = || match choice.name.as_str() {
        "" => "encoder".to_owned(),
        name => format!("encoders.{name}"),
    };
    let has = |key: &str| choice.settings.contains_key(key);
    let mut base = Settings { seed: 0, ..settings.clone() };
    if VIEW_SETTINGS.into_iter().any(has) {
        base.view = Vec::new();
        base.layers = None;
    }
    let mut table = toml::Table::try_from(&base).map_err(|e| bad(&origin(), e))?;
    let mut over = choice.settings.clone();
    over.remove("arrays");
    overlay(&mut table, &over);
    let own: Settings = table.try_into().map_err(|e| bad(&origin(), e))?;
    own.encoder()?;
    Ok(Settings { seed: settings.seed, given: settings.given.clone(), ..own })
}

/// Reads and embeds what a study is run on. `check` sees how many pairs there are before any of them
/// is embedded.
pub fn pool(
    file: &StudyFile,
    data: Option<&Path>,
    settings: &Settings,
    reporter: &Reporter,
    check: &dyn Fn(usize) -> Result<(), CliError>,
) -> Result<Pool, CliError> {
    let base = file.encoder_tables()?;
    let arrays = base.iter().filter(|e| e.settings.contains_key("arrays")).count();
    match data {
        Some(path) if !is_stored(path) => {
            if let Some(e) =
                base.iter().find(|e| ARRAY_SETTINGS.iter().any(|k| e.settings.contains_key(*k)))
            {
                let detail = format!(
                    "is of stored embeddings, but {} is text: embed it with `lens embed`, and give \
                     the study stored embeddings for all encoders",
                    path.display()
                );
                return Err(bad(&format!("encoders.{}", e.name), detail));
            }
            text(file, path, settings, reporter, check)
        }
        None if arrays < base.len() => Err(CliError::Refused(
            "a study needs pairs: `lens study STUDY PAIRS`, or `arrays` for every encoder".into(),
        )),
        _ => stored(file, data, settings, reporter, check),
    }
}

/// A view with its layer counted from 0.
fn counted(choice: &ViewChoice, layers: usize) -> ViewChoice {
    let layer = match choice.layer {
        LayerChoice::Index(l) if l < 0 => {
            let last = i32::try_from(layers).unwrap_or(i32::MAX);
            // What is out of range is refused by the encoder, by the number that was asked for.
            match l.saturating_add(last).saturating_add(1) {
                counted if counted >= 0 => LayerChoice::Index(counted),
                _ => LayerChoice::Index(l),
            }
        }
        other => other,
    };
    ViewChoice { layer, ..choice.clone() }
}

/// Whether a view is the one that was asked for.
fn is_view(view: &View, asked: &ViewChoice) -> bool {
    let layer = match asked.layer {
        LayerChoice::All => true,
        LayerChoice::Index(l) => usize::try_from(l) == Ok(view.layer),
    };
    layer && view.pooling == asked.pooling && view.suffix == asked.suffix
}

fn text(
    file: &StudyFile,
    path: &Path,
    settings: &Settings,
    reporter: &Reporter,
    check: &dyn Fn(usize) -> Result<(), CliError>,
) -> Result<Pool, CliError> {
    let data = read_pairs_with(path, &settings.reading(), reporter)?;
    for row in data.malformed.iter().take(3) {
        reporter.note(&format!("left out: {row}"));
    }
    let mut vetted = vet(data);
    if vetted.used.is_empty() {
        return Err(CliError::NothingLeft { path: path.to_owned(), left_out: left_out(&vetted) });
    }
    check(vetted.used.len())?;
    Labels::count(vetted.used.iter().map(|r| r.value.label())).note(settings, reporter);
    let encoders = file.encoder_axis(|choice| -> Result<usize, CliError> {
        let own = settings_of(choice, settings)?;
        Ok(open_encoder(&own, reporter)?.identity().layers)
    })?;

    // One pass for those that differ only in their views; a server has but one view.
    let mut passes: Vec<(Settings, Vec<usize>)> = Vec::new();
    let mut views = Vec::new();
    for (i, choice) in encoders.iter().enumerate() {
        let own = settings_of(choice, settings)?;
        views.push(own.views()?);
        let bare = |s: &Settings| Settings {
            layer: -1,
            layers: None,
            pooling: "last".to_owned(),
            view: Vec::new(),
            ..s.clone()
        };
        let same =
            |(s, _): &&mut (Settings, Vec<usize>)| own.server.is_none() && bare(s) == bare(&own);
        match passes.iter_mut().find(same) {
            Some((_, members)) => members.push(i),
            None => passes.push((own, vec![i])),
        }
    }
    let all: Vec<&PreferencePair> = vetted.used.iter().map(|r| &r.value).collect();
    let prompts = prompt_numbers(all.iter().map(|p| &p.prompt));
    let labels: Vec<Label> = all.iter().map(|p| p.label()).collect();
    let mut equal: BTreeMap<u64, LeftOut> = BTreeMap::new();
    let mut cuts: Vec<Option<(EmbeddedPairs, EncoderIdentity, String)>> =
        vec![None; encoders.len()];
    for (own, members) in passes {
        let mut encoder = open_encoder(&own, reporter)?;
        let layers = encoder.identity().layers;
        if members.len() > 1 {
            let mut union: Vec<String> = Vec::new();
            for view in members.iter().flat_map(|&m| &views[m]) {
                let view = counted(view, layers).to_string();
                if !union.contains(&view) {
                    union.push(view);
                }
            }
            drop(encoder);
            let own = Settings { view: union, layers: None, ..own.clone() };
            encoder = open_encoder(&own, reporter)?;
        }
        let encoded = encode_pairs(encoder.as_ref(), &all, reporter)?;
        note_truncated(&encoded, encoder.identity().max_length, reporter);
        let (n, width) = (all.len(), encoder.dim());
        let (chosen, rejected) = encoded.split_at(n);
        for (row, (a, b)) in vetted.used.iter().zip(chosen.iter().zip(rejected)) {
            equal.extend(equal_side(row.line, a, b).map(|l| (l.line, l)));
        }
        let pairs = EmbeddedPairs::with_prompts(
            matrix(encoded[..n].iter(), width)?,
            matrix(encoded[n..].iter(), width)?,
            prompts.clone(),
        )?;
        let pairs = pairs.with_labels(labels.clone())?;
        let id = encoder.identity().clone();
        for &member in &members {
            let at = |i: usize| i * id.dim..(i + 1) * id.dim;
            let (columns, of_member) = if members.len() == 1 {
                (whole(width), id.views.clone())
            } else {
                let mut columns = Vec::new();
                for asked in views[member].iter().map(|v| counted(v, layers)) {
                    let here = id.views.iter().enumerate().filter(|(_, v)| is_view(v, &asked));
                    columns.extend(here.map(|(i, _)| i));
                }
                let of_member = columns.iter().map(|&i| id.views[i].clone()).collect();
                (columns.into_iter().map(at).collect(), of_member)
            };
            let own = EncoderIdentity { views: of_member, ..id.clone() };
            let server = match encoder.server() {
                Some(record) => serde_json::to_string(record).map_err(std::io::Error::from)?,
                None => String::new(),
            };
            let widths = vec![id.dim; own.views.len()];
            cuts[member] = Some((cut(&pairs, &columns)?.with_views(widths)?, own, server));
        }
    }
    let gone: BTreeSet<u64> = equal.keys().copied().collect();
    let kept: Vec<usize> =
        (0..vetted.used.len()).filter(|&i| !gone.contains(&vetted.used[i].line)).collect();
    vetted.leave_out(Reason::EqualAfterTruncation, equal.into_values());
    if kept.is_empty() {
        return Err(CliError::NothingLeft { path: path.to_owned(), left_out: left_out(&vetted) });
    }
    note_left_out(&vetted, reporter);
    let fingerprint = vetted.fingerprint();
    let (mut pairs, mut about, mut data) = (Vec::new(), Vec::new(), Vec::new());
    let mut names = Vec::new();
    for (choice, made) in encoders.iter().zip(cuts) {
        let Some((embedded, id, server)) = made else {
            return Err(CliError::Refused(format!("encoder `{}` was not embedded", choice.name)));
        };
        let views: Vec<String> = id.views.iter().map(View::to_string).collect();
        let unnamed = EncoderIdentity { model_file: String::new(), ..id.clone() };
        let identity = serde_json::to_string(&unnamed).map_err(std::io::Error::from)?;
        let print = store::fingerprint(&[&fingerprint, &identity, &server]);
        about.push(EncoderSummary {
            name: choice.name.clone(),
            about: format!("{} ({})", id.model_file, views.join("; ")),
            dim: embedded.dim(),
            fingerprint: print.clone(),
        });
        data.push((choice.name.clone(), print));
        names.push(views);
        pairs.push(embedded.select(&kept));
    }
    let by_reason = vetted.report.left_out.iter().map(|(r, l)| (r.to_string(), l.len())).collect();
    let summary = summary(path, vetted.report.read, &pairs[0], by_reason, about);
    let identity = Identity { data };
    Ok(Pool { encoders, pairs, views: names, identity, summary, stored: Vec::new() })
}

fn note_left_out(vetted: &Vetted, reporter: &Reporter) {
    let (read, used) = (vetted.report.read, vetted.report.used);
    reporter.note(&format!("pairs: {read} read, {used} used, left out: {}", left_out(vetted)));
}

fn summary(
    path: &Path,
    read: usize,
    pairs: &EmbeddedPairs,
    left_out: BTreeMap<String, usize>,
    encoders: Vec<EncoderSummary>,
) -> DataSummary {
    let prompts: BTreeSet<u32> = pairs.prompts.iter().copied().collect();
    DataSummary {
        file: file_name(path),
        read,
        pairs: pairs.len(),
        prompts: prompts.len(),
        left_out,
        encoders,
    }
}

/// The files of an encoder's `arrays`.
fn array_files(file: &StudyFile, choice: &EncoderChoice) -> Result<Option<Vec<PathBuf>>, CliError> {
    let wrong =
        || file.bad(format!("encoders.{}.arrays", choice.name), "must be a file, or two .npy");
    match choice.settings.get("arrays") {
        None => Ok(None),
        Some(toml::Value::String(one)) => Ok(Some(vec![PathBuf::from(one)])),
        Some(toml::Value::Array(two)) if two.len() == 2 => {
            let path = |v: &toml::Value| v.as_str().map(PathBuf::from);
            let files: Option<Vec<PathBuf>> = two.iter().map(path).collect();
            Ok(Some(files.ok_or_else(wrong)?))
        }
        Some(_) => Err(wrong().into()),
    }
}

/// The columns of the views that an encoder of stored embeddings asks for; all where it asks for
/// none. With them what they are, where the file says it.
fn stored_columns(
    path: &Path,
    choice: &EncoderChoice,
    own: &Settings,
    dim: usize,
) -> Result<(Vec<Range<usize>>, Vec<String>), CliError> {
    let asked = own.views()?;
    let named = |k: &str| choice.settings.contains_key(k) || own.given.contains(k);
    let (views, layers) = stored_views(&ArrayFile::open(path)?, path)?;
    if !VIEW_SETTINGS.into_iter().any(named) {
        // All that the file says it holds, as far as that is all of it.
        let all: Vec<Range<usize>> = views.iter().map(|v| v.columns[0]..v.columns[1]).collect();
        if !covers(&all, dim) {
            return Ok((whole(dim), Vec::new()));
        }
        return Ok((all, views.iter().map(|v| v.view.to_string()).collect()));
    }
    let (mut columns, mut shown) = (Vec::new(), Vec::new());
    for asked in asked {
        let asked = layers.map_or(asked.clone(), |layers| counted(&asked, layers));
        let here: Vec<&StoredView> = views.iter().filter(|v| is_view(&v.view, &asked)).collect();
        if here.is_empty() {
            let held: Vec<String> = views.iter().map(|v| v.view.to_string()).collect();
            let held = if held.is_empty() { "does not say".to_owned() } else { held.join("; ") };
            return Err(CliError::Refused(format!(
                "{}: the view {asked} is not among those that the file holds ({held})",
                path.display()
            )));
        }
        for view in here {
            let [from, to] = view.columns;
            if from >= to || to > dim {
                return Err(CliError::Refused(format!(
                    "{}: metadata `{VIEWS_KEY}` names columns {from} to {to} of {dim}",
                    path.display()
                )));
            }
            columns.push(from..to);
            shown.push(view.view.to_string());
        }
    }
    Ok((columns, shown))
}

fn stored(
    file: &StudyFile,
    data: Option<&Path>,
    settings: &Settings,
    reporter: &Reporter,
    check: &dyn Fn(usize) -> Result<(), CliError>,
) -> Result<Pool, CliError> {
    let files_of = |choice: &EncoderChoice| -> Result<Vec<PathBuf>, CliError> {
        let files = array_files(file, choice)?.or_else(|| data.map(|d| vec![d.to_owned()]));
        files.ok_or_else(|| CliError::Refused("a study needs pairs".to_owned()))
    };
    let encoders = file.encoder_axis(|choice| -> Result<usize, CliError> {
        let path = &files_of(choice)?[0];
        let (views, _) = stored_views(&ArrayFile::open(path)?, path)?;
        let last = views.iter().map(|v| v.view.layer).max();
        last.ok_or_else(|| {
            file.bad("layers", format!("cannot be all: {} does not say its views", path.display()))
                .into()
        })
    })?;
    let mut loaded: Vec<(Vec<PathBuf>, [String; 2], Loaded)> = Vec::new();
    let mut of_encoder = Vec::new();
    for choice in &encoders {
        let known = |k: &&String| !VIEW_SETTINGS.iter().chain(&ARRAY_SETTINGS).any(|v| v == k);
        if let Some(key) = choice.settings.keys().find(known) {
            let key = format!("encoders.{}.{key}", choice.name);
            return Err(file
                .bad(key, "says how text is embedded, but these are embeddings")
                .into());
        }
        let own = settings_of(choice, settings)?;
        let files = files_of(choice)?;
        let keys = [own.chosen_key.clone(), own.rejected_key.clone()];
        let at = loaded.iter().position(|(f, k, _)| *f == files && *k == keys);
        let at = match at {
            Some(at) => at,
            None => {
                let new = load(&files, &own, reporter)?;
                loaded.push((files.clone(), keys, new));
                loaded.len() - 1
            }
        };
        of_encoder.push((at, own));
    }

    // Rows that every file has with two different sides.
    let total = |l: &Loaded| l.rows.len() + l.equal.len();
    let (first_files, _, first) = &loaded[0];
    for (files, _, other) in &loaded[1..] {
        if total(other) != total(first) {
            return Err(EvalError::OtherPairs {
                first: names(first_files),
                second: names(files),
                detail: format!("one has {} pairs, the other {}", total(first), total(other)),
            }
            .into());
        }
    }
    let equal: BTreeSet<usize> = loaded.iter().flat_map(|(_, _, l)| l.equal.clone()).collect();
    let pools: Vec<EmbeddedPairs> = loaded
        .iter()
        .map(|(_, _, l)| {
            let kept: Vec<usize> =
                (0..l.rows.len()).filter(|&i| !equal.contains(&l.rows[i])).collect();
            l.pairs.select(&kept)
        })
        .collect();
    for (pairs, (files, _, _)) in pools[1..].iter().zip(&loaded[1..]) {
        let detail = if renumbered(&pairs.prompts) != renumbered(&pools[0].prompts) {
            "their prompts are not grouped alike"
        } else if pairs.labels != pools[0].labels {
            "their ties or margins differ"
        } else {
            continue;
        };
        let (first, second) = (names(first_files), names(files));
        return Err(EvalError::OtherPairs { first, second, detail: detail.to_owned() }.into());
    }
    let path = data.map_or_else(|| first_files[0].clone(), Path::to_owned);
    if pools[0].is_empty() {
        let left_out = format!("{} identical-sides", equal.len());
        return Err(CliError::NothingLeft { path, left_out });
    }
    if !equal.is_empty() {
        reporter.note(&format!(
            "left out: {} of {} pairs have equal embeddings on both sides",
            equal.len(),
            total(first)
        ));
    }
    check(pools[0].len())?;
    let (mut pairs, mut about, mut print) = (Vec::new(), Vec::new(), Vec::new());
    let mut view_names = Vec::new();
    for (choice, (at, own)) in encoders.iter().zip(&of_encoder) {
        let (files, _, l) = &loaded[*at];
        let (columns, views) = stored_columns(&files[0], choice, own, l.pairs.dim())?;
        let range = |c: &Range<usize>| format!("columns {} to {}", c.start, c.end);
        // The same columns, however many views they are.
        let whole_file = covers(&columns, l.pairs.dim());
        let shown: Vec<String> = match whole_file {
            true => whole(l.pairs.dim()).iter().map(range).collect(),
            false => columns.iter().map(range).collect(),
        };
        let shown = shown.join("; ");
        // Numbers are those of the first, so that prompts are drawn in one order.
        let mut embedded = cut(&pools[*at], &columns)?;
        embedded.prompts = pools[0].prompts.clone();
        let fingerprint = store::fingerprint(&[&l.fingerprint, &shown, &format!("{equal:?}")]);
        let about_views =
            if views.is_empty() || whole_file { shown.clone() } else { views.join("; ") };
        about.push(EncoderSummary {
            name: choice.name.clone(),
            about: format!("{} ({about_views})", names(files)),
            dim: embedded.dim(),
            fingerprint: fingerprint.clone(),
        });
        view_names.push(views);
        print.push((choice.name.clone(), fingerprint));
        pairs.push(embedded);
    }
    let by_reason = match equal.len() {
        0 => BTreeMap::new(),
        n => BTreeMap::from([(Reason::IdenticalSides.to_string(), n)]),
    };
    let summary = summary(&path, total(first), &pairs[0], by_reason, about);
    Labels::count(pairs[0].labels.iter().copied()).note(settings, reporter);
    let stored = loaded.into_iter().map(|(_, _, l)| l).collect();
    let identity = Identity { data: print };
    Ok(Pool { encoders, pairs, views: view_names, identity, summary, stored })
}

/// Prompt numbers in the order of their first occurrence.
fn renumbered(prompts: &[u32]) -> Vec<usize> {
    let mut seen = std::collections::HashMap::new();
    let number = |&p: &u32| {
        let next = seen.len();
        *seen.entry(p).or_insert(next)
    };
    prompts.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn negative_layers_count_from_the_last() {
        let view = |l| ViewChoice { layer: LayerChoice::Index(l), ..ViewChoice::default() };
        assert_eq!(counted(&view(-1), 18), view(18));
        assert_eq!(counted(&view(-19), 18), view(0));
        assert_eq!(counted(&view(-20), 18), view(-20));
        assert_eq!(counted(&view(3), 18), view(3));
    }
}
