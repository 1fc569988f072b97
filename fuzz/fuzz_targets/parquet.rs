#![no_main]
lens_fuzz::fuzz!("parquet");
