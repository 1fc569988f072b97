//! A reward model served from one's own process, until Ctrl-C.
//!
//! ```sh
//! cargo run --release -p lens-server --example serve -- reward-model
//! curl http://127.0.0.1:8080/v1/reward -H 'Content-Type: application/json' \
//!     -d '{"prompt": "How long should I boil an egg?", "responses": ["Seven minutes.", "No idea."]}'
//! ```

use lens::{BundleModelOptions, Quiet};
use lens_server::{Bundles, Control, Options, serve};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bundle = std::env::args().nth(1).unwrap_or_else(|| "reward-model".to_owned());
    let options = Options {
        models: vec![("reward-model".to_owned(), bundle.into())],
        any_model: true,
        ..Options::default()
    };
    let bundles = Bundles::new(BundleModelOptions::default(), Box::new(Quiet));
    let stop = async {
        // Without Ctrl-C to be heard the server stops at once.
        let _ = tokio::signal::ctrl_c().await;
    };
    let control = Control::until(stop).on_listening(|url| println!("listening on {url}"));
    Ok(serve(options, Box::new(bundles), control).await?)
}
