//! The folder of a study. However the process ends, no finished training is lost or done again.
//!
//! - `study.toml`: the study as resolved.
//! - `runs.jsonl`: the log. Its first line says what the study is run on, each further one is a
//!   finished cell, written and flushed as one.
//! - `runs.parquet`, `summary.json`, `summary.md`, `report.html`: written whole at the end.

use super::engine::Run;
use super::file::leaves;
use super::plan::{Cell, Plan};
use super::summary::Summary;
use crate::error::EvalError;
use lens_core::Progress;
use lens_data::write_atomic;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The study as resolved.
pub const STUDY: &str = "study.toml";
/// The log of finished cells.
pub const LOG: &str = "runs.jsonl";
/// The table of all runs.
pub const RUNS: &str = "runs.parquet";
/// The result, for programs.
pub const SUMMARY: &str = "summary.json";
/// The result, for people.
pub const SUMMARY_TEXT: &str = "summary.md";
/// The result as a page.
pub const REPORT: &str = "report.html";

/// SHA-256 of some texts, in their order, as hexadecimal digits: equal for equal texts only.
pub fn fingerprint(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The data that a study is run on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// By encoder: its name, and the fingerprint of the pairs as it has them.
    pub data: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    lens_study: u32,
    data: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    cell: String,
    #[serde(flatten)]
    run: Run,
}

/// The folder of a study, held against other processes until it is dropped.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    overwrite: bool,
    /// Whether the folder was made for this study.
    made: bool,
    /// The lock lies on the folder itself, so that no file of its own is left behind.
    _lock: File,
    log: Mutex<Option<File>>,
}

