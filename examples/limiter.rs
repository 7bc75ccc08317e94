//! limiter.c in Rust: five requests a minute for every user, remembered in a directory.
//!
//!     rustc --edition 2021 limiter.rs -C link-args="$(flint-config --libs)"
//!     ./limiter /tmp/limits && ./limiter /tmp/limits
use header::*;
use std::{array, env, ffi::CStr, mem, process, ptr::null, ptr::null_mut, slice};

#[rustfmt::skip]
mod header { // What is needed of flint_limiter.h
    use std::ffi::{c_char, c_void};
    pub const KIND_TEMPLATE: u32 = 1; pub const TOKEN_BUCKET: u32 = 1;
    pub const NO_SYNC: u32 = 2; pub const ALL_COUNTERS: u32 = 16;
    pub const MIN_TEXT_BYTES: usize = 65536;
    #[repr(C)] pub struct Error { struct_size: u32, code: i32, system_errno: i32, reserved: u32,
        offset: u64, sequence: u64, segment: [c_char; 64], pub message: [c_char; 1024] }
    #[repr(C)] pub struct Config { struct_size: u32, pub kind: u32, pub key: *const u8,
        pub key_bytes: u64, pub rate: u64, pub per_ns: u64, burst: u64, pub algorithm: u32,
        reserved: u32 }
    #[repr(C)] pub struct Decision { struct_size: u32, pub allowed: u32, algorithm: u32,
        reserved: u32, cost: u64, limit: u64, pub remaining: u64, reset_at_ns: i64,
        reset_after_ns: u64, pub retry_after_ns: u64, pub ticket: u64 }
    #[repr(C)] pub struct Status { pub config: Config, remaining: u64, reset_at_ns: i64,
        pub allowed: u64, pub denied: u64, allowed_cost: u64, denied_cost: u64,
        last_allowed_denied_reset_at_ns: [i64; 3], counters: u64 }
    pub type Limiter = *mut c_void;
    pub type Out<'a> = &'a mut Error;
    extern "C" {
        pub fn flint_limiter_open(path: *const u8, path_bytes: u64, options: *const c_void,
            limiter: &mut Limiter, error: Out) -> i32;
        pub fn flint_limiter_limit(limiter: Limiter, config: &Config, flags: u32,
            ticket: *mut u64, error: Out) -> i32;
        pub fn flint_limiter_check(limiter: Limiter, key: *const u8, key_bytes: u64, cost: u64,
            flags: u32, config: *const Config, result: &mut Decision, error: Out) -> i32;
        pub fn flint_limiter_wait(limiter: Limiter, ticket: u64, ns: u64, error: Out) -> i32;
        pub fn flint_limiter_list(limiter: Limiter, after: *const u8, after_bytes: u64, kind: u32,
            flags: u32, entries: *mut Status, capacity: u64, stride: u64, text: *mut u8,
            text_bytes: u64, count: &mut u64, error: Out) -> i32;
        pub fn flint_limiter_close(limiter: &mut Limiter, error: Out) -> i32;
    }
}

/// A structure of the header: zeros, but for its size in front.
unsafe fn sized<T>() -> T {
    let mut value: T = mem::zeroed();
    (&raw mut value).cast::<u32>().write(mem::size_of::<T>() as u32);
    value
}

/// Calls a function of the library; ends the program when it fails.
unsafe fn call(what: &str, function: impl FnOnce(Out) -> i32) {
    let mut error: Error = sized();
    if function(&mut error) != 0 {
        eprintln!("{what}: {}", CStr::from_ptr(error.message.as_ptr()).to_string_lossy());
        process::exit(1);
    }
}

/// Returns at once; what it has written is on disk when its ticket is.
unsafe fn check_user(limiter: Limiter, key: &str) -> u64 {
    let (at, size, mut got) = (key.as_ptr(), key.len() as u64, sized::<Decision>());
    call("check", |e| flint_limiter_check(limiter, at, size, 1, NO_SYNC, null(), &mut got, e));
    let decision = if got.allowed == 1 { "allowed" } else { "denied" };
    let retry_ms = got.retry_after_ns.div_ceil(1_000_000);
    println!("{key}: {decision}, {} remaining, retry after {retry_ms} ms", got.remaining);
    got.ticket
}

unsafe fn list(limiter: Limiter) {
    let (mut page, mut count) = (array::from_fn::<Status, 16, _>(|_| sized()), 0);
    let (size, mut keys) = (mem::size_of::<Status>() as u64, [0; MIN_TEXT_BYTES]);
    let (to, text, all) = (page.as_mut_ptr(), keys.as_mut_ptr(), ALL_COUNTERS);
    let (n, bytes) = (&mut count, keys.len() as u64);
    call("list", |e| {
        flint_limiter_list(limiter, null(), 0, 0, all, to, 16, size, text, bytes, n, e)
    });
    for Status { config, allowed, denied, .. } in &page[..count as usize] {
        let key = slice::from_raw_parts(config.key, config.key_bytes as usize);
        let star = if config.kind == KIND_TEMPLATE { "*" } else { "" };
        let (key, ms) = (String::from_utf8_lossy(key), config.per_ns / 1_000_000);
        println!("{key}{star}: {} every {ms} ms, {allowed} allowed, {denied} denied", config.rate);
    }
}

fn main() {
    let path = env::args().nth(1).expect("usage: limiter DIRECTORY");
    let (mut it, at, size) = (null_mut(), path.as_ptr(), path.len() as u64);
    unsafe {
        call("open", |e| flint_limiter_open(at, size, null(), &mut it, e));
        let mut users: Config = sized();
        (users.kind, users.key, users.key_bytes) = (KIND_TEMPLATE, "user:".as_ptr(), 5);
        (users.rate, users.per_ns, users.algorithm) = (5, 60_000_000_000, TOKEN_BUCKET);
        call("limit", |e| flint_limiter_limit(it, &users, 0, null_mut(), e));
        let ticket = (0..7).map(|_| check_user(it, "user:42")).max().unwrap_or(0);
        call("wait", |e| flint_limiter_wait(it, ticket, u64::MAX, e));
        println!("everything is on disk");
        list(it);
        call("close", |e| flint_limiter_close(&mut it, e));
    }
}
