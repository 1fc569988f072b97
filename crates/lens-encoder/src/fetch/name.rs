//! The meaning of a model's name: path, known model, address, or repository of the Hub.

use super::packaged::{KnownModel, known};
use crate::http::public_url;

/// A model that is not a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    Known(&'static KnownModel),
    Url(String),
    Hub(HubName),
}

/// What a repository of the Hub holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Model,
    Dataset,
}

impl Kind {
    /// What stands before its name in addresses of the Hub's API.
    pub fn api(self) -> &'static str {
        match self {
            Kind::Model => "api/models",
            Kind::Dataset => "api/datasets",
        }
    }

    /// What stands before its name in the address of its page.
    pub fn page(self) -> &'static str {
        match self {
            Kind::Model => "",
            Kind::Dataset => "datasets/",
        }
    }
}

/// A repository of the Hub, at a revision; or one file in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HubName {
    /// What it holds.
    pub kind: Kind,
    /// `org/name`.
    pub repo: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Path in the repository.
    pub file: Option<String>,
}

impl Name {
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(model) = known(name) {
            return Some(Self::Known(model));
        }
        if name.starts_with("http://") || name.starts_with("https://") {
            return Some(Self::Url(name.to_owned()));
        }
        HubName::parse(name).map(Self::Hub)
    }
}

impl HubName {
    fn parse(name: &str) -> Option<Self> {
        let (path, revision) = match name.split_once('@') {
            Some((path, revision)) => (path, revision),
            None => (name, "main"),
        };
        let mut parts = path.splitn(3, '/');
        let (org, repo, file) = (parts.next()?, parts.next()?, parts.next());
        // Two words of which one ends as files do: a path, mistyped.
        let mistyped = [".gguf", ".safetensors"].iter().any(|e| repo.ends_with(e));
        let fits = is_word(org) && is_word(repo) && !mistyped && is_revision(revision);
        let fits = fits && file.is_none_or(|f| is_inside(f) && f.ends_with(".gguf"));
        fits.then(|| Self {
            kind: Kind::Model,
            repo: format!("{org}/{repo}"),
            revision: revision.to_owned(),
            file: file.map(str::to_owned),
        })
    }

    /// For people: as it was typed, but for a revision that is a matter of course.
    pub fn shown(&self) -> String {
        let file = self.file.as_ref().map_or_else(String::new, |f| format!("/{f}"));
        let revision =
            if self.revision == "main" { String::new() } else { format!("@{}", self.revision) };
        format!("{}{file}{revision}", self.repo)
    }

    /// `org--name@revision`: a name for files.
    pub fn folder(&self, revision: &str) -> String {
        format!("{}@{revision}", self.repo).replace('/', "--")
    }
}

/// Whether it may be the name of an organisation or of a repository.
pub(super) fn is_word(word: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !word.is_empty() && word.len() <= 96 && !word.starts_with('.') && word.chars().all(fine)
}

/// Whether it may be the name of a branch, a tag or a commit.
pub(super) fn is_revision(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_./+".contains(c);
    !text.is_empty() && text.len() <= 200 && text.chars().all(fine) && is_inside(text)
}

/// Whether a path stays below where it begins.
pub(super) fn is_inside(path: &str) -> bool {
    let fine = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.split('/').all(fine) && !path.contains(['\\', ':', '\0'])
}

/// Whether it is a commit, which never changes.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A model's name as it can be shown and saved: without user, password and query, where it is an
/// address.
pub fn public_name(name: &str) -> String {
    if name.contains("://") { public_url(name) } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let hub = |name: &str| match Name::parse(name) {
            Some(Name::Hub(h)) => Some((h.repo, h.revision, h.file)),
            _ => None,
        };
        let s = String::from;
        assert_eq!(hub("a/b"), Some((s("a/b"), s("main"), None)));
        assert_eq!(hub("a/b@v1.0"), Some((s("a/b"), s("v1.0"), None)));
        assert_eq!(hub("a/b@refs/pr/3"), Some((s("a/b"), s("refs/pr/3"), None)));
        assert_eq!(
            hub("a/b-GGUF/q4/c.gguf@main"),
            Some((s("a/b-GGUF"), s("main"), Some(s("q4/c.gguf"))))
        );
        for not in
            ["a", "a/../b", "../b", "a/b/../c.gguf", "a/b.gguf", "a/b/c.bin", "a/b@", "a b/c"]
        {
            assert_eq!(hub(not), None, "{not}");
        }
        assert_eq!(Name::parse("https://h/x.gguf"), Some(Name::Url(s("https://h/x.gguf"))));
        assert!(matches!(Name::parse("gemma-3-270m"), Some(Name::Known(_))));
        assert_eq!(public_name("https://u:p@h/x.gguf?sig=1"), "https://h/x.gguf");
        assert_eq!(public_name("a/b@c"), "a/b@c");
    }
}
