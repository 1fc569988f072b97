//! A log that holds nobody up.

use std::io::{Result, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Lines that wait to be written.
const WAITING: usize = 4096;

/// Takes lines of a log for a thread of their own to write. Where nobody reads them, as of a full
/// pipe, they wait, and further ones are lost: a server must not stand still for its log.
#[derive(Debug, Clone)]
pub struct LogLines(SyncSender<Message>);

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Told once everything before it is written.
    Written(SyncSender<()>),
}

impl LogLines {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// The system's, where there can be no further thread.
    pub fn to(out: impl Write + Send + 'static) -> Result<LogLines> {
        let (send, receive) = sync_channel(WAITING);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write(&receive, out))?;
        Ok(LogLines(send))
    }

    /// Waits until all lines are written, for `patience` at most.
    pub fn finish(&self, patience: Duration) {
        let (written, all) = sync_channel(1);
        // A full channel means that nobody reads.
        if self.0.try_send(Message::Written(written)).is_ok() {
            let _ = all.recv_timeout(patience);
        }
    }
}

/// Each write is a line, whole.
impl Write for LogLines {
    fn write(&mut self, line: &[u8]) -> Result<usize> {
        let _ = self.0.try_send(Message::Line(line.to_vec()));
        Ok(line.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

fn write(lines: &Receiver<Message>, mut out: impl Write) {
    for message in lines {
        // A log that cannot be written is nobody's to mend here.
        let _ = match message {
            Message::Line(line) => out.write_all(&line),
            Message::Written(tell) => {
                let _ = tell.try_send(());
                out.flush()
            }
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Writes into memory, one line for each permission.
    struct Slow(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_in_order_and_who_writes_never_waits() {
        let (go, gate) = std::sync::mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let mut log = LogLines::to(Slow(gate, Arc::clone(&written))).unwrap();
        for number in 0..WAITING * 3 {
            log.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        // Nobody reads: the end is not waited for.
        log.finish(Duration::from_millis(10));
        drop(go);
        while written.lock().unwrap().len() < 10_000 {
            std::thread::yield_now();
        }
        log.finish(Duration::from_secs(60));
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let lines: Vec<usize> = text.lines().map(|l| l.parse().unwrap()).collect();
        assert!(lines.len() >= WAITING && lines.len() < WAITING * 3);
        assert!(lines.iter().copied().eq(0..lines.len()), "the first lines, without a gap");
    }
}
