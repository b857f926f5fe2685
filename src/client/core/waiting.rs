//! The calls that can't be sent yet: there is no connection, or no room on it.

use std::collections::VecDeque;
use std::task::Waker;

/// First come, first served. A call that must wait takes a ticket; when there is room, as many as
/// can go are called, in the order of their tickets. A waiting call holds nothing but its own
/// future and its entry here.
#[derive(Debug, Default)]
pub(crate) struct WaitQueue {
    /// In the order of their tickets.
    entries: VecDeque<Entry>,
    tickets: u64,
    /// Entries that were called and have neither left nor waited again.
    called: usize,
}

#[derive(Debug)]
struct Entry {
    ticket: u64,
    waker: Waker,
    is_called: bool,
}

impl WaitQueue {
    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a call may go now: when it was called, or came when nobody waits.
    pub(crate) fn may_go(&self, ticket: Option<u64>) -> bool {
        match ticket.and_then(|ticket| self.find(ticket)) {
            Some(at) => self.entries[at].is_called,
            None => self.entries.is_empty(),
        }
    }

    /// Waits, for the first time or again. Who was to be woken before goes to `replaced`, to be dropped when
    /// nothing is locked: it is code of the program's, which may panic or come here again.
    pub(crate) fn wait(
        &mut self,
        ticket: Option<u64>,
        waker: &Waker,
        replaced: &mut Option<Waker>,
    ) -> u64 {
        if let Some(at) = ticket.and_then(|ticket| self.find(ticket)) {
            let entry = &mut self.entries[at];
            *replaced = replace_waker(&mut entry.waker, waker);
            self.called -= usize::from(std::mem::take(&mut entry.is_called));
            return entry.ticket;
        }
        self.tickets += 1;
        self.entries.push_back(Entry {
            ticket: self.tickets,
            waker: waker.clone(),
            is_called: false,
        });
        self.tickets
    }

    /// Gives a ticket back. Returns who would have been woken, to be dropped when nothing is locked.
    #[must_use = "its drop may panic or come here again"]
    pub(crate) fn leave(&mut self, ticket: u64) -> Option<Waker> {
        let at = self.find(ticket)?;
        let entry = self.entries.remove(at)?;
        self.called -= usize::from(entry.is_called);
        Some(entry.waker)
    }

    /// Calls as many as there is room for, those included that were called and have not come yet.
    pub(crate) fn call(&mut self, room: usize, mut wake: impl FnMut(Waker)) {
        let mut at = 0;
        while self.called < room.min(self.entries.len()) {
            let entry = &mut self.entries[at];
            if !entry.is_called {
                entry.is_called = true;
                self.called += 1;
                wake(entry.waker.clone());
            }
            at += 1;
        }
    }

    /// Calls all, because something has changed that each must see.
    pub(crate) fn call_all(&mut self, wake: impl FnMut(Waker)) {
        self.call(usize::MAX, wake);
    }

    fn find(&self, ticket: u64) -> Option<usize> {
        self.entries
            .binary_search_by_key(&ticket, |entry| entry.ticket)
            .ok()
    }
}

/// Remembers another waker, and returns the one before, unless both wake the same.
#[inline]
pub(super) fn replace_waker(known: &mut Waker, waker: &Waker) -> Option<Waker> {
    if known.will_wake(waker) {
        return None;
    }
    Some(std::mem::replace(known, waker.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(queue: &mut WaitQueue, room: usize) -> usize {
        let mut count = 0;
        queue.call(room, |_| count += 1);
        count
    }

    fn wait(queue: &mut WaitQueue, ticket: Option<u64>) -> u64 {
        queue.wait(ticket, Waker::noop(), &mut None)
    }

    #[test]
    fn those_who_wait_go_in_order_and_before_newcomers() {
        let mut queue = WaitQueue::default();
        assert!(queue.may_go(None), "nobody waits");
        let tickets: Vec<u64> = (0..3).map(|_| wait(&mut queue, None)).collect();
        assert!(!queue.may_go(None) && !queue.may_go(Some(tickets[0])));
        assert_eq!(called(&mut queue, 2), 2);
        assert_eq!(called(&mut queue, 2), 0, "they were called already");
        assert_eq!(
            tickets
                .iter()
                .map(|&t| queue.may_go(Some(t)))
                .collect::<Vec<_>>(),
            [true, true, false]
        );
        assert!(queue.leave(tickets[1]).is_some());
        assert_eq!(called(&mut queue, 1), 0, "the first still has its turn");
        assert_eq!(called(&mut queue, 2), 1);
        assert!(queue.may_go(Some(tickets[2])));
    }

    #[test]
    fn one_that_found_no_room_keeps_its_place() {
        let mut queue = WaitQueue::default();
        let first = wait(&mut queue, None);
        let second = wait(&mut queue, None);
        assert_eq!(called(&mut queue, 1), 1);
        assert_eq!(wait(&mut queue, Some(first)), first);
        assert!(!queue.may_go(Some(first)));
        assert_eq!(called(&mut queue, 1), 1);
        assert!(queue.may_go(Some(first)) && !queue.may_go(Some(second)));
        assert!(queue.leave(first).is_some());
        assert!(queue.leave(second).is_some());
        assert!(queue.is_empty() && queue.may_go(None));
    }

    #[test]
    fn wakers_that_are_no_longer_needed_are_given_back() {
        struct Other;
        impl std::task::Wake for Other {
            fn wake(self: std::sync::Arc<Self>) {}
        }
        let other = Waker::from(std::sync::Arc::new(Other));
        let (mut queue, mut replaced) = (WaitQueue::default(), None);
        let ticket = wait(&mut queue, None);
        queue.wait(Some(ticket), &other, &mut replaced);
        assert!(replaced.is_some_and(|waker| !waker.will_wake(&other)));
        assert!(
            queue
                .leave(ticket)
                .is_some_and(|waker| waker.will_wake(&other))
        );
        assert!(queue.leave(ticket).is_none());
    }
}
