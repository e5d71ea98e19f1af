//! What keeps the Kubernetes autoscalers calm: a tolerance, a window for going down, a limit for going up.
//!
//! Source: the Kubernetes documentation of the `HorizontalPodAutoscaler` (algorithm details, and the default behaviour of
//! `autoscaling/v2`). A KEDA scaler hands its metric to the same autoscaler.

use std::collections::VecDeque;

use crate::kernel::time::{Span, Time};

/// The parameters.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StabiliserConfig {
    /// A load whose ratio to its target is nearer to 1 than this changes nothing.
    pub tolerance: f64,
    /// Going down, the highest number recommended within this time counts.
    pub down_window: Span,
    /// Going up, at most this many workers per look,
    pub up_workers_max: u32,
    /// or this share of those there are, whichever is more.
    pub up_share_max: f64,
}

impl Default for StabiliserConfig {
    /// Those of Kubernetes: 10 %, 300 s, 4 workers or 100 % per look of 15 s.
    fn default() -> StabiliserConfig {
        StabiliserConfig {
            tolerance: 0.1,
            down_window: Span::from_secs(300),
            up_workers_max: 4,
            up_share_max: 1.0,
        }
    }
}

/// The recommendations of the recent past.
#[derive(Debug)]
pub struct Stabiliser {
    config: StabiliserConfig,
    /// Recommendations that some later window may still have to look at: later ones are lower.
    recent: VecDeque<(Time, u32)>,
    /// Whether the number of workers at the first look is to count as recommended then.
    counts_first: bool,
}

impl Stabiliser {
    /// Nothing recommended so far.
    pub fn new(config: StabiliserConfig) -> Stabiliser {
        Stabiliser { config, recent: VecDeque::new(), counts_first: false }
    }

    /// As in Kubernetes: the number of workers at the first look counts as recommended then, if there is a window.
    pub fn of_kubernetes(config: StabiliserConfig) -> Stabiliser {
        let counts_first = config.down_window > Span::ZERO;
        Stabiliser { counts_first, ..Stabiliser::new(config) }
    }

    /// Whether a ratio of load to target is close enough to 1.
    pub fn tolerates(&self, ratio: f64) -> bool {
        (ratio - 1.0).abs() <= self.config.tolerance
    }

    /// What comes of recommending `wanted` workers when `current` were asked for last.
    pub fn settle(&mut self, now: Time, current: u32, wanted: u32) -> u32 {
        if std::mem::take(&mut self.counts_first) {
            self.recent.push_back((now, current));
        }
        while self.recent.back().is_some_and(|&(_, lower)| lower <= wanted) {
            self.recent.pop_back();
        }
        self.recent.push_back((now, wanted));
        let is_old = |at: Time| now.since(at) > self.config.down_window;
        while self.recent.front().is_some_and(|&(at, _)| is_old(at)) {
            self.recent.pop_front();
        }
        if wanted > current {
            let share = (f64::from(current) * self.config.up_share_max).ceil() as u32;
            return wanted.min(current.saturating_add(share.max(self.config.up_workers_max)));
        }
        let highest = self.recent.front().map_or(wanted, |&(_, highest)| highest);
        highest.min(current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Time {
        Time::ZERO + Span::from_secs(secs)
    }

    #[test]
    fn going_down_waits_for_the_window() {
        let mut stabiliser = Stabiliser::new(StabiliserConfig::default());
        assert_eq!(stabiliser.settle(at(0), 8, 8), 8);
        assert_eq!(stabiliser.settle(at(15), 8, 3), 8);
        assert_eq!(stabiliser.settle(at(200), 8, 5), 8);
        assert_eq!(stabiliser.settle(at(300), 8, 2), 8, "the 8 is exactly 300 s old");
        assert_eq!(stabiliser.settle(at(315), 8, 2), 5);
        assert_eq!(stabiliser.settle(at(501), 5, 2), 2, "the 5 has left");
    }

    /// Eight workers and nothing to do: the first look takes none away, the first one after the window does.
    #[test]
    fn the_window_begins_with_the_workers_of_the_first_look() {
        let mut stabiliser = Stabiliser::of_kubernetes(StabiliserConfig::default());
        for secs in (15..=315).step_by(15) {
            assert_eq!(stabiliser.settle(at(secs), 8, 1), 8, "after {secs} s");
        }
        assert_eq!(stabiliser.settle(at(330), 8, 1), 1);
        let hasty = StabiliserConfig { down_window: Span::ZERO, ..StabiliserConfig::default() };
        assert_eq!(Stabiliser::of_kubernetes(hasty).settle(at(15), 8, 1), 1, "there is no window");
    }

    #[test]
    fn going_up_is_bounded() {
        let mut stabiliser = Stabiliser::new(StabiliserConfig::default());
        assert_eq!(stabiliser.settle(at(0), 2, 50), 6, "4 more than 2");
        assert_eq!(stabiliser.settle(at(15), 6, 50), 12, "twice 6");
        assert_eq!(stabiliser.settle(at(30), 12, 13), 13);
        assert!(
            stabiliser.tolerates(1.09) && stabiliser.tolerates(0.91) && !stabiliser.tolerates(1.2)
        );
    }

    /// Against a list of everything that was ever recommended.
    #[test]
    fn the_window_holds_the_highest() {
        use rand::RngExt;
        let mut rng = crate::kernel::rng::stream(3, 0);
        let config = StabiliserConfig { up_workers_max: u32::MAX, ..StabiliserConfig::default() };
        let mut stabiliser = Stabiliser::of_kubernetes(config);
        let (mut all, mut now, mut current) = (Vec::new(), 0, 10);
        for look in 0..2000 {
            now += rng.random_range(1..120);
            let wanted = rng.random_range(0..30);
            if look == 0 {
                all.push((now, current));
            }
            all.push((now, wanted));
            let recent = all.iter().filter(|&&(then, _)| now - then <= 300);
            let highest = recent.map(|&(_, wanted)| wanted).max().unwrap();
            let expected = if wanted > current { wanted } else { highest.min(current) };
            assert_eq!(stabiliser.settle(at(now), current, wanted), expected);
            current = expected;
        }
    }
}
