//! The messages of Arrow files and streams, none of which is taken at its word: what they say of lengths
//! is held against the bytes that there are, before room is made for them.

use crate::memory::available;
use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::{Block, Message, root_as_footer, root_as_message};
use arrow_schema::ArrowError;
use std::collections::VecDeque;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

/// Bytes behind a file's footer: its length, and the magic once more.
const TRAILER: usize = 10;
/// What stands before the length of a message.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// Bytes that the columns of any batch may have uncompressed.
const SMALL: u64 = 64 << 20;
/// How many times its own bytes a larger one may have. Text is compressed to a tenth.
const TIMES: u64 = 1000;

/// The batches of a file, in the order of its footer. The library's own reader makes room for as many
/// bytes as a footer says that it or a block has, wherever the file ends.
pub(super) struct FileBatches<R> {
    from: R,
    bytes: u64,
    decoder: FileDecoder,
    blocks: VecDeque<Block>,
}

impl<R: Read + Seek> FileBatches<R> {
    pub fn open(mut from: R) -> Result<Self, ArrowError> {
        let bytes = from.seek(SeekFrom::End(0))?;
        let trailer = bytes
            .checked_sub(TRAILER as u64)
            .ok_or_else(|| ArrowError::ParseError(format!("it has {bytes} bytes")))?;
        let mut last = [0; TRAILER];
        from.seek(SeekFrom::Start(trailer))?;
        from.read_exact(&mut last)?;
        let length = read_footer_length(last)?;
        let footer = read_part(&mut from, trailer, trailer.checked_sub(length as u64), length)?;
        let footer = root_as_footer(&footer)
            .map_err(|e| ArrowError::ParseError(format!("its footer: {e}")))?;
        let lacks = |what: &str| ArrowError::ParseError(format!("its footer has no {what}"));
        let schema = footer.schema().ok_or_else(|| lacks("schema"))?;
        if !schema.endianness().equals_to_target_endianness() {
            return Err(ArrowError::ParseError("its bytes are in the other order".to_owned()));
        }
        let mut decoder = FileDecoder::new(Arc::new(try_fb_to_schema(schema)?), footer.version());
        for block in footer.dictionaries().iter().flatten() {
            let data = read_block(&mut from, bytes, block)?;
            decoder.read_dictionary(block, &data)?;
        }
        let blocks = footer.recordBatches().ok_or_else(|| lacks("batches"))?;
        let blocks = blocks.iter().copied().collect();
        Ok(Self { from, bytes, decoder, blocks })
    }
}

impl<R: Read + Seek> Iterator for FileBatches<R> {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let block = self.blocks.pop_front()?;
        let data = match read_block(&mut self.from, self.bytes, &block) {
            Ok(data) => data,
            Err(error) => return Some(Err(error)),
        };
        self.decoder.read_record_batch(&block, &data).transpose()
    }
}

/// A block of a file of so many bytes.
fn read_block(
    from: &mut (impl Read + Seek),
    bytes: u64,
    block: &Block,
) -> Result<Buffer, ArrowError> {
    let metadata = usize::try_from(block.metaDataLength()).ok();
    let body = usize::try_from(block.bodyLength()).ok();
    let length = metadata.zip(body).and_then(|(metadata, body)| metadata.checked_add(body));
    let length =
        length.ok_or_else(|| ArrowError::ParseError("a block has a negative length".to_owned()))?;
    let data = read_part(from, bytes, u64::try_from(block.offset()).ok(), length)?;
    // Behind its length, and in newer files behind a mark before that.
    let prefix = if data.starts_with(&CONTINUATION) { 8 } else { 4 };
    let (metadata, body) = data.split_at(metadata.unwrap_or_default());
    if let Some(metadata) = metadata.get(prefix..) {
        check_message(&message(metadata)?, |at, size| {
            size.copy_from_slice(body.get(at..).and_then(|b| b.get(..8)).unwrap_or(&[0; 8]));
            Ok(())
        })?;
    }
    Ok(Buffer::from_vec(data))
}

