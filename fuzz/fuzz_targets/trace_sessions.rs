//! See `checks::trace_sessions`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fleetsim_fuzz::checks::trace_sessions(bytes));
