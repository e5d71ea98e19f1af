//! The smallest of many values that change often: a winner tree.
//!
//! A complete binary tree in two arrays. The leaves, from index `leaves` on, are the owners with their values; every inner
//! node repeats the smaller of its two children, and the root at index 1 is the smallest of all. A change costs one walk
//! towards the root, as far as anything changes, and leaves nothing stale behind. On the way it looks at siblings only,
//! whose places do not depend on what was found below: these memory accesses overlap.

/// One value per owner `0..len`. Among equal values the lowest owner wins.
#[derive(Debug)]
pub struct WinnerTree<K> {
    leaves: usize,
    /// By node.
    values: Vec<K>,
    /// Whose value that is.
    winners: Vec<u32>,
}

impl<K: Copy + Ord> WinnerTree<K> {
    /// All owners with the same value, which no value may exceed.
    pub fn new(len: usize, largest: K) -> WinnerTree<K> {
        let leaves = len.next_power_of_two();
        let mut winners = vec![0; leaves];
        winners.extend(0..leaves as u32);
        for index in (1..leaves).rev() {
            winners[index] = winners[2 * index];
        }
        WinnerTree { leaves, values: vec![largest; 2 * leaves], winners }
    }

    /// The smallest value and its owner.
    pub fn min(&self) -> (K, u32) {
        (self.values[1], self.winners[1])
    }

    /// The value of one owner.
    pub fn get(&self, owner: u32) -> K {
        self.values[self.leaves + owner as usize]
    }

    /// Changes the value of one owner.
    pub fn set(&mut self, owner: u32, value: K) {
        let mut index = self.leaves + owner as usize;
        self.values[index] = value;
        let mut least = (value, owner);
        while index > 1 {
            let sibling = (self.values[index ^ 1], self.winners[index ^ 1]);
            // An index instead of a branch: which side wins is anybody's guess, also the processor's.
            least = [least, sibling][usize::from(sibling < least)];
            index /= 2;
            if least.1 == self.winners[index] && least.1 != owner {
                return;
            }
            (self.values[index], self.winners[index]) = least;
        }
    }

    /// Shows every value below `limit` to `visit`, roughly the smallest first; what it returns is the limit from then on.
    /// Passing over what is larger costs one look at the root of it, and so do owners of whom `holds` knows none: it is
    /// asked about aligned ranges, by their first owner and their length, a power of two.
    pub fn visit_below(
        &self,
        mut limit: K,
        mut holds: impl FnMut(u32, u32) -> bool,
        mut visit: impl FnMut(K, u32) -> K,
    ) {
        // A path from the root to a leaf leaves one sibling behind per level.
        let mut open = [1; usize::BITS as usize];
        let mut len = 1;
        while len > 0 {
            len -= 1;
            let index = open[len];
            let value = self.values[index];
            let height = self.leaves.ilog2() - index.ilog2();
            let first = (index << height) - self.leaves;
            if value >= limit || !holds(first as u32, 1 << height) {
                continue;
            }
            if index >= self.leaves {
                limit = visit(value, self.winners[index]);
                continue;
            }
            let left_first = self.winners[index] == self.winners[2 * index];
            open[len] = 2 * index + usize::from(left_first);
            open[len + 1] = 2 * index + usize::from(!left_first);
            len += 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::rng::stream;
    use rand::RngExt;

    /// Against the obvious twin: a vector that is scanned.
    #[test]
    fn a_tree_matches_a_scanned_vector() {
        for len in [1, 2, 3, 8, 13] {
            let mut rng = stream(1, len);
            let mut tree = WinnerTree::new(len as usize, u64::MAX);
            let mut twin: Vec<(u64, u32)> =
                (0..len as u32).map(|owner| (u64::MAX, owner)).collect();
            for _ in 0..500 {
                let owner = rng.random_range(0..len as u32);
                let value = if rng.random_bool(0.2) { u64::MAX } else { rng.random_range(0..10) };
                tree.set(owner, value);
                twin[owner as usize].0 = value;
                assert_eq!(Some(&tree.min()), twin.iter().min());
                assert_eq!(tree.get(owner), value);
                let limit = rng.random_range(0..10);
                let among = rng.random_range(0..1_u32 << len);
                let holds = |first, len| among >> first & ((1_u64 << len) - 1) as u32 != 0;
                let mut visited = Vec::new();
                tree.visit_below(limit, holds, |value, owner| {
                    visited.push((value, owner));
                    limit
                });
                visited.sort_unstable_by_key(|&(_, owner)| owner);
                let expected = |&(value, owner): &(u64, u32)| value < limit && holds(owner, 1);
                let expected: Vec<(u64, u32)> = twin.iter().copied().filter(expected).collect();
                assert_eq!(visited, expected);
                if tree.min().0 == u64::MAX {
                    continue;
                }
                visited.clear();
                tree.visit_below(
                    u64::MAX,
                    |_, _| true,
                    |value, owner| {
                        visited.push((value, owner));
                        1
                    },
                );
                assert_eq!(visited[0], tree.min());
                assert!(visited[1..].iter().all(|&(value, _)| value == 0));
            }
        }
    }
}
