use super::*;
use arrow_array::builder::{ListBuilder, NullBuilder, StringBuilder, StructBuilder};
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, NullArray, RecordBatch,
    StringArray, StringViewArray, types::Int32Type,
};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use arrow_schema::{DataType, Field, Fields};
use std::sync::Arc;

/// Two rows: pairs of messages, with columns of several types beside them.
fn batch() -> RecordBatch {
    let fields: Fields =
        vec![Field::new("role", DataType::Utf8, true), Field::new("content", DataType::Utf8, true)]
            .into();
    let messages = |role: &str, texts: [&str; 2]| -> ArrayRef {
        let builders: Vec<Box<dyn arrow_array::builder::ArrayBuilder>> =
            vec![Box::new(StringBuilder::new()), Box::new(StringBuilder::new())];
        let mut list = ListBuilder::new(StructBuilder::new(fields.clone(), builders));
        for text in texts {
            let message = list.values();
            message.field_builder::<StringBuilder>(0).unwrap().append_value(role);
            message.field_builder::<StringBuilder>(1).unwrap().append_value(text);
            message.append(true);
            list.append(true);
        }
        Arc::new(list.finish())
    };
    let dictionary: DictionaryArray<Int32Type> = vec!["easy", "easy"].into_iter().collect();
    RecordBatch::try_from_iter([
        ("prompt", Arc::new(StringViewArray::from(vec!["p", "q"])) as ArrayRef),
        ("chosen", messages("assistant", ["yes", "good"])),
        ("rejected", messages("assistant", ["no", "bad"])),
        ("margin", Arc::new(Float64Array::from(vec![Some(1.5), Some(f64::NAN)]))),
        ("tie", Arc::new(BooleanArray::from(vec![None, Some(false)]))),
        ("count", Arc::new(Int32Array::from(vec![3, 4]))),
        ("subset", Arc::new(dictionary)),
        ("note", Arc::new(StringArray::from(vec![None, Some("x")]))),
    ])
    .unwrap()
}

fn check(data: &Dataset) {
    assert_eq!(data.layout.format, Format::Arrow);
    assert_eq!(data.malformed.described(), []);
    let [first, second] = data.pairs.as_slice() else { panic!("{:?}", data.pairs) };
    assert_eq!((first.value.margin, second.value.margin), (Some(1.5), None));
    assert_eq!(second.value.rejected, turns(&[("assistant", "bad")]));
    assert_eq!((first.subset(), &first.metadata["count"]), (Some("easy"), &Value::from(3)));
    assert_eq!(
        (&first.metadata["note"], &second.metadata["note"]),
        (&Value::Null, &Value::from("x"))
    );
}

