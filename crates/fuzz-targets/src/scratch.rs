//! Inputs as files: most readers take a path.

use std::path::Path;
use tempfile::TempDir;

/// Begins the name of a file within an input.
const MARK: &[u8] = b"=== ";

/// Calls `read` with an input as a file of that name.
pub fn in_file<T>(name: &str, bytes: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    let folder = folder();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("the input can be written");
    read(&path)
}

/// Calls `read` with a folder that holds those files of an input whose names are known; of several
/// with one name, the last.
pub fn in_folder<T>(bytes: &[u8], known: &[&str], read: impl FnOnce(&Path) -> T) -> T {
    let folder = folder();
    for (name, content) in files(bytes) {
        if known.contains(&name) {
            std::fs::write(folder.path().join(name), content).expect("the input can be written");
        }
    }
    read(folder.path())
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("lens-fuzz-").tempdir().expect("a folder can be made")
}

/// The files of an input, with their names. What stands before the first has none.
pub fn files(bytes: &[u8]) -> Vec<(&str, &[u8])> {
    let mut all = Vec::new();
    let mut rest = from_mark(bytes);
    while let Some(inner) = rest.strip_prefix(MARK) {
        let line = inner.iter().position(|b| *b == b'\n').unwrap_or(inner.len());
        let (name, after) = inner.split_at(line);
        let after = after.strip_prefix(b"\n").unwrap_or(after);
        rest = from_mark(after);
        let mut content = &after[..after.len() - rest.len()];
        if !rest.is_empty() {
            // The line's end before a mark belongs to the mark.
            content = content.strip_suffix(b"\n").unwrap_or(content);
        }
        all.extend(std::str::from_utf8(name).ok().map(|name| (name.trim(), content)));
    }
    all
}

/// An input from the next line on that begins with a mark.
fn from_mark(bytes: &[u8]) -> &[u8] {
    let begins = |at: &usize| {
        bytes[*at..].starts_with(MARK) && (*at == 0 || bytes.get(*at - 1) == Some(&b'\n'))
    };
    let at = (0..bytes.len()).find(begins).unwrap_or(bytes.len());
    &bytes[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_their_marks() {
        let input = b"lost\n=== a.json\n{}\n=== b\n\n=== c\nx === y\n";
        let expected: [(&str, &[u8]); 3] = [("a.json", b"{}"), ("b", b""), ("c", b"x === y\n")];
        assert_eq!(files(input), expected);
        assert!(files(b"no mark").is_empty());
        assert_eq!(files(b"=== only a name"), [("only a name", &b""[..])]);
    }
}
