//! Who takes no part in a measurement, and why: nobody is left out without a word.

use loadgen::units::format_idle;
use ringcall::Idle;
use std::io;

use crate::cell::Cell;
use crate::descriptors;
use crate::point::Point;
use crate::servers::Peer;
use crate::work::{Work, Workload};

/// Says which of these peers will be missing at which of these points, a line for each reason; an
/// error when nobody takes part anywhere.
pub(crate) fn list(peers: &[&dyn Peer], points: &[Point]) -> io::Result<Vec<String>> {
    let mut reasons: Vec<(_, Vec<&str>)> = Vec::new();
    let mut is_any_left = false;
    for point in points {
        for peer in peers {
            let Some(reason) = of(*peer, *point) else {
                is_any_left = true;
                continue;
            };
            match reasons.iter_mut().find(|(other, _)| *other == reason) {
                Some((_, peers)) if peers.contains(&peer.name()) => {}
                Some((_, peers)) => peers.push(peer.name()),
                None => reasons.push((reason, vec![peer.name()])),
            }
        }
    }
    let lines = reasons.into_iter().map(|((what, why), peers)| {
        format!("{what} is measured without {}: {why}", peers.join(", "))
    });
    let lines: Vec<_> = lines.collect();
    if is_any_left {
        return Ok(lines);
    }
    let lines = lines.join("\n");
    Err(io::Error::other(format!(
        "there is nothing to measure\n{lines}"
    )))
}

/// What a peer takes no part in, and why; `None` when it takes part at this point.
pub(crate) fn of(peer: &dyn Peer, point: Point) -> Option<(String, String)> {
    let Point {
        work,
        transport,
        cell,
    } = point;
    if peer.takes_part(&point) {
        let per_connection = peer.descriptors_per_connection();
        let shortage = descriptors::shortage(cell.connections, per_connection)?;
        return Some((cell.to_string(), shortage));
    }
    // A peer says only yes or no. What makes it say yes when it is asked for less is the reason.
    let parked = Point {
        cell: Cell {
            idle: Idle::Park,
            ..cell
        },
        ..point
    };
    let echoing = Point {
        work: Work {
            workload: Workload::Echo,
            ..work
        },
        ..point
    };
    let (what, why) = if peer.takes_part(&parked) {
        (format_idle(cell.idle), "no way to spin is offered")
    } else if peer.takes_part(&echoing) {
        (work.workload.to_string(), "only echoes are offered")
    } else {
        (
            format!("{} over {transport}", work.workload),
            "it is not offered",
        )
    };
    Some((what, why.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers;
    use crate::servers::process::Transport;

    #[test]
    fn who_is_left_out_is_told_why() {
        let point = |workload, transport, cell: &str| Point {
            work: Work {
                workload,
                payload_bytes: 64,
            },
            transport,
            cell: cell.parse().unwrap(),
        };
        let (tcp, unix) = (Transport::Tcp, Transport::Unix);
        let all = [
            point(Workload::Get, tcp, "1x1"),
            point(Workload::Get, tcp, "2x1"),
            point(Workload::Echo, unix, "1x1"),
            point(Workload::Echo, tcp, "1x1/spin"),
        ];
        let expected = [
            "get is measured without raw, glommio: only echoes are offered",
            "echo over unix is measured without glommio: it is not offered",
            "spin is measured without glommio, tonic: no way to spin is offered",
        ];
        let peers = ["raw", "glommio", "tonic"].map(|name| servers::find(name).unwrap());
        assert_eq!(list(&peers, &all).unwrap(), expected);
        let nobody = list(&peers[..1], &all[..2]).unwrap_err().to_string();
        assert!(
            nobody.ends_with("without raw: only echoes are offered"),
            "{nobody}"
        );
    }
}
