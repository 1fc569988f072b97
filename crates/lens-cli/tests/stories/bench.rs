//! What `lens bench` says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::common::{Lens, pairs};

#[test]
fn the_encoder_is_measured_on_made_up_text_on_a_file_and_on_best_of_n() {
    let lens = Lens::new();
    lens.rows("pairs.jsonl", &pairs(0..12));
    for what in ["--n-pairs 4", "--pairs pairs.jsonl --n-pairs 12 --repeat 2", "--best-of 8"] {
        let said = lens.ok(&format!("bench encode --model tiny.gguf {what} --json")).json();
        for field in [
            "tokens_per_s",
            "texts_per_s",
            "computed_tokens_per_s",
            "seconds",
            "load_seconds",
            "weights_mb",
            "matmul_gflops",
            "matmul_share",
            "peak_mb",
            "tokens",
            "computed",
        ] {
            let value = said[field].as_f64().unwrap_or(-1.0);
            assert!(value > 0.0 && value.is_finite(), "{what}: {field} is {}", said[field]);
        }
        let saved = said["prompt_tokens_saved"].as_f64().unwrap();
        assert!((0.0..1.0).contains(&saved), "{saved}");
        assert_eq!(saved > 0.5, what == "--best-of 8", "{what}: {saved}");
    }
    let error = lens.fails(1, "bench encode --model tiny.gguf --pairs pairs.jsonl --n-pairs 99");
    assert!(error.contains("12 pairs, 99 asked"), "{error}");
    assert!(lens.ok("bench encode --model tiny.gguf --n-pairs 2").out.contains("matrix products"));
}
