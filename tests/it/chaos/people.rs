//! What the source says from day to day, and what the audience must hold for it.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;

use crate::workspace::Person;

/// More than one request takes, so that batches are under way side by side.
const PEOPLE: usize = 900;

/// Stands in the name of a person whom the destination refuses.
pub(crate) const POISON: &str = "(poison)";

/// The source, and what a person did at the destination.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) people: Vec<Person>,
    days: usize,
    /// Whose rows a person has deleted: they are not made again.
    deleted: BTreeSet<String>,
    /// Whose rows a person has edited: what the source said then, and the new name.
    edited: BTreeMap<String, (Person, String)>,
}

impl World {
    /// Some people go, some change, some come. Of those who come a few are poisoned, and some of these get well later.
    pub(crate) fn next_day(&mut self, random: &mut StdRng) {
        self.days += 1;
        self.people.retain(|_| random.random_bool(0.9));
        for person in &mut self.people {
            let gets_well = person.name.contains(POISON) && random.random_bool(0.5);
            if gets_well || random.random_bool(0.3) {
                person.score += 10_000 * i64::try_from(self.days).expect("small");
                person.updated_at = format!("2026-02-{:02}T00:00:00Z", self.days);
            }
            if gets_well {
                person.name = person.name.replace(POISON, "well");
            }
        }
        let start = self.days * PEOPLE;
        let mut newcomers: Vec<_> = (start..start + random.random_range(1..PEOPLE)).map(Person::numbered).collect();
        if random.random_bool(0.1) {
            let count = random.random_range(1..=3);
            for person in newcomers.iter_mut().choose_multiple(random, count) {
                person.name = format!("{} {POISON}", person.name);
            }
        }
        self.people.extend(newcomers);
    }

    /// How many the destination refuses.
    pub(crate) fn poisoned(&self) -> usize {
        self.people.iter().filter(|person| person.name.contains(POISON)).count()
    }

    /// Somebody whose row stands in the audience as the source has it.
    pub(crate) fn pick(&self, random: &mut StdRng) -> Option<Person> {
        let is_untouched = |person: &&Person| {
            let email = &person.email;
            !person.name.contains(POISON) && !self.deleted.contains(email) && !self.edited.contains_key(email)
        };
        self.people.iter().filter(is_untouched).choose(random).cloned()
    }

    pub(crate) fn delete(&mut self, person: &Person) {
        self.deleted.insert(person.email.clone());
    }

    pub(crate) fn edit(&mut self, person: &Person, name: &str) {
        self.edited.insert(person.email.clone(), (person.clone(), name.to_owned()));
    }

    /// What the audience must hold.
    pub(crate) fn expected(&self) -> Vec<Person> {
        let is_held = |person: &&Person| !person.name.contains(POISON) && !self.deleted.contains(&person.email);
        self.people.iter().filter(is_held).map(|person| self.as_held(person)).collect()
    }

    /// An edit stands until the source says something new.
    fn as_held(&self, person: &Person) -> Person {
        match self.edited.get(&person.email) {
            Some((then, name)) if then == person => Person { name: name.clone(), ..person.clone() },
            _ => person.clone(),
        }
    }
}
