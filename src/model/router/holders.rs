//! Who holds one run of blocks, and how often.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::model::router::set::WorkerSet;

/// Workers, and how often each holds them: a line of the processor's cache, as long as they are seven.
pub(super) type List = SmallVec<[(u32, u32); 7]>;

/// Up to this many workers a set is a sorted list, and can be walked.
const FEW: usize = 16;

/// How often each worker holds the blocks of a node. Most nodes have one holder or none, so that the others are kept
/// elsewhere.
#[derive(Clone, Debug)]
pub(super) enum Holders {
    None,
    /// Who, how often, and how far: one past the last block held. All others hold the whole node.
    One(u32, u32, u32),
    Few(Box<List>),
    Many(Box<Many>),
}

/// Everybody who holds them, and how often beyond once. Stays a set when few are left: common beginnings come and go.
#[derive(Clone, Debug)]
pub(super) struct Many {
    /// Shared with whoever was told of them, until something changes.
    pub(super) set: Arc<WorkerSet>,
    more: FxHashMap<u32, u32>,
}

impl Holders {
    /// A worker holds all of the node, which ends at `end` and of which nobody holds a part. Says whether it is new.
    pub(super) fn add(&mut self, worker: u32, end: u32) -> bool {
        debug_assert!(self.reach().is_none_or(|reach| reach == end), "somebody holds a part");
        match self {
            Holders::None => {
                *self = Holders::One(worker, 1, end);
                return true;
            }
            Holders::One(holder, count, _) if *holder == worker => *count += 1,
            Holders::One(holder, count, _) => {
                let mut list = List::from_slice(&[(*holder, *count), (worker, 1)]);
                list.sort_unstable();
                *self = Holders::Few(Box::new(list));
                return true;
            }
            Holders::Few(list) => match list.binary_search_by_key(&worker, |&(holder, _)| holder) {
                Ok(at) => list[at].1 += 1,
                Err(at) => {
                    list.insert(at, (worker, 1));
                    if list.len() > FEW {
                        let set = Arc::new(list.iter().map(|&(holder, _)| holder).collect());
                        let often = list.iter().filter(|&&(_, count)| count > 1);
                        let more = often.map(|&(holder, count)| (holder, count - 1)).collect();
                        *self = Holders::Many(Box::new(Many { set, more }));
                    }
                    return true;
                }
            },
            Holders::Many(many) => {
                if !many.set.contains(worker) {
                    return Arc::make_mut(&mut many.set).insert(worker);
                }
                *many.more.entry(worker).or_insert(0) += 1;
            }
        }
        false
    }

    /// A worker holds it once less. Says whether it is gone.
    pub(super) fn remove(&mut self, worker: u32, end: u32) -> bool {
        match self {
            Holders::One(holder, count, _) if *holder == worker => {
                *count -= 1;
                if *count > 0 {
                    return false;
                }
                *self = Holders::None;
            }
            Holders::None | Holders::One(..) => return false,
            Holders::Few(list) => {
                let Ok(at) = list.binary_search_by_key(&worker, |&(holder, _)| holder) else {
                    return false;
                };
                list[at].1 -= 1;
                if list[at].1 > 0 {
                    return false;
                }
                list.remove(at);
                if let [(holder, count)] = list[..] {
                    *self = Holders::One(holder, count, end);
                }
            }
            Holders::Many(many) => {
                let Some(count) = many.more.get_mut(&worker) else {
                    let was_there =
                        many.set.contains(worker) && Arc::make_mut(&mut many.set).remove(worker);
                    if many.set.is_empty() {
                        *self = Holders::None;
                    }
                    return was_there;
                };
                *count -= 1;
                if *count == 0 {
                    many.more.remove(&worker);
                }
                return false;
            }
        }
        true
    }

    /// How far it is held, if by one worker.
    pub(super) fn reach(&self) -> Option<u32> {
        if let Holders::One(_, _, reach) = self { Some(*reach) } else { None }
    }

    /// What is left of it in front of a cut at `at`, after which it holds what is behind.
    pub(super) fn split(&mut self, at: u32) -> Holders {
        match self {
            Holders::One(worker, count, reach) if *reach > at => Holders::One(*worker, *count, at),
            Holders::One(..) => std::mem::replace(self, Holders::None),
            all => all.clone(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Holders::None)
    }
}
