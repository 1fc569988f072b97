#![no_main]
lens_fuzz::fuzz!("server_answer");