/// As many bytes from `start` on, all of which lie before `end`.
fn read_part(
    from: &mut (impl Read + Seek),
    end: u64,
    start: Option<u64>,
    length: usize,
) -> Result<Vec<u8>, ArrowError> {
    let within = |start: &u64| start.checked_add(length as u64).is_some_and(|last| last <= end);
    let start = start.filter(within).ok_or_else(|| {
        ArrowError::ParseError(format!("a part of {length} bytes lies outside of its {end} bytes"))
    })?;
    let mut part = vec![0; length];
    from.seek(SeekFrom::Start(start))?;
    from.read_exact(&mut part)?;
    Ok(part)
}

/// The header of a message.
fn message(metadata: &[u8]) -> Result<Message<'_>, ArrowError> {
    root_as_message(metadata).map_err(|e| ArrowError::ParseError(format!("a message: {e}")))
}

/// Refuses a batch of compressed columns that say they are far more than they can be: the library makes
/// room for what they say. `read` gives the eight bytes at a place of the message's body, where a
/// compressed column has its length.
fn check_message(
    message: &Message<'_>,
    mut read: impl FnMut(usize, &mut [u8; 8]) -> Result<(), ArrowError>,
) -> Result<(), ArrowError> {
    let dictionary = message.header_as_dictionary_batch();
    let batch = message.header_as_record_batch().or_else(|| dictionary?.data());
    let Some(batch) = batch.filter(|batch| batch.compression().is_some()) else { return Ok(()) };
    let (mut stored, mut whole) = (0u64, 0u64);
    for buffer in batch.buffers().iter().flatten() {
        let (Ok(at), Ok(length)) =
            (usize::try_from(buffer.offset()), u64::try_from(buffer.length()))
        else {
            continue;
        };
        if length >= 8 {
            let mut size = [0; 8];
            read(at, &mut size)?;
            stored = stored.saturating_add(length);
            // A negative length says that the column is not compressed.
            let size = u64::try_from(i64::from_le_bytes(size)).unwrap_or(length);
            whole = whole.saturating_add(size);
        }
    }
    let limit = SMALL.max(stored.saturating_mul(TIMES)).min(available().unwrap_or(u64::MAX) / 2);
    match whole <= limit {
        true => Ok(()),
        false => Err(ArrowError::ParseError(format!(
            "{stored} bytes of compressed columns say that they are {whole}, above {limit}"
        ))),
    }
}

/// Goes through the messages of a stream from where it stands, and [checks](check_message) each. A stream
/// that breaks off is left to its reader.
pub(super) fn check_stream(from: &mut (impl Read + Seek)) -> Result<(), ArrowError> {
    let start = from.stream_position()?;
    let end = from.seek(SeekFrom::End(0))?;
    let mut at = start;
    loop {
        from.seek(SeekFrom::Start(at))?;
        let mut length = [0; 4];
        let mut prefix = 4;
        if from.read_exact(&mut length).is_err() {
            return Ok(());
        }
        if length == CONTINUATION {
            prefix = 8;
            if from.read_exact(&mut length).is_err() {
                return Ok(());
            }
        }
        let Ok(length @ 1..) = u64::try_from(i32::from_le_bytes(length)) else { return Ok(()) };
        let body = at + prefix + length;
        if body > end {
            return Ok(());
        }
        let metadata = read_part(from, end, Some(at + prefix), length as usize)?;
        let message = message(&metadata)?;
        check_message(&message, |place, size| {
            match body.checked_add(place as u64).filter(|place| place + 8 <= end) {
                Some(place) => {
                    from.seek(SeekFrom::Start(place))?;
                    Ok(from.read_exact(size)?)
                }
                None => Ok(()),
            }
        })?;
        let Ok(bytes) = u64::try_from(message.bodyLength()) else { return Ok(()) };
        match body.checked_add(bytes).filter(|next| *next < end) {
            Some(next) => at = next,
            None => return Ok(()),
        }
    }
}
