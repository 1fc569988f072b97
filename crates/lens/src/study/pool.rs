//! The pool of a study: the same pairs as each of its encoders has them.
//!
//! Text is embedded once for all encoders that differ only in which hidden states they take; stored
//! embeddings are cut by the views that they say they hold. A pair that the template of one encoder
//! refuses, or that it cannot tell the sides of, is left out for all, so that they are compared on the
//! same pairs.

use super::StudyOptions;
use crate::data_source;
use crate::encoded::{EncoderOf, encode_pairs, leave_out};
use crate::models::{matrix, note_encoder, open_encoder};
use crate::notes;
use crate::options::{EncoderTable, ModelOptions, StoredPairsOptions};
use crate::{Error, Progress};
use lens_core::{EmbeddedPairs, Label};
use lens_data::store::{StoredViews, covers_all, pairs_of_columns};
use lens_data::{
    ArrayFile, LabelCounts, LeftOut, Place, Reason, StoredPairs, Vetted, file_name, file_names,
    read_pairs_with, vet,
};
use lens_encoder::{EncoderIdentity, TextEncoder, View, ViewChoice};
use lens_eval::EvalError;
use lens_eval::study::file::{EncoderChoice, StudyFile};
use lens_eval::study::store::{self, Identity};
use lens_eval::study::summary::{DataSummary, EncoderSummary};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

/// Settings that say where stored embeddings are.
const ARRAY_SETTINGS: [&str; 3] = ["arrays", "chosen_key", "rejected_key"];
/// Settings that stored embeddings have: where they are, and which views of them are taken.
const STORED_SETTINGS: [&str; 7] =
    ["arrays", "chosen_key", "rejected_key", "layer", "layers", "pooling", "view"];

/// The pairs of a study.
pub(super) struct Pool {
    /// The encoders, with an entry for each layer and pooling.
    pub(super) encoders: Vec<EncoderChoice>,
    /// The pairs as each of them has them.
    pub(super) pairs: Vec<EmbeddedPairs>,
    /// The names of the views that lie side by side in each; none where nothing says it.
    pub(super) views: Vec<Vec<String>>,
    /// The fingerprints of the pairs.
    pub(super) identity: Identity,
    /// The pairs in words, for the report.
    pub(super) summary: DataSummary,
    stored: Vec<StoredPairs>,
}

impl Pool {
    /// Whether all embeddings could be read: asked before any result of work on the pairs is used.
    pub(super) fn check_reads(&self) -> Result<(), Error> {
        Ok(self.stored.iter().try_for_each(StoredPairs::check_reads)?)
    }
}

/// All columns, in one piece.
fn whole(width: usize) -> Vec<Range<usize>> {
    std::iter::once(0..width).collect()
}

/// Whether a file holds embeddings, not text.
fn is_stored(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "safetensors")
}

/// The name of an encoder's table in errors.
fn origin(choice: &EncoderChoice) -> String {
    match choice.name.as_str() {
        "" => "encoder".to_owned(),
        name => format!("encoders.{name}"),
    }
}

/// The table of an encoder.
fn table(choice: &EncoderChoice) -> Result<EncoderTable, Error> {
    let table = toml::Value::Table(choice.settings.clone());
    table.try_into().map_err(|e| Error::option(&origin(choice), e))
}

/// Reads and embeds the pairs of a study. `check` sees how many pairs there are before any of them is
/// embedded.
pub(super) fn pool(
    options: &StudyOptions,
    check: &dyn Fn(usize) -> Result<(), Error>,
    progress: &dyn Progress,
) -> Result<Pool, Error> {
    let base = options.study.encoder_tables()?;
    let arrays = base.iter().filter(|e| e.settings.contains_key("arrays")).count();
    match &options.data {
        Some(path) if !is_stored(path) => {
            if let Some(e) =
                base.iter().find(|e| ARRAY_SETTINGS.iter().any(|k| e.settings.contains_key(*k)))
            {
                let detail = format!(
                    "is of stored embeddings, but {} is text: embed it with `lens embed`, and give \
                     the study stored embeddings for all encoders",
                    path.display()
                );
                return Err(Error::option(&format!("encoders.{}", e.name), detail));
            }
            text(options, path, check, progress)
        }
        None if arrays < base.len() => Err(Error::Refused(
            "a study needs pairs: `lens study STUDY PAIRS`, or `arrays` for every encoder".into(),
        )),
        _ => stored(options, check, progress),
    }
}

