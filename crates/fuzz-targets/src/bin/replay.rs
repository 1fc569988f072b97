//! `replay TARGET FILE..`: runs a target on inputs, in little memory, and ends with status 1 where one
//! takes long. The name of each is printed before it is read: where the process dies, the last name is
//! that of the input.

// It is a tool of tests.
#![allow(clippy::expect_used)]

use rustix::process::{Resource, Rlimit, setrlimit};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Most address space: what the cases of hostile inputs are held to.
const MEMORY: u64 = 3_000_000 << 10;
/// Most time for an input. It takes milliseconds; the rest is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// The stack of a program's main thread.
const STACK: usize = 8 << 20;

fn main() -> ExitCode {
    lens_encoder::sandbox::install();
    let mut words = std::env::args().skip(1);
    let Some(target) = words.next().and_then(|name| fuzz_targets::find(&name)) else {
        eprintln!("usage: replay TARGET FILE..; the targets:");
        fuzz_targets::TARGETS.iter().for_each(|target| eprintln!("  {}", target.name));
        return ExitCode::from(2);
    };
    let limit = Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) };
    setrlimit(Resource::As, limit).expect("a limit can be lowered");
    let (say, heard) = channel();
    let files: Vec<String> = words.collect();
    let reading = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        for file in files {
            println!("{file}");
            let bytes = std::fs::read(&file).expect("the input can be read");
            let begin = Instant::now();
            (target.run)(&bytes);
            let _ = say.send(begin.elapsed());
        }
    });
    let reading = reading.expect("a thread can be started");
    loop {
        match heard.recv_timeout(PATIENCE) {
            Ok(time) => println!("  {} ms", time.as_millis()),
            Err(RecvTimeoutError::Timeout) => {
                println!("  longer than {} s", PATIENCE.as_secs());
                return ExitCode::FAILURE;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if reading.join().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
