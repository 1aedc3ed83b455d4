//! How the members of a credential divide its second: pure.
//!
//! Live requests come first, whoever sends them; backfills divide what they leave. Within a lane everybody gets what he
//! can use, up to an even share, and what one cannot use goes to the others. What nobody can use is lent out, but for a
//! part that whoever comes or grows finds free.

use serde::{Deserialize, Serialize};

/// Requests per second that a member could use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Demand {
    pub live: u32,
    pub backfill: u32,
}

/// The shares of members with these demands, in their order. They add up to the limit at most; where something cannot be
/// divided evenly, those who stand first have more.
pub(super) fn divide(limit: u32, demands: &[Demand]) -> Vec<u32> {
    if demands.len() == 1 {
        return vec![limit];
    }
    let mut shares = vec![0; demands.len()];
    let live: Vec<u32> = demands.iter().map(|demand| demand.live).collect();
    let backfill: Vec<u32> = demands.iter().map(|demand| demand.backfill).collect();
    let left = fill(limit, &live, &mut shares);
    let left = fill(left, &backfill, &mut shares);
    let parts = u32::try_from(demands.len()).unwrap_or(u32::MAX - 1) + 1;
    shares.iter_mut().for_each(|share| *share += left / parts);
    shares
}

/// Adds to each share what is wanted, evenly where it does not suffice; gives what is left.
fn fill(mut left: u32, wanted: &[u32], shares: &mut [u32]) -> u32 {
    let mut lacking = wanted.to_vec();
    loop {
        let open = lacking.iter().filter(|lack| **lack > 0).count();
        let Some(even) = u32::try_from(open).ok().and_then(|open| left.checked_div(open)).filter(|_| left > 0) else {
            return left;
        };
        for (share, lack) in shares.iter_mut().zip(&mut lacking) {
            let more = even.max(1).min(*lack).min(left);
            *share += more;
            *lack -= more;
            left -= more;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn live(live: u32) -> Demand {
        Demand { live, backfill: 0 }
    }

    fn backfill(backfill: u32) -> Demand {
        Demand { live: 0, backfill }
    }

    #[test]
    fn a_second_is_divided_by_demand_and_live_comes_first() {
        let cases: [(&[Demand], &[u32]); 9] = [
            (&[live(25), live(25)], &[13, 12]),
            (&[live(4), live(25)], &[4, 21]),
            (&[live(25), backfill(25)], &[25, 0]),
            (&[live(5), backfill(25)], &[5, 20]),
            (&[backfill(25), backfill(25), live(5)], &[10, 10, 5]),
            (&[live(3)], &[25]),
            (&[live(4), live(6)], &[9, 11]),
            (&[Demand { live: 2, backfill: 25 }, live(10)], &[15, 10]),
            (&[live(25), live(1), live(9)], &[15, 1, 9]),
        ];
        for (demands, shares) in cases {
            assert_eq!(divide(25, demands), shares, "{demands:?}");
        }
        assert_eq!(divide(2, &[live(5); 4]), [1, 1, 0, 0]);
        assert!(divide(2, &[]).is_empty());
    }

    proptest! {
        #[test]
        fn shares_never_add_up_to_more_than_the_limit_and_waste_nothing_that_is_wanted(
            limit in 1_u32..50,
            demands in prop::collection::vec((0_u32..60, 0_u32..60), 1..9),
        ) {
            let demands: Vec<Demand> = demands.into_iter().map(|(live, backfill)| Demand { live, backfill }).collect();
            let shares = divide(limit, &demands);
            let given: u32 = shares.iter().sum();
            let wanted: u32 = demands.iter().map(|demand| demand.live + demand.backfill).sum();
            prop_assert!(given <= limit);
            prop_assert!(given >= limit.min(wanted), "{:?} of {}", shares, limit);
            let live: u32 = demands.iter().map(|demand| demand.live).sum();
            let starved = demands.iter().zip(&shares).any(|(demand, share)| *share < demand.live);
            prop_assert!(!starved || live > limit, "live lacks what there is");
        }
    }
}
