//! Progress on standard error: a bar with rate and time left on a terminal, plain lines elsewhere,
//! nothing with --quiet. Also where Ctrl-C is heard, and where training curves go to their log.

use crate::error::CliError;
use crate::output::tell;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lens::Progress;
use lens_data::CurveLog;
use lens_report::text::thousands;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A stage shorter than this is not worth a line.
const SILENT_FOR: Duration = Duration::from_secs(2);
/// Time between plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows progress, and remembers whether the user asked to stop.
pub struct Reporter {
    quiet: AtomicBool,
    terminal: bool,
    cancelled: Arc<AtomicBool>,
    done: AtomicU64,
    stage: Mutex<Option<Stage>>,
    curves: Mutex<Curves>,
}

/// Where training curves go.
enum Curves {
    /// Nobody asked for them.
    Unwanted,
    Log(CurveLog),
    /// They could not be written, which is no reason to lose the training.
    Failed(lens_data::Error),
}

struct Stage {
    name: String,
    unit: String,
    total: u64,
    started: Instant,
    said: Instant,
    spoke: bool,
    bar: Option<ProgressBar>,
}

impl Reporter {
    /// A reporter that says nothing if `quiet`.
    pub fn new(quiet: bool) -> Self {
        Reporter {
            quiet: AtomicBool::new(quiet),
            terminal: std::io::stderr().is_terminal(),
            cancelled: Arc::default(),
            done: AtomicU64::new(0),
            stage: Mutex::new(None),
            curves: Mutex::new(Curves::Unwanted),
        }
    }

    /// On the first Ctrl-C (or termination) the work stops between two units of it; on the second
    /// the program ends at once.
    pub fn stop_on_signals(&self) -> Result<(), ctrlc::Error> {
        let cancelled = Arc::clone(&self.cancelled);
        ctrlc::set_handler(move || {
            if cancelled.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            tell("\nstopping at the next safe point (Ctrl-C again ends at once)");
        })
    }

    /// Says nothing from now on.
    pub fn silence(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }

    fn quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// Removes the bar, so that an error stands alone.
    pub fn clear(&self) {
        if let Some(bar) = self.stage().take().and_then(|s| s.bar) {
            bar.finish_and_clear();
        }
    }

    /// Training curves go to this log from now on.
    pub fn log_curves(&self, log: CurveLog) {
        *self.curves() = Curves::Log(log);
    }

    /// Ends the log of curves: an error if it could not be written to its end. Asked when all else
    /// is done.
    pub fn end_curves(&self) -> Result<(), CliError> {
        match std::mem::replace(&mut *self.curves(), Curves::Unwanted) {
            Curves::Failed(source) => Err(CliError::Curves { source }),
            Curves::Unwanted | Curves::Log(_) => Ok(()),
        }
    }

    fn curves(&self) -> MutexGuard<'_, Curves> {
        self.curves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stage(&self) -> MutexGuard<'_, Option<Stage>> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stage {
    fn line(&self, done: u64) -> String {
        let elapsed = self.started.elapsed().as_secs_f64();
        let rate = done as f64 / elapsed.max(1e-9);
        let Stage { name, unit, total, .. } = self;
        let (d, t) = (thousands(done), thousands(*total));
        let left = total.saturating_sub(done) as f64 / rate.max(1e-9);
        let rate = if rate < 10.0 { format!("{rate:.1}") } else { thousands(rate as u64) };
        if *total == 0 {
            // How much a pipe will bring nobody knows.
            format!("{name}: {d} {unit}, {rate} {unit}/s")
        } else if done < *total {
            format!("{name}: {d} of {t} {unit}, {rate} {unit}/s, {left:.0} s left")
        } else {
            format!("{name}: {d} {unit} in {elapsed:.1} s ({rate} {unit}/s)")
        }
    }
}

impl Progress for Reporter {
    fn begin(&self, stage: &str, total: u64, unit: &str) {
        self.done.store(0, Ordering::Relaxed);
        let bar = (self.terminal && !self.quiet()).then(|| {
            let length = (total > 0).then_some(total);
            let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
            let template = format!(
                "{stage:<14} {{bar:30}} {{human_pos}}/{{human_len}} {unit}  {{per_sec}}  {{eta}} left"
            );
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style);
            }
            bar
        });
        let now = Instant::now();
        *self.stage() = Some(Stage {
            name: stage.to_owned(),
            unit: unit.to_owned(),
            total,
            started: now,
            said: now,
            spoke: false,
            bar,
        });
    }

    fn advance(&self, n: u64) {
        let done = self.done.fetch_add(n, Ordering::Relaxed) + n;
        let mut stage = self.stage();
        let Some(stage) = stage.as_mut() else { return };
        if let Some(bar) = &stage.bar {
            bar.set_position(done);
        } else if !self.quiet() {
            let wait = if stage.spoke { LINE_EVERY } else { SILENT_FOR };
            if stage.said.elapsed() >= wait && (done < stage.total || stage.total == 0) {
                tell(&stage.line(done));
                stage.said = Instant::now();
                stage.spoke = true;
            }
        }
    }

    fn end(&self) {
        let Some(stage) = self.stage().take() else { return };
        if let Some(bar) = &stage.bar {
            bar.finish_and_clear();
        }
        let long = stage.started.elapsed() >= SILENT_FOR;
        if !self.quiet() && long {
            let done = self.done.load(Ordering::Relaxed);
            let known = stage.total > 0;
            tell(&stage.line(if known { done.min(stage.total) } else { done }));
        }
    }

    fn note(&self, line: &str) {
        if self.quiet() {
            return;
        }
        match self.stage().as_ref().and_then(|s| s.bar.as_ref()) {
            Some(bar) => bar.suspend(|| tell(line)),
            None => tell(line),
        }
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn wants_curves(&self) -> bool {
        matches!(*self.curves(), Curves::Log(_))
    }

    fn curve(&self, run: &str, stage: &str, epoch: u64, values: &[(&str, f64)]) {
        let mut curves = self.curves();
        let Curves::Log(log) = &mut *curves else { return };
        if let Err(error) = log.write(run, stage, epoch, values) {
            self.note(&format!("training goes on without its curves: {error}"));
            *curves = Curves::Failed(error);
        }
    }
}
