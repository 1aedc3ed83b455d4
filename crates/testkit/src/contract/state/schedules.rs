//! How far schedules are served.

use convoke_core::state::{ScheduleMark, schedule_resource};
use convoke_core::{StateError, SyncName, Timestamp};

use super::StateFixture;
use super::samples::{PAST_TTL, TTL, sync};

fn mark(schedule: &str, served_to: i64) -> ScheduleMark {
    ScheduleMark { schedule: schedule.to_owned(), served_to: Timestamp(served_to) }
}

pub async fn a_schedule_s_mark_is_replaced(fixture: &dyn StateFixture) {
    let store = fixture.open().await;
    let other = SyncName::new("another");
    assert_eq!(store.schedule_mark(&sync()).await.unwrap(), None);
    let lease = store.acquire(&schedule_resource(&sync()), "worker one", TTL).await.unwrap();
    store.set_schedule_mark(&sync(), &mark("0 2 * * * Europe/Berlin", 5_000), &lease).await.unwrap();
    store.set_schedule_mark(&other, &mark("daily", 1), &lease).await.unwrap();
    // Another schedule may be served from an earlier time on.
    store.set_schedule_mark(&sync(), &mark("daily", 4_000), &lease).await.unwrap();
    let reopened = fixture.open().await;
    assert_eq!(reopened.schedule_mark(&sync()).await.unwrap(), Some(mark("daily", 4_000)));
    assert_eq!(reopened.schedule_mark(&other).await.unwrap(), Some(mark("daily", 1)));
}

pub async fn of_two_that_serve_a_schedule_one_marks_it(fixture: &dyn StateFixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let resource = schedule_resource(&sync());
    let first = one.acquire(&resource, "worker one", TTL).await.unwrap();
    assert!(matches!(two.acquire(&resource, "worker two", TTL).await, Err(StateError::Busy { .. })));
    fixture.advance(PAST_TTL);
    let second = two.acquire(&resource, "worker two", TTL).await.unwrap();
    two.set_schedule_mark(&sync(), &mark("daily", 2), &second).await.unwrap();
    let late = one.set_schedule_mark(&sync(), &mark("daily", 1), &first).await;
    assert!(matches!(late, Err(StateError::LeaseLost { .. })), "{late:?}");
    assert_eq!(one.schedule_mark(&sync()).await.unwrap(), Some(mark("daily", 2)));
}
