//! The views of a text among which `auto` selects.

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
    // Encoders such as BERT have no last token that has seen everything, but a first one.
    let sees_both_ways = ENCODERS.contains(&&*encoder.architecture);
    let token = if sees_both_ways { Pooling::First } else { Pooling::Last };
    for layer in [layers.div_ceil(3), (2 * layers).div_ceil(3), layers] {
        let layer = LayerChoice::Index(i32::try_from(layer).unwrap_or(i32::MAX));
        for pooling in [token, Pooling::Mean] {
            add(ViewChoice { layer, pooling, suffix: None });
        }
    }
    if !sees_both_ways {
        add(ViewChoice { suffix: Some(QUESTION.to_owned()), ..ViewChoice::default() });
    }
    Some(views)
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
