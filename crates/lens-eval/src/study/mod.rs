//! Studies: a grid of methods over several splits, run in parallel and resumable.
