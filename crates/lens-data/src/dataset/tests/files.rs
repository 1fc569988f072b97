use super::*;
use flate2::write::GzEncoder;
use serde_json::json;
use std::io::Write;

const ROW: &str = r#"{"prompt": "p", "chosen": "c", "rejected": "r"}"#;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn lines_with_a_mark_blank_lines_and_either_ending() {
    let home = Home::new();
    let text = format!("\u{feff}{ROW}\r\n\r\n  \n{ROW}\nbroken\r\n{ROW}");
    let data = home.pairs("a.jsonl", text).unwrap();
    assert_eq!(data.pairs.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 4, 6]);
    assert_eq!((data.malformed.described()[0].line, data.read), (5, 4));
    assert_eq!(data.malformed.described()[0].found, "expected value at column 1: broken");
    assert_eq!(
        (data.layout.format, data.layout.compression),
        (Format::JsonLines, Compression::None)
    );
}

#[test]
fn wrong_bytes_are_one_malformed_row() {
    let home = Home::new();
    let bytes = [ROW.as_bytes(), b"\n{\"prompt\": \"\xff\"}\n", ROW.as_bytes()].concat();
    let data = home.pairs("a.jsonl", bytes).unwrap();
    assert_eq!((data.pairs.len(), data.malformed.described()[0].line), (2, 2));
    assert_eq!(data.malformed.described()[0].expected, "UTF-8 text");
    assert!(data.malformed.described()[0].found.starts_with("a wrong byte at 13"));
}

#[test]
fn long_lines_work_up_to_the_limit() {
    let home = Home::new();
    let long = json!({"prompt": "p", "chosen": "é".repeat(2_500_000), "rejected": "r"}).to_string();
    assert!(long.len() > 5_000_000);
    let path = home.file("a.jsonl", format!("{long}\n{ROW}"));
    assert_eq!(read(&path).unwrap().pairs.len(), 2);
    let options = ReadOptions { max_row_bytes: 1_000_000, ..ReadOptions::default() };
    let data = read_pairs(&path, &options).unwrap();
    assert_eq!((data.pairs.len(), data.malformed.described()[0].line), (1, 1));
    let row = &data.malformed.described()[0];
    assert_eq!(row.expected, "a line of at most 1000000 bytes");
    assert!(row.found.starts_with(&format!("{} bytes: {{\"prompt\"", long.len())));
    assert!(row.found.chars().count() <= crate::error::MAX_FOUND_CHARS);
}

#[test]
fn compressed_files_are_known_by_content() {
    let home = Home::new();
    let text = format!("{ROW}\n{ROW}\n");
    let zstd = zstd::encode_all(text.as_bytes(), 1).unwrap();
    let two_members = [gzip(text.as_bytes()), gzip(ROW.as_bytes())].concat();
    for (name, bytes, compression, count) in [
        ("a.jsonl.gz", gzip(text.as_bytes()), Compression::Gzip, 2),
        ("b.jsonl.zst", zstd.clone(), Compression::Zstd, 2),
        ("c.jsonl", zstd, Compression::Zstd, 2),
        ("d", gzip(text.as_bytes()), Compression::Gzip, 2),
        ("e.jsonl.gz", text.clone().into_bytes(), Compression::None, 2),
        ("f.gz", two_members, Compression::Gzip, 3),
    ] {
        let data = home.pairs(name, bytes).unwrap();
        assert_eq!((data.layout.compression, data.pairs.len()), (compression, count), "{name}");
    }
    let csv = home.pairs("a.csv.gz", gzip(b"prompt,chosen,rejected\np,c,r\n")).unwrap();
    assert_eq!((csv.layout.format, csv.layout.compression), (Format::Csv, Compression::Gzip));
}

