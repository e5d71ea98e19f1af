//! What every task of every phase costs, and what follows from that for other numbers of threads.
//!
//! The phases of a run and their tasks are the same for every thread count. So one run on one thread says how long each
//! task takes, and playing the schedule of P threads with these numbers says how long the run would take on P threads,
//! and what is lost on the way.

use std::time::Instant;

use crate::kernel::parallel::leader::{EVENTS_WORTH_SHARING, MEMORY, Shares};
use crate::kernel::parallel::star::HUB;

/// To claim a task, in ns: an atomic addition to a line that another thread may have (measured: 12 to 14).
const CLAIM_NS: f64 = 12.0;
/// To meet two threads, in ns, and what every doubling of their number adds. The first is measured, the second is an
/// assumption that fits a single socket.
const RENDEZVOUS_NS: f64 = 100.0;
const RENDEZVOUS_DOUBLING_NS: f64 = 100.0;

/// The costs of a run on one thread.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Account {
    /// How many groups of spokes there are.
    groups: u32,
    /// Whether the hub hears from them.
    hub_hears: bool,
    phases: Vec<Phase>,
    tasks: Vec<Task>,
    /// Errands, ns.
    errands: f64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Phase {
    /// The end of its tasks in the list of all.
    end: u32,
    events: u32,
    /// To prepare it, ns.
    plan: f32,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Task {
    task: u32,
    ns: f32,
}

/// How long a run would take on so many threads, and why not less. All in ns.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Prediction {
    /// How long the run takes.
    pub time: f64,
    /// Lost while all wait for the hub, or for what is read ahead.
    pub hub: f64,
    /// Lost while all wait for the slowest group of spokes.
    pub imbalance: f64,
    /// Lost on meeting, on claiming tasks, on preparing phases, and in phases too short to be shared.
    pub rendezvous: f64,
}

impl Account {
    pub(super) fn new(groups: u32, hub_hears: bool) -> Account {
        Account { groups, hub_hears, ..Account::default() }
    }

    pub(super) fn task(&mut self, task: u32, ns: f64) {
        self.tasks.push(Task { task, ns: ns as f32 });
    }

    pub(super) fn end_phase(&mut self, events: u64, plan: f64) {
        let end = self.tasks.len() as u32;
        self.phases.push(Phase { end, events: events as u32, plan: plan as f32 });
    }

    pub(super) fn errands(&mut self, ns: f64) {
        self.errands += ns;
    }

    /// Keeps the smaller cost of each task: what a repetition of the same run took more was somebody else's.
    ///
    /// # Panics
    /// If it is not the same run.
    pub fn keep_least(&mut self, other: &Account) {
        assert_eq!(self.phases.len(), other.phases.len(), "another run");
        assert_eq!(self.tasks.len(), other.tasks.len(), "another run");
        for (task, other) in self.tasks.iter_mut().zip(&other.tasks) {
            task.ns = task.ns.min(other.ns);
        }
        for (phase, other) in self.phases.iter_mut().zip(&other.phases) {
            phase.plan = phase.plan.min(other.plan);
        }
        self.errands = self.errands.min(other.errands);
    }

    /// How many phases there were.
    pub fn phases(&self) -> usize {
        self.phases.len()
    }

    /// All work, ns: tasks and errands.
    pub fn work(&self) -> f64 {
        self.tasks.iter().map(|task| f64::from(task.ns)).sum::<f64>() + self.errands
    }

    /// The part of it that the hub does, ns.
    pub fn hub(&self) -> f64 {
        let hub = self.tasks.iter().filter(|task| task.task == HUB);
        hub.map(|task| f64::from(task.ns)).sum()
    }

    /// The part of it that is reading ahead, ns.
    pub fn errand_work(&self) -> f64 {
        self.errands
    }

    /// The longest chain of tasks that have to wait for one another, ns: no number of threads is faster.
    pub fn span(&self) -> f64 {
        self.each_phase().map(|(_, tasks)| longest(tasks, |_| true)).sum()
    }

    fn each_phase(&self) -> impl Iterator<Item = (&Phase, &[Task])> {
        let mut start = 0;
        self.phases.iter().map(move |phase| {
            let tasks = &self.tasks[start..phase.end as usize];
            start = phase.end as usize;
            (phase, tasks)
        })
    }

    /// Plays the schedule of so many threads.
    pub fn predict(&self, threads: usize) -> Prediction {
        let mut prediction = Prediction::default();
        let mut idle = 0.0;
        let mut events_per_phase = None;
        let mut schedule =
            Schedule::new(Shares::new(threads, self.groups as usize, self.hub_hears), threads);
        let rendezvous = RENDEZVOUS_NS + RENDEZVOUS_DOUBLING_NS * ((threads as f64) / 2.0).log2();
        for (phase, tasks) in self.each_phase() {
            let work: f64 = tasks.iter().map(|task| f64::from(task.ns)).sum();
            let plan = f64::from(phase.plan);
            let is_shared = threads > 1
                && tasks.len() > 1
                && events_per_phase.is_none_or(|mean| mean >= EVENTS_WORTH_SHARING);
            let events = f64::from(phase.events);
            let mean = events_per_phase.get_or_insert(events);
            *mean += (events - *mean) / MEMORY;
            if !is_shared {
                prediction.time += work + plan;
                prediction.rendezvous += plan + work * (1.0 - 1.0 / threads as f64);
                idle += work * (threads - 1) as f64;
                continue;
            }
            let (span, hub) = (schedule.play(tasks), longest(tasks, |task| task.task == HUB));
            let claims = CLAIM_NS * tasks.len() as f64 / threads as f64;
            let even = work / threads as f64;
            prediction.time += span + claims + rendezvous + plan;
            prediction.hub += (hub.min(span) - even).max(0.0);
            prediction.imbalance += span - even.max(hub.min(span));
            prediction.rendezvous += claims + rendezvous + plan;
            idle += span * threads as f64 - work;
        }
        // Errands fill the gaps; what does not fit is shared by all.
        let left = (self.errands - idle).max(0.0);
        prediction.time += left / threads as f64;
        prediction
    }
}

