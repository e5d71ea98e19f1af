//! What is known of one prompt: who holds how many of its leading blocks.

use std::sync::Arc;

use crate::model::router::index::Book;
use crate::model::router::set::WorkerSet;

/// Who holds how many leading blocks of a prompt, by book.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Overlaps([Overlap; 2]);

/// The same by one book.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Overlap {
    /// How many leading blocks anybody holds.
    pub(super) longest: u32,
    /// Workers that hold parts that few hold, with the number of blocks: those with most first. They may come again with
    /// less.
    pub(super) few: Vec<(u32, u32)>,
    /// Everybody who holds parts that many hold: the longest part first.
    pub(super) crowds: Vec<Crowd>,
}

/// Everybody who holds a part of a prompt that many hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Crowd {
    /// How many leading blocks they hold.
    pub(super) end: u32,
    pub(super) members: Arc<WorkerSet>,
}

impl Overlaps {
    pub(super) fn of(&self, book: Book) -> &Overlap {
        &self.0[book as usize]
    }

    pub(super) fn of_mut(&mut self, book: Book) -> &mut Overlap {
        &mut self.0[book as usize]
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        for Overlap { longest, few, crowds } in &mut self.0 {
            *longest = 0;
            few.clear();
            crowds.clear();
        }
    }
}

impl Overlap {
    /// How many leading blocks a worker holds.
    pub(super) fn on(&self, worker: u32) -> u32 {
        let few = self.few.iter().find(|few| few.0 == worker).map_or(0, |few| few.1);
        let crowd = self.crowds.iter().find(|crowd| crowd.members.contains(worker));
        few.max(crowd.map_or(0, |crowd| crowd.end))
    }

    /// Adds the next shorter part that many hold. Whoever holds a part holds all shorter ones, so that crowds of one size
    /// are the same.
    pub(super) fn add_crowd(&mut self, end: u32, members: &Arc<WorkerSet>) {
        if self.crowds.last().is_none_or(|last| members.len() > last.members.len()) {
            self.crowds.push(Crowd { end, members: Arc::clone(members) });
        }
    }
}
