#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::arrays::{Array2, FloatType, Tensor, write_tensors};
use crate::encoder::{EncoderIdentity, Pooling, SpecialTokens, TemplateChoice, View, ViewChoice};
use crate::error::Error;
use crate::vet::Reason;
use lens_core::{CoreError, Label, Quiet, Rows};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tempfile::TempDir;

const PAIRS: usize = 4;
/// Two views of width 3.
const DIM: usize = 3;

fn record() -> EncoderRecord {
    let view = |layer, pooling| View { layer, pooling, suffix: None };
    EncoderRecord {
        model: "tiny".into(),
        template: TemplateChoice::Custom("{{ x }}".into()),
        identity: EncoderIdentity {
            model_file: "tiny.gguf".into(),
            model_sha256: "00".into(),
            architecture: "gemma3".into(),
            dim: DIM,
            layers: 6,
            template: "custom".into(),
            template_sha256: "11".into(),
            add_bos: true,
            add_eos: false,
            special_tokens: SpecialTokens::Text,
            views: vec![view(6, Pooling::Last), view(2, Pooling::Mean)],
            dtype: "f32".into(),
            max_length: 64,
        },
        server: None,
    }
}

fn table(offset: f32) -> Array2 {
    let data = (0..PAIRS * 2 * DIM).map(|i| i as f32 + offset).collect();
    Array2::new(PAIRS, 2 * DIM, data).unwrap()
}

/// Both sides; those of pair 2 are equal.
fn tables() -> [Array2; 2] {
    let (chosen, mut rejected) = (table(0.0), table(0.5));
    let row = 2 * 2 * DIM..3 * 2 * DIM;
    rejected.data[row.clone()].copy_from_slice(&chosen.data[row]);
    [chosen, rejected]
}

