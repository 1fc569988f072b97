#![no_main]
lens_fuzz::fuzz!("stored_pairs");
