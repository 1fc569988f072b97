#![allow(clippy::unwrap_used)]
use super::*;
use crate::dataset::records::for_each_record;
use lens_core::Quiet;
use serde_json::json;
use std::ops::ControlFlow;

fn rows(values: &[Value]) -> Vec<TableRow> {
    values.iter().map(|value| value.as_object().unwrap().clone()).collect()
}

/// Writes a table under a name, and reads it back with the reader of datasets.
fn again(name: &str, table: &Table) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    table.write(&path).unwrap();
    let mut read = Vec::new();
    for_each_record(&path, 1 << 20, &Quiet, &mut |_, record| {
        read.push(Value::Object(record.unwrap()));
        ControlFlow::Continue(())
    })
    .unwrap();
    read
}

#[test]
fn json_lines_hold_every_value_as_it_is_whatever_packs_them() {
    let values = [
        json!({"b": 0.1, "a": [1, "x", null], "big": 9_007_199_254_740_993_i64}),
        json!({"a": {"nested": {}}, "only here": true}),
    ];
    let table = Table::new(rows(&values));
    for name in ["t.jsonl", "t.ndjson", "T.JSONL.GZ", "t.jsonl.zst"] {
        assert_eq!(again(name, &table), values, "{name}");
    }
    // The order of the columns is that of the rows.
    assert_eq!(table.names().collect::<Vec<_>>(), ["b", "a", "big", "only here"]);
}

#[test]
fn text_between_commas_has_nested_values_as_json_and_nulls_as_nothing() {
    let values = [
        json!({"text": "a, \"b\"\nc", "list": [1.5, null], "yes": true}),
        json!({"text": null, "list": {"k": "v"}}),
    ];
    let expected = [
        json!({"text": "a, \"b\"\nc", "list": "[1.5,null]", "yes": "true"}),
        json!({"text": "", "list": "{\"k\":\"v\"}", "yes": ""}),
    ];
    let table = Table::new(rows(&values));
    for name in ["t.csv", "t.tsv", "t.csv.gz"] {
        assert_eq!(again(name, &table), expected, "{name}");
    }
}

#[test]
fn parquet_holds_messages_and_lists_as_they_were() {
    let values = [
        json!({
            "chosen": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
            "scores": [[1.5], [], [2.5, null]],
            "n": 7,
            "ok": false,
            "empty": [],
            "none": null,
        }),
        json!({
            "chosen": [],
            "scores": null,
            "n": null,
            "ok": true,
            "empty": [],
            "none": null,
        }),
        json!({
            "chosen": [{"role": "user", "content": null}],
            "scores": [null, [0.0]],
            "n": -9_007_199_254_740_993_i64,
            "ok": null,
            "empty": null,
            "none": null,
        }),
    ];
    assert_eq!(again("t.parquet", &Table::new(rows(&values))), values);
}

#[test]
fn parquet_has_values_of_several_kinds_as_json_text() {
    let values = [
        json!({"mixed": 1, "objects": {}, "sum": 9_007_199_254_740_993_i64, "fields": {"a": 1}}),
        json!({"mixed": "x", "objects": {}, "sum": 0.5, "fields": {"b": [true]}}),
        json!({"mixed": [1], "fields": null}),
    ];
    let expected = [
        json!({"mixed": "1", "objects": "{}", "sum": "9007199254740993", "fields": {"a": 1, "b": null}}),
        json!({"mixed": "\"x\"", "objects": "{}", "sum": "0.5", "fields": {"a": null, "b": [true]}}),
        json!({"mixed": "[1]", "objects": null, "sum": null, "fields": null}),
    ];
    assert_eq!(again("t.parquet", &Table::new(rows(&values))), expected);
}

#[test]
fn many_rows_go_into_several_groups_of_a_file() {
    let values: Vec<Value> = (0..25_000).map(|i| json!({"i": i, "l": vec![i; i % 3]})).collect();
    assert_eq!(again("t.parquet", &Table::new(rows(&values))), values);
}

#[test]
fn an_added_column_has_its_kind_though_every_value_is_null() {
    let mut table = Table::new(rows(&[json!({"a": 1}), json!({"a": 2})]));
    table.add("reward", Kind::REAL, vec![json!(null), json!(null)]).unwrap();
    table.add("rewards", Kind::list(Kind::REAL), vec![json!([0.5]), json!(null)]).unwrap();
    let error = table.add("short", Kind::Bool, vec![json!(true)]).unwrap_err();
    assert!(matches!(error, Error::WrongLength { rows: 2, found: 1, .. }), "{error}");
    let expected = [
        json!({"a": 1, "reward": null, "rewards": [0.5]}),
        json!({"a": 2, "reward": null, "rewards": null}),
    ];
    assert_eq!(again("t.parquet", &table), expected);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    table.write(&path).unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let reader = parquet::file::reader::SerializedFileReader::new(file).unwrap();
    let schema = parquet::file::reader::FileReader::metadata(&reader).file_metadata();
    let physical = schema.schema_descr().column(1).physical_type();
    assert_eq!(physical, parquet::basic::Type::DOUBLE);
    // What does not fit is an error, and nothing stands at the path.
    table.add("wrong", Kind::Bool, vec![json!("text"), json!(null)]).unwrap();
    let wrong = folder.path().join("wrong.parquet");
    let error = table.write(&wrong).unwrap_err().to_string();
    assert!(error.contains("\"text\" is not of the kind"), "{error}");
    assert!(!wrong.exists());
}

#[test]
fn a_name_that_asks_for_no_format_is_refused_and_names_those_there_are() {
    for name in ["out", "out.json", "out.parquet.gz", "out.xlsx", ".gz"] {
        let error = TableFormat::of_name(Path::new(name)).unwrap_err().to_string();
        assert!(error.contains(".parquet") && error.contains(name), "{error}");
    }
}
