//! Models of the Hugging Face Hub.

use super::disk;
use super::download::{FileRequest, Net, download, refusal};
use super::name::{HubName, Kind, is_commit, is_inside};
use crate::error::{EncoderError, FetchError, Result};
use crate::family::config::layers;
use crate::http::{
    Answer, Client, HttpError, Limits, Retry, Secret, escaped, interruptible, passes, wait,
};
use crate::model::gguf::part_names;
use crate::view::{check_layers, name_layers};
use lens_core::Progress;
use lens_data::encoder::ViewChoice;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Files of unknown size that are not weights are not longer.
const SMALL: u64 = 1 << 28;
/// No model file is longer.
pub(super) const LARGEST: u64 = 1 << 42;
/// Answers of the Hub about a repository are not longer.
const LISTING: u64 = 1 << 26;
const INDEX: &str = "model.safetensors.index.json";
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";

/// Where the Hub is, and what of it is here.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Its address. `HF_ENDPOINT`, or the public one.
    pub endpoint: String,
    /// For models that not everyone may read. `HF_TOKEN`, or what `hf auth login` stored.
    pub token: Option<Secret>,
    /// The user's own cache of the Hub: what is complete there is not fetched again.
    /// `HF_HUB_CACHE`, or `hub` in `HF_HOME`, or `~/.cache/huggingface/hub`.
    pub cache: Option<PathBuf>,
    /// Whether nothing may be fetched. `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// Tries at each file that bring nothing new, before it is given up.
    pub attempts: u32,
    /// Wait after the first failure; it doubles with each.
    pub first_pause: Duration,
    /// How long to wait for a connection, an answer, the next bytes.
    pub patience: Duration,
}

impl Default for Hub {
    /// The public Hub, without a token or a cache.
    fn default() -> Self {
        Self {
            endpoint: "https://huggingface.co".to_owned(),
            token: None,
            cache: None,
            offline: false,
            attempts: 6,
            first_pause: Duration::from_secs(1),
            patience: Duration::from_secs(30),
        }
    }
}

impl Hub {
    /// As the environment says.
    pub fn from_env() -> Self {
        let var = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
        let home = || var("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = var("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
        let home = var("HF_HOME").map(PathBuf::from).or(cache.map(|c| c.join("huggingface")));
        let stored = || {
            let path = var("HF_TOKEN_PATH").map(PathBuf::from);
            let path = path.or_else(|| home.as_ref().map(|h| h.join("token")))?;
            std::fs::read_to_string(path).ok()
        };
        let token = var("HF_TOKEN").or_else(|| var("HUGGING_FACE_HUB_TOKEN")).or_else(stored);
        let yes = |text: String| ["1", "on", "yes", "true"].contains(&&*text.to_lowercase());
        let endpoint = var("HF_ENDPOINT").map(|e| e.trim_end_matches('/').to_owned());
        let plain = Self::default();
        Self {
            endpoint: endpoint.unwrap_or_else(|| plain.endpoint.clone()),
            token: token.as_deref().and_then(Secret::new),
            cache: var("HF_HUB_CACHE")
                .map(PathBuf::from)
                .or_else(|| home.as_ref().map(|h| h.join("hub"))),
            offline: var("HF_HUB_OFFLINE").is_some_and(yes),
            ..plain
        }
    }

    pub(super) fn net(&self) -> Net {
        let patience = self.patience;
        let limits = |whole| {
            Client::new(Limits { connect: patience, answer: patience, read: patience, whole })
        };
        let retry = Retry { attempts: self.attempts.max(1), first: self.first_pause };
        Net { client: limits(None), listings: limits(Some(2 * patience)), retry, patience }
    }

    /// The token, if the address is the Hub's.
    pub(super) fn token_for(&self, url: &str) -> Option<&Secret> {
        let here = url.strip_prefix(&self.endpoint).is_some_and(|rest| rest.starts_with('/'));
        self.token.as_ref().filter(|_| here)
    }
}

/// A repository at a revision, as the Hub describes it.
#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    pub sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

impl Listing {
    /// The files, by their paths in the repository.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.siblings.iter().map(|sibling| sibling.rfilename.as_str())
    }
}

#[derive(Debug, Clone, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Debug, Clone, Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

