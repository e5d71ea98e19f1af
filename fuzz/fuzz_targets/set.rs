//! See `checks::set`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fleetsim_fuzz::checks::set(bytes));
