//! How many connections a client keeps to one server, and which of them a call goes to.

use fastrand::Rng;

use super::backoff::Backoff;
use crate::connection::link::nanos;
use crate::wire::handshake::ShardIndex;

/// A server serves each connection on one of its shards, so one connection is one CPU of it. A client
/// whose calls ask for more keeps several, each to another shard.
///
/// *Inputs*: [`Spread::opened`], [`Spread::closed`], [`Spread::failed`], [`Spread::served`].
/// *Outputs*: [`Spread::wants_another`], [`Spread::open`]; [`fewest`] chooses among them. Times are those
/// of any monotonic clock, in nanoseconds.
///
/// What the server tells is never more than a hint: it makes the client ask for no more connections than
/// `connections_max`, one after the other, and only while there is load for them.
#[derive(Debug)]
pub(crate) struct Spread {
    connections_max: usize,
    /// Shards of the server, as it has told last.
    shards: usize,
    /// The shards that connections have come to which take calls: one connection for each.
    reached: Vec<u16>,
    /// Connections in a row that have come to one of those.
    misses: usize,
    backoff: Backoff,
    /// No further connection is made before this.
    retry_ns: u64,
}

/// Connections that a client keeps, unless the program says otherwise: more than most servers have shards,
/// and few beside the descriptors that a process may have.
pub(crate) const CONNECTIONS_MAX: usize = 32;

/// When as many calls are in flight on each connection, another is made. As long as they are fewer, a call
/// waits behind a handful of others at most; and eight share what it costs to write, read and wake.
pub(crate) const CALLS_PER_CONNECTION: usize = 8;

/// The kernel of the server chooses the shard, as good as by lot: it is asked for a new one so many times as
/// often as is needed on average, which fails one time in fifty. Then there is a pause.
const TRIES_PER_EXPECTED: usize = 4;

impl Spread {
    /// Before the first connection. How long to wait after failures is drawn from `random`.
    pub(crate) fn new(connections_max: usize, random: Rng) -> Self {
        Self {
            connections_max,
            shards: 1,
            reached: Vec::new(),
            misses: 0,
            backoff: Backoff::new(random),
            retry_ns: 0,
        }
    }

    /// Connections that take calls.
    #[inline]
    pub(crate) fn open(&self) -> usize {
        self.reached.len()
    }

    /// A connection was made and has come to this place; without one, the server does not tell. Says
    /// whether it is kept: one that reaches nothing new is not.
    pub(crate) fn opened(&mut self, shard_index: Option<ShardIndex>, now_ns: u64) -> bool {
        let ShardIndex { shard, shards } = shard_index.unwrap_or(ShardIndex::ALONE);
        self.shards = usize::from(shards);
        if self.reached.is_empty() || (self.has_place() && !self.reached.contains(&shard)) {
            self.reached.push(shard);
            self.misses = 0;
            return true;
        }
        self.misses += 1;
        if self.misses >= self.misses_max() {
            self.misses = 0;
            self.failed(now_ns);
        }
        false
    }

    /// The connection to this place takes no more calls. If `invites_back`, nobody has made a mistake.
    pub(crate) fn closed(
        &mut self,
        shard_index: Option<ShardIndex>,
        invites_back: bool,
        now_ns: u64,
    ) {
        let shard = shard_index.unwrap_or(ShardIndex::ALONE).shard;
        self.reached.retain(|reached| *reached != shard);
        // Those of a server that restarts end all at once, which is one reason to pause and not many.
        if self.retry_ns <= now_ns {
            let pause = self.backoff.after_end(invites_back);
            self.retry_ns = now_ns + nanos(pause);
        }
    }

    /// A further connection could not be made.
    pub(crate) fn failed(&mut self, now_ns: u64) {
        self.retry_ns = now_ns + nanos(self.backoff.next());
    }

    /// A call was answered on a connection for the first time.
    pub(crate) fn served(&mut self) {
        self.backoff.reset();
    }

    /// Whether there may be more connections than there are.
    #[inline]
    pub(crate) fn has_place(&self) -> bool {
        self.open() < self.shards.min(self.connections_max)
    }

    /// Whether another may be made now, beside those that there are.
    pub(crate) fn wants_another(&self, now_ns: u64) -> bool {
        self.retry_ns().is_some_and(|retry_ns| retry_ns <= now_ns)
    }

    /// When another may be made, beside those that there are; `None`: there is no place for one.
    pub(crate) fn retry_ns(&self) -> Option<u64> {
        (self.open() > 0 && self.has_place()).then_some(self.retry_ns)
    }

    fn misses_max(&self) -> usize {
        let left = self.shards.saturating_sub(self.open()).max(1);
        TRIES_PER_EXPECTED * self.shards.div_ceil(left)
    }
}