/// The folder of a model, or the one file that is named: from the user's own cache of the Hub, from
/// ours, or fetched into it.
pub(super) fn find(
    hub: &Hub,
    name: &HubName,
    views: &[ViewChoice],
    folder: &Path,
    progress: &dyn Progress,
) -> Result<PathBuf> {
    if let Some(found) = in_users_cache(hub, name) {
        progress.note(&format!("{}: using {}", name.shown(), found.display()));
        return Ok(found);
    }
    let ours = folder.join("hub");
    let memory = ours.join("refs").join(name.folder(&name.revision));
    let before = || {
        let commit = std::fs::read_to_string(&memory).ok()?;
        Some(place(&ours, name, commit.trim())).filter(|p| is_there(p))
    };
    if is_commit(&name.revision) {
        let place = place(&ours, name, &name.revision);
        if is_there(&place) {
            return Ok(place);
        }
    }
    if hub.offline {
        let found = before().ok_or_else(|| FetchError::Offline { what: name.shown() })?;
        progress.note(&format!(
            "{}: using what was fetched before (HF_HUB_OFFLINE is set)",
            name.shown()
        ));
        return Ok(found);
    }
    let net = hub.net();
    let listing = match listing(hub, &net, name, progress) {
        Ok(listing) => listing,
        Err(EncoderError::Fetch(e @ (FetchError::Network { .. } | FetchError::Status { .. }))) => {
            match before() {
                Some(found) => {
                    progress.note(&format!("{e}; using what was fetched before"));
                    return Ok(found);
                }
                None => return Err(e.into()),
            }
        }
        Err(e) => return Err(e),
    };
    let repo = Repository { hub, net, name, listing, progress };
    let place = place(&ours, name, &repo.listing.sha);
    if !is_there(&place) {
        match &name.file {
            Some(file) => repo.fetch_file(file, &place)?,
            None => repo.fetch_folder(&place, views)?,
        }
    }
    if let Some(folder) = memory.parent() {
        std::fs::create_dir_all(folder).map_err(disk(folder))?;
    }
    std::fs::write(&memory, &repo.listing.sha).map_err(disk(&memory))?;
    Ok(place)
}

/// Where a model is kept: named by its commit, so that it never changes.
fn place(ours: &Path, name: &HubName, commit: &str) -> PathBuf {
    match &name.file {
        Some(file) => ours.join("files").join(name.folder(commit)).join(file),
        None => ours.join(name.folder(commit)),
    }
}

/// A complete snapshot in the cache that the Hub's own tools keep.
fn in_users_cache(hub: &Hub, name: &HubName) -> Option<PathBuf> {
    let folder = format!("models--{}", name.repo.replace('/', "--"));
    let folder = hub.cache.as_ref()?.join(folder);
    let commit = if is_commit(&name.revision) {
        name.revision.clone()
    } else {
        std::fs::read_to_string(folder.join("refs").join(&name.revision)).ok()?
    };
    let commit = commit.trim();
    let snapshot = Some(folder.join("snapshots").join(commit)).filter(|_| is_commit(commit))?;
    match &name.file {
        Some(file) => Some(snapshot.join(file)).filter(|p| is_there(p)),
        None => is_complete(&snapshot).then_some(snapshot),
    }
}

/// Whether a model's folder is there, or its file, with all other parts where it is one of several.
fn is_there(place: &Path) -> bool {
    let parts = || part_names(&place.to_string_lossy());
    place.is_dir() || parts().iter().all(|part| Path::new(part).is_file())
}

/// Whether a folder has all that a model needs.
fn is_complete(folder: &Path) -> bool {
    let there = |name: &str| folder.join(name).is_file();
    let tokenizer = ["tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json"];
    if !there(CONFIG) || !tokenizer.into_iter().any(there) {
        return false;
    }
    match std::fs::read(folder.join(INDEX)) {
        Ok(index) => shards(&index).is_ok_and(|all| all.iter().all(|name| there(name))),
        Err(_) => there(WEIGHTS),
    }
}

/// The files that an index of weights names.
fn shards(index: &[u8]) -> std::result::Result<BTreeSet<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_slice(index).map_err(|e| e.to_string())?;
    Ok(index.weight_map.into_values().collect())
}

