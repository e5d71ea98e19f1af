//! Classes of requests: tenants that share a fleet.

use crate::kernel::rng::mix64;
use crate::kernel::time::Span;
use crate::model::metrics::Slo;
use crate::model::request::Request;

/// The number of a class, by its place in the list of all; 0 where there are no classes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ClassId(pub u16);

impl ClassId {
    /// Its place in a list of all classes.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A class.
#[derive(Clone, PartialEq, Debug)]
pub struct ClassSpec {
    /// What reports call it.
    pub name: String,
    /// Its share of the requests, 0 or more, relative to the sum of all.
    pub share: f64,
    /// What its requests have in strict priority on top of their own.
    pub priority: i32,
    /// The most of its requests that wait in the router's queue, in place of what holds for all classes together.
    pub queue_limit: Option<u64>,
    /// The longest that its requests wait there, in place of what holds for all.
    pub max_wait: Option<Span>,
    /// What counts as good service.
    pub slo: Slo,
}

/// Which request belongs to which class: drawn, but not from a stream, so that it does not depend on any order.
#[derive(Clone, Debug)]
pub struct Lots {
    seed: u64,
    /// A hash up to this bound belongs to the class; rising.
    bounds: Vec<u64>,
    priorities: Vec<i32>,
}

impl Lots {
    /// For these classes, whose shares have a sum above 0.
    pub fn new(classes: &[ClassSpec], seed: u64) -> Lots {
        let total: f64 = classes.iter().map(|class| class.share).sum();
        let mut sum = 0.0;
        let bound = |class: &ClassSpec| {
            sum += class.share;
            // At the end of the list this is 1 up to rounding, and 2^64 becomes the largest number.
            (sum / total * 2_f64.powi(64)) as u64
        };
        Lots {
            seed: mix64(seed ^ 0x00c1_a55e_5000_0000),
            bounds: classes.iter().map(bound).collect(),
            priorities: classes.iter().map(|class| class.priority).collect(),
        }
    }

    /// Puts a request that arrives into its class. A request without a session goes by its number.
    pub fn assign(&self, request: &mut Request, number: u64) {
        let (class, priority) = self.draw(request.session, number);
        request.class = class;
        request.strict_priority = request.strict_priority.saturating_add(priority);
    }

    /// The class of a request, and its strict priority. All requests of a session are of one class; a request that belongs
    /// to none goes by its number.
    fn draw(&self, session: Option<u64>, number: u64) -> (ClassId, i32) {
        let key = session.map_or(mix64(number), |session| mix64(!session));
        let hash = mix64(self.seed ^ key);
        let class = self.bounds.partition_point(|&bound| bound <= hash);
        // The last hashes of all may lie beyond a sum that was rounded down.
        let last = self.bounds.len().saturating_sub(1);
        let class = class.min(self.bounds.partition_point(|&bound| bound < self.bounds[last]));
        (ClassId(class as u16), self.priorities[class])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(shares: &[f64]) -> Vec<ClassSpec> {
        let class = |&share| ClassSpec {
            name: String::new(),
            share,
            priority: 0,
            queue_limit: None,
            max_wait: None,
            slo: Slo::default(),
        };
        shares.iter().map(class).collect()
    }

    /// Shares are kept, for requests on their own and for sessions, and a share of 0 is nobody's.
    #[test]
    fn shares_are_kept() {
        let lots = Lots::new(&classes(&[0.0, 1.0, 0.0, 3.0, 0.0]), 7);
        for draw in [
            (|lots: &Lots, n| lots.draw(None, n)) as fn(&Lots, u64) -> (ClassId, i32),
            |lots, n| lots.draw(Some(n), 0),
        ] {
            let mut counts = [0; 5];
            for number in 0..40_000 {
                counts[draw(&lots, number).0.index()] += 1;
            }
            assert_eq!((counts[0], counts[2], counts[4]), (0, 0, 0));
            // Five standard errors are 433.
            assert!((10_000_i32 - counts[1]).abs() < 433, "{counts:?}");
        }
    }

    #[test]
    fn a_draw_depends_on_the_seed_and_the_number_alone() {
        let draws = |seed| {
            let lots = Lots::new(&classes(&[1.0, 1.0]), seed);
            (0..1000).map(|number| lots.draw(None, number)).collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        let lots = Lots::new(&classes(&[1.0, 1.0]), 1);
        assert!((0..100).all(|number| lots.draw(Some(5), number) == lots.draw(Some(5), 0)));
    }
}
