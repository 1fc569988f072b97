//! The views of a text among which `auto` selects.

use crate::Error;
use lens_encoder::{EncoderIdentity, LayerChoice, Pooling, ViewChoice};

/// A question about each response, for one more view of it.
pub const QUESTION: &str = " Is this answer helpful, honest and harmless? Answer:";

/// Architectures whose tokens see both ways.
const ENCODERS: [&str; 2] = ["bert", "xlm-roberta"];

/// The candidate views for an encoder that was opened with `asked`: these and, where that is one view,
/// the last layer and those one and two thirds up, each pooled both ways, and a [`QUESTION`] about the
/// response. All of them come from one pass of the model. `None` where there is nothing to select from
/// but the view that was asked for: one with a suffix, or of a model of a single layer.
pub fn candidate_views(asked: &[ViewChoice], encoder: &EncoderIdentity) -> Option<Vec<ViewChoice>> {
    let layers = encoder.layers;
    let only = match (&encoder.views[..], asked) {
        ([_], [only]) => only,
        // A choice of all layers stands for each of them: the encoder has resolved it.
        (resolved, _) => return Some(resolved.iter().map(ViewChoice::from).collect()),
    };
    if only.suffix.is_some() || layers < 2 {
        return None;
    }
    let mut views = vec![only.clone()];
    let mut add = |view: ViewChoice| {
        if !views.iter().any(|v| is_same(v, &view, layers)) {
            views.push(view);
        }
    };
    let token = token_pooling(encoder);
    for layer in [layers.div_ceil(3), (2 * layers).div_ceil(3), layers] {
        let layer = LayerChoice::Index(i32::try_from(layer).unwrap_or(i32::MAX));
        for pooling in [token, Pooling::Mean] {
            add(ViewChoice { layer, pooling, suffix: None });
        }
    }
    if token == Pooling::Last {
        add(ViewChoice { suffix: Some(QUESTION.to_owned()), ..ViewChoice::default() });
    }
    Some(views)
}

/// The candidate views that can be exported: the token that has seen everything and the mean of all tokens, at
/// the last layer, both with the suffix of the view that was asked for.
///
/// # Errors
/// [`Error::Option`] where another view was asked for: what is exportable is selected, not named.
pub fn exportable_views(
    asked: &[ViewChoice],
    encoder: &EncoderIdentity,
) -> Result<Vec<ViewChoice>, Error> {
    let token = token_pooling(encoder);
    let suffix = asked.first().and_then(|view| view.suffix.clone());
    let mut views: Vec<ViewChoice> = [token, Pooling::Mean]
        .map(|pooling| ViewChoice { pooling, suffix: suffix.clone(), ..ViewChoice::default() })
        .into();
    match asked {
        [only] if *only == ViewChoice::default() => Ok(views),
        // What was asked for comes first.
        [only] if is_same(&views[1], only, encoder.layers) => {
            views.swap(0, 1);
            Ok(views)
        }
        [only] if is_same(&views[0], only, encoder.layers) => Ok(views),
        _ => Err(Error::option(
            "views",
            "exportable selects among poolings of the last layer; name no other view with it",
        )),
    }
}

/// The pooling of the token that has seen everything: encoders such as BERT have no last one, but a first.
fn token_pooling(encoder: &EncoderIdentity) -> Pooling {
    match ENCODERS.contains(&&*encoder.architecture) {
        true => Pooling::First,
        false => Pooling::Last,
    }
}

/// Whether two choices are one view of a model with so many layers.
fn is_same(a: &ViewChoice, b: &ViewChoice, layers: usize) -> bool {
    let counted = |layer| match layer {
        LayerChoice::Index(l) if l < 0 => i64::from(l) + layers as i64 + 1,
        LayerChoice::Index(l) => i64::from(l),
        LayerChoice::All => i64::MAX,
    };
    counted(a.layer) == counted(b.layer) && a.pooling == b.pooling && a.suffix == b.suffix
}
