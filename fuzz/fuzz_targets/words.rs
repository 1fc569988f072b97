#![no_main]
lens_fuzz::fuzz!("words");
