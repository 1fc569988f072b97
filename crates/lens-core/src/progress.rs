//! How long work tells its caller where it stands, and learns that it should stop.

/// Receives the progress of one stage of work. Implemented by the command line (a bar, or plain
/// lines); libraries only call it.
pub trait Progress: Sync {
    /// A stage begins: its name, how many `unit`s it will take in all.
    fn begin(&self, stage: &str, total: u64, unit: &str);
    /// `n` more units are done.
    fn advance(&self, n: u64);
    /// The stage is over.
    fn end(&self);
    /// A line for the person watching (not an error).
    fn note(&self, line: &str);
    /// Whether the user asked to stop. Checked between units of work; the work then returns its
    /// crate's `Cancelled` error with everything already done kept.
    fn cancelled(&self) -> bool;
    /// The figures of one epoch, as they come: for curves that are watched while training goes on.
    /// `run` is empty, or names one of several trainings side by side (`split-3`); `stage` is `vae`,
    /// `head` or `augmented head`; epochs count from 1.
    fn curve(&self, _run: &str, _stage: &str, _epoch: u64, _values: &[(&str, f64)]) {}
    /// Whether anyone looks at the curves: held-out pairs are measured for them only then.
    fn wants_curves(&self) -> bool {
        false
    }
}

/// Progress nobody watches.
#[derive(Debug, Default, Clone, Copy)]
pub struct Quiet;

impl Progress for Quiet {
    fn begin(&self, _stage: &str, _total: u64, _unit: &str) {}
    fn advance(&self, _n: u64) {}
    fn end(&self) {}
    fn note(&self, _line: &str) {}
    fn cancelled(&self) -> bool {
        false
    }
}

/// The progress of one training among many: it hears when asked to stop, but has no bar and says
/// nothing of its own.
pub struct Within<'a>(pub &'a dyn Progress);

impl Progress for Within<'_> {
    fn begin(&self, _stage: &str, _total: u64, _unit: &str) {}
    fn advance(&self, _n: u64) {}
    fn end(&self) {}
    fn note(&self, _line: &str) {}
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}
