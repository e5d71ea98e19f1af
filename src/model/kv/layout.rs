//! How engine blocks lie over trace blocks.

/// The two block sizes of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockLayout {
    /// Tokens in one block of the engine.
    pub block_size: u32,
    /// Tokens in one block of the trace.
    pub trace_block_size: u32,
}

impl BlockLayout {
    /// How many engine blocks these tokens fill completely.
    pub fn full_blocks(&self, tokens: u32) -> u32 {
        tokens / self.block_size
    }

    /// How many engine blocks these tokens occupy.
    pub fn blocks(&self, tokens: u32) -> u32 {
        tokens.div_ceil(self.block_size)
    }

    /// The trace block in which an engine block ends. A block is identified by its index and the chain up to there.
    pub fn trace_block(&self, block: u32) -> usize {
        let last_token = (u64::from(block) + 1) * u64::from(self.block_size) - 1;
        (last_token / u64::from(self.trace_block_size)) as usize
    }

    /// How many engine blocks end before this trace block: the first that needs it, when the sequence is long enough.
    pub fn blocks_before(&self, trace_block: usize) -> u32 {
        (trace_block as u64 * u64::from(self.trace_block_size) / u64::from(self.block_size)) as u32
    }
}

impl BlockLayout {
    /// What identifies a block of a sequence: the chain up to the trace block in which it ends, and its index.
    pub fn key(&self, chain: &[u64], block: u32) -> u64 {
        own_key(chain[self.trace_block(block)], block)
    }

    /// How far two sequences agree that agree in block `first`: one past the last common block, at most `end`. Both
    /// have to be that long.
    pub fn common_blocks(&self, a: &[u64], b: &[u64], first: u32, end: u32) -> u32 {
        let last = self.trace_block(end - 1);
        if a[last] == b[last] {
            return end;
        }
        // Chains that agree somewhere agree everywhere before, so bisect.
        let (mut equal, mut differs) = (self.trace_block(first), last);
        while differs - equal > 1 {
            let middle = equal.midpoint(differs);
            if a[middle] == b[middle] {
                equal = middle;
            } else {
                differs = middle;
            }
        }
        self.blocks_before(differs)
    }
}

/// What identifies a block of a sequence that has a hash of its own.
pub(super) fn own_key(sequence: u64, block: u32) -> u64 {
    sequence ^ u64::from(block).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_ends_where_the_layout_says() {
        for (block_size, trace_block_size) in
            [(512, 512), (16, 512), (64, 512), (48, 512), (1024, 512), (700, 512), (7, 3)]
        {
            let layout = BlockLayout { block_size, trace_block_size };
            for block in 0..200 {
                let trace_block = layout.trace_block(block);
                let last_token = ((block + 1) * block_size - 1) as usize;
                assert_eq!(trace_block, last_token / trace_block_size as usize);
                assert!(layout.blocks_before(trace_block) <= block);
                assert!(layout.blocks_before(trace_block + 1) > block);
            }
        }
    }
}
