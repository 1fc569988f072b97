//! Tables as text: JSON lines, CSV and TSV.

use super::Table;
use serde_json::Value;
use std::io::{self, Write};

/// One object a line, with the columns that its row has.
pub(super) fn json_lines(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    for row in &table.rows {
        serde_json::to_writer(&mut *out, row)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// A header and a record a row.
pub(super) fn delimited(table: &Table, delimiter: u8, out: &mut dyn Write) -> io::Result<()> {
    let mut records = csv::WriterBuilder::new().delimiter(delimiter).from_writer(out);
    records.write_record(table.names())?;
    for row in &table.rows {
        let fields = table.names().map(|name| match row.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        });
        records.write_record(fields)?;
    }
    records.flush()
}
