//! Which LPs are handling events at this moment, for whoever asks from another thread.

use std::sync::Arc;

use crossbeam::utils::CachePadded;

use crate::kernel::lp::LpId;
use crate::kernel::sync::{AtomicU32, AtomicU64, Ordering};
use crate::kernel::time::Time;

/// No LP has this number.
const NOBODY: u32 = u32::MAX;

/// The groups of LPs of a run; see [`Activity::busy`].
#[derive(Clone, Debug)]
pub struct Activity(Arc<[Place]>);

/// What one group is doing, of which the group keeps a handle.
#[derive(Clone, Debug)]
pub(crate) struct Place(Arc<CachePadded<Handling>>);

/// The LP and the time of its event, ns. Relaxed: it orders nothing, and only what does not change any more has to be
/// right.
#[derive(Debug)]
struct Handling {
    lp: AtomicU32,
    time: AtomicU64,
}

impl Activity {
    /// So many groups, none of which does anything.
    pub(crate) fn new(groups: usize) -> Activity {
        let idle = || Handling { lp: AtomicU32::new(NOBODY), time: AtomicU64::new(0) };
        Activity((0..groups).map(|_| Place(Arc::new(CachePadded::new(idle())))).collect())
    }

    /// The place of a group.
    pub(crate) fn place(&self, group: usize) -> Place {
        self.0[group].clone()
    }

    /// The LPs that are handling an event, and the virtual times of these. Of a run that moves, it is what was true of
    /// each group for a moment; of one that has stopped moving, it is who stopped it.
    pub fn busy(&self) -> Vec<(LpId, Time)> {
        let groups = self.0.iter().map(|Place(handling)| {
            let time = handling.time.load(Ordering::Relaxed);
            (handling.lp.load(Ordering::Relaxed), Time::from_ns(time))
        });
        groups.filter(|&(lp, _)| lp != NOBODY).map(|(lp, time)| (LpId::new(lp), time)).collect()
    }
}

impl Place {
    /// This LP handles an event now.
    pub(crate) fn enter(&self, lp: LpId, time: Time) {
        self.0.lp.store(lp.get(), Ordering::Relaxed);
        self.0.time.store(time.as_ns(), Ordering::Relaxed);
    }

    /// None does, for the time being.
    pub(crate) fn leave(&self) {
        self.0.lp.store(NOBODY, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::thread;

    use crossbeam::channel::{self, Receiver, Sender};

    use super::*;
    use crate::kernel::lp::{Class, Context, Lp};
    use crate::kernel::sequential::Observer;
    use crate::kernel::time::Span;
    use crate::kernel::{ParallelOptions, run_asynchronous, run_parallel, run_sequential};

    const STUCK: LpId = LpId::new(3);

    /// The hub sends to every spoke; one of them says that it is stuck, and waits for its release.
    struct Spoke {
        stuck: Sender<()>,
        release: Receiver<()>,
    }

    impl Lp for Spoke {
        type Message = ();
        type Recorder = ();

        fn lookahead(&self) -> Span {
            Span::from_ms(1)
        }

        fn start(&mut self, context: &mut Context<'_, (), ()>) {
            if context.id() == LpId::new(0) {
                for spoke in 1..=5 {
                    context.send(
                        LpId::new(spoke),
                        context.now() + Span::from_ms(9),
                        Class::new(0),
                        (),
                    );
                }
            }
        }

        fn receive(&mut self, (): (), context: &mut Context<'_, (), ()>) {
            if context.id() == STUCK {
                self.stuck.send(()).unwrap();
                self.release.recv().unwrap();
            }
        }

        fn wake(&mut self, _: &mut Context<'_, (), ()>) {}
    }

    /// Hands the view into the run to the test.
    struct Handover(Sender<Activity>);

    impl Observer<()> for Handover {
        fn poll(&self, _: Time, (): &mut ()) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }

        fn watch(&self, activity: &Activity) {
            self.0.send(activity.clone()).unwrap();
        }
    }

    /// On so many threads; 0 stands for the sequential executor.
    fn who_is_stuck(threads: usize, asynchronous: bool) {
        let (stuck, is_stuck) = channel::bounded(1);
        let (released, release) = channel::bounded(1);
        let (handed, handover) = channel::bounded(1);
        let run = move || {
            let spoke = || Spoke { stuck: stuck.clone(), release: release.clone() };
            let mut lps: Vec<Spoke> = (0..6).map(|_| spoke()).collect();
            let mut recorders = vec![(); threads];
            let options = ParallelOptions { spokes_per_group: 2, ..ParallelOptions::default() };
            let observer = Handover(handed);
            let finished = match (threads, asynchronous) {
                (0, _) => run_sequential(&mut lps, &mut (), &observer),
                (_, false) => run_parallel(&mut lps, &mut recorders, &observer, options),
                (_, true) => run_asynchronous(&mut lps, &mut recorders, &observer, options),
            };
            finished.unwrap().events
        };
        // With `move`, whoever waits for a release is released when the test fails.
        thread::scope(move |scope| {
            let runner = scope.spawn(run);
            let activity: Activity = handover.recv().unwrap();
            is_stuck.recv().unwrap();
            let expected = [(STUCK, Time::ZERO + Span::from_ms(9))];
            // The others may need a moment to finish.
            while activity.busy() != expected {
                assert!(activity.busy().contains(&expected[0]));
                thread::yield_now();
            }
            released.send(()).unwrap();
            assert_eq!(runner.join().unwrap(), 5);
            assert_eq!(activity.busy(), []);
        });
    }

    #[test]
    fn who_is_stuck_is_seen_from_outside() {
        who_is_stuck(0, false);
        for threads in [1, 2, 3] {
            who_is_stuck(threads, false);
            who_is_stuck(threads, true);
        }
    }
}
