//! The LENS method in embedding space.

pub mod pair;
pub mod progress;

pub use pair::{Content, Exchange, Message, PreferencePair};
pub use progress::{Progress, Quiet};
