//! A head on embeddings of your own: hidden states that another tool made, or, as here, numbers in
//! which the preferred side lies a little further along one direction.
//!
//! ```sh
//! cargo run --release --example arrays_to_head
//! ```

use lens::core::{EmbeddedPairs, Matrix, MethodSettings, Quiet, Threads, fit};

fn main() -> Result<(), lens::Error> {
    let (pairs, width) = (200, 16);
    let value = |pair: usize, column: usize, side: f32| {
        let noise = (((pair * 31 + column * 17) % 97) as f32 / 97.0 - 0.5) * 2.0;
        if column == 0 { noise + side } else { noise }
    };
    let side = |shift: f32| {
        let values = (0..pairs * width).map(|i| value(i / width, i % width, shift));
        Matrix::new(values.collect(), pairs, width)
    };
    let pairs = EmbeddedPairs::new(side(0.5)?, side(-0.5)?)?;

    let settings = MethodSettings { augment: 4, seed: 1, ..MethodSettings::default() };
    let outcome = fit(&pairs, &settings, Threads::available(), &Quiet)?;
    let model = match (&outcome.augmented, outcome.fold_gain()) {
        (Some(augmented), Some(gain)) if gain.is_clear() => &augmented.fitted.model,
        _ => &outcome.none.model,
    };
    let rewards = model.rewards(&pairs.chosen, Threads::available())?;
    let mean = rewards.iter().sum::<f32>() / rewards.len() as f32;
    println!("mean reward of the preferred responses: {mean:.3}");
    Ok(())
}
