//! A whole server connection without a socket, with handlers that wait, fail and hold requests: what it
//! sends is a sequence of whole frames.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use ringcall::__private::{MemoryConnection, encode};
use ringcall::{Context, Limits, Reply, Request, Service, Status};

use crate::source::Source;
use crate::wire::{self, CANCEL, Frame, HELLO, REQUEST, RESOLVE};

#[ringcall::service(name = "z")]
trait Zoo {
    async fn echo(bytes: Vec<u8>) -> Vec<u8>;
    async fn sleep(us: u64) -> u64;
    async fn put(pair: (String, Vec<u8>));
    async fn get() -> Vec<u8>;
    async fn fail(later: bool) -> String;
    async fn hold(strings: Vec<String>) -> Vec<String>;
}

const METHODS: u16 = 6;

#[derive(Default)]
struct Keeper {
    value: RefCell<Vec<u8>>,
}

impl ZooHandler for Keeper {
    async fn echo(&self, _: &Context, bytes: Request<Vec<u8>>) -> Result<Reply<Vec<u8>>, Status> {
        Ok(bytes.into())
    }

    async fn sleep(&self, cx: &Context, us: Request<u64>) -> Result<Reply<u64>, Status> {
        cx.sleep(Duration::from_micros(us.to_native())).await;
        Ok(us.to_native().into())
    }

    async fn put(
        &self,
        cx: &Context,
        pair: Request<(String, Vec<u8>)>,
    ) -> Result<Reply<()>, Status> {
        cx.sleep(Duration::ZERO).await;
        *self.value.borrow_mut() = pair.1.to_vec();
        Ok(().into())
    }

    async fn get(&self, _: &Context) -> Result<Reply<Vec<u8>>, Status> {
        Ok(Reply::of(&self.value.borrow()[..]))
    }

    async fn fail(&self, cx: &Context, later: Request<bool>) -> Result<Reply<String>, Status> {
        if *later {
            cx.sleep(Duration::from_micros(1)).await;
        }
        Err(Status::not_found("x".repeat(5000)).with_details(vec![1; 40_000]))
    }

    async fn hold(
        &self,
        cx: &Context,
        strings: Request<Vec<String>>,
    ) -> Result<Reply<Vec<String>>, Status> {
        let time = cx.call().remaining().unwrap_or(Duration::from_micros(30));
        let shard = cx.shard();
        cx.spawn(async move { shard.sleep(Duration::from_micros(5)).await });
        cx.sleep(time.min(Duration::from_micros(200))).await;
        Ok(strings.into())
    }
}

pub fn run(data: &[u8]) {
    let mut source = Source(data);
    let limits = limits(source.u8());
    let mut connection = MemoryConnection::new(ZooServer::new(Keeper::default()), limits);
    let mut wire = beginning();
    let (mut sent, mut received_bytes, mut call_id) = (Vec::new(), 0, 0);
    while !source.is_empty() && received_bytes < 400_000 && wire.len() < 500_000 {
        match source.u8() % 8 {
            0..=2 => append_request(&mut wire, &mut source, &mut call_id),
            3 => {
                let back = u64::from(source.u8() % 8);
                let call_id = call_id.saturating_sub(back).max(1);
                Frame {
                    kind: CANCEL,
                    call_id,
                    ..Frame::default()
                }
                .append_to(&mut wire);
            }
            4 => {
                let (kind, call_id) = (source.u8() % 12, u64::from(source.u8()));
                Frame {
                    kind,
                    call_id,
                    ..Frame::default()
                }
                .append_to(&mut wire);
            }
            5 => {
                let until = Instant::now() + Duration::from_micros(2 * u64::from(source.u8()));
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                if !connection.exchange(&[], &mut sent) {
                    break;
                }
            }
            how => {
                let bytes = if how == 6 {
                    usize::from(source.u16()) % 30_000
                } else {
                    source.u8().into()
                };
                let piece: Vec<u8> = wire.drain(..wire.len().min(bytes + 1)).collect();
                received_bytes += piece.len();
                if !connection.exchange(&piece, &mut sent) {
                    break;
                }
            }
        }
    }
    assert_whole_frames(&sent);
}

fn limits(how: u8) -> Limits {
    let mut limits = Limits::default();
    limits.payload_bytes_max = 128 * 1024;
    if how & 1 == 1 {
        limits.calls_in_flight_max = 2;
    }
    if how & 2 == 2 {
        limits.request_bytes_in_flight_max = 1000;
    }
    if how & 4 == 4 {
        limits.write_queue_bytes_high = 2000;
        limits.write_queue_bytes_max = 200_000;
    }
    limits
}

/// HELLO, and RESOLVE for all methods: their indices are their places.
fn beginning() -> Vec<u8> {
    let mut wire = Vec::new();
    let payload = wire::handshake(16 << 20, 1024);
    Frame {
        kind: HELLO,
        payload: &payload,
        ..Frame::default()
    }
    .append_to(&mut wire);
    let methods = ZooServer::new(Keeper::default())
        .descriptor()
        .methods
        .iter();
    let asked: Vec<_> = methods
        .map(|method| (method.name, method.fingerprint))
        .collect();
    let payload = wire::resolve(&asked);
    Frame {
        kind: RESOLVE,
        call_id: 1,
        payload: &payload,
        ..Frame::default()
    }
    .append_to(&mut wire);
    wire
}

fn append_request(wire: &mut Vec<u8>, source: &mut Source<'_>, call_id: &mut u64) {
    *call_id += 1 + u64::from(source.u8() & 1);
    let how = source.u8();
    let selector = u16::from(how) % (METHODS + 1);
    let timeout_us = if how & 64 == 0 {
        0
    } else {
        source.u16().into()
    };
    let mut payload = Vec::new();
    let encoded = match selector {
        0 => {
            let bytes = usize::from(source.u16()) * usize::from(1 + (how >> 7));
            encode::<Vec<u8>>(&vec![3; bytes], &mut payload)
        }
        1 => encode::<u64>(&u64::from(source.u16()), &mut payload),
        2 => {
            let pair = ("k".repeat(source.u8().into()), vec![1; source.u16().into()]);
            encode::<(String, Vec<u8>)>(&pair, &mut payload)
        }
        3 => Ok(()),
        4 => {
            // Also what is no bool.
            payload.push(source.u8() & 3);
            Ok(())
        }
        5 => {
            let strings: Vec<_> = (0..source.u8() % 20)
                .map(|nth| "y".repeat(3 * usize::from(nth)))
                .collect();
            encode::<Vec<String>>(&strings, &mut payload)
        }
        _ => {
            payload.extend_from_slice(source.take(20));
            Ok(())
        }
    };
    encoded.expect("shorter than 2 GiB");
    if how & 32 == 32 && !payload.is_empty() {
        let at = payload.len() - 1 - usize::from(source.u8()) % payload.len();
        payload[at] ^= source.u8();
    }
    let frame = Frame {
        kind: REQUEST,
        selector,
        call_id: *call_id,
        timeout_us,
        payload: &payload,
    };
    frame.append_to(wire);
}

fn assert_whole_frames(sent: &[u8]) {
    let mut left = sent;
    while let Some((header, rest)) = left.split_first_chunk::<32>() {
        let [a, b, c, d, kind, ..] = *header;
        assert!((2..=11).contains(&kind), "kind {kind}");
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        left = &rest[length.next_multiple_of(16)..];
    }
    assert!(left.is_empty(), "{} bytes of a frame", left.len());
}
