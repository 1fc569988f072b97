//! What a dataset is: its files, its columns, the shapes of its rows, and what vetting leaves out.

use super::Described;
use crate::{Error, Progress};
use lens_core::metrics::longer_wins;
use lens_data::Error as Data;
use lens_data::{DataSource, Layout, ReadOptions, Survey, read_exchanges_with, survey};
use lens_report::text::percent;
use serde_json::json;

/// Lines named for each reason; --json has more.
const NAMED: usize = 12;

/// Describes preference pairs, or rows to score or embed.
pub(super) fn describe(
    input: &DataSource,
    reading: &ReadOptions,
    progress: &dyn Progress,
) -> Result<Described, Error> {
    match survey(input, reading, progress) {
        Ok(found) => Ok(pairs(&found)),
        Err(Data::Cancelled) => Err(Error::Cancelled),
        Err(bomb @ (Data::Unpacks { .. } | Data::OutOfMemory { .. })) => Err(bomb.into()),
        // Not pairs: perhaps rows to score or embed.
        Err(error) => match read_exchanges_with(input, reading, progress) {
            Ok(set) => {
                let malformed = set.malformed.len();
                let mut rows = layout_in_words(&set.layout);
                rows.push(("rows".to_owned(), format!("{}, {malformed} malformed", set.read)));
                let value = json!({"read": set.read, "malformed": malformed,
                    "columns": set.layout.columns, "files": set.layout.files});
                Ok(("rows to score or embed", rows, value))
            }
            Err(Data::Cancelled) => Err(Error::Cancelled),
            Err(_) => Err(error.into()),
        },
    }
}

fn format(layout: &Layout) -> String {
    let files = match layout.files.len() {
        1 => String::new(),
        n => format!("{n} files, "),
    };
    format!("{files}{}, {}", layout.format, layout.compression)
}

/// The format, and how each column was used.
fn layout_in_words(layout: &Layout) -> Vec<(String, String)> {
    let mut rows = vec![("format".to_owned(), format(layout))];
    let used = |u: &lens_data::ColumnUse| match u.rows == layout.rows {
        true => format!("{}: {}", u.column, u.used_as),
        false => format!("{}: {} (in {} rows)", u.column, u.used_as, u.rows),
    };
    let columns: Vec<String> = layout.columns.iter().map(used).collect();
    rows.push(("columns".to_owned(), columns.join(", ")));
    rows
}

fn pairs(found: &Survey) -> Described {
    let shapes: Vec<String> = found.shapes.iter().map(|(s, n)| format!("{n} with {s}")).collect();
    let report = &found.report;
    let mut rows = layout_in_words(&found.layout);
    rows.push(("shapes".to_owned(), shapes.join(", ")));
    let of_rows = match found.layout.rows == report.read {
        true => String::new(),
        false => format!(", of {} rows", found.layout.rows),
    };
    rows.push((
        "pairs".to_owned(),
        format!("{} read{of_rows}, {} usable", report.read, report.used),
    ));
    for (reason, lines) in &report.left_out {
        let count = report.count(*reason);
        rows.push((format!("  {reason}"), count.to_string()));
        for line in lines.iter().take(NAMED) {
            rows.push((format!("    line {}", line.line_in_words()), line.detail.clone()));
        }
        if count > NAMED {
            let listed = match count == lines.len() {
                true => "all with --json".to_owned(),
                false => format!("{} in all with --json", lines.len()),
            };
            rows.push(("    ..".to_owned(), format!("and {} more ({listed})", count - NAMED)));
        }
    }
    rows.extend(found.labels.summary().map(|summary| ("labels".to_owned(), summary)));
    let longer = longer_wins(&found.lengths);
    if let Some(longer) = longer {
        rows.push(("longer answer wins".to_owned(), percent(longer)));
    }
    rows.push(("fingerprint".to_owned(), found.fingerprint.clone()));
    let value = json!({"format": format(&found.layout), "files": found.layout.files,
        "rows": found.layout.rows, "columns": found.layout.columns, "shapes": shapes,
        "pairs": report, "labels": found.labels, "longer_wins": longer,
        "fingerprint": found.fingerprint});
    ("preference pairs", rows, value)
}
