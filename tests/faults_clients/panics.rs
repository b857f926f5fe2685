//! A request whose encoding panics costs that call alone.

use crate::callers::{Caller, KINDS};
use crate::peer::*;
use crate::raw::*;

/// More than may be in flight at once, so that each must leave its place.
const PANICS: usize = 1100;

#[test]
fn a_panic_in_an_encoder_costs_that_call_alone() {
    for kind in KINDS {
        let server = Hostile::start(move |listener| {
            let mut peer = accept_calls(&listener);
            // On one connection, with nothing between the calls that are none.
            assert_eq!([peer.serve_one(), peer.serve_one()], [1, 2], "{kind:?}");
            assert_eq!(peer.wait_for_end(), [], "{kind:?}");
        });
        let caller = Caller::new(kind, &server.address);
        caller.calls(1);
        (0..PANICS).for_each(|_| caller.panics());
        caller.calls(2);
        drop(caller);
        server.end();
    }
}

#[test]
fn a_panic_in_the_first_call_leaves_the_connection_in_order() {
    for kind in KINDS {
        let server = Hostile::start(move |listener| {
            let mut peer = accept_calls(&listener);
            assert_eq!(peer.serve_one(), 1, "{kind:?}");
            let after = peer.wait_for_end();
            assert!(after.iter().all(|frame| frame.kind != REQUEST), "{kind:?}");
        });
        let caller = Caller::new(kind, &server.address);
        caller.panics();
        caller.calls(1);
        drop(caller);
        server.end();
    }
}
