//! Clocks that tests hold in their hands.
//!
//! [`TestClock::stepping`] drives a future itself and moves on to the next sleeper whenever nothing else can happen: a
//! test of hours takes milliseconds and runs the same way each time. That needs a future without threads or real I/O.
//! [`TestClock::leaping`] is for tests that have them: a sleep moves the time on at once.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use convoke_core::{Clock, Timestamp};

/// The wall clock at the start of every test: 2026-01-05T00:00:00Z, a Monday.
pub const START: Timestamp = Timestamp(1_767_571_200_000);

/// Sleeps from here on are alarms that a test does not mean to reach: a leaping clock lets them sleep for ever.
const NEVER: Duration = Duration::from_secs(3_600);

/// A clock for tests.
#[derive(Debug)]
pub struct TestClock {
    is_leaping: bool,
    time: Mutex<Time>,
}

#[derive(Debug, Default)]
struct Time {
    elapsed: Duration,
    /// Who sleeps until when; the number tells sleepers of one deadline apart.
    sleepers: BTreeMap<(Duration, u64), Waker>,
    last_sleeper: u64,
}

impl TestClock {
    /// Time that stands still until [`TestClock::run`] moves it on.
    pub fn stepping() -> Arc<Self> {
        Arc::new(Self { is_leaping: false, time: Mutex::default() })
    }

    /// Every sleep of less than an hour moves the time on at once; longer ones never end.
    pub fn leaping() -> Arc<Self> {
        Arc::new(Self { is_leaping: true, time: Mutex::default() })
    }

    /// Moves the time on, past sleepers, who wake up.
    pub fn advance(&self, by: Duration) {
        let mut time = self.time();
        time.elapsed += by;
        let now = time.elapsed;
        let later = time.sleepers.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut time.sleepers, later);
        drop(time);
        due.into_values().for_each(Waker::wake);
    }

    /// Runs a future to its end, moving the time on to the next sleeper whenever the future can only wait.
    ///
    /// Panics if it waits for something that no sleep would bring: it would wait for ever.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            while woken.0.swap(false, Ordering::SeqCst) {
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return output;
                }
            }
            let next = self.time().sleepers.first_key_value().map(|((deadline, _), _)| *deadline);
            let deadline = next.expect("nothing sleeps, so nothing would ever wake this future up");
            self.advance(deadline.saturating_sub(self.elapsed()));
        }
    }

    fn time(&self) -> MutexGuard<'_, Time> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        START.after(self.elapsed())
    }

    fn elapsed(&self) -> Duration {
        self.time().elapsed
    }

    async fn sleep(&self, duration: Duration) {
        if self.is_leaping && duration >= NEVER {
            return std::future::pending().await;
        }
        if self.is_leaping {
            self.advance(duration);
            return tokio::task::yield_now().await;
        }
        let sleep = Sleep { clock: self, deadline: self.elapsed().saturating_add(duration), number: None };
        sleep.await;
    }
}

/// A sleep under a stepping clock; forgets itself when it is dropped.
struct Sleep<'a> {
    clock: &'a TestClock,
    deadline: Duration,
    number: Option<u64>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock;
        let mut time = clock.time();
        if time.elapsed >= self.deadline {
            return Poll::Ready(());
        }
        let number = *self.number.get_or_insert_with(|| {
            time.last_sleeper += 1;
            time.last_sleeper
        });
        time.sleepers.insert((self.deadline, number), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.clock.time().sleepers.remove(&(self.deadline, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleepers_wake_in_the_order_of_their_deadlines() {
        let clock = TestClock::stepping();
        let order = Mutex::new(Vec::new());
        let sleeper = |seconds: u64| {
            let (clock, order) = (&clock, &order);
            async move {
                clock.sleep(Duration::from_secs(seconds)).await;
                order.lock().unwrap().push(seconds);
            }
        };
        clock.run(futures::future::join3(sleeper(30), sleeper(10), sleeper(20)));
        assert_eq!(*order.lock().unwrap(), [10, 20, 30]);
        assert_eq!(clock.elapsed(), Duration::from_secs(30));
    }

    #[test]
    #[should_panic(expected = "nothing sleeps")]
    fn a_future_that_nothing_can_wake_is_told() {
        TestClock::stepping().run(std::future::pending::<()>());
    }
}
