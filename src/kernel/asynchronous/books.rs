//! Who has sent and taken in how much: finds the moment at which nothing is on its way.
//!
//! A thread enters what it knows of a station when that has nothing to do. The reports of all stations were made at
//! different times. If every channel has taken in as much as was sent into it, they are nevertheless one consistent
//! picture: channels keep their order, so the messages that one end counts are those that the other end counts, none is on its way,
//! and none was taken in before it was sent. Whatever happens after the picture is caused by the events in it, so none of
//! it is earlier than the earliest of them. (Mattern's channel counting, with a lock in place of a wave.)

use crate::kernel::time::Time;

/// What one station knew at one moment. The partners of the hub are all groups, that of a group is the hub.
#[derive(Clone, Debug)]
pub(super) struct Report {
    /// Its next event, [`Time::NEVER`] if there is none.
    pub(super) next: Time,
    /// How many messages it has sent to each partner.
    pub(super) sent: Vec<u64>,
    /// How many it has taken in from each.
    pub(super) received: Vec<u64>,
}

/// The last report of every station, the hub first.
pub(super) struct Books(Vec<Option<Report>>);

impl Books {
    pub(super) fn new(stations: usize) -> Books {
        Books(vec![None; stations])
    }

    /// Enters a report. If all reports together are one picture of the run, says when its earliest event is.
    pub(super) fn enter(&mut self, station: usize, report: Report) -> Option<Time> {
        self.0[station] = Some(report);
        let (hub, groups) = self.0.split_first()?;
        let hub = hub.as_ref()?;
        let mut earliest = hub.next;
        for (index, group) in groups.iter().enumerate() {
            let group = group.as_ref()?;
            if hub.sent[index] != group.received[0] || group.sent[0] != hub.received[index] {
                return None;
            }
            earliest = earliest.min(group.next);
        }
        Some(earliest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(next: u64, sent: &[u64], received: &[u64]) -> Report {
        Report { next: Time::from_ns(next), sent: sent.to_vec(), received: received.to_vec() }
    }

    #[test]
    fn a_picture_needs_every_station_and_no_message_on_its_way() {
        let mut books = Books::new(3);
        assert_eq!(books.enter(0, report(9, &[2, 3], &[1, 0])), None);
        assert_eq!(books.enter(1, report(7, &[1], &[2])), None);
        assert_eq!(books.enter(2, report(8, &[0], &[2])), None, "one is on its way to it");
        assert_eq!(books.enter(2, report(5, &[1], &[3])), None, "one is on its way from it");
        assert_eq!(books.enter(0, report(6, &[2, 3], &[1, 1])), Some(Time::from_ns(5)));
        assert_eq!(books.enter(2, report(8, &[1], &[3])), Some(Time::from_ns(6)));
    }

    /// As many messages are counted as sent as are counted as taken in, but they are not the same ones.
    #[test]
    fn equal_sums_are_not_enough() {
        let mut books = Books::new(3);
        books.enter(0, report(9, &[1, 0], &[0, 0]));
        books.enter(1, report(7, &[0], &[0]));
        assert_eq!(books.enter(2, report(8, &[0], &[1])), None);
    }
}
