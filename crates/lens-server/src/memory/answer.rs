//! The body of an answer, which is charged until the last of it has left.

use super::Held;
use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Bytes that are handed to the connection at a time: it copies what it encrypts.
const PIECE: usize = 64 << 10;

/// The bytes of an answer, sent in pieces.
pub(crate) struct Answer(Bytes);

/// Bytes with what is charged for them.
struct Charged {
    bytes: Bytes,
    /// Dropped with the bytes.
    _held: Arc<Held>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Answer {
    /// An answer for which `held` is kept until it has left. Of what the request held until now, the
    /// answer's own bytes stay; or all, where something of it is still being computed.
    pub fn new(bytes: Bytes, held: Arc<Held>) -> Answer {
        if Arc::strong_count(&held) == 1 {
            held.keep(bytes.len());
        }
        Answer(Bytes::from_owner(Charged { bytes, _held: held }))
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        let piece = PIECE.min(self.0.len());
        Poll::Ready(Some(Ok(Frame::data(self.0.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::memory::Budget;
    use http_body_util::BodyExt;
    use std::pin::pin;

    #[test]
    fn an_answer_is_charged_until_its_last_piece_is_gone() {
        let budget = Budget::new(10 << 20);
        let held = budget.request();
        held.take(5 << 20).unwrap();
        let text: Vec<u8> = (0..PIECE * 2 + 5).map(|i| i as u8).collect();
        let mut answer = pin!(Answer::new(text.clone().into(), held));
        assert_eq!(answer.size_hint().exact(), Some(text.len() as u64));
        let mut pieces = Vec::new();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(Some(frame)) = pin!(answer.frame()).poll(&mut cx) {
            pieces.push(frame.unwrap().into_data().unwrap());
        }
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [PIECE, PIECE, 5]);
        assert_eq!(pieces.concat(), text);
        // The connection may still have the last piece, and with it all of them.
        answer.set(Answer(Bytes::new()));
        pieces.drain(..2);
        assert_eq!(budget.used(), text.len());
        pieces.clear();
        assert_eq!(budget.used(), 0);
    }
}
