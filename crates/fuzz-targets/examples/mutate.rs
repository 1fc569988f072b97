//! `mutate TARGET SECONDS FOLDER [SEED]`: changes inputs of the corpus at random and runs the target on
//! them. It learns nothing from what they do, as a fuzzer does, but needs no nightly compiler.
//!
//! The input under way lies in `FOLDER/TARGET.now`: where the process dies or hangs, that is the input.
//! One that panics is kept as `FOLDER/TARGET-NUMBER`, and the run goes on.

// It is a tool, run by hand.
#![allow(clippy::expect_used, clippy::panic)]

use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest input.
const LONGEST: usize = 1 << 16;
/// Words that parsers know, and numbers at the edges of their types.
const WORDS: [&[u8]; 24] = [
    b"null",
    b"true",
    b"-1",
    b"1e400",
    b"NaN",
    b"\\ud800",
    b"[[",
    b"{}",
    b"\"",
    b",",
    b"\n",
    b"=== ",
    b"{{",
    b"{%",
    b"%}",
    b"18446744073709551615",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\0\0\0\0",
    b"\x80",
    b"\xf0\x9f\x98\x80",
    b"<s>",
    b"\n\nHuman: ",
    b"9999999999",
];

fn main() {
    lens_encoder::sandbox::install();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [name, seconds, folder, ..] = &*words else {
        panic!("usage: mutate TARGET SECONDS FOLDER [SEED]")
    };
    let target = fuzz_targets::find(name).expect("the name of a target");
    let time = Duration::from_secs(seconds.parse().expect("a number of seconds"));
    let mut random = Random(words.get(3).map_or(1, |seed| seed.parse().expect("a number")));
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = std::fs::read_dir(corpus).expect("the corpus");
    let inputs =
        entries.map(|entry| std::fs::read(entry.expect("an entry").path()).expect("an input"));
    let inputs: Vec<Vec<u8>> = inputs.collect();
    let now = Path::new(folder).join(format!("{name}.now"));
    let (begin, mut runs, mut kept) = (Instant::now(), 0u64, 0);
    let mut slowest = Duration::ZERO;
    while begin.elapsed() < time {
        let mut input = inputs[random.below(inputs.len())].clone();
        for _ in 0..=random.below(6) {
            change(&mut input, &inputs, &mut random);
        }
        std::fs::write(&now, &input).expect("the input can be written");
        let start = Instant::now();
        if catch_unwind(|| (target.run)(&input)).is_err() {
            std::fs::copy(&now, Path::new(folder).join(format!("{name}-{runs}")))
                .expect("it can be kept");
            kept += 1;
        }
        slowest = slowest.max(start.elapsed());
        runs += 1;
    }
    std::fs::remove_file(&now).expect("the input can be removed");
    println!(
        "{name}: {runs} runs in {} s, the longest {} ms; {kept} panics",
        seconds,
        slowest.as_millis()
    );
}

/// Changes an input in one place.
fn change(input: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = (at + random.below(40)).min(input.len());
    match random.below(9) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.below(256) as u8,
        2 => drop(input.drain(at..end)),
        3 => drop(input.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
        4 => drop(input.splice(at..end, WORDS[random.below(WORDS.len())].iter().copied())),
        5 => {
            let piece = input[at..end].repeat(1 + random.below(50));
            input.splice(at..at, piece);
        }
        6 => {
            let other = &others[random.below(others.len())];
            let from = random.below(other.len() + 1);
            let to = (from + random.below(200)).min(other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
        7 => input.truncate(at),
        _ if at < input.len() => {
            let step = random.below(35) as u8;
            input[at] = input[at].wrapping_add(step).wrapping_sub(17);
        }
        _ => {}
    }
    input.truncate(LONGEST);
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}