#[test]
fn files_and_streams_hold_the_same_rows() {
    let home = Home::new();
    let batch = batch();
    let mut file = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    file.write(&batch).unwrap();
    let bytes = file.into_inner().unwrap();
    check(&home.pairs("a.arrow", &bytes).unwrap());
    check(&home.pairs("a.feather", &bytes).unwrap());
    check(&home.pairs("a", &bytes).unwrap());
    let cut = home.pairs("cut.arrow", &bytes[..bytes.len() / 2]);
    assert!(matches!(cut, Err(Error::Corrupt { format: "Arrow", .. })), "{cut:?}");

    let mut stream = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    stream.write(&batch).unwrap();
    let bytes = stream.into_inner().unwrap();
    check(&home.pairs("b.arrow", &bytes).unwrap());
    // A folder as `datasets.save_to_disk` writes it.
    home.file("data-00000-of-00001.arrow", &bytes);
    home.file("state.json", r#"{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}"#);
    home.file("dataset_info.json", "{}");
    check(&read_pairs(home.0.path(), &ReadOptions::default()).unwrap());
    let text = home.pairs("text.arrow", r#"{"prompt": "p"}"#);
    assert!(matches!(text, Err(Error::Corrupt { format: "Arrow", .. })), "{text:?}");
}

fn stream_of(batch: &RecordBatch) -> Vec<u8> {
    let mut stream = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    stream.write(batch).unwrap();
    stream.into_inner().unwrap()
}

#[test]
fn a_damaged_file_is_an_error_wherever_the_damage_is() {
    // The library's reader panics where a buffer lies outside of its message.
    let home = Home::new();
    let bytes = stream_of(&batch());
    let mut refused = 0;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        refused += usize::from(home.pairs("damaged.arrow", damaged).is_err());
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn rows_and_lists_of_nothing_are_no_way_to_any_number_of_them() {
    let home = Home::new();
    let nulls = |n| Arc::new(NullArray::new(n)) as ArrayRef;
    let rows = RecordBatch::try_from_iter([("prompt", nulls(1 << 40))]).unwrap();
    let error = home.pairs("rows.arrow", stream_of(&rows)).unwrap_err();
    assert!(error.to_string().contains("1099511627776 rows in"), "{error}");

    let mut list = ListBuilder::new(NullBuilder::new());
    list.values().append_nulls(1 << 30);
    list.append(true);
    let list: ArrayRef = Arc::new(list.finish());
    let rows = RecordBatch::try_from_iter([("prompt", list)]).unwrap();
    let error = home.pairs("list.arrow", stream_of(&rows)).unwrap_err();
    assert!(error.to_string().contains("nothing but null"), "{error}");
}

/// A thousand rows of one text, and the options of a writer that compresses them.
fn compressible() -> (RecordBatch, IpcWriteOptions) {
    let texts = |text| Arc::new(StringArray::from(vec![text; 1000])) as ArrayRef;
    let batch = RecordBatch::try_from_iter([
        ("prompt", texts("is it so?")),
        ("chosen", texts("yes, and yes again")),
        ("rejected", texts("no")),
    ])
    .unwrap();
    let lz4 = Some(CompressionType::LZ4_FRAME);
    (batch, IpcWriteOptions::default().try_with_compression(lz4).unwrap())
}

/// Puts `to` in the place of `from` wherever that stands; how often it does.
fn replace_all(bytes: &mut [u8], from: [u8; 8], to: [u8; 8]) -> usize {
    let places: Vec<usize> = (0..bytes.len() - 8).filter(|&i| bytes[i..i + 8] == from).collect();
    places.iter().for_each(|&i| bytes[i..i + 8].copy_from_slice(&to));
    places.len()
}

#[test]
fn what_a_file_says_of_its_lengths_makes_no_room() {
    let home = Home::new();
    let (rows, options) = compressible();
    let mut file =
        FileWriter::try_new_with_options(Vec::new(), &rows.schema(), options.clone()).unwrap();
    file.write(&rows).unwrap();
    let mut stream =
        StreamWriter::try_new_with_options(Vec::new(), &rows.schema(), options).unwrap();
    stream.write(&rows).unwrap();
    for mut bytes in [file.into_inner().unwrap(), stream.into_inner().unwrap()] {
        let read = home.pairs("compressed.arrow", &bytes).unwrap();
        assert_eq!(read.pairs.len(), 1000, "{:?}", read.malformed);
        // Where the text of each row ends (1,001 numbers of 4 bytes), and the texts.
        let long = (1i64 << 40).to_le_bytes();
        let lengths = [4004i64, 9_000, 18_000, 2_000].map(i64::to_le_bytes);
        let found: usize =
            lengths.into_iter().map(|length| replace_all(&mut bytes, length, long)).sum();
        assert!(found > 0);
        let error = home.pairs("bomb.arrow", bytes).unwrap_err();
        assert!(error.to_string().contains("compressed columns say that they are"), "{error}");
    }

    let batch = batch();
    let mut file = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    file.write(&batch).unwrap();
    let mut bytes = file.into_inner().unwrap();
    // The footer says of the one block where it stands, and how long its header and its body are.
    let trailer = bytes.len() - 10;
    let length = u32::from_le_bytes(bytes[trailer..trailer + 4].try_into().unwrap()) as usize;
    let footer = arrow_ipc::root_as_footer(&bytes[trailer - length..trailer]).unwrap();
    let block = footer.recordBatches().unwrap().get(0).0.to_vec();
    let place = bytes[trailer - length..trailer].windows(block.len()).position(|w| w == block);
    let body = trailer - length + place.unwrap() + block.len() - 8;
    bytes[body..body + 8].copy_from_slice(&(1u64 << 40).to_le_bytes());
    let error = home.pairs("block.arrow", &bytes).unwrap_err();
    assert!(error.to_string().contains("lies outside of its"), "{error}");
}
