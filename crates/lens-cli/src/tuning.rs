//! `views = "auto"` and `augment = "auto"`: which views of the texts are candidates, the search, and
//! how it is shown.

use crate::embedding::open_encoder;
use crate::error::CliError;
use crate::output::percent;
use crate::progress::Reporter;
use crate::settings::{Augment, Settings, Views};
use lens_core::{CoreError, EmbeddedPairs, MethodSettings, Progress};
use lens_data::bundle::Kept;
use lens_encoder::{LayerChoice, Pooling, TextEncoder, ViewChoice};
use lens_eval::report::{Block, Cell, Column, Format, Section, Table, TableRow};
use lens_eval::tuning::{Choices, Tuned, What, tune};

/// Opens the encoder with every view that is a candidate: those that the settings list, or, where they
/// name one, that one first, and with it the last layer and those one and two thirds up, pooled both
/// ways, and a question about the response. All of them come from one pass.
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
    if settings.views == Views::Fixed {
        return Ok((encoder, own));
    }
    if only.suffix.is_some() || settings.server.is_some() || layers < 2 {
        reporter.note("the view of the texts is taken as it is: there is no other to choose from");
        return Ok((encoder, own));
    }
    let mut views = own.clone();
    let mut add = |view: ViewChoice| {
        if !views.iter().any(|v| same(v, &view, layers)) {
            views.push(view);
        }
    };
    // Encoders such as BERT have no last token that has seen everything, but a first one.
    let both_ways = ENCODERS.contains(&&*encoder.identity().architecture);
    let token = if both_ways { Pooling::First } else { Pooling::Last };
    // One and two thirds up, and the last: for each of them what that token knows and the mean.
    for layer in [layers.div_ceil(3), (2 * layers).div_ceil(3), layers] {
        let layer = LayerChoice::Index(i32::try_from(layer).unwrap_or(i32::MAX));
        for pooling in [token, Pooling::Mean] {
            add(ViewChoice { layer, pooling, suffix: None });
        }
    }
    if !both_ways {
        add(ViewChoice { suffix: Some(QUESTION.to_owned()), ..ViewChoice::default() });
    }
    let wide =
        Settings { view: views.iter().map(shown).collect(), layers: None, ..settings.clone() };
    Ok((open_encoder(&wide, reporter)?, views))
}

/// What is asked about each response, for one more view of it.
pub const QUESTION: &str = " Is this answer helpful, honest and harmless? Answer:";

/// Architectures whose tokens see both ways.
const ENCODERS: [&str; 2] = ["bert", "xlm-roberta"];

/// Whether two choices are one view of a model with so many layers.
fn same(a: &ViewChoice, b: &ViewChoice, layers: usize) -> bool {
    let counted = |layer| match layer {
        LayerChoice::Index(l) if l < 0 => i64::from(l) + layers as i64 + 1,
        LayerChoice::Index(l) => i64::from(l),
        LayerChoice::All => i64::MAX,
    };
    counted(a.layer) == counted(b.layer) && a.pooling == b.pooling && a.suffix == b.suffix
}

/// As the setting `view` has it.
fn shown(view: &ViewChoice) -> String {
    let ViewChoice { layer, pooling, suffix } = view;
    let suffix = suffix.as_ref().map_or(String::new(), |s| format!(",suffix={s}"));
    format!("layer={layer},pooling={pooling}{suffix}")
}

/// Searches, from the settings as they are, among the views of the pairs, and says what came of it.
/// `None` where the choice was not asked for and there are too few pairs for it.
pub fn search(
    pairs: &EmbeddedPairs,
    candidates: &[ViewChoice],
    settings: &Settings,
    reporter: &Reporter,
) -> Result<Option<Tuned>, CliError> {
    let names: Vec<String> = candidates.iter().map(shown).collect();
    // Views that are listed are asked for, all of them; of one, the others are ours.
    let asked =
        settings.views()?.len().max(if settings.layers.is_some() { names.len() } else { 1 });
    let choices = choices(asked, settings);
    match tune(pairs, &names, &settings.method(), &choices, reporter) {
        Err(CoreError::TooFewPairs { needed, found, .. }) if settings.is_default_choice() => {
            reporter.note(&format!(
                "views and head are the first of their kind, not chosen: {found} pairs are too few to \
                 choose by ({needed} are needed)"
            ));
            Ok(None)
        }
        found => Ok(Some(found?)),
    }
}

