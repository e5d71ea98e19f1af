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

    /// The members, from the lowest on.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        let ones = |index: u32, word| Ones(word).map(move |bit| index * 64 + bit);
        let indices = (0..).zip(&self.used).flat_map(move |(group, &used)| ones(group, used));
        indices.flat_map(move |index| ones(index, self.words[index as usize]))
    }

    /// The lowest that is in all three sets.
    pub(super) fn first_common(&self, b: &WorkerSet, c: &WorkerSet) -> Option<u32> {
        for (group, &used) in self.used.iter().enumerate() {
            let common = |set: &WorkerSet| set.used.get(group).copied().unwrap_or(0);
            for bit in Ones(used & common(b) & common(c)) {
                let index = group * 64 + bit as usize;
                let word = self.words[index] & b.words[index] & c.words[index];
                if word != 0 {
                    return Some(index as u32 * 64 + word.trailing_zeros());
                }
            }
        }
        None
    }

    /// Calls for everybody who is in one of the sets, in order: bit 0 of the second argument says whether in the first
    /// set, bit 1 whether in the second.
    pub(super) fn for_each_of_either(
        sets: [Option<&WorkerSet>; 2],
        mut call: impl FnMut(u32, usize),
    ) {
        static EMPTY: WorkerSet = WorkerSet { words: Vec::new(), used: Vec::new(), len: 0 };
        let [a, b] = sets.map(|set| set.unwrap_or(&EMPTY));
        for group in 0..a.used.len().max(b.used.len()) {
            let used = [a, b].map(|set| set.used.get(group).copied().unwrap_or(0));
            for bit in Ones(used[0] | used[1]) {
                let first = (group as u32 * 64 + bit) * 64;
                let [a, b] = [a.word(first), b.word(first)];
                for bit in Ones(a | b) {
                    call(first + bit, (a >> bit & 1 | (b >> bit & 1) << 1) as usize);
                }
            }
        }
    }
}

/// The positions of the ones in a word, from the lowest on.
struct Ones(u64);

impl Iterator for Ones {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let bit = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        (bit < 64).then_some(bit)
    }
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
            assert_eq!(set.first_common(&other, &other), both.clone().next());
            assert_eq!(other.first_common(&set, &set), both.clone().next());
            assert_eq!(set.first_common(&set, &set), twin.first().copied());
            let mut seen = Vec::new();
            WorkerSet::for_each_of_either([Some(&set), Some(&other)], |worker, member| {
                assert_eq!(member & 1 == 1, twin.contains(&worker));
                assert_eq!(member & 2 == 2, other.contains(worker));
                seen.push(worker);
            });
            assert!(set.iter().eq(twin.iter().copied()));
            assert!(seen.is_sorted());
            assert_eq!(seen.len(), set.len() + other.len() - both.count());
            assert_eq!(set.contains(worker), twin.contains(&worker));
        }
    }
}
