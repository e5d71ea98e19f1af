//! The only total order of events: `(time, round, class, source, sequence)`.
//!
//! ```text
//! 127        72 71     56 55   52 51     32 31      0
//! | time (ns)  |  round | class | source  | sequence |
//! ```
//!
//! `class` puts kinds of events at one instant into a meaningful order, which the LPs choose: that of a fleet is in
//! `src/fleet/message.rs`. `round` counts zero-latency round trips within an instant: an event that causes another one
//! at the same time with a class that has already passed puts it into the next round, so that an instant is worked off
//! to its fixed point in a defined order. `sequence` is counted by the sending LP, hence keys are unique and nothing
//! about threads can enter them.

use crate::kernel::lp::{Class, LpId};
use crate::kernel::time::Time;

/// The place of an event in the total order. Compares as the tuple in the module's title.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EventKey(u128);

impl EventKey {
    /// After every real event.
    pub const MAX: EventKey = EventKey(u128::MAX);

    /// Packs a key.
    ///
    /// # Panics
    /// If the time is past [`Time::MAX`].
    pub fn new(time: Time, round: u16, class: Class, source: LpId, sequence: u32) -> EventKey {
        assert!(
            time <= Time::MAX,
            "virtual time {time} is past the 834 days that an event key can hold"
        );
        let order = u128::from(time.as_ns()) << 72 | u128::from(round) << 56;
        let low =
            u128::from(class.get()) << 52 | u128::from(source.get()) << 32 | u128::from(sequence);
        EventKey(order | low)
    }

    /// Before every event at `time` and after every earlier one; [`EventKey::MAX`] past [`Time::MAX`].
    pub fn first_at(time: Time) -> EventKey {
        if time > Time::MAX { EventKey::MAX } else { EventKey(u128::from(time.as_ns()) << 72) }
    }

    /// When the event happens.
    pub fn time(self) -> Time {
        Time::from_ns((self.0 >> 72) as u64)
    }

    /// Which zero-latency round trip of its instant it belongs to.
    pub fn round(self) -> u16 {
        (self.0 >> 56) as u16
    }

    /// Its kind, as far as the order is concerned.
    pub fn class(self) -> Class {
        Class::new((self.0 >> 52) as u8 & 0xf)
    }

    /// The LP that sent it.
    pub fn source(self) -> LpId {
        LpId::new((self.0 >> 32) as u32 & 0xf_ffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_compare_as_tuples() {
        let mut tuples = Vec::new();
        for time in [0, 1, Time::MAX.as_ns()] {
            for round in [0, 1, u16::MAX] {
                for class in [0, 3, 15] {
                    for source in [0, 1, LpId::MAX.get()] {
                        for sequence in [0, 1, u32::MAX] {
                            tuples.push((time, round, class, source, sequence));
                        }
                    }
                }
            }
        }
        let key = |&(time, round, class, source, sequence): &(u64, u16, u8, u32, u32)| {
            let (class, source) = (Class::new(class), LpId::new(source));
            EventKey::new(Time::from_ns(time), round, class, source, sequence)
        };
        for pair in tuples.windows(2) {
            assert!(pair[0] < pair[1], "the loops above generate in order");
            assert!(key(&pair[0]) < key(&pair[1]), "{pair:?}");
        }
        for tuple in &tuples {
            let key = key(tuple);
            let unpacked = (key.time().as_ns(), key.round(), key.class().get(), key.source().get());
            assert_eq!(unpacked, (tuple.0, tuple.1, tuple.2, tuple.3));
        }
    }
}
