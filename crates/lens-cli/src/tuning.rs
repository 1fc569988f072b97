//! `augment = "auto"`: which views of the texts are candidates, the search, and how it is shown.

use crate::embedding::open_encoder;
use crate::error::CliError;
use crate::output::percent;
use crate::progress::Reporter;
use crate::settings::{Augment, Settings};
use lens_core::{EmbeddedPairs, Progress};
use lens_data::bundle::Kept;
use lens_encoder::{LayerChoice, Pooling, TextEncoder, ViewChoice};
use lens_eval::report::{Block, Cell, Column, Format, Section, Table, TableRow};
use lens_eval::tuning::{Choices, Tuned, View, What, tune};

/// Opens the encoder with every view that is a candidate: those that the settings list, or, where they
/// name one, that one first, and with it the other pooling and a layer two thirds up. All of them come
/// from one pass.
pub fn open_with_views(
    settings: &Settings,
    reporter: &Reporter,
) -> Result<(Box<dyn TextEncoder>, Vec<ViewChoice>), CliError> {
    let encoder = open_encoder(settings, reporter)?;
    let own = settings.views()?;
    let layers = encoder.identity().layers;
    let [only] = &own[..] else {
        // `all` stands for every layer; the encoder has resolved it.
        let views = &encoder.identity().views;
        let choice = |v: &lens_encoder::View| crate::embedding::as_asked(v);
        let views = views.iter().map(choice).collect();
        return Ok((encoder, views));
    };
    if only.suffix.is_some() || settings.server.is_some() || layers < 2 {
        reporter.note("tuning: the view of the texts is taken as it is");
        return Ok((encoder, own));
    }
    let middle = i32::try_from(2 * layers / 3).unwrap_or(i32::MAX);
    let mut views = own.clone();
    for layer in [only.layer, LayerChoice::Index(middle)] {
        for pooling in [Pooling::Last, Pooling::Mean] {
            let view = ViewChoice { layer, pooling, suffix: None };
            if !views.contains(&view) {
                views.push(view);
            }
        }
    }
    let wide =
        Settings { view: views.iter().map(shown).collect(), layers: None, ..settings.clone() };
    Ok((open_encoder(&wide, reporter)?, views))
}

/// As the setting `view` has it.
fn shown(view: &ViewChoice) -> String {
    let ViewChoice { layer, pooling, suffix } = view;
    let suffix = suffix.as_ref().map_or(String::new(), |s| format!(",suffix={s}"));
    format!("layer={layer},pooling={pooling}{suffix}")
}

/// Which candidate views there are, side by side in the columns of the embeddings.
pub struct Views {
    /// What each is.
    pub choices: Vec<ViewChoice>,
    /// Width of each.
    width: usize,
}

impl Views {
    /// Of the embeddings of an encoder.
    pub fn of(encoder: &dyn TextEncoder, choices: Vec<ViewChoice>) -> Views {
        let width = encoder.dim() / choices.len().max(1);
        Views { choices, width }
    }

    /// Only the columns of view `number`.
    pub fn cut(&self, pairs: &EmbeddedPairs, number: usize) -> Result<EmbeddedPairs, CliError> {
        if pairs.is_empty() && pairs.dim() == 0 {
            return Ok(pairs.clone());
        }
        Ok(pairs.columns(number * self.width..(number + 1) * self.width)?)
    }
}

/// Searches, from the settings as they are, and says what came of it.
pub fn search(
    pairs: &EmbeddedPairs,
    views: &Views,
    settings: &Settings,
    reporter: &Reporter,
) -> Result<Tuned, CliError> {
    let each = views.choices.iter().enumerate().map(|(i, choice)| {
        Ok::<View, CliError>(View { name: shown(choice), pairs: views.cut(pairs, i)? })
    });
    let each = each.collect::<Result<Vec<View>, CliError>>()?;
    Ok(tune(&each, &settings.method(), &Choices::default(), reporter)?)
}

/// The settings with what was chosen in the place of what was asked for.
pub fn settled(settings: &Settings, tuned: &Tuned, views: &Views) -> Settings {
    let view = &views.choices[tuned.view];
    let chosen = &tuned.settings;
    Settings {
        view: vec![shown(view)],
        layers: None,
        augment: Augment::Factor(chosen.augment),
        source: chosen.source,
        vae: chosen.vae.clone(),
        synthesis: chosen.synthesis.clone(),
        rivals: chosen.rivals.clone(),
        head: chosen.head.clone(),
        ..settings.clone()
    }
}

