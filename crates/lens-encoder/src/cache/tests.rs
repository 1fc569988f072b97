#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use lens_core::{Exchange, Message, Quiet};

const DIM: usize = 5;

fn record(n: u32) -> (Key, Record) {
    let record = Record {
        vector: (0..DIM).map(|i| (n as f32) + i as f32 / 10.0).collect(),
        tokens: n,
        truncated: n % 2 == 1,
        ids_hash: u128::from(n) << 70,
    };
    (key(Item::Text(&n.to_string())), record)
}

fn open(dir: &Path) -> DiskCache {
    let mut cache = DiskCache::open(dir, &blake3::hash(b"id"), DIM).unwrap();
    cache.refresh(&Quiet).unwrap();
    cache
}

fn filled(dir: &Path) -> DiskCache {
    let mut cache = open(dir);
    cache.append(&[record(1), record(2)], &Quiet).unwrap();
    cache.append(&[record(3)], &Quiet).unwrap();
    cache
}

#[test]
fn what_was_stored_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = filled(dir.path());
    let mut reader = open(dir.path());
    for n in 1..=3 {
        let (key, want) = record(n);
        assert_eq!(reader.get(&key, &Quiet), Some(want));
    }
    assert_eq!(reader.get(&record(4).0, &Quiet), None);
    // Records of another process appear after a refresh.
    writer.append(&[record(4)], &Quiet).unwrap();
    reader.refresh(&Quiet).unwrap();
    assert_eq!(reader.get(&record(4).0, &Quiet), Some(record(4).1));
}

#[test]
fn a_torn_tail_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path()).path().to_owned();
    let len = std::fs::metadata(&path).unwrap().len();
    for cut in [1, 30, 60] {
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..len as usize - cut]).unwrap();
        let mut cache = open(dir.path());
        assert!(cache.get(&record(2).0, &Quiet).is_some());
        assert!(cache.get(&record(3).0, &Quiet).is_none());
        cache.append(&[record(3)], &Quiet).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), len);
        assert_eq!(open(dir.path()).get(&record(3).0, &Quiet), Some(record(3).1));
    }
}

#[test]
fn a_flipped_byte_costs_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path()).path().to_owned();
    let good = std::fs::read(&path).unwrap();
    for at in HEADER..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        std::fs::write(&path, bytes).unwrap();
        let mut cache = open(dir.path());
        let found: Vec<_> =
            (1..=3).filter_map(|n| cache.get(&record(n).0, &Quiet).map(|r| (n, r))).collect();
        assert_eq!(found.len(), 2, "byte {at}");
        assert!(found.iter().all(|(n, r)| *r == record(*n).1));
    }
}

#[test]
fn a_damaged_header_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path()).path().to_owned();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let mut cache = open(dir.path());
    assert!(cache.get(&record(1).0, &Quiet).is_none());
    cache.append(&[record(1)], &Quiet).unwrap();
    assert!(open(dir.path()).get(&record(1).0, &Quiet).is_some());
    assert!(path.with_extension("broken").exists());
}

#[test]
fn a_folder_that_is_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let error = DiskCache::open(&file.join("cache"), &blake3::hash(b"id"), DIM).err().unwrap();
    assert!(matches!(error, EncoderError::Cache { path, .. } if path == file.join("cache")));
}

#[test]
fn no_two_items_share_a_key() {
    let text = |s: &str| Content::Text(s.into());
    let turns =
        |s: &str| Content::Messages(vec![Message { role: "user".into(), content: s.into() }]);
    let exchanges = [
        (text("a"), text("b")),
        (text("ab"), text("")),
        (text(""), text("ab")),
        (turns("a"), text("b")),
        (text("a"), turns("b")),
        (turns("ab"), Content::Messages(vec![])),
        (Content::Messages(vec![]), turns("ab")),
    ]
    .map(|(prompt, response)| Exchange { prompt, response });
    let mut keys: Vec<Key> = exchanges.iter().map(|e| key(Item::Exchange(e))).collect();
    keys.push(key(Item::Text("ab")));
    keys.push(key(Item::Ids(&[1, 2])));
    keys.push(key(Item::Ids(&[1, 2, 0])));
    keys.sort_unstable();
    let n = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), n);
}
