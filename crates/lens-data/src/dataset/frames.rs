//! Tables that stand in one JSON object, as pandas (`to_json`) and datasets (`to_dict`) write them: by
//! columns, by index, or split into names and rows.

use super::records::Fields;
use serde_json::Value;

/// The rows of a table, if the object is one.
pub(super) fn rows(fields: &Fields) -> Option<Vec<Fields>> {
    by_index(fields).or_else(|| split(fields)).or_else(|| by_columns(fields))
}

fn is_number(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_digit())
}

/// `{"0": {"prompt": .., ..}, "1": {..}}`.
fn by_index(fields: &Fields) -> Option<Vec<Fields>> {
    if fields.is_empty() || !fields.keys().all(|key| is_number(key)) {
        return None;
    }
    fields.values().map(|row| row.as_object().cloned()).collect()
}

/// `{"columns": ["prompt", ..], "index": [0, ..], "data": [[.., ..], ..]}`.
fn split(fields: &Fields) -> Option<Vec<Fields>> {
    let columns = fields.get("columns")?.as_array()?;
    let names: Vec<&str> = columns.iter().map(Value::as_str).collect::<Option<_>>()?;
    let row = |row: &Value| -> Option<Fields> {
        let values = row.as_array().filter(|values| values.len() == names.len())?;
        Some(names.iter().map(|name| (*name).to_owned()).zip(values.iter().cloned()).collect())
    };
    fields.get("data")?.as_array()?.iter().map(row).collect()
}

/// `{"prompt": {"0": .., "1": ..}, ..}`, or `{"prompt": [.., ..], "chosen": [..], "rejected": [..]}`.
fn by_columns(fields: &Fields) -> Option<Vec<Fields>> {
    let indexed = |value: &Value| {
        value
            .as_object()
            .is_some_and(|column| !column.is_empty() && column.keys().all(|key| is_number(key)))
    };
    if !fields.is_empty() && fields.values().all(indexed) {
        let keys: Vec<&String> = fields.values().next()?.as_object()?.keys().collect();
        let row = |key: &&String| {
            let value = |column: &Value| column.get(*key).cloned().unwrap_or_default();
            fields.iter().map(|(name, column)| (name.clone(), value(column))).collect()
        };
        return Some(keys.iter().map(row).collect());
    }
    // Lists in a row are several responses; only a list of prompts makes it a table.
    let texts = |name: &str| {
        fields.get(name)?.as_array().filter(|items| items.iter().all(Value::is_string))
    };
    let rows = texts("prompt")?.len();
    let sides = ["chosen", "rejected"].iter().all(|name| fields.contains_key(*name));
    let columns: Vec<(&String, &Vec<Value>)> = fields
        .iter()
        .map(|(name, column)| Some((name, column.as_array().filter(|c| c.len() == rows)?)))
        .collect::<Option<_>>()?;
    if rows == 0 || !sides {
        return None;
    }
    let row = |i: usize| columns.iter().map(|(name, c)| ((*name).clone(), c[i].clone())).collect();
    Some((0..rows).map(row).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn every_orientation_of_a_table_has_the_same_rows() {
        let table = [
            json!({"prompt": {"0": "p", "1": "q"}, "chosen": {"0": "c", "1": "d"}, "rejected": {"0": "r", "1": null}}),
            json!({"0": {"prompt": "p", "chosen": "c", "rejected": "r"}, "1": {"prompt": "q", "chosen": "d", "rejected": null}}),
            json!({"columns": ["prompt", "chosen", "rejected"], "index": [0, 1],
                "data": [["p", "c", "r"], ["q", "d", null]]}),
            json!({"prompt": ["p", "q"], "chosen": ["c", "d"], "rejected": ["r", null]}),
        ];
        let expected = json!([{"prompt": "p", "chosen": "c", "rejected": "r"},
            {"prompt": "q", "chosen": "d", "rejected": null}]);
        for table in table {
            assert_eq!(json!(rows(table.as_object().unwrap())), expected, "{table}");
        }
    }

    #[test]
    fn a_row_is_no_table() {
        for row in [
            json!({}),
            json!({"prompt": "p", "chosen": "c", "rejected": "r"}),
            json!({"prompt": "p", "chosen": ["a"], "rejected": ["b"]}),
            json!({"prompt": ["p", "q"], "response_a": ["a", "b"], "response_b": ["c", "d"]}),
            json!({"chosen": [{"role": "user"}], "rejected": [{"role": "user"}]}),
            json!({"columns": ["a"], "data": [["b", "c"]]}),
        ] {
            assert_eq!(rows(row.as_object().unwrap()), None, "{row}");
        }
    }
}