struct Home(TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file as `lens embed` writes it.
    fn embedded(&self, name: &str, labels: &[Label], prompts: PromptColumn<'_>) -> PathBuf {
        let [chosen, rejected] = tables();
        let file = EmbeddingsFile {
            tables: &[(keys::CHOSEN, &chosen), (keys::REJECTED, &rejected)],
            dtype: FloatType::F32,
            lines: &[1, 2, 4, 5],
            prompts,
            labels,
            encoder: &record(),
        };
        let path = self.path(name);
        file.write(&path).unwrap();
        path
    }

    /// A file from elsewhere: both sides, and what else is named.
    fn foreign(&self, more: &[(&str, Tensor<'_>)], metadata: &[(&str, &str)]) -> PathBuf {
        let sides = tables();
        let mut arrays = vec![
            (keys::CHOSEN, Tensor::Floats(&sides[0], FloatType::F32)),
            (keys::REJECTED, Tensor::Floats(&sides[1], FloatType::F32)),
        ];
        arrays.extend_from_slice(more);
        let metadata = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let path = self.path("foreign.safetensors");
        write_tensors(&path, &arrays, &metadata).unwrap();
        path
    }
}

fn open(path: &PathBuf) -> Result<StoredPairs, Error> {
    StoredPairs::open(std::slice::from_ref(path), &StoreKeys::default(), 1 << 20, &Quiet)
}

fn row(rows: &dyn Rows, i: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows.dim()];
    rows.read(i, &mut out);
    out
}

#[test]
fn pairs_are_read_as_they_were_written() {
    let home = Home::new();
    let margin = Label::Preferred { margin: 0.5 };
    let labels = [Label::default(), margin, Label::Tie, Label::Tie];
    let path = home.embedded("e.safetensors", &labels, PromptColumn::Keys(&[7, -1, 7, 7]));
    let stored = open(&path).unwrap();
    assert_eq!(stored.encoder, Some(record()));
    assert_eq!(stored.rows, [0, 1, 3]);
    assert_eq!(stored.equal_rows(), [2]);
    assert_eq!(stored.report.summary(), "1 identical-sides");
    assert_eq!((stored.report.read, stored.report.used), (4, 3));
    assert_eq!(stored.report.left_out[&Reason::IdenticalSides][0].line, 3);
    assert_eq!(stored.pairs.prompts, [0, 1, 0]);
    assert_eq!(stored.prompt_keys, Some(vec![7, -1, 7]));
    assert_eq!(stored.pairs.labels, [Label::default(), margin, Label::Tie]);
    assert_eq!(stored.pairs.views, [DIM, DIM]);
    assert_eq!(row(&stored.pairs.chosen, 2), tables()[0].row(3).unwrap());
    assert_eq!(row(&stored.pairs.rejected, 2), tables()[1].row(3).unwrap());
    stored.check_reads().unwrap();

    // The same where they stay in the file.
    let keys = StoreKeys::default();
    let lazy = StoredPairs::open(std::slice::from_ref(&path), &keys, 0, &Quiet).unwrap();
    assert_eq!(lazy.fingerprint, stored.fingerprint);
    assert_eq!(row(&lazy.pairs.chosen, 1), row(&stored.pairs.chosen, 1));

    let text = StoredTable::open(&path, Some("chosen"), &Quiet).unwrap();
    assert_eq!((text.rows.shape(), text.encoder), ([PAIRS, 2 * DIM], Some(record())));
}

#[test]
fn the_names_in_a_file_are_pinned() {
    let home = Home::new();
    let labels = [Label::Preferred { margin: 1.0 }, Label::Tie, Label::default(), Label::default()];
    let path = home.embedded("e.safetensors", &labels, PromptColumn::Keys(&[7, -1, 7, 7]));
    let file = ArrayFile::open(&path).unwrap();
    assert_eq!(file.keys(), ["prompt", "row", "tie", "chosen", "margin", "rejected"]);
    let metadata = file.metadata();
    let entries: Vec<&str> = metadata.keys().map(String::as_str).collect();
    assert_eq!(entries, ["encoder", "lens_version", "prompt", "views"]);
    assert_eq!(metadata["prompt"], "lens-prompt-v1");
    assert_eq!(
        metadata["views"],
        "[{\"columns\":[0,3],\"view\":{\"layer\":6,\"pooling\":\"last\"}},\
         {\"columns\":[3,6],\"view\":{\"layer\":2,\"pooling\":\"mean\"}}]"
    );
    assert!(metadata["encoder"].starts_with(
        "{\"model\":\"tiny\",\"template\":{\"custom\":\"{{ x }}\"},\"identity\":{\"model_file\":"
    ));

    // Neither labels nor prompts where there are none, and numbers that mean nothing elsewhere.
    let path = home.embedded("n.safetensors", &[], PromptColumn::Numbers(&[0, 0, 1, 2]));
    let file = ArrayFile::open(&path).unwrap();
    assert_eq!(file.keys(), ["prompt", "row", "chosen", "rejected"]);
    assert!(!file.metadata().contains_key("prompt"));
    let stored = open(&path).unwrap();
    assert_eq!((stored.prompt_keys, stored.pairs.prompts), (None, vec![0, 0, 2]));
    let path = home.embedded("t.safetensors", &[], PromptColumn::None);
    assert_eq!(ArrayFile::open(&path).unwrap().keys(), ["row", "chosen", "rejected"]);
    assert_eq!(open(&path).unwrap().pairs.prompts, [0, 1, 3]);

    let settings = serde_json::json!({"seed": 1});
    let synthetic = synthetic_metadata(&path, &settings, Some(&record())).unwrap();
    let entries: Vec<&str> = synthetic.keys().map(String::as_str).collect();
    assert_eq!(entries, ["encoder", "lens_version", "synthetic"]);
    let codes = synthetic_metadata(&path, &settings, None).unwrap();
    assert_eq!(codes["synthetic"], "{\"seed\":1}");
    assert!(!codes.contains_key("encoder"));
}

#[test]
fn views_are_selected_and_the_record_names_them() {
    let home = Home::new();
    let path = home.embedded("e.safetensors", &[], PromptColumn::None);
    let choices =
        |list: &[&str]| -> Vec<ViewChoice> { list.iter().map(|v| v.parse().unwrap()).collect() };
    let mut stored = open(&path).unwrap();
    let all = stored.views.columns(&[], 2 * DIM).unwrap();
    assert_eq!((all.columns, all.views), (vec![0..3, 3..6], record().identity.views));
    assert_eq!(stored.views.last_layer(), Some(6));

    stored.select_views(&choices(&["layer=2,pooling=mean", "layer=-1"])).unwrap();
    let both: Vec<f32> = [3, 4, 5, 0, 1, 2].map(|i| i as f32).into();
    assert_eq!(row(&stored.pairs.chosen, 0), both);
    let named = stored.encoder.as_ref().unwrap().identity.views.clone();
    assert_eq!(
        named.iter().map(View::to_string).collect::<Vec<_>>().join(" "),
        "layer=2,pooling=mean layer=6,pooling=last"
    );
    // Of these again one.
    stored.select_views(&choices(&["layer=6"])).unwrap();
    assert_eq!(row(&stored.pairs.chosen, 0), [0.0, 1.0, 2.0]);
    assert_eq!(stored.pairs.views, [DIM]);
    stored.select_views(&[]).unwrap();
    assert_eq!(stored.pairs.dim(), DIM);

    let error = stored.select_views(&choices(&["layer=2,pooling=mean"])).unwrap_err();
    assert!(matches!(error, Error::NoSuchView { .. }), "{error}");
    let said = "the view layer=2,pooling=mean is not among those that the file holds \
                (layer=6,pooling=last)";
    assert!(error.to_string().ends_with(said), "{error}");

    // A file from elsewhere says nothing of views, or nonsense.
    let foreign = home.foreign(&[], &[]);
    let views = open(&foreign).unwrap().views;
    let whole = ViewColumns { columns: std::iter::once(0..6).collect(), views: vec![] };
    assert_eq!(views.columns(&[], 6).unwrap(), whole);
    let error = views.columns(&choices(&["layer=2"]), 6).unwrap_err().to_string();
    assert!(error.contains("(does not say)"), "{error}");
    let wide = r#"[{"columns": [4, 9], "view": {"layer": 2, "pooling": "mean"}}]"#;
    let views = open(&home.foreign(&[], &[("views", wide)])).unwrap().views;
    assert_eq!(views.widths(6), [6]);
    let error = views.columns(&choices(&["layer=2,pooling=mean"]), 6).unwrap_err();
    assert!(matches!(error, Error::BadColumns { from: 4, to: 9, width: 6, .. }), "{error}");
    let error = open(&home.foreign(&[], &[("views", "wide")])).unwrap_err();
    assert!(matches!(error, Error::BadMetadata { key: "views", .. }), "{error}");
}

#[test]
fn files_from_elsewhere_are_read_and_their_prompts_numbered_anew() {
    let home = Home::new();
    let path = home.foreign(&[("prompt", Tensor::Integers(&[90, 5, 5, 90]))], &[]);
    let stored = open(&path).unwrap();
    assert_eq!((stored.encoder, stored.prompt_keys), (None, None));
    assert_eq!(stored.pairs.prompts, [0, 1, 0]);
    // Another tool's entry of this name is no record of an encoder.
    let path = home.foreign(&[], &[("encoder", "bert-base")]);
    assert_eq!(open(&path).unwrap().encoder, None);
    let named = StoreKeys { chosen: "rejected".into(), rejected: "chosen".into() };
    let swapped = StoredPairs::open(std::slice::from_ref(&path), &named, 1 << 20, &Quiet).unwrap();
    assert_eq!(row(&swapped.pairs.chosen, 0), tables()[1].row(0).unwrap());
}

#[test]
fn what_does_not_fit_is_named() {
    let home = Home::new();
    let error = |more: &[(&str, Tensor<'_>)]| open(&home.foreign(more, &[])).unwrap_err();
    let short = error(&[("tie", Tensor::Integers(&[0; 3]))]);
    assert!(
        matches!(short, Error::WrongCount { key: "tie", expected: 4, found: 3, .. }),
        "{short}"
    );
    let short = error(&[("margin", Tensor::Vector(&[0.0; 5]))]);
    assert!(matches!(short, Error::WrongCount { key: "margin", found: 5, .. }), "{short}");
    let short = error(&[("prompt", Tensor::Integers(&[0; 5]))]);
    assert!(matches!(short, Error::WrongCount { key: "prompt", found: 5, .. }), "{short}");
    let three = error(&[("tie", Tensor::Integers(&[0, 1, 3, 0]))]);
    assert!(matches!(three, Error::NotATruthValue { row: 2, found: 3, .. }), "{three}");
    let both = [("tie", Tensor::Integers(&[0, 1, 0, 0])), ("margin", Tensor::Vector(&[0.5; 4]))];
    let both = error(&both);
    assert!(matches!(both, Error::TieWithMargin { row: 1, margin: 0.5, .. }), "{both}");

    let path = home.foreign(&[], &[]);
    for files in [vec![], vec![path.clone(); 3]] {
        let error = StoredPairs::open(&files, &StoreKeys::default(), 0, &Quiet).unwrap_err();
        assert!(matches!(error, Error::WrongFileCount { .. }), "{error}");
    }
    let same = StoreKeys { chosen: "chosen".into(), rejected: "chosen".into() };
    let error = StoredPairs::open(std::slice::from_ref(&path), &same, 0, &Quiet).unwrap_err();
    assert!(matches!(error, Error::Core(CoreError::NoDifference { pairs: PAIRS })), "{error}");
    let missing = StoreKeys { chosen: "good".into(), ..StoreKeys::default() };
    let error = StoredPairs::open(&[path], &missing, 0, &Quiet).unwrap_err();
    assert!(matches!(error, Error::MissingArray { .. }), "{error}");
}

#[test]
fn two_files_stand_for_the_two_sides() {
    let home = Home::new();
    let sides = tables();
    let files = ["a", "b"].map(|name| home.path(name));
    for (path, side) in files.iter().zip(&sides) {
        let array = [("x", Tensor::Floats(side, FloatType::F32))];
        write_tensors(path, &array, &BTreeMap::new()).unwrap();
    }
    let stored = StoredPairs::open(&files, &StoreKeys::default(), 0, &Quiet).unwrap();
    assert_eq!((stored.rows.len(), stored.pairs.prompts.len()), (3, 3));
    assert_eq!(row(&stored.pairs.rejected, 1), sides[1].row(1).unwrap());
    let thin = Array2::new(PAIRS, 2, vec![0.0; 2 * PAIRS]).unwrap();
    write_tensors(&files[1], &[("x", Tensor::Floats(&thin, FloatType::F32))], &BTreeMap::new())
        .unwrap();
    let error = StoredPairs::open(&files, &StoreKeys::default(), 0, &Quiet).unwrap_err();
    assert!(matches!(error, Error::ShapeMismatch { .. }), "{error}");
}

#[cfg(unix)]
#[test]
fn rows_that_cannot_be_read_are_an_error_and_no_result() {
    let home = Home::new();
    let path = home.embedded("e.safetensors", &[], PromptColumn::None);
    let keys = StoreKeys::default();
    let stored = StoredPairs::open(std::slice::from_ref(&path), &keys, 0, &Quiet).unwrap();
    let table = StoredTable::open(&path, Some("rejected"), &Quiet).unwrap();
    // The file is shortened while it is in use.
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(std::fs::metadata(&path).unwrap().len() - 8).unwrap();
    stored.check_reads().unwrap();
    assert!(row(&stored.pairs.rejected, 2).iter().all(|x| x.is_nan()));
    assert!(matches!(stored.check_reads(), Err(Error::Io { .. })));
    table.check_reads().unwrap();
    let mut last = vec![0.0; 2 * DIM];
    table.rows.read(PAIRS - 1, &mut last);
    assert!(table.check_reads().is_err());
}
