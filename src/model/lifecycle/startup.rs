//! How long it takes until a new worker is ready.

use rand_distr::{Distribution, LogNormal};

use crate::kernel::rng::Stream;
use crate::kernel::time::Span;

/// How long a stage of a start-up takes, such as scheduling, image pull, weight loading, warm-up.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum StageTime {
    /// Always the same.
    Constant(Span),
    /// Log-normal.
    Lognormal {
        /// Half of the times are below this; above zero.
        median: Span,
        /// Standard deviation of the logarithm, finite, at least 0.
        sigma: f64,
    },
}

impl StageTime {
    /// # Panics
    /// When `sigma` is out of its range.
    fn sample(self, rng: &mut Stream) -> Span {
        match self {
            StageTime::Constant(span) => span,
            StageTime::Lognormal { median, sigma } => {
                let factor = LogNormal::new(0.0, sigma).expect("sigma is finite and not negative");
                Span::from_secs_f64(median.as_secs() * factor.sample(rng))
            }
        }
    }
}

/// A start-up: the sum of its stages, one after the other. Without stages it takes no time.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Startup {
    /// In order.
    pub stages: Vec<StageTime>,
}

/// No start-up takes longer: 26 days, so that it can be added to any time of a run.
const LONGEST: Span = Span::from_ns(1 << 51);

impl Startup {
    /// Always the same time.
    pub fn constant(span: Span) -> Startup {
        Startup { stages: vec![StageTime::Constant(span)] }
    }

    /// No start-up takes less time.
    pub fn shortest(&self) -> Span {
        let shortest = |stage: &StageTime| match stage {
            StageTime::Constant(span) => span.as_ns(),
            StageTime::Lognormal { .. } => 0,
        };
        Span::from_ns(self.stages.iter().map(shortest).fold(0, u64::saturating_add)).min(LONGEST)
    }

    /// One start-up. Draws from `rng` once per random stage, in order.
    pub fn sample(&self, rng: &mut Stream) -> Span {
        let total = self
            .stages
            .iter()
            .fold(0_u64, |total, stage| total.saturating_add(stage.sample(rng).as_ns()));
        Span::from_ns(total).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::rng::stream;

    #[test]
    fn stages_add_up() {
        let mut rng = stream(1, 0);
        let stages = [5, 60, 30].map(|secs| StageTime::Constant(Span::from_secs(secs)));
        let startup = Startup { stages: stages.to_vec() };
        assert_eq!(startup.sample(&mut rng), Span::from_secs(95));
        assert_eq!(startup.shortest(), Span::from_secs(95));
        assert_eq!(Startup::default().sample(&mut rng), Span::ZERO);
        assert_eq!(Startup::constant(Span::FOREVER).sample(&mut rng), LONGEST);
    }

    #[test]
    fn the_median_is_the_median() {
        let mut rng = stream(2, 0);
        let time = StageTime::Lognormal { median: Span::from_secs(60), sigma: 0.5 };
        let mut times: Vec<Span> = (0..20_001).map(|_| time.sample(&mut rng)).collect();
        times.sort_unstable();
        let at = |share: f64| times[(share * 20_000.0) as usize].as_secs();
        assert!((at(0.5) - 60.0).abs() < 1.0, "{}", at(0.5));
        // One standard deviation above: 60 x exp(0.5).
        assert!((at(0.8413) - 98.9).abs() < 2.5, "{}", at(0.8413));
        let exact = StageTime::Lognormal { median: Span::from_secs(60), sigma: 0.0 };
        assert_eq!(exact.sample(&mut rng), Span::from_secs(60));
        let stages = vec![StageTime::Constant(Span::from_secs(7)), time];
        assert_eq!(Startup { stages }.shortest(), Span::from_secs(7), "a pull may be short");
    }
}
