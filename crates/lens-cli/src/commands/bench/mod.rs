//! `lens bench`: how fast this machine is, against what it could be.

mod encode;
mod made_up;
mod train;

use crate::args::{BenchArgs, BenchCommand};
use crate::error::CliError;
use crate::progress::Reporter;
use crate::settings::Settings;

/// Runs the command.
pub fn run(args: &BenchArgs, settings: &Settings, reporter: &Reporter) -> Result<(), CliError> {
    match &args.command {
        BenchCommand::Encode(args) => encode::run(args, settings, reporter),
        BenchCommand::Train(args) => train::run(args, settings, reporter),
    }
}

/// Peak of this process's memory in MB, where the system tells.
fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}
