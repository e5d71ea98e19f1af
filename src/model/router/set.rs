//! A set of workers as bits: membership is one test, and 64 workers are passed over at once in a search.

/// A set of workers.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct WorkerSet {
    words: Vec<u64>,
    len: usize,
}

impl WorkerSet {
    /// The workers `0..len`.
    pub(super) fn full(len: u32) -> WorkerSet {
        (0..len).collect()
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn contains(&self, worker: u32) -> bool {
        self.words.get(worker as usize / 64).is_some_and(|word| word >> (worker % 64) & 1 == 1)
    }

    /// Whether the worker is new.
    pub(super) fn insert(&mut self, worker: u32) -> bool {
        let index = worker as usize / 64;
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
        }
        let is_new = !self.contains(worker);
        self.words[index] |= 1 << (worker % 64);
        self.len += usize::from(is_new);
        is_new
    }

    /// Whether the worker was there.
    pub(super) fn remove(&mut self, worker: u32) -> bool {
        let was_there = self.contains(worker);
        if was_there {
            self.words[worker as usize / 64] &= !(1 << (worker % 64));
            self.len -= 1;
        }
        was_there
    }

    /// The lowest worker.
    pub(super) fn first(&self) -> Option<u32> {
        lowest(self.words.iter().copied())
    }

    /// The lowest worker that is in both sets.
    pub(super) fn first_common(&self, other: &WorkerSet) -> Option<u32> {
        lowest(self.words.iter().zip(&other.words).map(|(a, b)| a & b))
    }
}

fn lowest(words: impl Iterator<Item = u64>) -> Option<u32> {
    let mut words = words.enumerate();
    let (index, word) = words.find(|&(_, word)| word != 0)?;
    Some(index as u32 * 64 + word.trailing_zeros())
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
        let other: WorkerSet = (0..300).filter(|worker| worker % 7 == 3).collect();
        for _ in 0..5000 {
            let worker = rng.random_range(0..300);
            if rng.random_bool(0.4) {
                assert_eq!(set.insert(worker), twin.insert(worker));
            } else {
                assert_eq!(set.remove(worker), twin.remove(&worker));
            }
            assert_eq!((set.len(), set.is_empty()), (twin.len(), twin.is_empty()));
            assert_eq!(set.first(), twin.first().copied());
            let common = twin.iter().find(|&&worker| other.contains(worker));
            assert_eq!(set.first_common(&other), common.copied());
            assert_eq!(set.contains(worker), twin.contains(&worker));
        }
    }
}