/// The encoders of a study, each opened once: those that differ only in their views are one.
struct Encoders<'a> {
    opened: Vec<(ModelOptions, Box<dyn TextEncoder>)>,
    progress: &'a dyn Progress,
}

impl Encoders<'_> {
    /// The number of the encoder with these options, whatever its views.
    fn open(&mut self, options: &ModelOptions) -> Result<usize, Error> {
        // A server has but one view, which is its own affair.
        let same = |(known, _): &(ModelOptions, _)| {
            options.runtime.server.url.is_none()
                && known.with_views(options.views.clone()) == *options
        };
        if let Some(at) = self.opened.iter().position(same) {
            return Ok(at);
        }
        let encoder = open_encoder(options, self.progress)?;
        self.opened.push((options.clone(), encoder));
        Ok(self.opened.len() - 1)
    }
}

/// The pairs as one encoder of a study has them.
struct Embedded {
    pairs: EmbeddedPairs,
    /// The line of each.
    places: Vec<Place>,
    identity: EncoderIdentity,
    server: String,
}

fn text(
    options: &StudyOptions,
    path: &Path,
    check: &dyn Fn(usize) -> Result<(), Error>,
    progress: &dyn Progress,
) -> Result<Pool, Error> {
    let nothing_left = |vetted: &Vetted| Error::NothingToTrainOn {
        path: path.to_owned(),
        left_out: vetted.report.summary(),
    };
    let input = data_source::resolve(&path.into(), &options.model.runtime, progress)?;
    let data = read_pairs_with(&input, &options.reading, progress)?;
    notes::malformed(&data.malformed, progress);
    notes::layout(&data, progress);
    let mut vetted = vet(data);
    notes::no_prompt(&vetted, progress);
    if vetted.used.is_empty() {
        return Err(nothing_left(&vetted));
    }
    check(vetted.used.len())?;
    let counts = LabelCounts::count(vetted.used.iter().map(|r| r.value.label()));
    notes::labels(&counts, &options.settings.head, progress);
    let mut encoders = Encoders { opened: Vec::new(), progress };
    let choices = options.study.encoder_axis(|choice| -> Result<usize, Error> {
        let at = encoders.open(&table(choice)?.over_model(&options.model)?)?;
        Ok(encoders.opened[at].1.identity().layers)
    })?;

    // One pass for the choices of one encoder.
    let mut passes: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut views = Vec::new();
    for (i, choice) in choices.iter().enumerate() {
        let own = table(choice)?.over_model(&options.model)?;
        let at = encoders.open(&own)?;
        views.push(own.views);
        match passes.iter_mut().find(|(encoder, _)| *encoder == at) {
            Some((_, members)) => members.push(i),
            None => passes.push((at, vec![i])),
        }
    }
    let mut unusable: BTreeMap<Place, (Reason, LeftOut)> = BTreeMap::new();
    let mut embedded: Vec<Option<Embedded>> = choices.iter().map(|_| None).collect();
    for (at, members) in passes {
        let encoder = &mut encoders.opened[at].1;
        let pass = Pass { members: &members, views: &views, path, vetted: &vetted };
        let of_pass = pass.embed(encoder.as_mut(), &mut unusable, progress)?;
        for (member, pairs) in members.into_iter().zip(of_pass) {
            embedded[member] = Some(pairs);
        }
    }
    let usable = |place: &Place| !unusable.contains_key(place);
    let kept_of = |embedded: &Embedded| -> Vec<usize> {
        (0..embedded.places.len()).filter(|&i| usable(&embedded.places[i])).collect()
    };
    let kept: Vec<Option<Vec<usize>>> =
        embedded.iter().map(|one| one.as_ref().map(kept_of)).collect();
    leave_out(&mut vetted, unusable.into_values());
    if vetted.used.is_empty() {
        return Err(nothing_left(&vetted));
    }
    note_left_out(&vetted, progress);
    let fingerprint = vetted.fingerprint();
    let (mut pairs, mut about, mut data) = (Vec::new(), Vec::new(), Vec::new());
    let mut names = Vec::new();
    for (choice, (embedded, kept)) in choices.iter().zip(embedded.into_iter().zip(kept)) {
        let (Some(Embedded { pairs: all, identity, server, .. }), Some(kept)) = (embedded, kept)
        else {
            return Err(Error::Refused(format!("encoder `{}` was not embedded", choice.name)));
        };
        let views: Vec<String> = identity.views.iter().map(View::to_string).collect();
        let unnamed = EncoderIdentity { model_file: String::new(), ..identity.clone() };
        let own = store::fingerprint(&[&fingerprint, &json(&unnamed)?, &server]);
        about.push(EncoderSummary {
            name: choice.name.clone(),
            about: format!("{} ({})", identity.model_file, views.join("; ")),
            dim: all.dim(),
            fingerprint: own.clone(),
        });
        data.push((choice.name.clone(), own));
        names.push(views);
        pairs.push(all.select(&kept));
    }
    let left_out = vetted.report.counts();
    let summary = summary(path, vetted.report.read, &pairs[0], left_out, about);
    let identity = Identity { data };
    Ok(Pool { encoders: choices, pairs, views: names, identity, summary, stored: Vec::new() })
}

