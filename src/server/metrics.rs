//! What a server has counted.

use std::fmt::Write;

use crate::connection::flow::Pause;
use crate::shard::context::Shard;
use crate::shard::counters::{Counter, Counters};
use crate::wire::violation::{REASONS, Violation};

/// Counters of a server at one moment, summed over its shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Connections accepted so far.
    pub accepted: u64,
    /// Connections open now, those of local clients included.
    pub connections: u64,
    /// Requests given to a handler.
    pub requests: u64,
    /// Requests refused as INVALID_ARGUMENT before any handler: no valid archive,
    /// or longer than the type permits.
    pub invalid: u64,
    /// Calls refused as UNIMPLEMENTED.
    pub unimplemented: u64,
    /// Calls refused, not executed, while shutting down.
    pub refused_draining: u64,
    /// Calls refused, not executed, by the server's hook.
    pub refused_by_hook: u64,
    /// Panics of handlers, of what they leave behind (replies, spawned futures, wakers, services), and of the
    /// server's hook.
    pub panics: u64,
    /// Handlers dropped because their caller gave up or its connection ended.
    pub cancelled: u64,
    /// Calls whose deadline passed: their handlers were dropped, or not started.
    pub expired: u64,
    /// Responses refused as longer than the peer accepts.
    pub too_long: u64,
    /// Responses refused because they nest deeper than a receiver follows.
    pub too_deep: u64,
    /// Received messages read in place.
    pub in_place: u64,
    /// Received messages that were copied to be aligned, whole, or out of scarce buffers.
    pub copied: u64,
    /// Received messages that were large and received into a buffer of their own.
    pub direct: u64,
    /// Calls suspended in handlers now.
    pub in_flight: u64,
    /// Answers refused, after their calls were executed, because too much output waited to be read; and calls
    /// refused, not executed, because too many of their connection waited for too long, or no memory came for
    /// their requests.
    pub refused_memory: u64,
    /// Bytes that peers make the shards hold now: see
    /// [`ServerBuilder::memory_per_shard`](crate::ServerBuilder::memory_per_shard).
    pub held_bytes: u64,
    /// Connections of which nothing is acted on now, by reason: `calls` (as many of them wait as may),
    /// `memory` (there is none for its body, call or answer), `output` (too much waits for its peer).
    pub paused: Vec<(&'static str, u64)>,
    /// How often that has begun, by reason.
    pub pauses: Vec<(&'static str, u64)>,
    /// Accepts that failed.
    pub accept_errors: u64,
    /// Times that receiving waited because all receive buffers were in use.
    pub buffers_exhausted: u64,
    /// Times that a handler held its CPU for longer than permitted.
    pub stalls: u64,
    /// Connections ended for what their peer did, by reason.
    pub rejected: Vec<(&'static str, u64)>,
}

impl Metrics {
    pub(super) fn sum<'a>(shards: impl Iterator<Item = &'a Counters>) -> Self {
        let mut sum = Self::default();
        let mut rejected = [0; REASONS];
        let mut paused = Pause::COUNTED.map(|(_, name)| (name, 0));
        let mut pauses = paused;
        for shard in shards {
            for (_, field, counter) in sum.fields_with(shard) {
                *field += counter.get();
            }
            for (total, counter) in rejected.iter_mut().zip(&shard.rejected) {
                *total += counter.get();
            }
            for (at, (now, all)) in paused.iter_mut().zip(&mut pauses).enumerate() {
                now.1 += shard.paused[at].get();
                all.1 += shard.pauses[at].get();
            }
        }
        (sum.paused, sum.pauses) = (paused.to_vec(), pauses.to_vec());
        sum.rejected = rejected
            .iter()
            .enumerate()
            .skip(1)
            .map(|(reason, &count)| (Violation::reason_name(reason as u16), count))
            .collect();
        sum
    }

    /// Share of the received messages that were read in place or straight into place, from 0 to 1;
    /// `None` before the first.
    pub fn in_place_ratio(&self) -> Option<f64> {
        let all = self.in_place + self.copied + self.direct;
        (all > 0).then(|| (self.in_place + self.direct) as f64 / all as f64)
    }

    /// All counters in the text format of Prometheus.
    pub fn to_prometheus(&self) -> String {
        let mut text = String::new();
        let mut copy = self.clone();
        let unused = Counters::default();
        let mut write = |line: std::fmt::Arguments<'_>| {
            text.write_fmt(line)
                .expect("a String takes all that is written");
        };
        for (name, value, _) in copy.fields_with(&unused) {
            let (kind, suffix) = match name {
                "connections" | "in_flight" | "held_bytes" => ("gauge", ""),
                _ => ("counter", "_total"),
            };
            write(format_args!(
                "# TYPE ringcall_{name}{suffix} {kind}\nringcall_{name}{suffix} {value}\n"
            ));
        }
        for (name, kind, by_reason) in [
            ("paused", "gauge", &self.paused),
            ("pauses_total", "counter", &self.pauses),
            ("rejected_total", "counter", &self.rejected),
        ] {
            write(format_args!("# TYPE ringcall_{name} {kind}\n"));
            for (reason, count) in by_reason {
                write(format_args!(
                    "ringcall_{name}{{reason=\"{reason}\"}} {count}\n"
                ));
            }
        }
        text
    }

    /// Every plain counter: its name, its place here, and its place in a shard.
    fn fields_with<'a>(
        &'a mut self,
        shard: &'a Counters,
    ) -> [(&'static str, &'a mut u64, &'a Counter); 21] {
        [
            ("accepted", &mut self.accepted, &shard.accepted),
            ("connections", &mut self.connections, &shard.connections),
            ("requests", &mut self.requests, &shard.requests),
            ("invalid", &mut self.invalid, &shard.invalid),
            (
                "unimplemented",
                &mut self.unimplemented,
                &shard.unimplemented,
            ),
            (
                "refused_draining",
                &mut self.refused_draining,
                &shard.refused_draining,
            ),
            (
                "refused_by_hook",
                &mut self.refused_by_hook,
                &shard.refused_by_hook,
            ),
            ("panics", &mut self.panics, &shard.panics),
            ("cancelled", &mut self.cancelled, &shard.cancelled),
            ("expired", &mut self.expired, &shard.expired),
            ("too_long", &mut self.too_long, &shard.too_long),
            ("too_deep", &mut self.too_deep, &shard.too_deep),
            ("in_place", &mut self.in_place, &shard.in_place),
            ("copied", &mut self.copied, &shard.copied),
            ("direct", &mut self.direct, &shard.direct),
            ("in_flight", &mut self.in_flight, &shard.in_flight),
            (
                "refused_memory",
                &mut self.refused_memory,
                &shard.refused_memory,
            ),
            ("held_bytes", &mut self.held_bytes, &shard.held_bytes),
            (
                "accept_errors",
                &mut self.accept_errors,
                &shard.accept_errors,
            ),
            (
                "buffers_exhausted",
                &mut self.buffers_exhausted,
                &shard.buffers_exhausted,
            ),
            ("stalls", &mut self.stalls, &shard.stalls),
        ]
    }
}

impl Shard {
    /// The present values of this shard's own counters.
    pub fn metrics(&self) -> Metrics {
        Metrics::sum(std::iter::once(&*self.core.counters))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_summed_and_written_as_prometheus_text() {
        let (one, two) = (Counters::default(), Counters::default());
        one.requests.add(2);
        two.requests.add(3);
        two.reject(&Violation::Padding);
        let text = Metrics::sum([&one, &two].into_iter()).to_prometheus();
        assert!(text.contains("ringcall_requests_total 5\n"));
        assert!(text.contains("ringcall_rejected_total{reason=\"padding\"} 1\n"));
        assert!(text.contains("# TYPE ringcall_in_flight gauge\n"));
        assert!(text.contains("ringcall_paused{reason=\"memory\"} 0\n"));
    }
}
