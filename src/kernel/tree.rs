//! The smallest of many values that change often: a winner tree.
//!
//! A complete binary tree in an array. The leaves, from index `leaves` on, hold one value per owner; every inner node
//! holds the smaller of its two children, and the root at index 1 the smallest of all. A change costs one walk towards
//! the root and leaves nothing stale behind.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// One value per owner `0..len`. Among equal values the lowest owner wins.
#[derive(Debug)]
pub struct WinnerTree<K> {
    leaves: usize,
    nodes: Vec<(K, u32)>,
}

impl<K: Copy + Ord> WinnerTree<K> {
    /// All owners with the same value, which no value may exceed.
    pub fn new(len: usize, largest: K) -> WinnerTree<K> {
        let leaves = len.next_power_of_two();
        let mut nodes = vec![(largest, u32::MAX); 2 * leaves];
        for owner in 0..len {
            nodes[leaves + owner].1 = owner as u32;
        }
        for index in (1..leaves).rev() {
            nodes[index] = nodes[2 * index].min(nodes[2 * index + 1]);
        }
        WinnerTree { leaves, nodes }
    }

    /// The smallest value and its owner.
    pub fn min(&self) -> (K, u32) {
        self.nodes[1]
    }

    /// The value of one owner.
    pub fn get(&self, owner: u32) -> K {
        self.nodes[self.leaves + owner as usize].0
    }

    /// Changes the value of one owner.
    pub fn set(&mut self, owner: u32, value: K) {
        let mut index = self.leaves + owner as usize;
        self.nodes[index] = (value, owner);
        while index > 1 {
            let winner = self.nodes[index & !1].min(self.nodes[index | 1]);
            index /= 2;
            if self.nodes[index] == winner {
                return;
            }
            self.nodes[index] = winner;
        }
    }

    /// All values in ascending order. Taking the first k costs O(k log n); `frontier` is scratch space.
    pub fn ascending<'a>(
        &'a self,
        frontier: &'a mut BinaryHeap<Reverse<((K, u32), usize)>>,
    ) -> impl Iterator<Item = (K, u32)> + 'a {
        frontier.clear();
        frontier.push(Reverse((self.nodes[1], 1)));
        std::iter::from_fn(move || {
            loop {
                let Reverse((winner, index)) = frontier.pop()?;
                if winner.1 == u32::MAX {
                    return None;
                }
                if index >= self.leaves {
                    return Some(winner);
                }
                // The winner came from one of the children; both stay candidates.
                for child in [2 * index, 2 * index + 1] {
                    frontier.push(Reverse((self.nodes[child], child)));
                }
            }
        })
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
            let mut frontier = BinaryHeap::new();
            for _ in 0..500 {
                let owner = rng.random_range(0..len as u32);
                let value = if rng.random_bool(0.2) { u64::MAX } else { rng.random_range(0..10) };
                tree.set(owner, value);
                twin[owner as usize].0 = value;
                assert_eq!(Some(&tree.min()), twin.iter().min());
                assert_eq!(tree.get(owner), value);
                let mut sorted = twin.clone();
                sorted.sort_unstable();
                let ascending: Vec<(u64, u32)> = tree.ascending(&mut frontier).collect();
                assert_eq!(ascending, sorted);
            }
        }
    }
}
