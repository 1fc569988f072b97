//! Figures of merit of evaluation: each formula in a module of its own, with its source.
