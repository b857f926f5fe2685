#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| ringcall_fuzz::targets::memory_connection::run(data));
