use super::*;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::sync::Arc;

/// Writes columns of byte arrays with their definition and repetition levels, two row groups.
fn write(schema: &str, codec: Codec, columns: &[Column]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(codec).build());
    let mut file = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    for _ in 0..2 {
        let mut group = file.next_row_group().unwrap();
        for column in columns {
            let mut writer = group.next_column().unwrap().unwrap();
            match column {
                Column::Text(values, definition, repetition) => {
                    let values: Vec<ByteArray> =
                        values.iter().map(|v| ByteArray::from(*v)).collect();
                    let typed = writer.typed::<ByteArrayType>();
                    typed.write_batch(&values, *definition, *repetition).unwrap();
                }
                Column::Double(values, definition) => {
                    let typed = writer.typed::<DoubleType>();
                    typed.write_batch(values, *definition, None).unwrap();
                }
                Column::Long(values) => {
                    writer.typed::<Int64Type>().write_batch(values, None, None).unwrap();
                }
            }
            writer.close().unwrap();
        }
        group.close().unwrap();
    }
    file.into_inner().unwrap()
}

enum Column<'a> {
    Text(&'a [&'a str], Option<&'a [i16]>, Option<&'a [i16]>),
    Double(&'a [f64], Option<&'a [i16]>),
    Long(&'a [i64]),
}

const FLAT: &str = "message m {
    optional binary prompt (UTF8);
    required binary chosen (UTF8);
    required binary rejected;
    optional double margin;
    required int64 id;
}";

pub(super) fn flat(codec: Codec) -> Vec<u8> {
    write(
        FLAT,
        codec,
        &[
            Column::Text(&["p"], Some(&[1, 0]), None),
            Column::Text(&["é", "c"], None, None),
            Column::Text(&["r", "s"], None, None),
            Column::Double(&[f64::NAN, 0.5], Some(&[1, 1])),
            Column::Long(&[7, 8]),
        ],
    )
}

/// `chosen` and `rejected` as lists of messages, as Hugging Face datasets write them.
const NESTED: &str = "message m {
    optional group chosen (LIST) { repeated group list { optional group element {
        optional binary content (UTF8); optional binary role (UTF8); } } }
    optional group rejected (LIST) { repeated group list { optional group element {
        optional binary content (UTF8); optional binary role (UTF8); } } }
}";

fn nested() -> Vec<u8> {
    // Two rows of two messages each.
    let (levels, repetition) = (Some(&[4i16; 4][..]), Some(&[0i16, 1, 0, 1][..]));
    let roles = ["user", "assistant", "user", "assistant"];
    write(
        NESTED,
        Codec::SNAPPY,
        &[
            Column::Text(&["hi", "yes", "ho", "yes"], levels, repetition),
            Column::Text(&roles, levels, repetition),
            Column::Text(&["hi", "no", "ho", "no"], levels, repetition),
            Column::Text(&roles, levels, repetition),
        ],
    )
}

#[test]
fn flat_columns_of_all_codecs() {
    let home = Home::new();
    for codec in [
        Codec::UNCOMPRESSED,
        Codec::SNAPPY,
        Codec::GZIP(Default::default()),
        Codec::ZSTD(ZstdLevel::default()),
        Codec::LZ4_RAW,
        Codec::BROTLI(Default::default()),
    ] {
        let data = home.pairs("no-name", flat(codec)).unwrap();
        assert_eq!(data.layout.format, Format::Parquet);
        assert_eq!(data.pairs.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 2, 3, 4]);
        let (first, second) = (&data.pairs[0], &data.pairs[1]);
        assert_eq!((&first.value.prompt, &first.value.chosen), (&text("p"), &text("é")));
        assert_eq!((first.value.margin, &first.value.rejected), (None, &text("r")));
        assert_eq!((second.value.margin, &second.value.prompt), (Some(0.5), &text("")));
        assert_eq!(first.metadata["id"], 7);
    }
}

#[test]
fn nested_message_lists() {
    let home = Home::new();
    let data = home.pairs("a.parquet", nested()).unwrap();
    assert_eq!((data.pairs.len(), data.read), (4, 4));
    assert_eq!(data.shapes, BTreeMap::from([(Shape::ImplicitMessages, 4)]));
    assert_eq!(data.pairs[3].value.prompt, turns(&[("user", "ho")]));
    assert_eq!(data.pairs[3].value.rejected, turns(&[("assistant", "no")]));
}

#[test]
fn damaged_files_are_errors_and_never_panics() {
    let home = Home::new();
    for whole in [flat(Codec::SNAPPY), nested()] {
        for cut in [4, 11, whole.len() / 2, whole.len() - 1] {
            let failed = home.pairs("a.parquet", &whole[..cut]);
            assert!(matches!(failed, Err(Error::Corrupt { format: "Parquet", .. })), "{failed:?}");
        }
        for at in 4..whole.len() {
            let mut file = whole.clone();
            file[at] ^= [0x01, 0x80, 0xff][at % 3];
            let _ = home.pairs("a.parquet", &file);
        }
    }
}
