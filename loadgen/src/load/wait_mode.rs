//! Waiting for the moment of a call.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ringcall::Shard;

/// How to wait for the next call of an open loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitMode {
    /// Looks at the clock in every turn of the shard: to the microsecond, at the cost of a CPU.
    Spin,
    /// Sleeps: up to some hundred microseconds late, but leaves the CPU to the server if both have
    /// to share one.
    Sleep,
}

impl WaitMode {
    /// Waits a little for others to go on.
    pub(super) async fn a_moment(self, shard: &Shard) {
        match self {
            Self::Spin => NextTurn::default().await,
            Self::Sleep => shard.sleep(SHORT).await,
        }
    }
}

const SHORT: Duration = Duration::from_micros(100);

/// Ready in the next turn of the shard.
#[derive(Default)]
struct NextTurn {
    has_come: bool,
}

impl Future for NextTurn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.has_come, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
