//! Random numbers: one stream per LP and purpose, from the seed of the run.
//!
//! A stream belongs to an LP, never to a thread, so what an LP draws depends on its own past alone. The generator is
//! PCG-64 (128-bit state) with the stream number as its increment, so streams do not overlap.

use rand_pcg::Pcg64;

use crate::kernel::lp::LpId;

/// The generator type of every stream.
pub type Stream = Pcg64;

/// The stream of `purpose` that belongs to `id`, in a run with this seed.
pub fn lp_stream(seed: u64, id: LpId, purpose: u32) -> Stream {
    stream(seed, u64::from(purpose) << 32 | u64::from(id.get()))
}

/// A stream that belongs to no LP: a workload generator, a test.
pub fn stream(seed: u64, number: u64) -> Stream {
    let state = u128::from(mix64(seed)) << 64 | u128::from(mix64(seed ^ 0x9e37_79b9_7f4a_7c15));
    Pcg64::new(state, u128::from(mix64(number)) << 64 | u128::from(number))
}

/// A bijection of 64 bits that spreads every input bit over the whole output (the finalizer of `SplitMix64`).
pub fn mix64(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn streams_differ_and_repeat() {
        let first = |seed, lp, purpose| lp_stream(seed, LpId::new(lp), purpose).next_u64();
        assert_eq!(first(7, 1, 0), first(7, 1, 0));
        let all = [first(7, 1, 0), first(7, 2, 0), first(7, 1, 1), first(8, 1, 0)];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b), "{all:?}");
        }
    }
}