pub(super) fn listing(
    hub: &Hub,
    net: &Net,
    name: &HubName,
    progress: &dyn Progress,
) -> Result<Listing> {
    let revision = escaped(&name.revision).replace('/', "%2F");
    let (api, page) = (name.kind.api(), name.kind.page());
    let url = format!("{}/{api}/{}/revision/{revision}?blobs=true", hub.endpoint, name.repo);
    let what = format!("{} at {}", name.shown(), hub.endpoint);
    let page = format!("{}/{page}{}", hub.endpoint, name.repo);
    let mut attempt = 0;
    loop {
        let (client, token, url) = (net.listings.clone(), hub.token.clone(), url.clone());
        let asked = move || -> std::result::Result<_, HttpError> {
            let answer: Answer = client.get(&url, token.as_ref(), &[])?;
            let (status, after) = (answer.status, answer.retry_after());
            if answer.is_success() {
                return Ok((status, after, Ok(answer.bytes(LISTING)?)));
            }
            let said = answer.header("x-error-message").map(str::to_owned);
            let said = said.unwrap_or_else(|| answer.message());
            let said = token.as_ref().map_or_else(|| said.clone(), |t| t.hide_in(&said));
            Ok((status, after, Err(said)))
        };
        let (error, after) = match interruptible(progress, asked).ok_or(EncoderError::Cancelled)? {
            Ok((_, _, Ok(body))) => {
                let garbage = |detail| FetchError::Garbage { what: what.clone(), detail };
                let listing: Listing =
                    serde_json::from_slice(&body).map_err(|e| garbage(e.to_string()))?;
                if !is_commit(&listing.sha) {
                    return Err(garbage("it names no commit".to_owned()).into());
                }
                return Ok(listing);
            }
            Ok((status, after, Err(said))) => {
                let error = refusal(&what, &page, status, said);
                if !passes(status) {
                    return Err(error.into());
                }
                (error, after)
            }
            Err(source) => {
                let passing = source.is_passing();
                let error = FetchError::Network { what: what.clone(), source };
                if !passing {
                    return Err(error.into());
                }
                (error, None)
            }
        };
        attempt += 1;
        if attempt >= net.retry.attempts {
            return Err(error.into());
        }
        if !wait(net.retry.pause(attempt - 1, after), progress) {
            return Err(EncoderError::Cancelled);
        }
    }
}

/// A repository at a commit.
pub(super) struct Repository<'a> {
    pub hub: &'a Hub,
    pub net: Net,
    pub name: &'a HubName,
    pub listing: Listing,
    pub progress: &'a dyn Progress,
}

