//! Progress of long work: it reports to its caller, who can ask it to stop.

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

/// Progress that is reported to nobody, for work that is never stopped.
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

/// The progress of one piece of work among many that share a bar. It shows no bar of its own; whether
/// to stop is passed on always, notes and curves as the constructors say.
pub struct Within<'a> {
    outer: &'a dyn Progress,
    notes: bool,
    run: Option<String>,
}

impl<'a> Within<'a> {
    /// Passes on neither notes nor curves.
    pub fn silent(outer: &'a dyn Progress) -> Self {
        Within { outer, notes: false, run: None }
    }

    /// Passes on notes.
    pub fn with_notes(outer: &'a dyn Progress) -> Self {
        Within { outer, notes: true, run: None }
    }

    /// Passes on notes, and curves under the name `run`, such as `split-3`.
    pub fn with_curves(outer: &'a dyn Progress, run: String) -> Self {
        Within { outer, notes: true, run: Some(run) }
    }
}

impl Progress for Within<'_> {
    fn begin(&self, _stage: &str, _total: u64, _unit: &str) {}
    fn advance(&self, _n: u64) {}
    fn end(&self) {}
    fn note(&self, line: &str) {
        if self.notes {
            self.outer.note(line);
        }
    }
    fn curve(&self, _run: &str, stage: &str, epoch: u64, values: &[(&str, f64)]) {
        if let Some(run) = &self.run {
            self.outer.curve(run, stage, epoch, values);
        }
    }
    fn wants_curves(&self) -> bool {
        self.run.is_some() && self.outer.wants_curves()
    }
    fn cancelled(&self) -> bool {
        self.outer.cancelled()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Mutex;

    /// Keeps every call, and has been asked to stop.
    #[derive(Default)]
    struct Recorder(Mutex<Vec<String>>);

    impl Progress for Recorder {
        fn begin(&self, stage: &str, _: u64, _: &str) {
            self.0.lock().unwrap().push(format!("begin {stage}"));
        }
        fn advance(&self, _: u64) {
            self.0.lock().unwrap().push("advance".to_owned());
        }
        fn end(&self) {
            self.0.lock().unwrap().push("end".to_owned());
        }
        fn note(&self, line: &str) {
            self.0.lock().unwrap().push(format!("note {line}"));
        }
        fn cancelled(&self) -> bool {
            true
        }
        fn curve(&self, run: &str, stage: &str, epoch: u64, _: &[(&str, f64)]) {
            self.0.lock().unwrap().push(format!("curve {run} {stage} {epoch}"));
        }
        fn wants_curves(&self) -> bool {
            true
        }
    }

    #[test]
    fn work_inside_other_work_has_no_bar_and_passes_on_what_it_is_asked_to() {
        let through = |within: &dyn Fn(&Recorder) -> (bool, bool)| {
            let recorder = Recorder::default();
            let (cancelled, curves) = within(&recorder);
            assert!(cancelled, "a wish to stop is always passed on");
            (curves, recorder.0.into_inner().unwrap())
        };
        let work = |progress: &dyn Progress| {
            progress.begin("train", 2, "epochs");
            progress.note("a note");
            progress.curve("", "head", 1, &[("loss", 0.5)]);
            progress.advance(1);
            progress.end();
            (progress.cancelled(), progress.wants_curves())
        };
        let silent = through(&|outer| work(&Within::silent(outer)));
        assert_eq!(silent, (false, vec![]));
        let notes = through(&|outer| work(&Within::with_notes(outer)));
        assert_eq!(notes, (false, vec!["note a note".to_owned()]));
        let curves = through(&|outer| work(&Within::with_curves(outer, "split-3".to_owned())));
        let expected = ["note a note", "curve split-3 head 1"].map(str::to_owned).to_vec();
        assert_eq!(curves, (true, expected));
    }
}
