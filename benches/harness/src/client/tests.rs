//! The client against a server that shakes hands, answers out of order, and refuses on demand.

use std::io::{self, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use ringcall::__private::wire::header::{Header, Kind};
use ringcall::__private::wire::limits::HEADER_BYTES;
use ringcall::__private::wire::status::Code;
use socket2::Socket;

use super::{Arrivals, Client, Outcome, Plan};
use crate::address::Address;
use crate::cpu::CpuUsage;
use crate::servers::Frames;
use crate::wire::{self, Answer};
use crate::work::{Work, Workload};

/// Method index that the server hands out.
const METHOD: u16 = 7;

/// Plays a server for one client, on threads of the test.
struct Scripted {
    /// Calls after which every further one is refused.
    refuse_after: usize,
}

impl Frames for Scripted {
    fn preamble(&self) -> Vec<Vec<u8>> {
        vec![
            wire::frame(Header::new(Kind::Hello, 0, 5), b"hello"),
            wire::frame(Header::new(Kind::Resolve, 1, 4), b"echo"),
        ]
    }

    fn request(&self, work: Work, _number: usize, answers: &[Answer]) -> io::Result<Vec<u8>> {
        assert_eq!(answers[0].header.kind, Kind::Welcome);
        let method = u16::from_le_bytes(*answers[1].payload.first_chunk().unwrap());
        Ok(wire::request(
            method,
            &wire::any_payload(work.payload_bytes),
        ))
    }
}

impl Scripted {
    /// Answers until the client leaves; call ids must increase.
    fn answer(&self, mut socket: &Socket) -> io::Result<()> {
        let (mut received, mut served, mut last_id) = (Vec::new(), 0, 0);
        loop {
            let mut chunk = [0; 4096];
            let len = socket.read(&mut chunk)?;
            if len == 0 {
                return Ok(());
            }
            received.extend_from_slice(&chunk[..len]);
            let mut answers = Vec::new();
            while let Some((header, frame_bytes)) = first_frame(&received) {
                let payload = received[HEADER_BYTES..][..header.payload_bytes as usize].to_vec();
                received.drain(..frame_bytes);
                if header.kind == Kind::Request {
                    assert!(header.call_id > last_id && header.selector == METHOD);
                    (served, last_id) = (served + 1, header.call_id);
                }
                answers.push(self.answer_one(&header, &payload, served > self.refuse_after));
            }
            if served > 0 {
                answers.reverse();
            }
            socket.write_all(&answers.concat())?;
        }
    }

    fn answer_one(&self, header: &Header, payload: &[u8], refuse: bool) -> Vec<u8> {
        let id = header.call_id;
        match header.kind {
            Kind::Hello => wire::frame(Header::new(Kind::Welcome, 0, 7), b"welcome"),
            Kind::Resolve => wire::frame(Header::new(Kind::Resolved, id, 2), &METHOD.to_le_bytes()),
            Kind::Request if refuse => {
                let header = Header {
                    selector: Code::ResourceExhausted as u16,
                    ..Header::new(Kind::Error, id, 12)
                };
                wire::frame(header, &[&8_u32.to_le_bytes()[..], b"too much"].concat())
            }
            _ => wire::frame(
                Header::new(Kind::Response, id, payload.len() as u32),
                payload,
            ),
        }
    }
}

fn first_frame(bytes: &[u8]) -> Option<(Header, usize)> {
    let header = Header::decode(bytes.first_chunk()?, 1 << 20).expect("a valid header");
    let frame_bytes = HEADER_BYTES + header.body_bytes();
    (bytes.len() >= frame_bytes).then_some((header, frame_bytes))
}

fn drive(peer: &Scripted, cell: &str) -> io::Result<Outcome> {
    let any: Address = "tcp://127.0.0.1:0".parse().unwrap();
    let (listener, address) = any.listen()?;
    let plan = Plan {
        cell: cell.parse().unwrap(),
        work: Work {
            workload: Workload::Echo,
            payload_bytes: 50,
        },
        arrivals: Arrivals::Closed,
        warm_up: Duration::from_millis(10),
        measured: Duration::from_millis(100),
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..plan.cell.connections {
                let (socket, _) = listener.accept().unwrap();
                // A client that leaves resets what is on its way: an error here is no failure.
                scope.spawn(move || peer.answer(&socket).ok());
            }
        });
        Client::new().run(&plan, peer, &address, &|| {
            CpuUsage::now(std::process::id(), None)
        })
    })
}

#[test]
fn calls_are_answered_in_any_order_after_a_handshake() {
    for cell in ["1x1", "3x8", "2x5/spin", "2x8/spin:20us"] {
        let start = Instant::now();
        let refuse_after = usize::MAX;
        let outcome = drive(&Scripted { refuse_after }, cell).unwrap();
        assert!(outcome.calls > 0, "{cell}");
        assert_eq!(
            outcome.latency_ns.len(),
            outcome.calls,
            "{cell}: each call counts"
        );
        assert!(outcome.elapsed >= Duration::from_millis(100) && outcome.elapsed < start.elapsed());
    }
}

#[test]
fn a_refused_call_ends_the_run_with_the_message_of_the_server() {
    let error = drive(&Scripted { refuse_after: 20 }, "2x4").unwrap_err();
    assert!(
        error.to_string().contains("RESOURCE_EXHAUSTED: too much"),
        "{error}"
    );
}