impl Repository<'_> {
    fn has(&self, file: &str) -> bool {
        self.listing.siblings.iter().any(|s| s.rfilename == file)
    }

    pub(super) fn check_names(&self) -> Result<()> {
        let bad = self.listing.siblings.iter().find(|s| !is_inside(&s.rfilename));
        bad.map_or(Ok(()), |s| Err(self.unsafe_name(&s.rfilename)))
    }

    fn unsafe_name(&self, name: &str) -> EncoderError {
        FetchError::UnsafeName { repo: self.name.repo.clone(), name: name.to_owned() }.into()
    }

    fn incomplete(&self, missing: &str) -> EncoderError {
        let (repo, missing) = (self.name.repo.clone(), missing.to_owned());
        FetchError::Incomplete { repo, missing }.into()
    }

    /// A model file, with all other parts where it is one of several.
    fn fetch_file(&self, file: &str, target: &Path) -> Result<()> {
        self.check_names()?;
        let parts = part_names(file);
        if let Some(missing) = parts.iter().find(|part| !self.has(part)) {
            let files = self.files(".gguf");
            if files.is_empty() || missing != file {
                return Err(self.incomplete(missing));
            }
            return Err(FetchError::OnlyGguf { repo: self.name.repo.clone(), files }.into());
        }
        let size = parts.iter().map(|part| self.size(part)).sum::<Option<u64>>();
        self.progress.note(&format!("fetching {} ({})", self.name.shown(), megabytes(size)));
        self.progress.begin("fetch model", size.unwrap_or(0), "bytes");
        let done = parts.iter().try_for_each(|part| {
            let name = Path::new(part).file_name().unwrap_or_default();
            self.file(part, &target.with_file_name(name))
        });
        self.progress.end();
        done
    }

    /// Everything into a folder aside, which gets its name when all is there.
    fn fetch_folder(&self, target: &Path, views: &[ViewChoice]) -> Result<()> {
        self.check_names()?;
        let mut files = self.small_files()?;
        let folder = target.file_name().unwrap_or_default().to_string_lossy();
        let partial = target.with_file_name(format!("{folder}.partial"));
        if name_layers(views) {
            self.check_layers(&partial, views)?;
        }
        let weights = if self.has(INDEX) {
            self.file(INDEX, &partial.join(INDEX))?;
            let index = std::fs::read(partial.join(INDEX)).map_err(disk(&partial))?;
            let named = shards(&index).map_err(|detail| FetchError::Garbage {
                what: format!("{}/{INDEX}", self.name.repo),
                detail,
            })?;
            for name in &named {
                if !is_inside(name) || !name.ends_with(".safetensors") {
                    return Err(self.unsafe_name(name));
                }
                if !self.has(name) {
                    return Err(self.incomplete(name));
                }
            }
            named.into_iter().collect()
        } else if self.has(WEIGHTS) {
            vec![WEIGHTS.to_owned()]
        } else {
            return Err(self.no_weights());
        };
        files.extend(weights);
        let missing: Vec<&String> = files.iter().filter(|f| !partial.join(f).exists()).collect();
        let sizes = missing.iter().map(|f| self.size(f)).sum::<Option<u64>>();
        self.progress.note(&format!(
            "fetching {} at {} ({} files, {})",
            self.name.shown(),
            &self.listing.sha[..12],
            missing.len(),
            megabytes(sizes)
        ));
        self.progress.begin("fetch model", sizes.unwrap_or(0), "bytes");
        let done = missing.iter().try_for_each(|file| self.file(file, &partial.join(file)));
        self.progress.end();
        done?;
        match std::fs::rename(&partial, target) {
            // Another process was as fast.
            Err(_) if target.exists() => {
                let _ = std::fs::remove_dir_all(&partial);
                Ok(())
            }
            renamed => renamed.map_err(disk(target)),
        }
    }

    /// Refuses a layer that the model does not have, before its weights are fetched. A configuration
    /// that does not say how many there are is refused when the model is opened.
    fn check_layers(&self, partial: &Path, views: &[ViewChoice]) -> Result<()> {
        let config = partial.join(CONFIG);
        self.file(CONFIG, &config)?;
        let bytes = std::fs::read(&config).map_err(disk(&config))?;
        let layers = serde_json::from_slice(&bytes).ok().and_then(|config| layers(&config));
        layers.map_or(Ok(()), |layers| check_layers(views, layers))
    }

    /// Configuration, tokenizer, template, declared pooling.
    fn small_files(&self) -> Result<Vec<String>> {
        if !self.has(CONFIG) {
            return Err(self.no_weights());
        }
        let wanted = |name: &str| {
            let known = [
                CONFIG,
                "special_tokens_map.json",
                "added_tokens.json",
                "generation_config.json",
                "modules.json",
                "chat_template.jinja",
                "vocab.txt",
                "vocab.json",
                "merges.txt",
                "tokenizer.model",
            ];
            let tokenizer = name.starts_with("tokenizer") && name.ends_with(".json");
            // What an embedding model declares of its vectors.
            let pooling = name.ends_with("_Pooling/config.json") && name.matches('/').count() == 1;
            pooling || (!name.contains('/') && (known.contains(&name) || tokenizer))
        };
        let names = self.listing.siblings.iter().map(|s| &s.rfilename);
        Ok(names.filter(|n| wanted(n)).cloned().collect())
    }

    /// Why there is nothing to load.
    fn no_weights(&self) -> EncoderError {
        let repo = self.name.repo.clone();
        let files = self.files(".gguf");
        if !files.is_empty() {
            return FetchError::OnlyGguf { repo, files }.into();
        }
        let ends = [".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack"];
        let pickles: BTreeSet<String> =
            ends.iter().flat_map(|end| self.files(end)).map(|(name, _)| name).collect();
        if !pickles.is_empty() {
            let files = pickles.into_iter().collect();
            return FetchError::OnlyPickle { repo, files }.into();
        }
        self.incomplete(if self.has(CONFIG) { WEIGHTS } else { CONFIG })
    }

    fn files(&self, end: &str) -> Vec<(String, Option<u64>)> {
        let names = self.listing.siblings.iter().map(|s| &s.rfilename);
        names.filter(|n| n.ends_with(end)).map(|n| (n.clone(), self.size(n))).collect()
    }

    pub(super) fn size(&self, file: &str) -> Option<u64> {
        let sibling = self.listing.siblings.iter().find(|s| s.rfilename == file)?;
        sibling.lfs.as_ref().and_then(|l| l.size).or(sibling.size)
    }

    pub(super) fn file(&self, file: &str, target: &Path) -> Result<()> {
        if target.exists() {
            return Ok(());
        }
        let Self { hub, name, listing, .. } = self;
        let lfs = listing.siblings.iter().find(|s| s.rfilename == file);
        let lfs = lfs.and_then(|s| s.lfs.as_ref());
        let page = format!("{}/{}{}", hub.endpoint, name.kind.page(), name.repo);
        let url = format!("{page}/resolve/{}/{}", listing.sha, escaped(file));
        let weights = file.ends_with(".safetensors") || file.ends_with(".gguf");
        let large = weights || name.kind == Kind::Dataset;
        let wanted = FileRequest {
            what: &format!("{}/{file}", name.repo),
            url: &url,
            token: hub.token.as_ref(),
            target,
            page: &page,
            size: self.size(file),
            sha256: lfs.and_then(|l| l.sha256.as_deref()),
            trust_etag: true,
            limit: if large { LARGEST } else { SMALL },
            known_etag: None,
        };
        download(&wanted, &self.net, self.progress).map(drop)
    }
}

pub(super) fn megabytes(size: Option<u64>) -> String {
    size.map_or_else(|| "size unknown".into(), |s| format!("{} MB", s.div_ceil(1_000_000)))
}
