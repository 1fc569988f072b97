//! `lens completions` and `lens man`: what a package of the binary installs beside it.

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::error::CliError;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use lens_data::write_atomic;
use std::io::Write;
use std::path::Path;

/// Prints a completion script on standard output.
pub fn completions(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lens", &mut script);
    let mut out = std::io::stdout().lock();
    out.write_all(&script)?;
    out.flush()?;
    Ok(())
}

/// Writes `lens.1`, and a page such as `lens-run.1` for each command.
pub fn man(args: &ManArgs) -> Result<(), CliError> {
    // There are pages, not a command that prints them.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    pages(&command, &args.folder)
}

fn pages(command: &Command, folder: &Path) -> Result<(), CliError> {
    let page = Man::new(command.clone());
    let mut bytes = Vec::new();
    page.render(&mut bytes)?;
    write_atomic(folder.join(page.get_filename()), &bytes)?;
    command.get_subcommands().try_for_each(|sub| pages(sub, folder))
}