/// The pairs of a file, to be embedded once for all `members` of an encoder.
struct Pass<'a> {
    members: &'a [usize],
    /// The views of every choice.
    views: &'a [Vec<ViewChoice>],
    path: &'a Path,
    vetted: &'a Vetted,
}

impl Pass<'_> {
    /// Embeds the pairs. Those that the template refuses, or whose sides the encoder cannot tell apart,
    /// go into `unusable`, by their place.
    fn embed(
        &self,
        encoder: &mut dyn TextEncoder,
        unusable: &mut BTreeMap<Place, (Reason, LeftOut)>,
        progress: &dyn Progress,
    ) -> Result<Vec<Embedded>, Error> {
        let Pass { members, views, path, vetted } = *self;
        let layers = encoder.identity().layers;
        let mut union: Vec<ViewChoice> = Vec::new();
        for view in members.iter().flat_map(|&m| &views[m]) {
            let view = view.counted_from_zero(layers);
            if !union.contains(&view) {
                union.push(view);
            }
        }
        if encoder.server().is_none() {
            encoder.set_views(if members.len() == 1 { &views[members[0]] } else { &union })?;
        }
        note_encoder(encoder, progress);
        let files = [(path, &*vetted.used)];
        let encoded = encode_pairs(encoder, &files, EncoderOf::Options, progress)?;
        let numbers = vetted.prompt_numbers();
        let (mut sides, mut places) = (Vec::new(), Vec::new());
        let (mut prompts, mut labels): (Vec<u32>, Vec<Label>) = (Vec::new(), Vec::new());
        let rows = vetted.used.iter().zip(numbers);
        for ((row, prompt), pair) in rows.zip(encoded.into_iter().flatten()) {
            match pair {
                Ok(pair) => {
                    sides.push(pair);
                    places.push(row.place());
                    prompts.push(prompt);
                    labels.push(row.value.label());
                }
                Err(left_out) => drop(unusable.insert(row.place(), left_out)),
            }
        }
        let width = encoder.dim();
        let pairs = EmbeddedPairs::with_prompts(
            matrix(sides.iter().map(|[chosen, _]| chosen), width)?,
            matrix(sides.iter().map(|[_, rejected]| rejected), width)?,
            prompts,
        )?;
        let pairs = pairs.with_labels(labels)?;
        let id = encoder.identity().clone();
        let server = match encoder.server() {
            Some(record) => json(record)?,
            None => String::new(),
        };
        let of_member = |&member: &usize| {
            let (columns, of_member) = if members.len() == 1 {
                (whole(width), id.views.clone())
            } else {
                let mut columns = Vec::new();
                for asked in views[member].iter().map(|v| v.counted_from_zero(layers)) {
                    let here = id.views.iter().enumerate().filter(|(_, v)| asked.asks_for(v));
                    columns.extend(here.map(|(i, _)| i));
                }
                let of_member = columns.iter().map(|&i| id.views[i].clone()).collect();
                let at = |i: usize| i * id.dim..(i + 1) * id.dim;
                (columns.into_iter().map(at).collect(), of_member)
            };
            let identity = EncoderIdentity { views: of_member, ..id.clone() };
            let widths = vec![id.dim; identity.views.len()];
            let pairs = pairs_of_columns(&pairs, &columns)?.with_views(widths)?;
            Ok(Embedded { pairs, places: places.clone(), identity, server: server.clone() })
        };
        members.iter().map(of_member).collect()
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|e| Error::option("encoder", e))
}

