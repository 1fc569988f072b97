//! A connection whose client has to read what it asked for.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes a second that a client takes of its answers at least, on average. A slower one falls
/// behind, until it is given up.
const RATE: f64 = (16 << 10) as f64;

/// A stream that ends with an error once its client is `patience` behind with reading: the time for
/// which nothing could be sent, less what the bytes sent meanwhile may take at [`RATE`].
pub(crate) struct Patient<S> {
    stream: S,
    patience: Duration,
    /// How far the client is behind.
    behind: Duration,
    /// Since when nothing can be sent, and what wakes us when that has been for too long.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<S> Patient<S> {
    pub fn new(stream: S, patience: Duration) -> Patient<S> {
        Patient { stream, patience, behind: Duration::ZERO, waiting: None }
    }

    /// Counts what came of an attempt to send.
    fn counted(
        &mut self,
        sent: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match sent {
            Poll::Ready(sent) => {
                if let Some((since, _)) = self.waiting.take() {
                    self.behind += since.elapsed();
                }
                if let Ok(bytes) = sent {
                    let due = Duration::from_secs_f64(bytes as f64 / RATE);
                    self.behind = self.behind.saturating_sub(due);
                }
                Poll::Ready(sent)
            }
            Poll::Pending => {
                let left = self.patience.saturating_sub(self.behind);
                let (_, alarm) = self.waiting.get_or_insert_with(|| {
                    let now = Instant::now();
                    (now, Box::pin(sleep_until(now + left)))
                });
                ready!(alarm.as_mut().poll(cx));
                Poll::Ready(Err(ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.counted(sent, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.counted(sent, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::sleep;

    const PATIENCE: Duration = Duration::from_secs(1);

    /// Sends so many bytes to a client that does what `read` does.
    fn send<F: Future>(bytes: usize, read: impl FnOnce(DuplexStream) -> F) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (server, client) = duplex(1024);
            let mut server = Patient::new(server, PATIENCE);
            let all = vec![7; bytes];
            tokio::select! {
                sent = server.write_all(&all) => sent,
                _ = read(client) => Err(ErrorKind::Other.into()),
            }
        })
    }

    #[test]
    fn who_reads_nothing_is_given_up() {
        let start = Instant::now();
        let error = send(10_000, |client| async move {
            sleep(Duration::from_secs(60)).await;
            drop(client);
        });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(start.elapsed() >= PATIENCE);
    }

    #[test]
    fn who_reads_too_slowly_is_given_up_although_it_always_reads_something() {
        let error = send(1 << 20, |mut client| async move {
            let mut some = [0; 64];
            loop {
                sleep(Duration::from_millis(20)).await;
                client.read_exact(&mut some).await.unwrap();
            }
        });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn who_reads_at_the_rate_gets_everything_however_long_it_takes() {
        // Much faster than the rate, also on a busy machine, and for longer than the patience.
        let sent = send(1200 << 10, |mut client| async move {
            let mut some = [0; 4096];
            loop {
                sleep(Duration::from_millis(5)).await;
                client.read_exact(&mut some).await.unwrap();
            }
        });
        sent.unwrap();
    }
}
