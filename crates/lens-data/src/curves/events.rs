//! TensorBoard's event files: records as in TFRecord, each an `Event` message.
//!
//! A record is the length of its data (u64, little endian), the masked CRC-32C of these eight bytes,
//! the data, and the masked CRC-32C of the data. Of `Event` (tensorflow/core/util/event.proto) a
//! scalar curve needs few fields: `wall_time` 1, `step` 2, `file_version` 3, `summary` 5 and
//! `session_log` 7. They are written here by hand: protobuf's wire format of them is four cases, and
//! the crates that write event files bring a protobuf compiler or an image library along.

use crc::{CRC_32_ISCSI, Crc};

const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// How an event file begins. With the start of a session in it, TensorBoard drops the points that
/// older files of the same folder have, instead of drawing both trainings as one line.
pub(super) fn start(wall_time: f64) -> Vec<u8> {
    let mut version = Message::at(wall_time);
    version.bytes(3, b"brain.Event:2");
    let mut log = Message::default();
    log.varint(1, 1); // SessionLog.status = START
    let mut session = Message::at(wall_time);
    session.bytes(7, &log.0);
    [record(&version.0), record(&session.0)].concat()
}

/// Scalars of one step, as one record.
pub(super) fn scalars<'a>(
    wall_time: f64,
    step: u64,
    values: impl IntoIterator<Item = (&'a str, f64)>,
) -> Vec<u8> {
    let mut summary = Message::default();
    for (tag, value) in values {
        let mut scalar = Message::default();
        scalar.bytes(1, tag.as_bytes());
        scalar.float(2, value as f32);
        summary.bytes(1, &scalar.0);
    }
    let mut event = Message::at(wall_time);
    event.varint(2, step);
    event.bytes(5, &summary.0);
    record(&event.0)
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let crc = |bytes| masked_crc(bytes).to_le_bytes();
    [&length[..], &crc(&length), data, &crc(data)].concat()
}

/// CRC-32C, rotated and shifted, so that a CRC over data that holds CRCs stays a good one.
fn masked_crc(bytes: &[u8]) -> u32 {
    CRC32C.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A protobuf message as it grows.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// An `Event` of this time, in seconds since 1970.
    fn at(wall_time: f64) -> Message {
        let mut event = Message::default();
        event.key(1, 1);
        event.0.extend(wall_time.to_le_bytes());
        event
    }

    fn key(&mut self, field: u64, wire_type: u64) {
        self.raw_varint(field << 3 | wire_type);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.raw_varint(value);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, 2);
        self.raw_varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    /// One event, read back.
    #[derive(Debug, Default, PartialEq)]
    pub struct Event {
        pub wall_time: f64,
        pub step: u64,
        pub file_version: String,
        pub scalars: Vec<(String, f32)>,
        pub starts: bool,
    }

    /// The events of a file, every CRC checked.
    pub fn read(mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let crc = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            assert_eq!(crc(8), masked_crc(&bytes[..8]));
            assert_eq!(crc(12 + n), masked_crc(&bytes[12..12 + n]));
            events.push(event(&bytes[12..12 + n]));
            bytes = &bytes[16 + n..];
        }
        events
    }

    fn event(data: &[u8]) -> Event {
        let mut event = Event::default();
        for (field, value) in fields(data) {
            match (field, value) {
                (1, Value::Double(time)) => event.wall_time = time,
                (2, Value::Varint(step)) => event.step = step,
                (3, Value::Bytes(text)) => event.file_version = String::from_utf8(text).unwrap(),
                (5, Value::Bytes(summary)) => {
                    for (field, value) in fields(&summary) {
                        let (1, Value::Bytes(value)) = (field, value) else { panic!("{field}") };
                        event.scalars.push(match &fields(&value)[..] {
                            [(1, Value::Bytes(tag)), (2, Value::Float(v))] => {
                                (String::from_utf8(tag.clone()).unwrap(), *v)
                            }
                            other => panic!("{other:?}"),
                        });
                    }
                }
                (7, Value::Bytes(log)) => {
                    assert_eq!(fields(&log), [(1, Value::Varint(1))]);
                    event.starts = true;
                }
                other => panic!("{other:?}"),
            }
        }
        event
    }

    #[derive(Debug, PartialEq)]
    enum Value {
        Varint(u64),
        Double(f64),
        Float(f32),
        Bytes(Vec<u8>),
    }

    fn fields(mut data: &[u8]) -> Vec<(u64, Value)> {
        fn varint(data: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let byte = data[0];
                *data = &data[1..];
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            value
        }
        fn take<const N: usize>(data: &mut &[u8]) -> [u8; N] {
            let (head, rest) = data.split_at(N);
            *data = rest;
            head.try_into().unwrap()
        }
        let mut found = Vec::new();
        while !data.is_empty() {
            let key = varint(&mut data);
            let value = match key & 7 {
                0 => Value::Varint(varint(&mut data)),
                1 => Value::Double(f64::from_le_bytes(take(&mut data))),
                2 => {
                    let n = varint(&mut data) as usize;
                    let (head, rest) = data.split_at(n);
                    data = rest;
                    Value::Bytes(head.to_vec())
                }
                5 => Value::Float(f32::from_le_bytes(take(&mut data))),
                other => panic!("wire type {other}"),
            };
            found.push((key >> 3, value));
        }
        found
    }

    #[test]
    fn checksums_are_those_of_the_standard_and_of_tensorflow() {
        // RFC 3720, B.4, and the check value of CRC-32C.
        assert_eq!(CRC32C.checksum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(CRC32C.checksum(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(CRC32C.checksum(b"123456789"), 0xe306_9283);
        // The first twelve bytes of every event file that TensorFlow writes.
        let begin = [0x18, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22, 0x09];
        assert_eq!(start(1.5e9)[..13], begin);
    }

    #[test]
    fn events_are_read_back_as_they_were_written() {
        let long = "x".repeat(300);
        let values = [("vae/kl", 0.25), (long.as_str(), -1e300), ("head/loss", f64::NAN)];
        let written = [start(1.5e9), scalars(1.5e9 + 0.25, 300, values)].concat();
        let events = read(&written);
        assert_eq!(events.len(), 3);
        assert_eq!(events[0].file_version, "brain.Event:2");
        assert_eq!(events[0].wall_time, 1.5e9);
        assert!(events[1].starts && events[1].step == 0);
        assert_eq!((events[2].wall_time, events[2].step), (1.5e9 + 0.25, 300));
        let scalars = &events[2].scalars;
        assert_eq!(scalars[0], ("vae/kl".to_owned(), 0.25));
        assert_eq!(scalars[1], (long, f32::NEG_INFINITY));
        assert!(scalars[2].0 == "head/loss" && scalars[2].1.is_nan());
        // Steps beyond 32 bits.
        assert_eq!(read(&super::scalars(0.0, 1 << 40, [("a", 1.0)]))[0].step, 1 << 40);
    }
}
