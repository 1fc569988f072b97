//! The binary `lens`: parses the command line, runs one command, and says what went wrong.
//!
//! It is a library only so that tests reach it; programs use the crate `lens`.

mod args;
mod commands;
mod curves;
mod error;
mod output;
mod progress;
mod settings;
#[doc(hidden)]
pub mod testing;

use args::{Cli, Command};
use clap::Parser;
use error::CliError;
use progress::Reporter;
use std::process::ExitCode;

/// The program: its whole life, up to its exit status.
pub fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| args::foreign::explained(error).exit());
    let reporter = Reporter::new(cli.quiet);
    // A server answers what is under way before it stops, so that it listens to signals itself.
    let serves = matches!(cli.command, Command::Serve(_));
    if !serves && let Err(error) = reporter.stop_on_signals() {
        output::tell(&format!("warning: Ctrl-C will end the program at once: {error}"));
    }
    let done = match run(&cli, &reporter) {
        // The reader of our output left (`lens score .. | head`): that is not an error.
        Err(CliError::Output { source }) if source.kind() == std::io::ErrorKind::BrokenPipe => {
            Ok(())
        }
        done => done,
    };
    let mut code = ExitCode::SUCCESS;
    // What ended the command is said last, and decides the exit status.
    for error in [reporter.end_curves().err(), done.err()].into_iter().flatten() {
        reporter.clear();
        error.print();
        code = ExitCode::from(error.exit_code());
    }
    code
}

fn run(cli: &Cli, reporter: &Reporter) -> Result<(), CliError> {
    let settings = match &cli.command {
        // What made the synthetic responses of a reward model is in its manifest.
        Command::Synthesise(args) => {
            settings::Settings::resolve_over(&commands::synthesise::base(args)?, cli)?
        }
        Command::Study(args) => {
            settings::Settings::resolve_over(&commands::study::base(args)?, cli)?
        }
        _ => settings::Settings::resolve(cli)?,
    };
    if cli.show_settings {
        return output::line(&settings.to_toml()?);
    }
    if settings.quiet {
        reporter.silence();
    }
    settings.start_threads()?;
    match &cli.command {
        Command::Pull(args) => commands::pull::run(args, &settings, reporter),
        Command::Run(args) => commands::run::run(args, &settings, reporter),
        Command::Embed(args) => commands::embed::run(args, &settings, reporter),
        Command::Train(args) => commands::train::run(args, &settings, reporter),
        Command::Study(args) => commands::study::run(args, &settings, reporter),
        Command::Synthesise(args) => commands::synthesise::run(args, &settings, reporter),
        Command::Eval(args) => commands::eval::run(args, &settings, reporter),
        Command::Score(args) => commands::score::run(args, &settings, reporter),
        Command::Serve(args) => commands::serve::run(args, &settings, reporter),
        Command::Generate(args) => commands::generate::run(args, &settings, reporter),
        Command::Likelihood(args) => commands::likelihood::run(args, &settings, reporter),
        Command::Bench(args) => commands::bench::run(args, &settings, reporter),
        Command::Info(args) => commands::info::run(args, &settings, reporter),
        Command::Export(args) => commands::export::run(args, &settings, reporter),
        Command::Convert(args) => commands::convert::run(args, &settings, reporter),
        Command::Completions(args) => commands::shell::completions(args),
        Command::Man(args) => commands::shell::man(args),
    }
}
