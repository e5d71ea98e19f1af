//! The decoding requests of an engine, accounted for as a group so that a pass costs O(1).
//!
//! All members get one token per pass. What a pass needs to know is how many there are, how much context they read, how
//! many need a new block and who finishes; none of it needs a look at every member. Time inside the batch is counted in
//! decode passes, the *epoch*.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What distinguishes one stay of a sequence in the batch from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Member {
    /// Its slot in the engine.
    pub(super) slot: u32,
    /// The number of its admission; ties in finishing go to the earlier one.
    pub(super) admission: u64,
    /// The epoch in which it joined.
    pub(super) joined: u64,
    /// Tokens computed when it joined.
    pub(super) computed: u32,
    /// Tokens known then: one more.
    pub(super) known: u32,
    /// Tokens it still has to get.
    pub(super) remaining: u32,
}

/// Which of 64 passes in a row take blocks, as bits.
#[derive(Clone, Copy, Default, Debug)]
struct Growth {
    /// At least one.
    any: u64,
    /// More than one.
    several: u64,
}

#[derive(Debug)]
pub(super) struct DecodeBatch {
    epoch: u64,
    size: u32,
    block_size: u32,
    context_tokens: u64,
    /// Whether members need blocks, by the remainder of a pass's epoch modulo the block size.
    growth: Box<[Growth]>,
    /// How many, where it is more than one. Small batches never ask, and have no memory for it.
    counts: Box<[u32]>,
    /// Epoch of finishing, admission, slot.
    finishes: BinaryHeap<Reverse<(u64, u64, u32)>>,
    /// The first of those epochs; the last one there is, if nobody is there to finish.
    next_finish: u64,
}