/// What is to be chosen, where so many views were asked for.
fn choices(asked: usize, settings: &Settings) -> Choices {
    Choices {
        asked,
        heads: settings.views == Views::Auto,
        augment: settings.augment == Augment::Auto,
        ..Choices::default()
    }
}

/// The search for stored embeddings, whose views are taken as they are.
pub struct OnStored {
    names: Vec<String>,
    choices: Choices,
}

impl OnStored {
    /// For embeddings with so many views, whatever they are called.
    pub fn new(views: usize, settings: &Settings) -> Self {
        let names = match views {
            1 => vec!["the embeddings".to_owned()],
            n => (1..=n).map(|i| format!("view {i}")).collect(),
        };
        OnStored { names, choices: choices(views, settings) }
    }

    /// Searches on these pairs alone.
    pub fn tune(
        &self,
        pairs: &EmbeddedPairs,
        method: &MethodSettings,
        progress: &dyn Progress,
    ) -> Result<Tuned, CoreError> {
        tune(pairs, &self.names, method, &self.choices, progress)
    }
}

/// The method with what was chosen: the head, and the augmentation where that was to be chosen.
pub fn chosen_method(
    method: &MethodSettings,
    tuned: &Tuned,
    settings: &Settings,
) -> MethodSettings {
    match settings.augment {
        Augment::Auto => tuned.settings.clone(),
        Augment::Factor(_) => {
            MethodSettings { head: tuned.settings.head.clone(), ..method.clone() }
        }
    }
}

/// The settings with the first view alone, where nothing was chosen.
pub fn unchosen(settings: &Settings, candidates: &[ViewChoice]) -> Settings {
    Settings {
        view: candidates.first().map(shown).into_iter().collect(),
        views: Views::Fixed,
        layers: None,
        ..settings.clone()
    }
}

/// The settings with what was chosen in the place of what was asked for.
pub fn settled(settings: &Settings, tuned: &Tuned, candidates: &[ViewChoice]) -> Settings {
    Settings {
        view: tuned.views.iter().map(|&v| shown(&candidates[v])).collect(),
        layers: None,
        ..settled_method(settings, tuned)
    }
}

/// The same where the views are not the tool's to name.
pub fn settled_method(settings: &Settings, tuned: &Tuned) -> Settings {
    let MethodSettings { augment, source, vae, synthesis, rivals, head, .. } =
        chosen_method(&settings.method(), tuned, settings);
    let augment = Augment::Factor(augment);
    let views = Views::Fixed;
    Settings { views, augment, source, vae, synthesis, rivals, head, ..settings.clone() }
}

/// Which head is kept, and why, where augmentation was tried.
pub fn decision(tuned: &Tuned) -> Option<(Kept, String)> {
    let gain = tuned.nested.gain?;
    let why = format!(
        "on {} outer folds of the training pairs, each judged by what did not see it, it changes \
         log-loss by {:+.4}, standard error {:.4}",
        tuned.nested.folds, -gain.mean, gain.standard_error
    );
    Some(match tuned.augment {
        true => (Kept::Augmented, format!("augmented ({why})")),
        false => (Kept::None, format!("without augmentation, which does not win here ({why})")),
    })
}

