//! The vectors of the rows of files. A row that the template refuses is left out alone; rows that
//! went through a chat template already are refused before anything is computed.

use crate::models::note_truncated;
use crate::{Error, Progress};
use lens_core::PreferencePair;
use lens_data::{LeftOut, Place, Reason, Row, Vetted, file_name};
use lens_encoder::{Encoded, EncoderError, Input, Likeness, Refused, TextEncoder};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Most lines of a file that an error names.
const MOST_LINES: usize = 5;

/// Where the encoder comes from, which decides how its user can read rendered texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EncoderOf {
    /// The options of the job.
    Options,
    /// A reward model, which reads texts in one way.
    Bundle,
}

/// What an encoder made of a pair: both sides, or why the pair is left out.
pub(crate) type EncodedPair = Result<[Encoded; 2], (Reason, LeftOut)>;

/// Vectors of the texts of files; `place` says of a text's position where its row stands.
///
/// # Errors
/// [`Error::AlreadyRendered`]; the encoder's.
pub(crate) fn encode_rows<'a>(
    encoder: &dyn TextEncoder,
    inputs: &[Input],
    place: impl Fn(usize) -> (&'a Path, u64),
    of: EncoderOf,
    progress: &dyn Progress,
) -> Result<Vec<Result<Encoded, Refused>>, Error> {
    let encoded = encoder.encode_each(inputs, progress).map_err(|error| match error {
        EncoderError::AlreadyRendered { indices } => already_rendered(&indices, place, of),
        error => Error::Encoder(error),
    })?;
    let computed: Vec<&Encoded> = encoded.iter().flatten().collect();
    note_truncated(&computed, encoder.identity().max_length, progress);
    Ok(encoded)
}

fn already_rendered<'a>(
    indices: &[usize],
    place: impl Fn(usize) -> (&'a Path, u64),
    of: EncoderOf,
) -> Error {
    let mut files: BTreeMap<&Path, BTreeSet<u64>> = BTreeMap::new();
    for (path, line) in indices.iter().map(|&index| place(index)) {
        files.entry(path).or_default().insert(line);
    }
    let in_words = |(path, lines): (&&Path, &BTreeSet<u64>)| {
        let first: Vec<String> = lines.iter().take(MOST_LINES).map(u64::to_string).collect();
        let more = if lines.len() > MOST_LINES { ", .." } else { "" };
        let plural = if lines.len() == 1 { "" } else { "s" };
        format!("{} line{plural} {}{more}", file_name(path), first.join(", "))
    };
    Error::AlreadyRendered {
        rows: files.values().map(BTreeSet::len).sum(),
        places: files.iter().map(in_words).collect::<Vec<_>>().join("; "),
        advice: match of {
            EncoderOf::Options => {
                "read them with --special-tokens parse --template plain, or give messages"
            }
            EncoderOf::Bundle => {
                "give messages; only a reward model that was trained with --special-tokens parse \
                 --template plain reads them as they are"
            }
        },
    }
}

/// What the encoder makes of the pairs of some files, all in one call: first every chosen response,
/// then every rejected one.
pub(crate) fn encode_pairs(
    encoder: &dyn TextEncoder,
    files: &[(&Path, &[Row<PreferencePair>])],
    of: EncoderOf,
    progress: &dyn Progress,
) -> Result<Vec<Vec<EncodedPair>>, Error> {
    let rows: Vec<(&Path, &Row<PreferencePair>)> =
        files.iter().flat_map(|(path, rows)| rows.iter().map(move |row| (*path, row))).collect();
    let n = rows.len();
    let chosen = rows.iter().map(|(_, row)| Input::Exchange(row.value.chosen_exchange()));
    let rejected = rows.iter().map(|(_, row)| Input::Exchange(row.value.rejected_exchange()));
    let inputs: Vec<Input> = chosen.chain(rejected).collect();
    let place = |index: usize| {
        let (path, row) = rows[index % n];
        (row.file.as_deref().map_or(path, Path::new), row.line)
    };
    let mut encoded = encode_rows(encoder, &inputs, place, of, progress)?;
    drop(inputs);
    let rejected = encoded.split_off(n);
    let mut pairs = rows.iter().zip(encoded.into_iter().zip(rejected)).map(|((_, row), sides)| {
        let [chosen, rejected] = match refused_side(row.place(), sides) {
            Ok(sides) => sides,
            Err(refused) => return Ok(Err((Reason::TemplateRefused, refused))),
        };
        match equal_sides(encoder, row, &chosen, &rejected)? {
            Some(equal) => Ok(Err(equal)),
            None => Ok(Ok([chosen, rejected])),
        }
    });
    files.iter().map(|(_, rows)| pairs.by_ref().take(rows.len()).collect()).collect()
}

fn refused_side(
    place: Place,
    sides: (Result<Encoded, Refused>, Result<Encoded, Refused>),
) -> Result<[Encoded; 2], LeftOut> {
    match sides {
        (Ok(chosen), Ok(rejected)) => Ok([chosen, rejected]),
        (Err(refused), _) | (_, Err(refused)) => Err(left_out(place, &refused)),
    }
}

/// A row that the template refuses.
pub(crate) fn left_out(place: Place, refused: &Refused) -> LeftOut {
    LeftOut::at(place, refused.to_string())
}

/// Why a pair is left out whose two sides are the same to the encoder; `None` where they differ.
///
/// # Errors
/// The problem of the tokenizer or the template.
pub(crate) fn equal_sides(
    encoder: &dyn TextEncoder,
    row: &Row<PreferencePair>,
    chosen: &Encoded,
    rejected: &Encoded,
) -> Result<Option<(Reason, LeftOut)>, Error> {
    if chosen.ids_hash != rejected.ids_hash {
        return Ok(None);
    }
    let pair = &row.value;
    let (reason, detail) = match encoder
        .likeness(&pair.chosen_exchange(), &pair.rejected_exchange())?
    {
        Likeness::Text => {
            let template = &encoder.identity().template;
            let what = format!(
                "the {template} template writes both sides the same: it leaves out what differs"
            );
            (Reason::EqualTokens, what)
        }
        Likeness::Tokens => {
            (Reason::EqualTokens, "both sides are the same tokens, whatever their length".into())
        }
        Likeness::None => {
            let what = "both sides are the same after shortening; raise max_length";
            (Reason::EqualAfterTruncation, what.into())
        }
    };
    Ok(Some((reason, LeftOut::at(row.place(), detail))))
}

/// Leaves out of a set what the encoder cannot use, and returns the vectors of the others.
pub(crate) fn keep_usable(vetted: &mut Vetted, encoded: Vec<EncodedPair>) -> Vec<[Encoded; 2]> {
    let mut kept = Vec::with_capacity(encoded.len());
    let mut unusable: Vec<(Reason, LeftOut)> = Vec::new();
    for pair in encoded {
        match pair {
            Ok(sides) => kept.push(sides),
            Err(left_out) => unusable.push(left_out),
        }
    }
    leave_out(vetted, unusable);
    kept
}

/// Leaves out rows for several reasons.
pub(crate) fn leave_out(vetted: &mut Vetted, rows: impl IntoIterator<Item = (Reason, LeftOut)>) {
    let mut by_reason: BTreeMap<Reason, Vec<LeftOut>> = BTreeMap::new();
    for (reason, row) in rows {
        by_reason.entry(reason).or_default().push(row);
    }
    for (reason, rows) in by_reason {
        vetted.leave_out(reason, rows);
    }
}