#[test]
fn damaged_compression_is_an_error_with_the_path() {
    let home = Home::new();
    let text = (0..2000).map(|i| json!({"prompt": i.to_string(), "chosen": "c", "rejected": "r"}));
    let text: String = text.map(|row| format!("{row}\n")).collect();
    let whole = gzip(text.as_bytes());
    let mut flipped = whole.clone();
    let end = flipped.len() - 6;
    flipped[end] ^= 0xff;
    let zstd = zstd::encode_all(text.as_bytes(), 1).unwrap();
    for (name, bytes, expected) in [
        ("a.jsonl.gz", &whole[..whole.len() / 2], "gzip"),
        ("b.jsonl.gz", &whole[..5], "gzip"),
        ("c.jsonl.gz", &flipped, "gzip"),
        ("d.jsonl.gz", b"\x00\xfe\xff\x80 none", "gzip"),
        ("e.jsonl.zst", &zstd[..zstd.len() / 2], "Zstandard"),
        ("f.jsonl.zst", b"\x00\xfe\xff\x80 none", "Zstandard"),
    ] {
        match home.pairs(name, bytes) {
            Err(Error::Corrupt { path, format, .. }) => {
                assert_eq!((path, format), (home.path(name), expected), "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn json_arrays_are_read_element_by_element() {
    let home = Home::new();
    let array = format!("\u{feff} [\n{ROW},\n 3,\n{ROW}]\n");
    for name in ["a.json", "a"] {
        let data = home.pairs(name, &array).unwrap();
        assert_eq!(data.layout.format, Format::JsonArray);
        assert_eq!(data.pairs.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(
            (data.malformed.described()[0].line, data.malformed.described()[0].found.as_str()),
            (2, "the number 3")
        );
    }
    assert_eq!(
        home.pairs("b.json", format!("{ROW}\n{ROW}\n")).unwrap().layout.format,
        Format::JsonLines
    );
    assert!(matches!(home.pairs("c.json", "[]"), Err(Error::NoRows { .. })));
    let cut = home.pairs("d.json", format!("[{ROW}, {{\"prompt\""));
    assert!(cut.unwrap_err().to_string().contains("damaged JSON: record 2"));
    let more = home.pairs("e.json", format!("[{ROW}] x"));
    assert!(matches!(more, Err(Error::Corrupt { .. })));
    let path = home.file("f.json", format!("[{ROW}, {{\"prompt\": \"{}\"}}]", "x".repeat(200_000)));
    let limited = ReadOptions { max_row_bytes: 50_000, ..ReadOptions::default() };
    let data = read_pairs(path, &limited).unwrap();
    assert_eq!((data.pairs.len(), data.malformed.described()[0].line), (1, 2));
    assert_eq!(data.malformed.described()[0].expected, "a record of at most 50000 bytes");
    let deep = home.pairs("g.json", "[".repeat(1_000_000));
    assert!(matches!(deep, Err(Error::Corrupt { .. })));
    let path = home.file("h.json", format!("[1, {ROW}]"));
    let strict = ReadOptions { strict: true, ..ReadOptions::default() };
    assert!(matches!(read_pairs(path, &strict), Err(Error::Malformed(row)) if row.line == 1));
}

#[test]
fn csv_and_tsv_under_a_header() {
    let home = Home::new();
    let csv = "\u{feff}id,prompt,chosen,rejected,margin\r\n\
               1,\"a, \"\"b\"\"\nc\",yes,no,\r\n\
               \r\n\
               2,p,yes\r\n\
               3,,yes,no,0.5\r\n";
    let data = home.pairs("a.csv", csv).unwrap();
    assert_eq!(data.pairs.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(data.pairs[0].value.prompt, text("a, \"b\"\nc"));
    assert_eq!((data.pairs[0].value.margin, data.pairs[1].value.margin), (None, Some(0.5)));
    assert_eq!(data.pairs[0].metadata["id"], "1");
    let row = &data.malformed.described()[0];
    assert_eq!((row.line, row.found.as_str()), (2, "3 fields"));
    let data = home.pairs("a.tsv", "chosen\trejected\nyes, sir\tno\n").unwrap();
    assert_eq!((data.layout.format, &data.pairs[0].value.chosen), (Format::Tsv, &text("yes, sir")));
    let bytes = b"chosen,rejected\n\xff,no\nyes,no\n";
    let data = home.pairs("b.csv", bytes).unwrap();
    assert_eq!((data.malformed.described()[0].field.as_str(), data.pairs.len()), ("chosen", 1));
    let twice = home.pairs("c.csv", "chosen,chosen\na,b\n").unwrap_err();
    assert!(twice.to_string().contains("`chosen` twice"));
    assert!(matches!(home.pairs("d.csv", "chosen,rejected\n"), Err(Error::NoRows { .. })));
    assert!(matches!(home.pairs("e.csv", ""), Err(Error::NoRows { .. })));
    let open = format!("chosen,rejected\na,\"b\n{}", "x,y\n".repeat(50_000));
    let limited = ReadOptions { max_row_bytes: 50_000, ..ReadOptions::default() };
    let failed = read_pairs(home.file("f.csv", open), &limited);
    assert!(matches!(failed, Err(Error::Malformed(row)) if row.found.contains("quote")));
}

#[test]
fn strict_reading_stops_at_the_first_malformed_row() {
    let home = Home::new();
    let path = home.file("a.jsonl", format!("{ROW}\n{{\"chosen\": 1}}\nbroken\n"));
    let strict = ReadOptions { strict: true, ..ReadOptions::default() };
    match read_pairs(&path, &strict) {
        Err(Error::Malformed(row)) => assert_eq!((row.line, row.file), (2, path)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_that_give_nothing_are_errors_of_their_own() {
    let home = Home::new();
    assert!(matches!(read(&home.path("none")), Err(Error::NotFound { .. })));
    assert!(matches!(read(home.0.path()), Err(Error::NoDataFiles { .. })));
    for empty in ["", "\n \n", "\u{feff}"] {
        assert!(matches!(home.pairs("a.jsonl", empty), Err(Error::NoRows { .. })));
    }
    assert!(matches!(home.pairs("a.jsonl.gz", gzip(b"")), Err(Error::NoRows { .. })));
    match home.pairs("a.jsonl", "x\ny\n") {
        Err(Error::AllMalformed { read: 2, first, .. }) => assert_eq!(first.line, 1),
        other => panic!("{other:?}"),
    }
}

#[test]
fn foreign_files_are_named() {
    let home = Home::new();
    let found = |name: &str, bytes: &[u8]| match home.pairs(name, bytes) {
        Err(Error::UnsupportedFormat { found, .. }) => found,
        other => panic!("{other:?}"),
    };
    assert_eq!(found("a.jsonl", b"PK\x03\x04.."), "a zip archive");
    assert_eq!(found("a.jsonl", b"\xff\xfe{\0"), "UTF-16 text");
    assert!(found("a.jsonl", b"version https://git-lfs.github.com/spec/v1").contains("lfs pull"));
    assert!(found("a.gz", &gzip(b"PAR1..")).contains("Parquet inside"));
    assert!(found("notes.txt", b"hello").contains("begins with \"hello\""));
    assert!(matches!(home.pairs("a.parquet", ROW), Err(Error::Corrupt { format: "Parquet", .. })));
}

#[cfg(unix)]
#[test]
fn a_pipe_can_be_read() {
    let home = Home::new();
    let path = home.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let writer = std::thread::spawn({
        let path = path.clone();
        move || {
            let mut pipe = fs::OpenOptions::new().write(true).open(path).unwrap();
            for byte in format!("{ROW}\n{ROW}\n").bytes() {
                pipe.write_all(&[byte]).unwrap();
            }
        }
    });
    assert_eq!(read(&path).unwrap().pairs.len(), 2);
    writer.join().unwrap();
}
