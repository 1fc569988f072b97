//! Training curves, written while training goes on: as JSON lines, and as event files that
//! TensorBoard shows live.

mod events;

use crate::bundle::MANIFEST;
use crate::error::Error;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The file of all curves of a training, an epoch a line.
pub const CURVES: &str = "curves.jsonl";

/// A folder that receives training curves, epoch by epoch.
///
/// `DIR/curves.jsonl` gets a line for each epoch: `{"run", "stage", "epoch", "values": {..}}`, `run`
/// only where it is not empty, and null for a value that is NaN or infinite.
///
/// `DIR/RUN/events.out.tfevents.TIME.lens.PID.N` (without `RUN` where it is empty) gets the same as
/// TensorBoard's scalars, in f32: tag `stage/value` with `_` for spaces, step = epoch. TensorBoard
/// shows each such folder as a run of its own.
///
/// Everything written is in the files when [`CurveLog::write`] returns, whole lines and whole
/// records only, so that both can be followed. Files are opened for each epoch: any number of runs
/// side by side is no matter of open files, and network file systems show what is closed.
#[derive(Debug)]
pub struct CurveLog {
    folder: PathBuf,
    /// Kept open: whoever replaces the file by that of another training gets no lines of this one.
    lines: File,
    /// Whether `lines` still is the file of an earlier training, to be replaced.
    replace: bool,
    /// The event file of each run that has begun.
    events: BTreeMap<String, PathBuf>,
}

impl CurveLog {
    /// Begins the log of a training, and makes the folder where there is none.
    ///
    /// A folder with curves is refused, for two trainings in one file are no curve. With `overwrite`
    /// its `curves.jsonl` is replaced, though not before there is a first epoch. Its event files stay:
    /// TensorBoard shows those points of a run that the newest one of its event files has.
    ///
    /// # Errors
    /// [`Error::CurvesExist`] for a folder with curves, [`Error::CurvesInBundle`] for one with a
    /// reward model, whose own curves are not to be replaced; [`Error::NotAFolder`],
    /// [`Error::DiskFull`], [`Error::Io`] where no file can be written there.
    pub fn create(folder: impl AsRef<Path>, overwrite: bool) -> Result<CurveLog, Error> {
        let folder = folder.as_ref().to_owned();
        match fs::metadata(&folder) {
            Ok(meta) if !meta.is_dir() => return Err(Error::NotAFolder { path: folder }),
            Ok(_) if folder.join(MANIFEST).exists() => {
                return Err(Error::CurvesInBundle { path: folder });
            }
            Ok(_) => {}
            Err(_) => make_folder(&folder)?,
        }
        let path = folder.join(CURVES);
        let replace = match fs::metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(Error::io(path, "open", e)),
            Ok(meta) if meta.is_dir() => return Err(Error::IsFolder { path }),
            // A training that ended before its first epoch left an empty file.
            Ok(meta) if !meta.is_file() || meta.len() == 0 => false,
            Ok(_) if !overwrite => return Err(Error::CurvesExist { path }),
            Ok(_) => true,
        };
        let lines = open_lines(&path)?;
        Ok(CurveLog { folder, lines, replace, events: BTreeMap::new() })
    }

    /// Adds one epoch of one stage. `run` is empty, or the plain name of one of several trainings
    /// side by side, which becomes a folder; epochs count from 1.
    ///
    /// # Errors
    /// [`Error::BadTarget`] for a run that cannot be a folder's name, [`Error::DiskFull`] and
    /// [`Error::Io`] for what could not be written: the log should then be given up, for an epoch may
    /// be missing in one of the files.
    pub fn write(
        &mut self,
        run: &str,
        stage: &str,
        epoch: u64,
        values: &[(&str, f64)],
    ) -> Result<(), Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64());
        let mut line = Map::new();
        if !run.is_empty() {
            line.insert("run".to_owned(), run.into());
        }
        line.insert("stage".to_owned(), stage.into());
        line.insert("epoch".to_owned(), epoch.into());
        // A number that is not finite becomes null.
        let all: Map<String, Value> =
            values.iter().map(|&(name, value)| (name.to_owned(), json!(value))).collect();
        line.insert("values".to_owned(), all.into());
        let line = Value::Object(line).to_string() + "\n";
        let path = self.folder.join(CURVES);
        if self.replace {
            fs::remove_file(&path).map_err(|e| Error::io(&path, "replace", e))?;
            self.lines = open_lines(&path)?;
            self.replace = false;
        }
        append(&mut self.lines, line.as_bytes()).map_err(|e| Error::io(path, "write", e))?;

        let path = self.event_file(run, now)?;
        let tag = |name: &str| format!("{stage}/{name}").replace(' ', "_");
        let tags: Vec<(String, f64)> = values.iter().map(|&(name, v)| (tag(name), v)).collect();
        let record = events::scalars(now, epoch, tags.iter().map(|(tag, v)| (tag.as_str(), *v)));
        let file = OpenOptions::new().append(true).open(&path);
        file.and_then(|mut file| append(&mut file, &record))
            .map_err(|e| Error::io(path, "write", e))
    }

    /// The event file of a run, begun where it has none yet.
    fn event_file(&mut self, run: &str, now: f64) -> Result<PathBuf, Error> {
        if let Some(path) = self.events.get(run) {
            return Ok(path.clone());
        }
        let folder = self.folder_of(run)?;
        let pid = std::process::id();
        // Those that begin in the same second differ in the last number, as TensorFlow's do.
        for n in 0..=u16::MAX {
            let name = format!("events.out.tfevents.{}.lens.{pid}.{n}", now as u64);
            let path = folder.join(name);
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io(path, "create", e)),
                Ok(mut file) => {
                    append(&mut file, &events::start(now))
                        .map_err(|e| Error::io(&path, "write", e))?;
                    self.events.insert(run.to_owned(), path.clone());
                    return Ok(path);
                }
            }
        }
        Err(Error::io(folder, "create", io::ErrorKind::AlreadyExists.into()))
    }

    fn folder_of(&self, run: &str) -> Result<PathBuf, Error> {
        if run.is_empty() {
            return Ok(self.folder.clone());
        }
        let path = self.folder.join(run);
        let mut parts = Path::new(run).components();
        match (parts.next(), parts.next()) {
            (Some(Component::Normal(name)), None) if name == run => {}
            _ => return Err(Error::BadTarget { path }),
        }
        make_folder(&path)?;
        Ok(path)
    }
}

fn open_lines(path: &Path) -> Result<File, Error> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.map_err(|e| Error::io(path, "create", e))
}

fn make_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => Error::NotAFolder { path: path.to_owned() },
        _ => Error::io(path, "create", e),
    })
}

/// Appends all of `bytes`, or leaves the file as it was.
fn append(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    file.write_all(bytes).inspect_err(|_| {
        // A part that cannot be cut off either is the last line or record, which readers pass over.
        let _ = file.set_len(before);
    })
}

#[cfg(test)]
mod tests;