/// Which head is kept, and why.
pub fn decision(tuned: &Tuned) -> (Kept, String) {
    let gain = tuned.nested.gain;
    let why = format!(
        "on {} outer folds of the training pairs, which the search did not see, it changes log-loss \
         by {:+.4}, standard error {:.4}",
        tuned.nested.folds, -gain.mean, gain.standard_error
    );
    match tuned.augment {
        true => (Kept::Augmented, format!("augmented ({why})")),
        false => (Kept::None, format!("without augmentation, which does not win here ({why})")),
    }
}

/// A line for the result table of each thing that was chosen.
pub fn lines(tuned: &Tuned) -> Vec<(String, String)> {
    let nested = &tuned.nested;
    let mut lines = vec![(
        "tuned".to_owned(),
        format!(
            "{} heads tried on the training pairs alone; on pairs that the search did not see: {} \
             untuned, {} tuned, {} with augmentation",
            tuned.tried.len(),
            percent(nested.untuned.value),
            percent(nested.none.value),
            percent(nested.augmented.value),
        ),
    )];
    for (what, name) in KINDS {
        let of: Vec<_> = tuned.tried.iter().filter(|t| t.what == what).collect();
        if let Some(best) = of.iter().find(|t| t.best).filter(|_| of.len() > 1) {
            let figure = best.fold_log_loss.unwrap_or(f64::NAN);
            let text = format!("{}, log-loss {figure:.4} ({} tried)", best.label, of.len());
            lines.push((format!("  {name}"), text));
        }
    }
    lines
}

const KINDS: [(What, &str); 4] = [
    (What::View, "view"),
    (What::WeightDecay, "weight decay"),
    (What::Source, "source"),
    (What::Factor, "factor"),
];

fn kind(what: What) -> &'static str {
    KINDS.iter().find(|(of, _)| *of == what).map_or("", |(_, name)| name)
}

/// Everything that was tried, as Markdown.
pub fn listed(tuned: &Tuned) -> String {
    let mut text = "\n## What was tried\n\nLog-loss and accuracy on the folds of the training pairs, of \
                    all of them; the best of each kind is marked and the next kind starts from it.\n\n\
                    | for | candidate | log-loss | accuracy | |\n|---|---|---|---|---|\n"
        .to_owned();
    for tried in &tuned.tried {
        let kind = kind(tried.what);
        let figure =
            |x: Option<f64>, shown: &dyn Fn(f64) -> String| x.map_or("ran away".to_owned(), shown);
        text.push_str(&format!(
            "| {kind} | {} | {} | {} | {} |\n",
            tried.label.replace('|', "\\|"),
            figure(tried.fold_log_loss, &|x| format!("{x:.4}")),
            figure(tried.fold_accuracy, &percent),
            if tried.best { "best" } else { "" }
        ));
    }
    text
}

/// The same for the page of the report.
pub fn section(tuned: &Tuned) -> Section {
    let mut columns = vec![Column::text("for"), Column::text("candidate")];
    columns.extend([Column::number("log-loss"), Column::number("accuracy")]);
    let row = |tried: &lens_eval::tuning::Tried| {
        let kind = kind(tried.what);
        let loss = tried.fold_log_loss.map_or("ran away".to_owned(), |x| format!("{x:.4}"));
        let accuracy = tried.fold_accuracy.map_or(String::new(), percent);
        let cells = [kind.to_owned(), tried.label.clone(), loss, accuracy].map(Cell::text).into();
        TableRow { cells, highlight: tried.best }
    };
    let nested = &tuned.nested;
    let interval = |name: &str, e: &lens_core::metrics::Estimate, format| {
        let cell = Cell::Interval { value: e.value, low: e.ci95[0], high: e.ci95[1], format };
        TableRow::plain(vec![Cell::text(name), cell])
    };
    let said = format!(
        "Settings were chosen on the training pairs alone. The search was then put to the test: it was \
         repeated {} times, each without a part of the pairs, and what it chose there was measured on \
         that part. Augmentation is taken only where it wins there: {}.",
        nested.folds,
        decision(tuned).1
    );
    let outer = Table {
        caption: "Accuracy on pairs that the search did not see, 95% intervals".to_owned(),
        columns: vec![Column::text("settings"), Column::number("accuracy")],
        rows: vec![
            interval("as they were, without augmentation", &nested.untuned, Format::Percent),
            interval("chosen, without augmentation", &nested.none, Format::Percent),
            interval("chosen, with augmentation", &nested.augmented, Format::Percent),
            interval("what augmentation adds, points", &nested.difference, Format::Points),
        ],
    };
    let tried = Table {
        caption:
            "Everything that was tried on all training pairs, on their folds; the best of each \
                  kind stands out, and the next kind starts from it"
                .to_owned(),
        columns,
        rows: tuned.tried.iter().map(row).collect(),
    };
    let blocks = vec![Block::Paragraph(said), Block::Table(outer), Block::Table(tried)];
    Section { id: "tuning".to_owned(), heading: "How the settings were chosen".to_owned(), blocks }
}
