//! The ready-made studies, built into the program.

use super::file::StudyFile;
use crate::error::EvalError;

const STUDIES: &[(&str, &str)] = &[
    ("table-1", include_str!("../../studies/table-1.toml")),
    ("noise", include_str!("../../studies/noise.toml")),
    ("gamma", include_str!("../../studies/gamma.toml")),
    ("layer", include_str!("../../studies/layer.toml")),
    ("seeds", include_str!("../../studies/seeds.toml")),
    ("factor", include_str!("../../studies/factor.toml")),
    ("encoders", include_str!("../../studies/encoders.toml")),
    ("cost", include_str!("../../studies/cost.toml")),
    ("views", include_str!("../../studies/views.toml")),
    ("synthesis", include_str!("../../studies/synthesis.toml")),
];

/// The names, in the order of the paper's tables.
pub fn names() -> Vec<&'static str> {
    STUDIES.iter().map(|(name, _)| *name).collect()
}

/// The file of a ready-made study; `None` where there is none of that name.
pub fn text(name: &str) -> Option<&'static str> {
    STUDIES.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)
}

/// A ready-made study; `None` where there is none of that name.
///
/// # Errors
/// Those of [`StudyFile::parse`].
pub fn find(name: &str) -> Result<Option<StudyFile>, EvalError> {
    text(name).map(|text| StudyFile::parse(text, name)).transpose()
}
