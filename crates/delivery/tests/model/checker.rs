//! A breadth-first checker: every state that can be reached, each expanded once.
//!
//! Of a state that was seen only a hash of 128 bits is kept, and of its predecessors who they are: a counterexample is
//! made by going its way again. Two states with one hash would count as one; with a million states that has a chance of
//! one in 10^26.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};

/// What is explored.
pub(crate) trait Model {
    type State: Clone + Hash;
    type Step: Debug;
    type Property: Copy + Ord + Debug;

    fn initial(&self) -> Self::State;
    /// Everything that may happen next. Nothing: the state is an end.
    fn steps(&self, state: &Self::State) -> Vec<(Self::Step, Self::State)>;
    /// What is broken in a state; it is not expanded any further.
    fn broken(&self, state: &Self::State, is_end: bool) -> Option<Self::Property>;
    /// The property that every path ends.
    fn endless(&self) -> Self::Property;
}

/// How far an exploration goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds<P> {
    /// More states than this are an error: the scenario was to be explored in full.
    pub(crate) most_states: usize,
    /// Ends the exploration once this is broken; for planted bugs.
    pub(crate) until: Option<P>,
}

/// What an exploration came to.
#[derive(Debug)]
pub(crate) struct Explored<P> {
    pub(crate) states: usize,
    pub(crate) steps: usize,
    /// States from which nothing more happens.
    pub(crate) ends: usize,
    /// Steps of the longest of the shortest ways to a state.
    pub(crate) depth: usize,
    /// For each broken property the shortest way to break it.
    pub(crate) broken: BTreeMap<P, Vec<String>>,
}

/// How a state was first reached: from which one, and by which of its steps.
struct Origin {
    from: usize,
    step: usize,
    depth: usize,
}

struct Search<'a, M: Model> {
    model: &'a M,
    known: HashMap<u128, usize>,
    origins: Vec<Origin>,
    /// For each state those that it leads to; for the search for cycles.
    next: Vec<Vec<usize>>,
    frontier: VecDeque<(usize, M::State)>,
}

/// Explores every state within the bounds.
pub(crate) fn explore<M: Model>(model: &M, bounds: Bounds<M::Property>) -> Explored<M::Property> {
    let mut search =
        Search { model, known: HashMap::new(), origins: Vec::new(), next: Vec::new(), frontier: VecDeque::new() };
    search.reach(model.initial(), Origin { from: 0, step: 0, depth: 0 });
    let mut explored = Explored { states: 0, steps: 0, ends: 0, depth: 0, broken: BTreeMap::new() };
    while let Some((number, state)) = search.frontier.pop_front() {
        assert!(search.origins.len() <= bounds.most_states, "more than {} states", bounds.most_states);
        let steps = model.steps(&state);
        explored.steps += steps.len();
        explored.ends += usize::from(steps.is_empty());
        let depth = search.origins[number].depth;
        explored.depth = depth;
        if let Some(property) = model.broken(&state, steps.is_empty()) {
            explored.broken.entry(property).or_insert_with(|| search.way_to(number));
            if bounds.until == Some(property) {
                break;
            }
            continue;
        }
        for (step, (_, next)) in steps.into_iter().enumerate() {
            let reached = search.reach(next, Origin { from: number, step, depth: depth + 1 });
            search.next[number].push(reached);
        }
    }
    if let Some(number) = search.on_a_cycle() {
        explored.broken.insert(model.endless(), search.way_to(number));
    }
    explored.states = search.origins.len();
    explored
}

impl<M: Model> Search<'_, M> {
    /// Number of a state, which is queued if it is new.
    fn reach(&mut self, state: M::State, origin: Origin) -> usize {
        let number = self.origins.len();
        match self.known.entry(fingerprint(&state)) {
            std::collections::hash_map::Entry::Occupied(known) => *known.get(),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(number);
                self.origins.push(origin);
                self.next.push(Vec::new());
                self.frontier.push_back((number, state));
                number
            }
        }
    }

    /// Goes the way to a state again and tells its steps.
    fn way_to(&self, number: usize) -> Vec<String> {
        let mut choices = Vec::new();
        let mut at = number;
        while at != 0 {
            choices.push(self.origins[at].step);
            at = self.origins[at].from;
        }
        let mut state = self.model.initial();
        let mut way = Vec::new();
        for choice in choices.into_iter().rev() {
            let (step, next) = self.model.steps(&state).swap_remove(choice);
            way.push(format!("{step:?}"));
            state = next;
        }
        way
    }

    /// A state that lies on a cycle or behind one: what is left once all states that nothing leads to are taken away,
    /// again and again.
    fn on_a_cycle(&self) -> Option<usize> {
        let mut into = vec![0_usize; self.next.len()];
        self.next.iter().flatten().for_each(|number| into[*number] += 1);
        let mut free: Vec<usize> = (0..into.len()).filter(|number| into[*number] == 0).collect();
        while let Some(number) = free.pop() {
            for next in &self.next[number] {
                into[*next] -= 1;
                if into[*next] == 0 {
                    free.push(*next);
                }
            }
        }
        into.iter().position(|count| *count > 0)
    }
}

fn fingerprint<S: Hash>(state: &S) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        state.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts to three, and round and round if it is told so.
    struct Counter {
        is_round: bool,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Broken {
        Three,
        Endless,
    }

    impl Model for Counter {
        type State = u8;
        type Step = &'static str;
        type Property = Broken;

        fn initial(&self) -> u8 {
            0
        }

        fn steps(&self, state: &u8) -> Vec<(&'static str, u8)> {
            match *state {
                2 if self.is_round => vec![("back", 0)],
                3 => Vec::new(),
                state => vec![("one", state + 1), ("two", (state + 2).min(3))],
            }
        }

        fn broken(&self, state: &u8, is_end: bool) -> Option<Broken> {
            (*state == 3 && is_end).then_some(Broken::Three)
        }

        fn endless(&self) -> Broken {
            Broken::Endless
        }
    }

    #[test]
    fn every_state_is_found_the_shortest_way_and_a_cycle_is_told() {
        let bounds = Bounds { most_states: 4, until: None };
        let explored = explore(&Counter { is_round: false }, bounds);
        assert_eq!((explored.states, explored.steps, explored.ends, explored.depth), (4, 6, 1, 2));
        assert_eq!(
            explored.broken,
            BTreeMap::from([(Broken::Three, vec!["\"one\"".to_owned(), "\"two\"".to_owned()])])
        );
        let explored = explore(&Counter { is_round: true }, bounds);
        assert!(explored.broken.contains_key(&Broken::Endless), "{explored:?}");
    }
}
