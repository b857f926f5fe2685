//! Bugs to plant, so that tests can see that the simulation finds them. Without the feature `simulation`
//! there are none, and nothing of this is compiled into a call.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bug {
    /// A name that is no longer valid finds whoever has the place now.
    GenerationUnchecked,
    /// A completion is not handed out.
    CompletionDropped,
    /// A receive buffer becomes free although it is held.
    BufferRecycledTwice,
    /// A receive counts as ended when its end was only asked for.
    CancelAcknowledgedEarly,
    /// A call that is given up keeps its place among the pending ones.
    SlotLeaked,
    /// An answer carries the id of another call.
    ResponseToWrongCall,
    /// A connection's timer is not set again.
    TimerLost,
    /// A connection that is paused for its output never goes on.
    PauseNeverEnded,
    /// A client goes on calling on a connection that its server has retired.
    GoawayIgnored,
    /// A handler goes on when its call's deadline has passed.
    DeadlineIgnored,
    /// A connection's next send does not wait for the last one.
    TwoSendsInFlight,
    /// What is left of a send that was cut short is sent from its beginning.
    PartialSendRepeated,
    /// Timers are acted on before the bytes that lie in the sockets.
    TimerBeforeBytes,
    /// What a call took stays in its connection's account.
    AccountNotReleased,
    /// A closed connection still leads to its socket's place.
    StaleSocketPlace,
    /// A call that was held is forgotten when its connection goes on.
    HeldCallForgotten,
    /// A receive that found no buffer is not started again.
    StarvedForever,
    /// A cancelled call's handler goes on.
    CancelIgnored,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::GenerationUnchecked,
        Self::CompletionDropped,
        Self::BufferRecycledTwice,
        Self::CancelAcknowledgedEarly,
        Self::SlotLeaked,
        Self::ResponseToWrongCall,
        Self::TimerLost,
        Self::PauseNeverEnded,
        Self::GoawayIgnored,
        Self::DeadlineIgnored,
        Self::TwoSendsInFlight,
        Self::PartialSendRepeated,
        Self::TimerBeforeBytes,
        Self::AccountNotReleased,
        Self::StaleSocketPlace,
        Self::HeldCallForgotten,
        Self::StarvedForever,
        Self::CancelIgnored,
    ];
}

#[cfg(feature = "simulation")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug in all that runs on this thread, or takes it out.
#[cfg(feature = "simulation")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted.
#[cfg(feature = "simulation")]
#[inline(always)]
pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// None is.
#[cfg(not(feature = "simulation"))]
#[inline(always)]
pub(crate) const fn is_planted(_: Bug) -> bool {
    false
}
