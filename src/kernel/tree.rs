//! The smallest of many values that change often: a winner tree.
//!
//! A complete binary tree in an array. The leaves, from index `leaves` on, are the values of the owners; every inner
//! node repeats the smaller of its two children, and the root at index 1 is the smallest of all. A change costs one walk
//! towards the root, as far as anything changes, and leaves nothing stale behind. On the way it looks at siblings only,
//! whose places do not depend on what was found below: these memory accesses overlap.

/// One value per owner `0..len`. Whose the smallest is, it has to say itself.
#[derive(Debug)]
pub struct WinnerTree<K> {
    leaves: usize,
    /// By node.
    values: Vec<K>,
}

impl<K: Copy + Ord> WinnerTree<K> {
    /// All owners with the same value, which no value may exceed.
    pub fn new(len: usize, largest: K) -> WinnerTree<K> {
        let leaves = len.next_power_of_two();
        WinnerTree { leaves, values: vec![largest; 2 * leaves] }
    }

    /// The smallest value.
    pub fn min(&self) -> K {
        self.values[1]
    }

    /// The value of one owner.
    pub fn get(&self, owner: u32) -> K {
        self.values[self.leaves + owner as usize]
    }

    /// Changes the value of one owner.
    pub fn set(&mut self, owner: u32, value: K) {
        let mut index = self.leaves + owner as usize;
        self.values[index] = value;
        let mut least = value;
        while index > 1 {
            let sibling = self.values[index ^ 1];
            // An index instead of a branch: which side wins is anybody's guess, also the processor's.
            least = [least, sibling][usize::from(sibling < least)];
            index /= 2;
            if self.values[index] == least {
                return;
            }
            self.values[index] = least;
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
                limit = visit(value, first as u32);
                continue;
            }
            let left_first = value == self.values[2 * index];
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
            let mut tree = WinnerTree::new(len as usize, (u64::MAX, 0));
            let mut twin = vec![(u64::MAX, 0); len as usize];
            for _ in 0..500 {
                let owner = rng.random_range(0..len as u32);
                let value = if rng.random_bool(0.2) { u64::MAX } else { rng.random_range(0..10) };
                tree.set(owner, (value, owner));
                twin[owner as usize] = (value, owner);
                assert_eq!(Some(&tree.min()), twin.iter().min());
                assert_eq!(tree.get(owner), (value, owner));
                let limit = (rng.random_range(0..10), 0);
                let among = rng.random_range(0..1_u32 << len);
                let holds = |first, len| among >> first & ((1_u64 << len) - 1) as u32 != 0;
                let mut visited = Vec::new();
                tree.visit_below(limit, holds, |value, owner| {
                    assert_eq!(value.1, owner);
                    visited.push(value);
                    limit
                });
                visited.sort_unstable_by_key(|&(_, owner)| owner);
                let expected = |value: &(u64, u32)| *value < limit && holds(value.1, 1);
                let expected: Vec<(u64, u32)> = twin.iter().copied().filter(expected).collect();
                assert_eq!(visited, expected);
                if tree.min().0 == u64::MAX {
                    continue;
                }
                visited.clear();
                tree.visit_below(
                    (u64::MAX, 0),
                    |_, _| true,
                    |value, _| {
                        visited.push(value);
                        (1, 0)
                    },
                );
                assert_eq!(visited[0], tree.min());
                assert!(visited[1..].iter().all(|&(value, _)| value == 0));
            }
        }
    }
}
