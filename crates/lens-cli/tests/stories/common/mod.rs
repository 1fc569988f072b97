//! A user's desk: a home folder, a tiny model, files, and the real binary run among them.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod serving;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub use lens_encoder::testing::TinyModel;
use rustix::process::Pid;
pub use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than any step takes, even on a busy machine: a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A home folder, which is also the current folder, with a random Gemma 3 model in `tiny.gguf`.
pub struct Lens {
    home: TempDir,
}

/// How a command ended.
pub struct Said {
    /// Exit code; 128 and the signal where one ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Lens {
    pub fn new() -> Lens {
        let lens = Lens { home: tempfile::tempdir().unwrap() };
        lens.model("tiny.gguf", &TinyModel::default());
        lens
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn model(&self, name: &str, model: &TinyModel) {
        model.write(&self.path(name)).unwrap();
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// Writes some rows as JSON lines.
    pub fn rows(&self, name: &str, rows: &[Value]) {
        self.write(name, jsonl(rows));
    }

    /// Names in a folder of the home, sorted.
    pub fn names(&self, folder: &str) -> Vec<String> {
        names(&self.path(folder))
    }

    /// Every file of a folder with its bytes.
    pub fn files(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let read = |name: String| {
            let bytes = std::fs::read(self.path(folder).join(&name)).unwrap();
            (name, bytes)
        };
        self.names(folder).into_iter().map(read).collect()
    }

    /// Bytes of finished embeddings in the cache.
    pub fn cached_bytes(&self) -> u64 {
        let Ok(entries) = std::fs::read_dir(self.path(".cache/lens/embeddings")) else { return 0 };
        let vectors = entries
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with("vectors-"))
            .map(|e| e.metadata().map_or(0, |m| m.len()));
        vectors.sum()
    }

    /// The command with these words, in this home; nothing of the tester's own settings reaches it.
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lens"));
        command
            .args(words.split_whitespace())
            .current_dir(self.home.path())
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, words: &str) -> Said {
        Said::from(self.command(words).output().unwrap())
    }

    /// Runs a command that must succeed.
    pub fn ok(&self, words: &str) -> Said {
        let said = self.run(words);
        assert_eq!(said.code, 0, "lens {words}\n{}{}", said.out, said.err);
        said
    }

    /// Runs a command that must fail with this exit code, having printed no result; returns what
    /// it said.
    pub fn fails(&self, code: i32, words: &str) -> String {
        let said = self.run(words);
        assert_eq!(said.code, code, "lens {words}\n{}{}", said.out, said.err);
        assert_eq!(said.out, "", "lens {words}");
        assert!(!said.err.contains("panicked"), "{}", said.err);
        said.err
    }

    /// Starts a command, to be watched and interrupted.
    pub fn start(&self, words: &str) -> Running {
        Running::start(self.command(words))
    }

    /// A trained reward model in `rm`, on the pairs of `pairs.jsonl`.
    pub fn with_reward_model() -> Lens {
        let lens = Lens::new();
        lens.rows("pairs.jsonl", &pairs(0..60));
        lens.ok("run pairs.jsonl --model tiny.gguf --views fixed -o rm --quiet");
        lens
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        use std::os::unix::process::ExitStatusExt;
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8 output");
        let signal = output.status.signal().unwrap_or(0);
        Said {
            code: output.status.code().unwrap_or(128 + signal),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

impl Said {
    /// Standard output as one JSON value.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }

    /// Standard output as one JSON value a line.
    pub fn json_lines(&self) -> Vec<Value> {
        self.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }
}

/// A command under way; it does not outlive its test.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    said: String,
    pub stdin: Option<ChildStdin>,
}

impl Running {
    pub fn start(mut command: Command) -> Running {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let stdin = child.stdin.take();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        Running { child, lines, said: String::new(), stdin }
    }

    /// Waits until a line of standard error holds `text`.
    pub fn until_said(&mut self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.said.contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.said += &(line + "\n"),
                Err(e) => panic!("`{text}` was not said ({e}):\n{}", self.said),
            }
        }
    }

    /// Waits until something is the case.
    pub fn until(&mut self, what: &str, mut is: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is() {
            assert!(Instant::now() < end, "never: {what}\n{}", self.said);
            assert_eq!(self.child.try_wait().unwrap(), None, "ended before {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Feeds standard input; a command that has ended takes nothing more.
    pub fn feed(&mut self, text: &str) -> bool {
        let Some(stdin) = &mut self.stdin else { return false };
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).is_ok()
    }

    /// Waits for the end.
    pub fn end(mut self) -> Said {
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "does not end:\n{}", self.said);
            std::thread::sleep(Duration::from_millis(2));
        };
        let mut stdout = Vec::new();
        self.child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
        let mut said = Said::from(Output { status, stdout, stderr: Vec::new() });
        self.said.extend(self.lines.iter().map(|l| l + "\n"));
        said.err = std::mem::take(&mut self.said);
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

pub fn jsonl(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// Pairs with an order that even a random model's last token shows.
pub fn pairs(numbers: std::ops::Range<usize>) -> Vec<Value> {
    numbers
        .map(|i| {
            json!({
                "prompt": format!("Question {i}: what of it?"),
                "chosen": format!("It is number {}, so yes!", i * 7),
                "rejected": format!("Number {} is no"  , i * 7),
            })
        })
        .collect()
}

/// A safetensors file as others write it, whatever its values.
pub fn safetensors(arrays: &[(&str, [usize; 2], &[f32])]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape, values) in arrays {
        assert_eq!(shape[0] * shape[1], values.len());
        let start = data.len();
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert((*name).to_owned(), entry);
    }
    let mut header = Value::Object(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// An array that `numpy.save` could have written.
pub fn npy(shape: [usize; 2], values: &[f32]) -> Vec<u8> {
    let mut header = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}",
        shape[0], shape[1]
    );
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let size = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &size[..], header.as_bytes(), &data].concat()
}

/// `n` embeddings of width `dim` around `centre`; the same for the same arguments.
pub fn cloud(n: usize, dim: usize, centre: f32) -> Vec<f32> {
    let noise = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 1009.0 - 0.5;
    (0..n * dim).map(|i| centre + noise(i)).collect()
}