impl Store {
    /// Takes a folder for a study, and makes it where there is none: asked before any work. With
    /// `overwrite` a study that it holds will be replaced when [`Store::begin`] is called.
    ///
    /// # Errors
    /// [`EvalError::NotAStudy`] for a folder with other files, [`EvalError::StudyBusy`] while another
    /// process has it, [`EvalError::Data`] where it cannot be made or read.
    pub fn claim(folder: impl AsRef<Path>, overwrite: bool) -> Result<Store, EvalError> {
        let folder = folder.as_ref().to_owned();
        let path = || folder.clone();
        let mut made = false;
        match fs::metadata(&folder) {
            Ok(meta) if !meta.is_dir() => {
                return Err(lens_data::Error::NotAFolder { path: folder }.into());
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&folder)
                    .map_err(|e| lens_data::Error::io(path(), "create", e))?;
                made = true;
            }
            Err(e) => return Err(lens_data::Error::io(folder, "open", e).into()),
        }
        let opened = |e| lens_data::Error::io(path(), "open", e);
        let lock = File::open(&folder).map_err(opened)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(EvalError::StudyBusy { path: folder }),
            Err(TryLockError::Error(e)) => {
                return Err(lens_data::Error::io(folder, "lock", e).into());
            }
        }
        if !folder.join(STUDY).exists() {
            let mut entries = fs::read_dir(&folder).map_err(opened)?;
            if entries.any(|_| true) {
                return Err(EvalError::NotAStudy { path: folder });
            }
        }
        Ok(Store { folder, overwrite, made, _lock: lock, log: Mutex::new(None) })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Begins the study, or goes on with it: returns the runs that are there, by their cells' keys. A
    /// line that was not written to its end is dropped, and noted.
    ///
    /// # Errors
    /// [`EvalError::OtherStudy`] where the folder holds another plan, or the same one on other data;
    /// [`EvalError::DamagedLog`]; [`EvalError::Data`].
    pub fn begin(
        &self,
        plan: &Plan,
        identity: &Identity,
        progress: &dyn Progress,
    ) -> Result<HashMap<String, Run>, EvalError> {
        let (study, log) = (self.folder.join(STUDY), self.folder.join(LOG));
        let text = plan.to_toml()?;
        if self.overwrite {
            // A study that was begun has a log. A `study.toml` alone is what somebody wrote.
            if study.exists() && !log.exists() {
                return Err(EvalError::NotAStudy { path: self.folder.clone() });
            }
            // The study's name goes last: what is left after an interruption still is one.
            for name in [REPORT, SUMMARY_TEXT, SUMMARY, RUNS, LOG, STUDY] {
                let path = self.folder.join(name);
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(lens_data::Error::io(path, "remove", e).into());
                    }
                    _ => {}
                }
            }
        }
        match fs::read_to_string(&study) {
            Ok(there) => same_study(&self.folder, &there, &text)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => write_atomic(&study, text.as_bytes())?,
            Err(e) => return Err(lens_data::Error::io(study, "read", e).into()),
        }
        let io = |action| {
            let log = log.clone();
            move |e| EvalError::from(lens_data::Error::io(log, action, e))
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&log)
            .map_err(io("open"))?;
        let bytes = fs::read(&log).map_err(io("read"))?;
        let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |last| last + 1);
        if whole < bytes.len() {
            progress.note(&format!(
                "{}: the last line was not written to its end; that training is done again",
                log.display()
            ));
        }
        file.set_len(whole as u64).map_err(io("write"))?;
        file.seek(SeekFrom::End(0)).map_err(io("write"))?;
        let mut known = HashMap::new();
        if whole == 0 {
            let header = Header { lens_study: 1, data: identity.data.clone() };
            self.write(&mut file, &header)?;
        } else {
            let damaged = |line: usize, detail: String| EvalError::DamagedLog {
                path: log.clone(),
                line: line + 1,
                detail,
            };
            for (i, line) in bytes[..whole - 1].split(|&b| b == b'\n').enumerate() {
                if i == 0 {
                    let header: Header =
                        serde_json::from_slice(line).map_err(|e| damaged(i, e.to_string()))?;
                    same_data(&self.folder, &header.data, &identity.data)?;
                } else {
                    let Line { cell, run } =
                        serde_json::from_slice(line).map_err(|e| damaged(i, e.to_string()))?;
                    known.entry(cell).or_insert(run);
                }
            }
        }
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        Ok(known)
    }

    /// Keeps a finished cell.
    ///
    /// # Errors
    /// [`EvalError::Data`] where the line could not be written.
    pub fn append(&self, cell: &Cell, run: &Run) -> Result<(), EvalError> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = log.as_mut() else {
            return Err(EvalError::Runner { detail: "the study has not begun".to_owned() });
        };
        self.write(file, &Line { cell: cell.key.clone(), run: run.clone() })
    }

    /// One line in one write, so that no other can come between.
    fn write(&self, file: &mut File, line: &impl Serialize) -> Result<(), EvalError> {
        let path = self.folder.join(LOG);
        let failed = |e| EvalError::from(lens_data::Error::io(&path, "write", e));
        file.write_all(&line_of(line).map_err(failed)?).map_err(failed)
    }

    /// Writes the results. The log is put in the order of the plan, so that all that is left of how
    /// often the study was interrupted are seconds.
    ///
    /// # Errors
    /// [`EvalError::Data`] and [`EvalError::Parquet`] where a file could not be written.
    pub fn finish(
        &self,
        plan: &Plan,
        identity: &Identity,
        runs: &[Run],
        summary: &Summary,
    ) -> Result<(), EvalError> {
        let log = self.folder.join(LOG);
        let failed = |e| EvalError::from(lens_data::Error::io(&log, "write", e));
        let header = Header { lens_study: 1, data: identity.data.clone() };
        let mut bytes = line_of(&header).map_err(failed)?;
        for (cell, run) in all_cells(plan).zip(runs) {
            bytes.extend(line_of(&Line { cell: cell.key, run: run.clone() }).map_err(failed)?);
        }
        // The file that was appended to is replaced by this one.
        *self.log.lock().unwrap_or_else(PoisonError::into_inner) = None;
        write_atomic(&log, &bytes)?;
        super::parquet_file::write(&self.folder.join(RUNS), plan, runs)?;
        let json = serde_json::to_vec_pretty(summary).map_err(io::Error::from);
        let mut json = json.map_err(failed)?;
        json.push(b'\n');
        write_atomic(self.folder.join(SUMMARY), &json)?;
        write_atomic(self.folder.join(SUMMARY_TEXT), summary.to_markdown().as_bytes())?;
        let page = summary.to_html(&plan.to_toml()?);
        write_atomic(self.folder.join(REPORT), page.as_bytes())?;
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.made {
            // Only an empty one can be removed: nothing came of this study.
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// Every cell, in the order of the plan.
pub(crate) fn all_cells(plan: &Plan) -> impl Iterator<Item = Cell> + '_ {
    let (encoders, seeds, splits) = (plan.encoders.len(), plan.seeds.len(), plan.file.splits);
    (0..encoders).flat_map(move |e| {
        (0..seeds).flat_map(move |n| (0..splits).flat_map(move |s| plan.cells(e, n, s)))
    })
}

fn line_of(line: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Refuses a folder with another plan, and says in what it differs.
fn same_study(folder: &Path, there: &str, ours: &str) -> Result<(), EvalError> {
    if there == ours {
        return Ok(());
    }
    let parsed = |text: &str| toml::from_str::<toml::Table>(text).map(|t| leaves(&t));
    let differences = match (parsed(there), parsed(ours)) {
        (Ok(there), Ok(ours)) => differences(&there, &ours),
        _ => vec![format!("its {STUDY} cannot be read")],
    };
    if differences.is_empty() {
        return Ok(());
    }
    Err(EvalError::OtherStudy { path: folder.to_owned(), differences: listed(differences) })
}

fn differences(there: &[(String, toml::Value)], ours: &[(String, toml::Value)]) -> Vec<String> {
    let find = |list: &[(String, toml::Value)], key: &str| {
        list.iter().find(|(k, _)| k == key).map(|(_, v)| v.to_string())
    };
    let keys = there.iter().chain(ours.iter().filter(|(k, _)| find(there, k).is_none()));
    keys.filter_map(|(key, _)| {
        // Title and question have no influence on the result.
        if ["title", "question"].contains(&key.as_str()) {
            return None;
        }
        let (a, b) = (find(there, key), find(ours, key));
        let show = |v: Option<String>| v.unwrap_or_else(|| "not set".to_owned());
        (a != b).then(|| format!("{key} is {} there, {} here", show(a), show(b)))
    })
    .collect()
}

fn same_data(
    folder: &Path,
    there: &[(String, String)],
    ours: &[(String, String)],
) -> Result<(), EvalError> {
    let other = ours.iter().filter(|one| !there.contains(one)).map(|(name, print)| {
        let before = there.iter().find(|(n, _)| n == name).map_or("none", |(_, p)| p.as_str());
        let of = if name.is_empty() { String::new() } else { format!(" of encoder `{name}`") };
        format!("the data{of} have fingerprint {} there, {} here", short(before), short(print))
    });
    let other: Vec<String> = other.collect();
    if other.is_empty() && there.len() == ours.len() {
        return Ok(());
    }
    Err(EvalError::OtherStudy { path: folder.to_owned(), differences: listed(other) })
}

fn short(print: &str) -> &str {
    print.get(..12).unwrap_or(print)
}

fn listed(mut all: Vec<String>) -> String {
    if all.len() > 5 {
        let more = all.len() - 5;
        all.truncate(5);
        all.push(format!("and {more} more"));
    }
    all.join("; ")
}
