//! A model file at an address.

use super::disk;
use super::download::{FileRequest, Got, download};
use super::hub::{Hub, LARGEST};
use crate::error::{EncoderError, FetchError, Result};
use crate::http::{has_user, public_url};
use crate::identity::sha256_hex;
use lens_core::Progress;
use std::path::{Path, PathBuf};

/// The file at an address, which is asked each time whether it changed; what is here is used, with
/// a note, where the address cannot be asked.
pub(super) fn find(
    hub: &Hub,
    url: &str,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<PathBuf> {
    let shown = public_url(url);
    let garbage = |detail: &str| -> EncoderError {
        FetchError::Garbage { what: shown.clone(), detail: detail.to_owned() }.into()
    };
    if has_user(url) {
        return Err(garbage("an address with a user or password is not asked"));
    }
    let name = shown.rsplit('/').next().unwrap_or_default();
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.%+".contains(c);
    if !name.ends_with(".gguf") || name.starts_with('.') || !name.chars().all(fine) {
        return Err(garbage("the address of a model ends in the name of a .gguf file"));
    }
    // The query is left out: it holds signatures that are new each time.
    let place = folder.join("url").join(&sha256_hex(shown.as_bytes())[..16]);
    let target = place.join(name);
    let memory = place.join("etag");
    let known = std::fs::read_to_string(&memory).ok().filter(|_| target.exists());
    if target.exists() && (known.is_none() || hub.offline) {
        let why = if hub.offline { "HF_HUB_OFFLINE is set" } else { "its server tells no version" };
        progress.note(&format!("{shown}: using what was fetched before ({why})"));
        return Ok(target);
    }
    if hub.offline {
        return Err(FetchError::Offline { what: shown }.into());
    }
    let wanted = FileRequest {
        what: &shown,
        url,
        token: hub.token_for(url),
        target: &target,
        page: &shown,
        size: None,
        sha256: None,
        trust_etag: false,
        limit: LARGEST,
        known_etag: known.as_deref(),
    };
    progress.begin("fetch model", 0, "bytes");
    let got = download(&wanted, &hub.net(), progress);
    progress.end();
    match got {
        Ok(Got::Same) => Ok(target),
        Ok(Got::File { etag }) => {
            match etag {
                Some(etag) => std::fs::write(&memory, etag).map_err(disk(&memory))?,
                None => drop(std::fs::remove_file(&memory)),
            }
            Ok(target)
        }
        Err(EncoderError::Fetch(FetchError::Network { source, .. })) if target.exists() => {
            progress.note(&format!("{source}; using what was fetched before"));
            Ok(target)
        }
        Err(e) => Err(e),
    }
}
