//! Work that is done portion by portion, so that what is done of it is kept.

/// Cuts items into portions: the first fits a weight of `first`, each further one twice what the one before did. An item
/// that is heavier than that is a portion of its own.
///
/// So the little that a used-up rate budget lets out at a time suffices for the first one, and all take few rounds.
pub(super) fn growing<'a, T>(
    items: &'a [T],
    first: usize,
    weight: impl Fn(&T) -> usize + 'a,
) -> impl Iterator<Item = &'a [T]> {
    let (mut left, mut most) = (items, first);
    std::iter::from_fn(move || {
        let mut total = 0_usize;
        let fits = |item: &&T| {
            total = total.saturating_add(weight(item));
            total <= most
        };
        let count = left.iter().take_while(fits).count().max(1);
        let (portion, rest) = left.split_at_checked(count)?;
        (left, most) = (rest, most.saturating_mul(2));
        Some(portion)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_grow_hold_everything_in_its_order_and_never_nothing() {
        let cut = |weights: &[usize]| -> Vec<Vec<usize>> {
            growing(weights, 2, |weight| *weight).map(<[usize]>::to_vec).collect()
        };
        assert_eq!(cut(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(cut(&[1; 9]), [vec![1; 2], vec![1; 4], vec![1; 3]]);
        assert_eq!(cut(&[5, 1, 3, 9, 9, 9]), [vec![5], vec![1, 3], vec![9], vec![9], vec![9]]);
    }
}
