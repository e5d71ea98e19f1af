//! A set of workers as bits: membership is one test, and 4096 workers are passed over at once in a search.

/// A set of workers.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct WorkerSet {
    words: Vec<u64>,
    /// Which words are not zero, as bits.
    used: Vec<u64>,
    len: usize,
}

impl WorkerSet {
    /// The workers `0..len`.
    pub(super) fn full(len: u32) -> WorkerSet {
        (0..len).collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn contains(&self, worker: u32) -> bool {
        self.word(worker) >> (worker % 64) & 1 == 1
    }

    /// The members among the 64 workers around one, as bits.
    pub(super) fn word(&self, worker: u32) -> u64 {
        self.words.get(worker as usize / 64).copied().unwrap_or(0)
    }

    /// Whether the worker is new.
    pub(super) fn insert(&mut self, worker: u32) -> bool {
        let index = worker as usize / 64;
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
            self.used.resize(index / 64 + 1, 0);
        }
        let is_new = !self.contains(worker);
        self.words[index] |= 1 << (worker % 64);
        self.used[index / 64] |= 1 << (index % 64);
        self.len += usize::from(is_new);
        is_new
    }

    /// Whether the worker was there.
    pub(super) fn remove(&mut self, worker: u32) -> bool {
        let was_there = self.contains(worker);
        if was_there {
            let index = worker as usize / 64;
            self.words[index] &= !(1 << (worker % 64));
            if self.words[index] == 0 {
                self.used[index / 64] &= !(1 << (index % 64));
            }
            self.len -= 1;
        }
        was_there
    }
}

/// Those that are in all of these sets, of which there is at least one; in order.
pub(super) fn common(sets: &[&WorkerSet]) -> impl Iterator<Item = u32> {
    let all = |part: fn(&WorkerSet) -> &[u64], index| {
        sets.iter().fold(u64::MAX, |all, set| all & part(set).get(index).copied().unwrap_or(0))
    };
    let groups = sets.first().map_or(0, |set| set.used.len());
    let words = (0..groups).flat_map(move |group| {
        bits(all(|set| &set.used, group)).map(move |bit| group * 64 + bit as usize)
    });
    words.flat_map(move |index| {
        bits(all(|set| &set.words, index)).map(move |bit| index as u32 * 64 + bit)
    })
}

/// The positions of the ones, from the lowest on.
fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}

impl FromIterator<u32> for WorkerSet {
    fn from_iter<I: IntoIterator<Item = u32>>(workers: I) -> WorkerSet {
        let mut set = WorkerSet::default();
        for worker in workers {
            set.insert(worker);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::rng::stream;
    use rand::RngExt;
    use std::collections::BTreeSet;

    #[test]
    fn a_set_matches_a_tree_set() {
        let mut rng = stream(11, 0);
        let (mut set, mut twin) = (WorkerSet::default(), BTreeSet::new());
        let other: WorkerSet = (0..9000).filter(|worker| worker % 7 == 3).collect();
        for _ in 0..5000 {
            let worker = rng.random_range(0..9000);
            if rng.random_bool(0.4) {
                assert_eq!(set.insert(worker), twin.insert(worker));
            } else {
                assert_eq!(set.remove(worker), twin.remove(&worker));
            }
            assert_eq!((set.len(), set.is_empty()), (twin.len(), twin.is_empty()));
            assert_eq!(set.word(worker) >> (worker % 64) & 1 == 1, twin.contains(&worker));
            let both = twin.iter().copied().filter(|&worker| other.contains(worker));
            assert!(common(&[&set, &other]).eq(both.clone()));
            assert!(common(&[&other, &set]).eq(both));
            assert!(common(&[&set]).eq(twin.iter().copied()));
            assert_eq!(set.contains(worker), twin.contains(&worker));
        }
    }
}
