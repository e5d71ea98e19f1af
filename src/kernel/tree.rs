//! The smallest of many values that change often: a winner tree.
//!
//! A complete binary tree in an array. The leaves, from index `leaves` on, hold one value per owner; every inner node
//! holds the smaller of its two children, and the root at index 1 the smallest of all. A change costs one walk towards
//! the root and leaves nothing stale behind.

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

    /// Shows every value that is at most `limit` to `visit`, roughly the smallest first; what it returns is the limit from
    /// then on. Passing over what is larger costs one look at the root of it.
    pub fn visit_up_to(&self, mut limit: K, mut visit: impl FnMut(K, u32) -> K) {
        // A path from the root to a leaf leaves one sibling behind per level.
        let mut open = [1; usize::BITS as usize];
        let mut len = 1;
        while len > 0 {
            len -= 1;
            let index = open[len];
            let (value, owner) = self.nodes[index];
            if value > limit || owner == u32::MAX {
                continue;
            }
            if index >= self.leaves {
                limit = visit(value, owner);
                continue;
            }
            let left_first = self.nodes[2 * index] <= self.nodes[2 * index + 1];
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
                let mut visited = Vec::new();
                tree.visit_up_to(limit, |value, owner| {
                    visited.push((value, owner));
                    limit
                });
                visited.sort_unstable_by_key(|&(_, owner)| owner);
                let expected: Vec<(u64, u32)> =
                    twin.iter().copied().filter(|&(value, _)| value <= limit).collect();
                assert_eq!(visited, expected);
                visited.clear();
                tree.visit_up_to(u64::MAX, |value, owner| {
                    visited.push((value, owner));
                    0
                });
                assert_eq!(visited[0], tree.min());
                assert!(visited[1..].iter().all(|&(value, _)| value == 0));
            }
        }
    }
}
