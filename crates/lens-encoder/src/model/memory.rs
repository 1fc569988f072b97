//! How much memory there is, and in which form weights fit into it.

use crate::error::{EncoderError, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// In which form weights are held. None of them changes what is computed but [`Precision::Bf16`],
/// which rounds weights that are stored finer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Precision {
    /// [`Precision::F32`] if there is room, else [`Precision::Stored`].
    #[default]
    Auto,
    /// Decoded once, 4 bytes a weight: the fastest.
    F32,
    /// 2 bytes a weight, rounded to bfloat16 where they are stored finer; decoded when used.
    Bf16,
    /// As in the file, however it is quantised, mapped into memory; decoded when used.
    Stored,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Stored => "stored",
        })
    }
}

impl std::str::FromStr for Precision {
    type Err = EncoderError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "stored" => Ok(Self::Stored),
            other => Err(EncoderError::InvalidOption {
                option: "weights",
                detail: format!("'{other}' is none of auto, f32, bf16, stored"),
            }),
        }
    }
}

/// The memory that a model needs, from which that of each form of its weights follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryNeeds {
    /// Number of weights in the blocks to run.
    pub elements: u64,
    /// Bytes of all mapped files.
    pub mapped: u64,
    /// Buffers of one batch.
    pub workspace: u64,
}

impl MemoryNeeds {
    /// Bytes of the weights in a form that is not `Auto`.
    pub fn weights(&self, precision: Precision) -> u64 {
        match precision {
            Precision::Auto | Precision::F32 => self.elements * 4,
            Precision::Bf16 => self.elements * 2,
            Precision::Stored => self.mapped,
        }
    }

    /// The form to use with so many bytes available (`None`: unknown).
    ///
    /// # Errors
    /// [`EncoderError::TooLarge`] where the asked form does not fit, or none does.
    pub fn choose(&self, asked: Precision, available: Option<u64>) -> Result<Precision> {
        let Some(available) = available else {
            return Ok(if asked == Precision::Auto { Precision::F32 } else { asked });
        };
        let fits = |precision| self.weights(precision) + self.workspace <= available;
        let chosen = match asked {
            // Room is left for the rest of the machine where there is a choice.
            Precision::Auto
                if self.weights(Precision::F32) + self.workspace <= available / 5 * 4 =>
            {
                Precision::F32
            }
            Precision::Auto => Precision::Stored,
            other => other,
        };
        if fits(chosen) {
            return Ok(chosen);
        }
        let advice = if chosen != Precision::Stored && fits(Precision::Stored) {
            "set weights = \"stored\" (or auto), which keeps them as they are in the file"
                .to_owned()
        } else {
            "use a smaller or a more strongly quantised model, or smaller batch_tokens".to_owned()
        };
        Err(EncoderError::TooLarge {
            weights: self.weights(chosen),
            workspace: self.workspace,
            available,
            advice,
        })
    }
}

/// Bytes that this process can still take: what the system calls available, and what the limits of its
/// control groups leave. `None` where the system does not tell.
pub fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = group_folders(&own).into_iter().filter_map(|folder| left_in_group(&folder));
    groups.chain([kilobytes * 1024]).min()
}

/// The folders of the control groups that limit the memory of a process with this
/// `/proc/self/cgroup`, its own and those around it. In a container they are seen from its root.
fn group_folders(own: &str) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" => Path::new("/sys/fs/cgroup"),
            all if all.split(',').any(|c| c == "memory") => Path::new("/sys/fs/cgroup/memory"),
            _ => continue,
        };
        let own = root.join(path.trim_start_matches('/'));
        folders.extend(own.ancestors().take_while(|f| f.starts_with(root)).map(Path::to_owned));
    }
    folders
}

/// What the limit of a control group leaves; the system frees cached files by itself.
fn left_in_group(folder: &Path) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let either = |new: &str, old: &str| number(new).or_else(|| number(old));
    let limit = either("memory.max", "memory.limit_in_bytes")?;
    let used = either("memory.current", "memory.usage_in_bytes")?;
    let stat = read("memory.stat").unwrap_or_default();
    let cached = stat.lines().find_map(|l| l.strip_prefix("inactive_file ")?.trim().parse().ok());
    Some(limit.saturating_sub(used.saturating_sub(cached.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn weights_take_the_fastest_form_that_fits() {
        let needs = MemoryNeeds { elements: 1000, mapped: 600, workspace: 100 };
        let choose = |asked, available| needs.choose(asked, Some(available));
        assert_eq!(choose(Precision::Auto, 10_000).unwrap(), Precision::F32);
        assert_eq!(choose(Precision::Auto, 5_000).unwrap(), Precision::Stored);
        assert_eq!(choose(Precision::F32, 5_000).unwrap(), Precision::F32);
        assert_eq!(choose(Precision::Bf16, 2_100).unwrap(), Precision::Bf16);
        assert_eq!(needs.choose(Precision::Auto, None).unwrap(), Precision::F32);
        let error = choose(Precision::F32, 2_000).unwrap_err().to_string();
        assert!(error.contains("stored"), "{error}");
        let error = choose(Precision::Auto, 650).unwrap_err();
        let EncoderError::TooLarge { weights, workspace, available, advice } = error else {
            panic!("{error}")
        };
        assert_eq!((weights, workspace, available), (600, 100, 650));
        assert!(advice.contains("smaller"), "{advice}");
    }

    #[test]
    fn this_machine_has_memory() {
        if cfg!(target_os = "linux") {
            assert!(available().unwrap() > 1 << 20);
        }
    }

    #[test]
    fn the_groups_of_a_process_are_its_own_and_those_around_it() {
        let all = |text: &str| {
            let folders = group_folders(text);
            folders.iter().map(|f| f.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(all("0::/\n"), ["/sys/fs/cgroup"]);
        assert_eq!(
            all("0::/a.slice/b\n"),
            ["/sys/fs/cgroup/a.slice/b", "/sys/fs/cgroup/a.slice", "/sys/fs/cgroup"]
        );
        let old = "5:cpu,cpuacct:/x\n4:memory:/x\n0::/\nnonsense\n";
        let expected = ["/sys/fs/cgroup/memory/x", "/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
        assert_eq!(all(old), expected);
    }

    #[test]
    fn a_group_leaves_what_it_does_not_use_and_what_can_be_freed() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(left_in_group(folder.path()), None);
        write("memory.max", "max\n");
        write("memory.current", "600\n");
        assert_eq!(left_in_group(folder.path()), None, "no limit");
        write("memory.max", "1000\n");
        assert_eq!(left_in_group(folder.path()), Some(400));
        write("memory.stat", "anon 500\ninactive_file 100\n");
        assert_eq!(left_in_group(folder.path()), Some(500));
        write("memory.current", "5000\n");
        assert_eq!(left_in_group(folder.path()), Some(0));
    }
}
