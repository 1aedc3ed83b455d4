//! The machine's clock.

use std::time::Duration;

use async_trait::async_trait;
use convoke_core::{Clock, Timestamp};

/// Reads the operating system's clocks. Monotonic time is `CLOCK_BOOTTIME`, which goes on while the machine is
/// suspended: a lease must not look younger than it is after a pause.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Timestamp(time.tv_sec * 1000 + time.tv_nsec / 1_000_000)
    }

    fn elapsed(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
