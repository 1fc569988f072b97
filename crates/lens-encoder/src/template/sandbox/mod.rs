//! Chat templates are programs of whoever made the model. What they may take is limited by the engine
//! that runs them, as far as an engine can limit its own memory and stack, and for good by the
//! operating system where they run in a process of their own.
//!
//! A program that wants this calls [`install`] at the head of its `main`, as the binary `lens` does:
//! from then on every template has a child process, which is this program again, without its
//! environment, its open files and its folder, and with little memory and little time. Templates
//! that take more are an error. Without it templates are rendered in the process itself, under the
//! engine's limits alone: a hostile one can then end the process by filling its stack or its memory.
//!
//! ```no_run
//! fn main() {
//!     lens_encoder::sandbox::install();
//!     // Open encoders, encode texts ..
//! }
//! ```

mod apart;
mod confine;
mod frame;
mod process;
mod serve;

pub(super) use apart::{Apart, Unanswered};

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

/// The first argument of this program where it is started as a renderer.
const WORD: &str = "render-templates-for-the-process-that-started-this";

/// The program that renders templates, in all of this process.
static PROGRAM: RwLock<Option<Program>> = RwLock::new(None);

/// A program that calls [`serve`], and nothing else before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// What it is started with.
    pub arguments: Vec<OsString>,
}

/// Renders templates in child processes of this program from now on. In such a child this call is where
/// the work is done: it renders until its parent leaves, and never returns. So it stands at the head of
/// `main`, before arguments are read and threads are started.
pub fn install() {
    if std::env::args_os().nth(1).is_some_and(|word| word == WORD) {
        std::process::exit(i32::from(serve().is_err()));
    }
    // The link leads to this program also where another one has taken its place on disk.
    let path = match cfg!(target_os = "linux") {
        true => PathBuf::from("/proc/self/exe"),
        // Where the system does not tell, starting it will.
        false => std::env::current_exe().unwrap_or_default(),
    };
    use_program(Program { path, arguments: vec![WORD.into()] });
}

/// Renders templates in children that are `program`, from now on: for processes whose `main` is not
/// theirs to change, such as an interpreter's. Templates that were opened before stay where they are.
pub fn use_program(program: Program) {
    *PROGRAM.write().unwrap_or_else(PoisonError::into_inner) = Some(program);
}

/// The work of a renderer: limits this process for good, and answers requests on standard input
/// until that ends.
///
/// # Errors
/// The limits could not be set, or a stream fails.
pub fn serve() -> io::Result<()> {
    serve::run()
}

/// The program that was chosen.
pub(super) fn program() -> Option<Program> {
    PROGRAM.read().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
mod tests;
