//! The calls of one connection that are suspended in handlers.

/// Call ids and their tasks. Ids arrive in increasing order, so the list is sorted by itself.
#[derive(Debug, Default)]
pub(super) struct LiveCalls(Vec<(u64, u32)>);

impl LiveCalls {
    /// Adds a call, whose id is above all before it.
    pub(super) fn insert(&mut self, call_id: u64, task: u32) {
        debug_assert!(
            self.0.last().is_none_or(|&(last, _)| last < call_id),
            "ids increase"
        );
        self.0.push((call_id, task));
    }

    /// The task of a call.
    pub(super) fn find(&self, call_id: u64) -> Option<u32> {
        self.position(call_id).map(|at| self.0[at].1)
    }

    /// Removes a call; nothing happens when it is not there.
    pub(super) fn remove(&mut self, call_id: u64) {
        if let Some(at) = self.position(call_id) {
            self.0.remove(at);
            // An idle connection keeps no table.
            if self.0.is_empty() && self.0.capacity() > KEPT_CAPACITY_MAX {
                self.0 = Vec::new();
            }
        }
    }

    /// Number of calls.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Removes all and returns their tasks.
    pub(super) fn take_tasks(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.0)
            .into_iter()
            .map(|(_, task)| task)
            .collect()
    }

    fn position(&self, call_id: u64) -> Option<usize> {
        self.0.binary_search_by_key(&call_id, |&(id, _)| id).ok()
    }
}

/// A table of up to this many calls (1 KiB) is kept for the next ones.
const KEPT_CAPACITY_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_until_removed() {
        let mut live = LiveCalls::default();
        live.insert(3, 30);
        live.insert(7, 70);
        assert_eq!(
            (live.find(3), live.find(7), live.find(5)),
            (Some(30), Some(70), None)
        );
        live.remove(3);
        live.remove(5);
        assert_eq!((live.find(3), live.len()), (None, 1));
        assert_eq!(live.take_tasks(), [70]);
    }
}