impl DecodeBatch {
    pub(super) fn new(block_size: u32) -> DecodeBatch {
        DecodeBatch {
            epoch: 0,
            size: 0,
            block_size,
            context_tokens: 0,
            growth: vec![Growth::default(); block_size.div_ceil(64) as usize].into_boxed_slice(),
            counts: Box::default(),
            finishes: BinaryHeap::new(),
            next_finish: u64::MAX,
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// The sum of the members' known tokens: what the next pass reads.
    pub(super) fn context_tokens(&self) -> u64 {
        self.context_tokens
    }

    pub(super) fn join(&mut self, member: Member) {
        debug_assert_eq!(member.joined, self.epoch);
        let finish = self.epoch + u64::from(member.remaining);
        self.finishes.push(Reverse((finish, member.admission, member.slot)));
        self.next_finish = self.next_finish.min(finish);
        self.change_growth(member, true);
        self.size += 1;
        self.context_tokens += u64::from(member.known);
    }

    /// Forgets when a member would have finished. It leaves early.
    pub(super) fn withdraw(&mut self, member: Member) {
        self.finishes.retain(|Reverse((_, admission, _))| *admission != member.admission);
        self.see_next_finish();
    }

    /// The next member that has got all its tokens. The caller has to forget it as well.
    pub(super) fn pop_finished(&mut self) -> Option<u32> {
        if self.next_finish > self.epoch {
            return None;
        }
        let Reverse((_, _, slot)) = self.finishes.pop()?;
        self.see_next_finish();
        Some(slot)
    }

    fn see_next_finish(&mut self) {
        self.next_finish = self.finishes.peek().map_or(u64::MAX, |Reverse((finish, ..))| *finish);
    }

    /// Takes a member out of the sums.
    pub(super) fn forget(&mut self, member: Member) {
        self.change_growth(member, false);
        self.size -= 1;
        self.context_tokens -= u64::from(member.known) + (self.epoch - member.joined);
    }

    /// In how many passes the next member finishes.
    pub(super) fn passes_to_finish(&self) -> u64 {
        if self.next_finish == u64::MAX { u64::MAX } else { self.next_finish - self.epoch }
    }

    /// How many blocks the pass after `ahead` more passes takes.
    pub(super) fn growth(&self, ahead: u64) -> u32 {
        let residue = self.residue(ahead);
        let Growth { any, several } = self.growth[residue / 64];
        match (any >> (residue % 64) & 1, several >> (residue % 64) & 1) {
            (0, _) => 0,
            (_, 0) => 1,
            _ => self.counts[residue],
        }
    }

    /// The first pass from `ahead` on that takes a block, or `limit` if none before it does.
    pub(super) fn next_growth(&self, ahead: u64, limit: u64) -> u64 {
        let block_size = self.block_size as usize;
        let mut residue = self.residue(ahead);
        let mut pass = ahead;
        while pass < limit {
            let bits = self.growth[residue / 64].any >> (residue % 64);
            if bits != 0 {
                return limit.min(pass + u64::from(bits.trailing_zeros()));
            }
            let looked_at = (64 - residue % 64).min(block_size - residue);
            pass += looked_at as u64;
            residue = (residue + looked_at) % block_size;
        }
        limit
    }

    /// How many of the next passes, at most `passes`, can be done with `blocks` blocks.
    pub(super) fn passes_within(&self, blocks: u32, passes: u64) -> u64 {
        // Everybody takes at most one block per block size of passes.
        let cycles = passes.div_ceil(u64::from(self.block_size));
        if u64::from(self.size) * cycles <= u64::from(blocks) {
            return passes;
        }
        let mut left = blocks;
        for pass in 0..passes {
            match left.checked_sub(self.growth(pass)) {
                Some(rest) => left = rest,
                None => return pass,
            }
        }
        passes
    }

    /// Does `passes` passes; says how many blocks they took.
    pub(super) fn advance(&mut self, passes: u64) -> u32 {
        let block_size = u64::from(self.block_size);
        let mut blocks = self.size * (passes / block_size) as u32;
        let rest = passes % block_size;
        let mut pass = self.next_growth(0, rest);
        while pass < rest {
            blocks += self.growth(pass);
            pass = self.next_growth(pass + 1, rest);
        }
        self.epoch += passes;
        self.context_tokens += u64::from(self.size) * passes;
        blocks
    }

    /// The remainder of the pass after `ahead` more passes.
    fn residue(&self, ahead: u64) -> usize {
        ((self.epoch + ahead) % u64::from(self.block_size)) as usize
    }

    /// Counts a member among those that need blocks, or no longer: it does so whenever its computed tokens fill its blocks.
    fn change_growth(&mut self, member: Member, joins: bool) {
        let block_size = u64::from(self.block_size);
        let behind = u64::from(member.computed) % block_size;
        let residue = ((member.joined % block_size + block_size - behind) % block_size) as usize;
        let bit = 1 << (residue % 64);
        let growth = &mut self.growth[residue / 64];
        if growth.several & bit != 0 {
            let count = &mut self.counts[residue];
            *count = if joins { *count + 1 } else { *count - 1 };
            if *count == 1 {
                growth.several &= !bit;
            }
        } else if joins && growth.any & bit != 0 {
            growth.several |= bit;
            if self.counts.is_empty() {
                self.counts = vec![0; block_size as usize].into_boxed_slice();
            }
            self.counts[residue] = 2;
        } else {
            growth.any ^= bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::rng::stream;
    use rand::RngExt;

    /// Against the obvious twin: a list of (computed, known, remaining) that every pass walks.
    #[test]
    fn the_sums_match_a_list_of_members() {
        for block_size in [1, 2, 16, 37, 150] {
            let mut rng = stream(5, u64::from(block_size));
            let mut batch = DecodeBatch::new(block_size);
            let mut members: Vec<Member> = Vec::new();
            for admission in 0..500 {
                if rng.random_bool(0.6) {
                    let computed = rng.random_range(1..100);
                    let remaining = rng.random_range(1..60);
                    let (slot, joined) = (admission as u32, batch.epoch());
                    let known = computed + 1;
                    let member = Member { slot, admission, joined, computed, known, remaining };
                    batch.join(member);
                    members.push(member);
                } else if !members.is_empty() && rng.random_bool(0.2) {
                    let member = members.swap_remove(rng.random_range(0..members.len()));
                    batch.withdraw(member);
                    batch.forget(member);
                }
                let passes = rng.random_range(0..50).min(batch.passes_to_finish());
                let age = |member: &Member, epoch: u64| (epoch - member.joined) as u32;
                let blocks_of = |epoch: u64| -> u32 {
                    let full =
                        |m: &&Member| (m.computed + age(m, epoch)).is_multiple_of(block_size);
                    members.iter().filter(full).count() as u32
                };
                let ahead = rng.random_range(0..5);
                let next = (ahead..passes).find(|&pass| blocks_of(batch.epoch() + pass) > 0);
                assert_eq!(batch.next_growth(ahead, passes), next.unwrap_or(passes));
                let epoch = batch.epoch();
                let expected: u32 = (0..passes).map(|pass| blocks_of(epoch + pass)).sum();
                assert_eq!(batch.passes_within(expected, passes), passes);
                if expected > 0 {
                    assert!(batch.passes_within(expected - 1, passes) < passes);
                }
                assert_eq!(batch.advance(passes), expected);
                let epoch = batch.epoch();
                let context =
                    members.iter().map(|m| u64::from(m.known + age(m, epoch))).sum::<u64>();
                assert_eq!((batch.size(), batch.context_tokens()), (members.len() as u32, context));
                assert_eq!(batch.growth(0), blocks_of(epoch));
                while let Some(slot) = batch.pop_finished() {
                    let index = members.iter().position(|member| member.slot == slot).unwrap();
                    let member = members.swap_remove(index);
                    assert_eq!(age(&member, epoch), member.remaining);
                    batch.forget(member);
                }
                assert!(members.iter().all(|member| age(member, epoch) < member.remaining));
            }
        }
    }
}
