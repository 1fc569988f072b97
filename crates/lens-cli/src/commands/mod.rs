//! The commands, one file each.

pub mod bench;
pub mod convert;
pub mod embed;
pub mod eval;
pub mod export;
pub mod generate;
pub mod info;
pub mod likelihood;
pub mod pull;
pub mod run;
pub mod score;
pub mod serve;
pub mod shell;
pub mod study;
pub mod synthesise;
pub mod train;