/// Measures one thing after the other, if at all.
pub(super) struct Stopwatch(Option<Instant>);

impl Stopwatch {
    /// Starts, or stays at zero.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the accounting that the ban leaves room for"
    )]
    pub(super) fn start(runs: bool) -> Stopwatch {
        Stopwatch(runs.then(Instant::now))
    }

    /// The time since the last call, ns.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the accounting that the ban leaves room for"
    )]
    pub(super) fn lap(&mut self) -> f64 {
        let Some(last) = &mut self.0 else { return 0.0 };
        let now = Instant::now();
        let lap = now.duration_since(*last);
        *last = now;
        lap.as_secs_f64() * 1e9
    }
}

/// Threads that claim tasks as the real ones do.
struct Schedule {
    threads: usize,
    share_of: Shares,
    clocks: Vec<f64>,
    /// The tasks of each thread, the next one last.
    shares: Vec<Vec<Task>>,
}

impl Schedule {
    fn new(share_of: Shares, threads: usize) -> Schedule {
        let shares = vec![Vec::new(); threads];
        Schedule { threads, share_of, clocks: vec![0.0; threads], shares }
    }

    /// How long the tasks of a phase take.
    fn play(&mut self, tasks: &[Task]) -> f64 {
        let Schedule { threads, share_of, clocks, shares } = self;
        clocks.fill(0.0);
        let mut hub = None;
        for task in tasks.iter().rev() {
            if task.task == HUB {
                hub = Some(f64::from(task.ns));
            } else {
                shares[share_of.thread(task.task as usize - 1)].push(*task);
            }
        }
        for _ in tasks {
            let (thread, clock) = clocks
                .iter_mut()
                .enumerate()
                .min_by(|a, b| a.1.total_cmp(b.1))
                .expect("at least one thread");
            let own = if thread == 0 && hub.is_some() {
                None
            } else {
                (0..*threads).find_map(|offset| shares[(thread + offset) % *threads].pop())
            };
            if let Some(task) = own {
                *clock += f64::from(task.ns);
            } else if let Some(ns) = hub.take() {
                *clock += ns;
            }
        }
        clocks.iter().copied().fold(0.0, f64::max)
    }
}

/// The cost of the longest of some tasks.
fn longest(tasks: &[Task], which: impl Fn(&Task) -> bool) -> f64 {
    let costs = tasks.iter().filter(|task| which(task)).map(|task| task.ns);
    f64::from(costs.fold(0.0, f32::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of equal phases: so many groups with 1000 ns each, and the hub.
    fn account(groups: u32, hub: f64, phases: usize) -> Account {
        let mut account = Account::new(groups, true);
        for _ in 0..phases {
            (1..=groups).for_each(|task| account.task(task, 1000.0));
            account.task(HUB, hub);
            account.end_phase(u64::from(groups) + 1, 50.0);
        }
        account
    }

    fn speedup(account: &Account, threads: usize) -> f64 {
        account.work() / account.predict(threads).time
    }

    #[test]
    fn even_work_scales_up_to_the_number_of_groups() {
        let account = account(64, 1000.0, 100);
        assert!((0.99..1.0).contains(&speedup(&account, 1)), "{}", speedup(&account, 1));
        assert!((1.9..2.0).contains(&speedup(&account, 2)), "{}", speedup(&account, 2));
        assert!((10.0..16.0).contains(&speedup(&account, 16)), "{}", speedup(&account, 16));
        let lost = account.predict(16);
        assert!(lost.imbalance > lost.hub, "65 tasks on 16 threads: five for one of them");
        let sum = account.work() / 16.0 + lost.hub + lost.imbalance + lost.rendezvous;
        assert!((lost.time - sum).abs() < 1.0, "{lost:?}");
    }

    #[test]
    fn the_hub_is_the_limit() {
        let account = account(16, 16_000.0, 100);
        let prediction = account.predict(16);
        assert!((1.8..2.0).contains(&speedup(&account, 16)), "half of all work is the hub's");
        assert!(prediction.hub > 10.0 * (prediction.imbalance + prediction.rendezvous));
        assert!((account.hub() / account.work() - 0.5).abs() < 1e-6);
        assert!((account.span() - 1_600_000.0).abs() < 1.0);
    }

    #[test]
    fn errands_fill_gaps() {
        let mut account = account(16, 16_000.0, 100);
        let before = account.predict(4).time;
        account.errands(1_000_000.0);
        assert!((account.predict(4).time - before).abs() < 1.0, "threads wait for the hub anyway");
        account.errands(10_000_000.0);
        assert!(account.predict(4).time > before);
    }

    #[test]
    fn short_phases_are_not_shared() {
        let account = account(1, 1000.0, 1000);
        let time = account.predict(8).time;
        assert!((time - account.predict(1).time) / time < 0.01, "two events are not worth it");
    }

    #[test]
    fn repetitions_take_away_disturbances() {
        let mut account = account(4, 10.0, 10);
        let calm = account.clone();
        account.tasks[7].ns = 1e6;
        account.keep_least(&calm);
        assert_eq!(account, calm);
    }
}
