//! governor, keyed, as a side: one key, everything allowed.

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::io::{self, BufRead, Write};
use std::num::NonZeroU32;
use std::time::Instant;

fn main() -> io::Result<()> {
    // As much as it can admit, which is more than can be asked for.
    let limiter: DefaultKeyedRateLimiter<String> =
        RateLimiter::keyed(Quota::per_second(NonZeroU32::MAX));
    let key = String::from("user:00000000042");
    let mut total = 0u64;
    let mut output = io::stdout().lock();
    writeln!(output, "{{\"versions\": {{\"governor\": \"0.10.4\"}}}}")?;
    output.flush()?;
    for line in io::stdin().lock().lines() {
        let calls: u64 = line?.trim().parse().expect("a number of calls");
        let started = Instant::now();
        let mut allowed = 0u64;
        for _ in 0..calls {
            allowed += u64::from(limiter.check_key(std::hint::black_box(&key)).is_ok());
        }
        let ns = started.elapsed().as_nanos();
        total += allowed;
        writeln!(
            output,
            "{{\"ns\": {ns}, \"calls\": {calls}, \"allowed\": {allowed}, \"denied\": {}, \
             \"unsynced\": {total}}}",
            calls - allowed
        )?;
        output.flush()?;
    }
    Ok(())
}
