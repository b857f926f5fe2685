//! Decoders of single frames: what they accept is within the bounds, and is written as it was read.

use ringcall::__private::decode_status;
use ringcall::__private::wire::goaway::Goaway;
use ringcall::__private::wire::handshake::Handshake;
use ringcall::__private::wire::header::{Header, Kind};
use ringcall::__private::wire::resolve::{Directory, answer_resolve, decode_resolved};

struct Methods;

impl Directory for Methods {
    fn find(&self, name: &str) -> Option<(u16, u64)> {
        name.starts_with('k').then_some((name.len() as u16, 7))
    }
}

pub fn run(data: &[u8]) {
    let Some((&which, bytes)) = data.split_first() else {
        return;
    };
    match which % 6 {
        0 => handshake(bytes),
        1 => header(bytes),
        2 => resolve(bytes),
        3 => resolved(bytes),
        4 => goaway(bytes),
        _ => status(bytes),
    }
}

fn handshake(bytes: &[u8]) {
    if let Ok(handshake) = Handshake::decode(bytes) {
        assert_eq!(bytes.len(), 40);
        assert_eq!(Handshake::decode(&handshake.encode()), Ok(handshake));
    }
    if let Ok(answer) = Handshake::decode_answer(bytes) {
        assert_eq!((answer.version_min, answer.version_max), (1, 1));
        assert!(answer.shard_index.is_none_or(|shard_index| shard_index.shard < shard_index.shards));
        assert_eq!(Handshake::decode_answer(&answer.encode()), Ok(answer));
    }
}

fn header(bytes: &[u8]) {
    let Some(wire) = bytes.first_chunk::<32>() else {
        return;
    };
    let bytes_max = u32::from_le_bytes([wire[0], wire[3], wire[7], 0]);
    let full = Header::decode(wire, bytes_max);
    let quick = Header::decode_request(wire, bytes_max);
    match &full {
        Ok(header) => {
            assert_eq!(header.encode(), *wire);
            assert_eq!(quick.is_some(), header.kind == Kind::Request);
        }
        Err(_) => assert!(quick.is_none(), "only the short way accepts it"),
    }
    if let Some(quick) = quick {
        assert_eq!(Ok(quick), full);
    }
}

fn resolve(bytes: &[u8]) {
    let (mut out, mut found) = (Vec::new(), 0);
    if answer_resolve(bytes, &Methods, |_| found += 1, &mut out).is_ok() {
        let count = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        assert!(count <= 128 && found <= count);
        assert_eq!(out.len(), 2 + 12 * count);
        assert!(decode_resolved(&out, count).is_ok());
    }
}

fn resolved(bytes: &[u8]) {
    let count = bytes.first().copied().unwrap_or_default().into();
    if let Ok(resolutions) = decode_resolved(bytes, count) {
        assert_eq!((resolutions.len(), bytes.len()), (count, 2 + 12 * count));
    }
}

fn goaway(bytes: &[u8]) {
    if let Ok(goaway) = Goaway::decode_payload(bytes) {
        assert!(goaway.message.len() <= 4096);
        let mut again = Vec::new();
        goaway.encode_payload(&mut again);
        assert_eq!(Goaway::decode_payload(&again), Ok(goaway));
    }
}

fn status(bytes: &[u8]) {
    let Some((code, payload)) = bytes.split_first_chunk() else {
        return;
    };
    if let Some(status) = decode_status(u16::from_le_bytes(*code), payload) {
        assert!(status.message().len() <= 4096 && status.details().len() <= 32 * 1024);
        assert_eq!(
            payload.len(),
            4 + status.message().len() + status.details().len()
        );
        assert_ne!(status.code(), ringcall::Code::Ok);
    }
}