/// The place of the connection that the next call goes to, out of the calls in flight on each and how many
/// more it has room for: the one with the fewest calls among those that have room, the first of equals.
pub(crate) fn fewest(connections: impl Iterator<Item = (usize, usize)>) -> Option<usize> {
    let with_room = connections.enumerate().filter(|(_, (_, room))| *room > 0);
    with_room
        .min_by_key(|(_, (calls, _))| *calls)
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn shard_index(shard: u16, shards: u16) -> Option<ShardIndex> {
        Some(ShardIndex { shard, shards })
    }

    /// Of a server with so many shards, the first of which is reached.
    fn begun(shards: u16, connections_max: usize) -> Spread {
        let mut spread = Spread::new(connections_max, Rng::with_seed(1));
        assert!(!spread.wants_another(0), "the first is not a further one");
        assert!(spread.opened(shard_index(0, shards), 0));
        spread
    }

    #[test]
    fn each_shard_is_reached_once() {
        let mut spread = begun(3, 8);
        for (shard, is_kept) in [(0, false), (2, true), (0, false), (2, false), (1, true)] {
            assert!(spread.wants_another(0), "before {shard}");
            assert_eq!(spread.opened(shard_index(shard, 3), 0), is_kept, "{shard}");
        }
        assert_eq!((spread.open(), spread.wants_another(SECOND_NS)), (3, false));
        spread.closed(shard_index(2, 3), true, 0);
        assert!(spread.wants_another(SECOND_NS));
        assert!(spread.opened(shard_index(2, 3), 0));
    }

    #[test]
    fn no_more_are_made_than_the_client_wants_whatever_a_server_tells() {
        for connections_max in [1, 2, 5] {
            let mut spread = begun(u16::MAX, connections_max);
            let mut shard = 0;
            while spread.wants_another(0) {
                shard += 1;
                assert!(spread.opened(shard_index(shard, u16::MAX), 0));
            }
            assert_eq!(spread.open(), connections_max);
            assert!(!spread.opened(shard_index(shard + 1, u16::MAX), 0));
        }
        for alone in [None, shard_index(0, 1)] {
            let mut spread = Spread::new(8, Rng::with_seed(1));
            assert!(spread.opened(alone, 0));
            assert!(!spread.wants_another(SECOND_NS));
        }
    }

    #[test]
    fn it_pauses_when_the_shard_that_is_left_is_not_found() {
        for (shards, reached) in [(2, 1), (4, 3), (4, 1), (u16::MAX, 1)] {
            let mut spread = begun(shards, usize::from(u16::MAX));
            for shard in 1..reached {
                assert!(spread.opened(shard_index(shard, shards), 0));
            }
            let misses = (1_u32..)
                .take_while(|_| {
                    assert!(!spread.opened(shard_index(0, shards), 0));
                    spread.wants_another(0)
                })
                .count();
            let expected = usize::from(shards.div_ceil(shards - reached));
            assert_eq!(misses + 1, TRIES_PER_EXPECTED * expected, "{shards}");
            assert!(spread.wants_another(SECOND_NS));
        }
    }

    #[test]
    fn the_end_of_all_connections_is_one_reason_to_pause() {
        let mut spread = begun(16, 16);
        for shard in 1..16 {
            assert!(spread.opened(shard_index(shard, 16), 0));
        }
        for shard in 0..15 {
            spread.closed(shard_index(shard, 16), true, 0);
        }
        assert_eq!((spread.open(), spread.wants_another(0)), (1, false));
        assert!(spread.wants_another(SECOND_NS / 20), "the shortest pause");
    }

    #[test]
    fn failures_keep_a_growing_distance_until_a_call_is_answered() {
        let mut spread = begun(2, 2);
        (0..10).for_each(|_| spread.failed(0));
        assert!(!spread.wants_another(2 * SECOND_NS) && spread.wants_another(5 * SECOND_NS));
        spread.served();
        spread.failed(9 * SECOND_NS);
        assert!(spread.wants_another(9 * SECOND_NS + SECOND_NS / 20));
    }

    #[test]
    fn a_server_that_comes_back_smaller_gets_fewer() {
        let mut spread = begun(4, 8);
        assert!(spread.opened(shard_index(1, 4), 0));
        spread.closed(shard_index(1, 4), true, 0);
        spread.closed(shard_index(0, 4), true, 0);
        assert!(!spread.wants_another(SECOND_NS), "the next is the first");
        assert!(spread.opened(shard_index(0, 1), 0));
        assert!(!spread.wants_another(SECOND_NS));
    }

    #[test]
    fn a_call_goes_where_the_fewest_are_and_there_is_room() {
        let of = |connections: &[(usize, usize)]| fewest(connections.iter().copied());
        assert_eq!(of(&[(3, 1), (2, 1), (2, 9)]), Some(1));
        assert_eq!(of(&[(3, 1), (0, 0), (7, 9)]), Some(0));
        assert_eq!(of(&[(0, 0), (0, 0)]), None);
        assert_eq!(of(&[]), None);
    }
}
