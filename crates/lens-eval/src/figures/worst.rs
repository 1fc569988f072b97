//! The examples that a model ranks worst: those where the wrong response is ahead by most.
//!
//! margin = reward of the better response - reward of the worse one, per pair. Of several right and
//! wrong responses the pair is that of the lowest right and the highest wrong reward; of responses
//! with gold scores it is the judge's pick and the model's.

use lens_core::Content;
use serde::{Deserialize, Serialize};

/// An example, with its texts where these are known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Its line in the file.
    pub line: u64,
    /// The column `subset` (or `domain`), if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<String>,
    /// Reward of the better response minus that of the worse one.
    pub margin: f64,
    /// Reward of the better response.
    pub reward_chosen: f32,
    /// Reward of the worse one.
    pub reward_rejected: f32,
    /// The texts; embeddings have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub texts: Option<Texts>,
}

/// The texts of an example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Texts {
    /// The prompt.
    pub prompt: Content,
    /// The better response.
    pub chosen: Content,
    /// The worse one.
    pub rejected: Content,
}

/// Indices of the `k` most negative margins, the worst first, equal ones in their order. What is not
/// ranked wrongly is never among them.
pub fn worst(margins: &[f64], k: usize) -> Vec<usize> {
    let mut wrong: Vec<usize> = (0..margins.len()).filter(|&i| margins[i] < 0.0).collect();
    wrong.sort_by(|&a, &b| margins[a].total_cmp(&margins[b]).then(a.cmp(&b)));
    wrong.truncate(k);
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn by_hand() {
        let margins = [0.5, -1.0, 0.0, -3.0, -1.0];
        assert_eq!(worst(&margins, 2), [3, 1]);
        assert_eq!(worst(&margins, 10), [3, 1, 4]);
        assert!(worst(&margins, 0).is_empty() && worst(&[], 3).is_empty());
    }

    proptest! {
        #[test]
        fn none_left_out_is_worse(margins in prop::collection::vec(-5i8..5, 0..40), k in 0usize..9) {
            let margins: Vec<f64> = margins.into_iter().map(f64::from).collect();
            let found = worst(&margins, k);
            let wrong = margins.iter().filter(|m| **m < 0.0).count();
            prop_assert_eq!(found.len(), k.min(wrong));
            for i in (0..margins.len()).filter(|i| !found.contains(i) && found.len() == k) {
                prop_assert!(found.iter().all(|&f| margins[f] <= margins[i]) || margins[i] >= 0.0);
            }
        }
    }
}
