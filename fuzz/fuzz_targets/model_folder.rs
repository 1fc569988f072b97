#![no_main]
lens_fuzz::fuzz!("model_folder");
