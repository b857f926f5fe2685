//! What must hold of a shard, for the simulation to check.

use super::ShardCore;
use crate::connection::lifecycle::Stage;
use crate::wire::violation::Violation;

impl ShardCore {
    /// What always holds, between two turns. In a calm world nobody is late.
    ///
    /// # Errors
    /// What does not.
    pub(crate) fn check(&self, is_calm: bool) -> Result<(), String> {
        let conns = self.all_conns();
        let limits = &self.config.limits;
        let mut held_bytes = 0;
        let mut in_flight = 0;
        for conn in &conns {
            held_bytes += conn.budget.account.bytes();
            let calls = conn.with_server(|server| server.calls_in_flight());
            let calls = calls.unwrap_or_default();
            in_flight += calls as u64;
            if calls > limits.calls_in_flight_max as usize {
                return Err(format!("{}: {calls} calls are in flight", conn.peer));
            }
            if conn.stage() == Stage::Closed {
                return Err(format!("{} is closed, and not forgotten", conn.peer));
            }
        }
        let commons = self.memory.commons_bytes();
        if held_bytes > commons {
            return Err(format!(
                "connections hold {held_bytes} bytes, of {commons} that stand in the account"
            ));
        }
        let counted = self.counters.in_flight.get();
        if in_flight > counted {
            return Err(format!(
                "{in_flight} calls are in flight, {counted} are counted"
            ));
        }
        // Every peer is honest here: at worst it is late, or one too many.
        let accused = self
            .counters
            .rejected
            .iter()
            .enumerate()
            .find(|(reason, count)| {
                let reason = *reason as u16;
                let is_fair = (Violation::is_of_time(reason) && !is_calm)
                    || reason == Violation::TooManyConnections.reason();
                count.get() > 0 && !is_fair
            });
        if let Some((reason, _)) = accused {
            let name = Violation::reason_name(reason as u16);
            return Err(format!("an honest peer is accused of {name}"));
        }
        let (held, ceiling) = (self.memory.bytes(), self.config.memory_ceiling_bytes());
        if held > ceiling {
            return Err(format!(
                "{held} bytes are held, above the ceiling of {ceiling}"
            ));
        }
        Ok(())
    }

    /// How its connections stand, for whoever looks for what went wrong.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!(
            "limits {:?}, {} bytes held of {}\n",
            self.config.limits,
            self.memory.bytes(),
            self.config.memory_bytes
        );
        for conn in self.all_conns() {
            let backlog = conn.backlog();
            let calls = conn.with_server(|server| server.calls_in_flight());
            text += &format!(
                "  {}: {:?}, paused {:?}, reads {}, direct {}, {} queued, backlog {} bytes, holds {}, arriving {:?}, \
                 account {}, calls {calls:?}\n",
                conn.peer,
                conn.stage(),
                conn.pause(),
                conn.wants_read(),
                conn.wants_direct(),
                conn.output().len(),
                backlog.bytes(),
                backlog.is_holding(),
                conn.link(|link| link.arriving()),
                conn.budget.account.bytes(),
            );
        }
        text
    }

    /// What holds when nobody calls any more and all connections are closed.
    ///
    /// # Errors
    /// What is left.
    pub(crate) fn check_quiet(&self) -> Result<(), String> {
        let counters = &self.counters;
        let left = [
            ("connections", self.conn_count() as u64),
            ("open connections, as counted", counters.connections.get()),
            ("calls in flight", counters.in_flight.get()),
            ("tasks", self.tasks.waiting() as u64),
            ("timers", self.timers.borrow().len() as u64),
            ("bytes that peers make it hold", self.memory.bytes() as u64),
            ("receive buffers in hands", self.pool.held_count() as u64),
        ];
        match left.iter().find(|(_, count)| *count > 0) {
            Some((what, count)) => Err(format!("{count} {what} are left")),
            None => Ok(()),
        }
    }
}