/// A line for the result table of each thing that was chosen.
pub fn lines(tuned: &Tuned) -> Vec<(String, String)> {
    let nested = &tuned.nested;
    let with = nested.augmented.as_ref();
    let with = with.map_or(String::new(), |a| format!(", {} with augmentation", percent(a.value)));
    let mut lines = vec![(
        "chosen".to_owned(),
        format!(
            "on the training pairs alone, of {} candidates; by {} outer folds of them: {} as asked, {} \
             as chosen{with}",
            tuned.tried.len(),
            nested.folds,
            percent(nested.asked.value),
            percent(nested.chosen.value),
        ),
    )];
    for (what, name) in KINDS {
        let of: Vec<_> = tuned.tried.iter().filter(|t| t.what == what).collect();
        if let Some(best) = of.iter().find(|t| t.best).filter(|_| of.len() > 1) {
            let figure = best.log_loss.unwrap_or(f64::NAN);
            let text = format!("{}, log-loss {figure:.4} ({} tried)", best.label, of.len());
            lines.push((format!("  {name}"), text));
        }
    }
    lines
}

const KINDS: [(What, &str); 2] = [(What::Head, "views and head"), (What::Source, "source")];

fn kind(what: What) -> &'static str {
    KINDS.iter().find(|(of, _)| *of == what).map_or("", |(_, name)| name)
}

/// Everything that was tried, as Markdown.
pub fn listed(tuned: &Tuned) -> String {
    let mut text = "\n## What was tried\n\nLog-loss and accuracy on outer folds of the training pairs, \
                    each judged by what did not see it; the best of each kind is marked and the next \
                    kind starts from it.\n\n\
                    | for | candidate | log-loss | accuracy | |\n|---|---|---|---|---|\n"
        .to_owned();
    for tried in &tuned.tried {
        let kind = kind(tried.what);
        let figure =
            |x: Option<f64>, shown: &dyn Fn(f64) -> String| x.map_or("ran away".to_owned(), shown);
        text.push_str(&format!(
            "| {kind} | {} | {} | {} | {} |\n",
            tried.label.replace('|', "\\|"),
            figure(tried.log_loss, &|x| format!("{x:.4}")),
            figure(tried.accuracy, &percent),
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
        let loss = tried.log_loss.map_or("ran away".to_owned(), |x| format!("{x:.4}"));
        let accuracy = tried.accuracy.map_or(String::new(), percent);
        let cells = [kind.to_owned(), tried.label.clone(), loss, accuracy].map(Cell::text).into();
        TableRow { cells, highlight: tried.best }
    };
    let nested = &tuned.nested;
    let interval = |name: &str, e: &lens_core::metrics::Estimate, format| {
        let cell = Cell::Interval { value: e.value, low: e.ci95[0], high: e.ci95[1], format };
        TableRow::plain(vec![Cell::text(name), cell])
    };
    let taken = match decision(tuned) {
        Some((_, decision)) => {
            format!(" Augmentation is taken only where it wins there: {decision}.")
        }
        None => String::new(),
    };
    let said = format!(
        "Views and head were chosen on the training pairs alone: every candidate was trained {} times, \
         each without a part of the pairs, and judged on that part. The lowest of many figures is too \
         low, so below each part is judged by what the other parts would have chosen.{taken}",
        nested.folds,
    );
    let mut rows = vec![
        interval("as asked, without augmentation", &nested.asked, Format::Percent),
        interval("chosen, without augmentation", &nested.chosen, Format::Percent),
        interval("what choosing adds, points", &nested.gained, Format::Points),
    ];
    if let (Some(with), Some(difference)) = (&nested.augmented, &nested.difference) {
        rows.push(interval("chosen, with augmentation", with, Format::Percent));
        rows.push(interval("what augmentation adds, points", difference, Format::Points));
    }
    let outer = Table {
        caption: "Accuracy on pairs that the choice did not see, 95% intervals".to_owned(),
        columns: vec![Column::text("settings"), Column::number("accuracy")],
        rows,
    };
    let tried = Table {
        caption:
            "Everything that was tried, on the outer folds; the best of each kind stands out, and \
             the next kind starts from it"
                .to_owned(),
        columns,
        rows: tuned.tried.iter().map(row).collect(),
    };
    let blocks = vec![Block::Paragraph(said), Block::Table(outer), Block::Table(tried)];
    Section { id: "tuning".to_owned(), heading: "How the settings were chosen".to_owned(), blocks }
}
