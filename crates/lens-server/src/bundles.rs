//! Reward models and encoders as every other job opens them.

use crate::error::BoxedError;
use crate::models::ModelSource;
use lens::{BundleModelOptions, Error, Progress, open_encoder_of_bundle};
use lens_data::Bundle;
use lens_encoder::TextEncoder;
use std::path::Path;

/// Opens bundles, and the encoders that they were trained with, as `lens::score` does: any other
/// encoder is refused.
pub struct Bundles {
    encoder: BundleModelOptions,
    progress: Box<dyn Progress + Send>,
}

impl Bundles {
    /// With the encoders that the bundles name, where `encoder` names nothing else. What is said while
    /// they are opened goes to `progress`.
    pub fn new(encoder: BundleModelOptions, progress: Box<dyn Progress + Send>) -> Self {
        Bundles { encoder, progress }
    }
}

impl ModelSource for Bundles {
    fn bundle(&self, path: &Path) -> Result<Bundle, BoxedError> {
        Bundle::read(path).map_err(|e| Error::Data(e).into())
    }

    fn encoder(
        &self,
        bundle: &Bundle,
        path: &Path,
        keep: bool,
    ) -> Result<Option<Box<dyn TextEncoder>>, BoxedError> {
        if bundle.manifest.encoder.is_none() {
            return Ok(None);
        }
        let mut options = self.encoder.clone();
        options.runtime.keep_embeddings = keep;
        Ok(Some(open_encoder_of_bundle(bundle, path, &options, &*self.progress)?))
    }
}