fn note_left_out(vetted: &Vetted, progress: &dyn Progress) {
    let (read, used) = (vetted.report.read, vetted.report.used);
    progress
        .note(&format!("pairs: {read} read, {used} used, left out: {}", vetted.report.summary()));
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

/// The columns of the views that an encoder of stored embeddings asks for, all where it asks for none,
/// and their names, where the file says them.
fn stored_columns(
    stored: &StoredPairs,
    table: &EncoderTable,
    options: &StudyOptions,
) -> Result<(Vec<Range<usize>>, Vec<String>), Error> {
    let asked = match table.names_views() {
        true => table.views(options.stored_views())?,
        false => options.stored_views().to_vec(),
    };
    let found = stored.views.columns(&asked, stored.pairs.dim())?;
    Ok((found.columns, found.views.iter().map(View::to_string).collect()))
}

/// Refuses settings of an encoder that say how text is embedded.
fn check_stored(file: &StudyFile, choice: &EncoderChoice) -> Result<(), Error> {
    match choice.settings.keys().find(|key| !STORED_SETTINGS.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let key = format!("encoders.{}.{key}", choice.name);
            Err(file.bad(key, "says how text is embedded, but these are embeddings").into())
        }
    }
}

fn stored(
    options: &StudyOptions,
    check: &dyn Fn(usize) -> Result<(), Error>,
    progress: &dyn Progress,
) -> Result<Pool, Error> {
    let (file, data) = (&options.study, options.data.as_ref());
    let files_of = |choice: &EncoderChoice| -> Result<StoredPairsOptions, Error> {
        let arrays = choice.settings.get("arrays");
        let is_file = |v: &toml::Value| v.is_str();
        let fits = arrays.is_none_or(|a| {
            is_file(a) || a.as_array().is_some_and(|a| a.len() == 2 && a.iter().all(is_file))
        });
        if !fits {
            let key = format!("encoders.{}.arrays", choice.name);
            return Err(file.bad(key, "must be a file, or two .npy").into());
        }
        let base = StoredPairsOptions { views: Vec::new(), ..options.stored.clone() };
        table(choice)?.over_stored(&base, data)
    };
    let encoders = file.encoder_axis(|choice| -> Result<usize, Error> {
        let path = &files_of(choice)?.files[0];
        let last = StoredViews::read(&ArrayFile::open(path)?)?.last_layer();
        last.ok_or_else(|| {
            file.bad("layers", format!("cannot be all: {} does not say its views", path.display()))
                .into()
        })
    })?;
    let mut loaded: Vec<(StoredPairsOptions, StoredPairs)> = Vec::new();
    let mut of_encoder = Vec::new();
    for choice in &encoders {
        check_stored(file, choice)?;
        let own = files_of(choice)?;
        let at = match loaded.iter().position(|(known, _)| *known == own) {
            Some(at) => at,
            None => {
                let pairs = own.open(progress)?;
                loaded.push((own, pairs));
                loaded.len() - 1
            }
        };
        of_encoder.push((at, table(choice)?));
    }

    // Rows that every file has with two different sides.
    let total = |l: &StoredPairs| l.report.read;
    let (first_options, first) = &loaded[0];
    let first_files = &first_options.files;
    for (StoredPairsOptions { files, .. }, other) in &loaded[1..] {
        if total(other) != total(first) {
            return Err(EvalError::OtherPairs {
                first: file_names(first_files),
                second: file_names(files),
                detail: format!("one has {} pairs, the other {}", total(first), total(other)),
            }
            .into());
        }
    }
    let equal: BTreeSet<usize> = loaded.iter().flat_map(|(_, l)| l.equal_rows()).collect();
    let pools: Vec<EmbeddedPairs> = loaded
        .iter()
        .map(|(_, l)| {
            let kept: Vec<usize> =
                (0..l.rows.len()).filter(|&i| !equal.contains(&l.rows[i])).collect();
            l.pairs.select(&kept)
        })
        .collect();
    for (pairs, (StoredPairsOptions { files, .. }, _)) in pools[1..].iter().zip(&loaded[1..]) {
        let detail = if renumbered(&pairs.prompts) != renumbered(&pools[0].prompts) {
            "their prompts are not grouped alike"
        } else if pairs.labels != pools[0].labels {
            "their ties or margins differ"
        } else {
            continue;
        };
        let (first, second) = (file_names(first_files), file_names(files));
        return Err(EvalError::OtherPairs { first, second, detail: detail.to_owned() }.into());
    }
    let path = data.cloned().unwrap_or_else(|| first_files[0].clone());
    if pools[0].is_empty() {
        let left_out = format!("{} identical-sides", equal.len());
        return Err(Error::NothingToTrainOn { path, left_out });
    }
    if !equal.is_empty() {
        progress.note(&format!(
            "left out: {} of {} pairs have equal embeddings on both sides",
            equal.len(),
            total(first)
        ));
    }
    check(pools[0].len())?;
    let (mut pairs, mut about, mut print) = (Vec::new(), Vec::new(), Vec::new());
    let mut view_names = Vec::new();
    for (choice, (at, table)) in encoders.iter().zip(&of_encoder) {
        let (StoredPairsOptions { files, .. }, l) = &loaded[*at];
        let (columns, views) = stored_columns(l, table, options)?;
        let range = |c: &Range<usize>| format!("columns {} to {}", c.start, c.end);
        // The same columns, however many views they are.
        let whole_file = covers_all(&columns, l.pairs.dim());
        let shown: Vec<String> = match whole_file {
            true => whole(l.pairs.dim()).iter().map(range).collect(),
            false => columns.iter().map(range).collect(),
        };
        let shown = shown.join("; ");
        // Numbers are those of the first, so that prompts are drawn in one order.
        let mut embedded = pairs_of_columns(&pools[*at], &columns)?;
        embedded.prompts = pools[0].prompts.clone();
        let fingerprint = store::fingerprint(&[&l.fingerprint, &shown, &format!("{equal:?}")]);
        let about_views =
            if views.is_empty() || whole_file { shown.clone() } else { views.join("; ") };
        about.push(EncoderSummary {
            name: choice.name.clone(),
            about: format!("{} ({about_views})", file_names(files)),
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
    let counts = LabelCounts::count(pairs[0].labels.iter().copied());
    notes::labels(&counts, &options.settings.head, progress);
    let stored = loaded.into_iter().map(|(_, l)| l).collect();
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
