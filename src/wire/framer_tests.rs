use super::super::header::Kind;
use super::*;

fn frame(call_id: u64, payload: &[u8]) -> Vec<u8> {
    let mut wire = Header::new(Kind::Request, call_id, payload.len() as u32)
        .encode()
        .to_vec();
    wire.extend_from_slice(payload);
    wire.resize(super::super::limits::padded(wire.len()), 0);
    wire
}

fn stream() -> (Vec<u8>, Vec<Vec<u8>>) {
    let payloads: Vec<Vec<u8>> = [0usize, 1, 15, 16, 17, 300, 20_000, 5]
        .iter()
        .enumerate()
        .map(|(index, &len)| vec![index as u8 + 1; len])
        .collect();
    let wire = payloads
        .iter()
        .enumerate()
        .flat_map(|(i, p)| frame(i as u64 + 1, p))
        .collect();
    (wire, payloads)
}

fn collect(framer: &mut Framer, chunk: &[u8], got: &mut Vec<Vec<u8>>) -> Result<(), Violation> {
    let mut at = 0;
    while let Some(frame) = framer.next_frame(chunk, &mut at)? {
        assert_eq!(frame.payload(chunk).as_ptr() as usize % 16, 0);
        got.push(frame.payload(chunk).to_vec());
    }
    assert_eq!(at, chunk.len());
    Ok(())
}

#[test]
fn any_cut_of_the_stream_yields_the_same_frames() {
    let (wire, payloads) = stream();
    // Under Miri each byte costs a thousand times as much: single ones would take an hour.
    let cuts: &[usize] = match cfg!(miri) {
        true => &[1000, 4096],
        false => &[1, 7, 16, 31, 32, 33, 100, 4096],
    };
    for cut_bytes in cuts.iter().copied().chain([wire.len()]) {
        let (mut framer, mut got) = (Framer::new(1 << 20), Vec::new());
        for cut in wire.chunks(cut_bytes) {
            collect(&mut framer, AlignedBuf::copy_of(cut).as_slice(), &mut got).unwrap();
        }
        assert_eq!(got, payloads, "cut every {cut_bytes} bytes");
        assert_eq!(framer.midway(), Midway::Nothing);
    }
}

#[test]
fn an_aligned_whole_frame_is_read_in_place_and_a_misaligned_one_is_not() {
    let wire = frame(1, b"hello");
    let chunk = AlignedBuf::copy_of(&wire);
    let whole = Framer::new(1 << 20)
        .next_frame(chunk.as_slice(), &mut 0)
        .unwrap()
        .unwrap();
    assert!(matches!(whole.body, Body::InPlace(_)));
    let shifted = AlignedBuf::copy_of(&[&[0; 8], &wire[..]].concat());
    let whole = Framer::new(1 << 20)
        .next_frame(shifted.as_slice(), &mut 8)
        .unwrap()
        .unwrap();
    assert!(matches!(whole.body, Body::Gathered(_)));
}

#[test]
fn a_large_body_can_be_received_straight_into_place() {
    let wire = frame(1, &[7; 40_000]);
    let mut framer = Framer::new(1 << 20);
    assert!(framer.next_frame(&wire[..100], &mut 0).unwrap().is_none());
    assert_eq!(framer.midway(), Midway::Body { received: 68 });
    let mut body = framer.take_direct().expect("large");
    assert!(body.unfilled().len() < 40_000, "not all that was announced");
    body.unfilled()[..1000].copy_from_slice(&wire[100..1100]);
    body.advance(1000);
    framer.put_direct(body);
    let rest = AlignedBuf::copy_of(&wire[1100..]);
    let whole = framer.next_frame(rest.as_slice(), &mut 0).unwrap().unwrap();
    assert!(matches!(&whole.body, Body::Direct(buf) if buf.as_slice() == [7; 40_000]));
}

#[test]
fn padding_must_be_zero() {
    let mut wire = frame(1, b"hello");
    *wire.last_mut().unwrap() = 1;
    let chunk = AlignedBuf::copy_of(&wire);
    let refused = Framer::new(1 << 20).next_frame(chunk.as_slice(), &mut 0);
    assert_eq!(refused.unwrap_err(), Violation::Padding);
    let mut framer = Framer::new(1 << 20);
    assert!(framer.next_frame(&wire[..40], &mut 0).unwrap().is_none());
    assert_eq!(
        framer.next_frame(&wire[40..], &mut 0).unwrap_err(),
        Violation::Padding
    );
}

#[test]
fn memory_grows_with_the_bytes_that_have_arrived() {
    const BODY: usize = 16 << 20;
    let header = Header::new(Kind::Request, 1, BODY as u32).encode();
    let mut framer = Framer::new(BODY as u32);
    assert!(framer.next_frame(&header, &mut 0).unwrap().is_none());
    let mut received = 0;
    while received < BODY {
        let (whole, memory) = framer.arriving().expect("a body");
        assert_eq!(whole, BODY);
        let bound = (GROWTH * received).max(GROWN_BODY_BYTES_MIN);
        assert!(memory <= bound, "{memory} for {received} bytes");
        let mut body = framer.take_direct().expect("room");
        let bytes = body.unfilled().len().min(100_000);
        body.unfilled()[..bytes].fill(7);
        body.advance(bytes);
        received += bytes;
        framer.put_direct(body);
        let whole = framer.next_frame(&[], &mut 0).unwrap();
        assert_eq!(whole.is_some(), received == BODY);
    }
    assert_eq!(framer.arriving(), None);
}

#[test]
fn a_body_that_nobody_wants_is_dropped_as_it_arrives() {
    let wire = [frame(1, &[7; 100_000]), frame(2, b"wanted")].concat();
    let mut framer = Framer::new(1 << 20);
    assert!(framer.next_frame(&wire[..1000], &mut 0).unwrap().is_none());
    framer.discard_body();
    assert_eq!((framer.arriving(), framer.wants_direct()), (None, false));
    assert_eq!(framer.midway(), Midway::Body { received: 968 });
    let rest = AlignedBuf::copy_of(&wire[1000..]);
    let mut at = 0;
    let dropped = framer.next_frame(rest.as_slice(), &mut at).unwrap();
    let dropped = dropped.expect("its end has come");
    assert!(matches!(dropped.body, Body::Discarded));
    assert_eq!((dropped.header.payload_bytes, at), (100_000, 99_032));
    let wanted = framer.next_frame(rest.as_slice(), &mut at).unwrap();
    assert_eq!(wanted.expect("whole").payload(rest.as_slice()), b"wanted");
}

/// What had arrived of its padding when it was dropped counts like the rest.
#[test]
fn a_body_of_which_padding_only_is_missing_is_dropped_as_well() {
    for (padding, expected) in [(0, Ok(())), (1, Err(Violation::Padding))] {
        let mut wire = frame(1, &[7; 20_001]);
        let arrived = HEADER_BYTES + 20_005;
        wire[arrived - 1] = padding;
        let first = AlignedBuf::copy_of(&wire[..arrived]);
        let mut framer = Framer::new(1 << 20);
        assert!(
            framer
                .next_frame(first.as_slice(), &mut 0)
                .unwrap()
                .is_none()
        );
        assert!(framer.discard_body() && !framer.discard_body());
        let rest = AlignedBuf::copy_of(&wire[arrived..]);
        let dropped = framer.next_frame(rest.as_slice(), &mut 0);
        let is_dropped = |it: Option<Frame>| assert!(matches!(it.unwrap().body, Body::Discarded));
        assert_eq!(dropped.map(is_dropped), expected);
    }
}

#[test]
fn a_body_without_room_waits_for_it_and_loses_nothing() {
    let payload: Vec<u8> = (0..200_000).map(|at| at as u8).collect();
    let wire = frame(1, &payload);
    for chunk_bytes in [1000, 30_000, wire.len() - 1] {
        let mut framer = Framer::new(1 << 20);
        let mut room = 8 << 10;
        framer.set_body_room(room);
        let (mut got, mut waits) = (Vec::new(), 0);
        for chunk in wire.chunks(chunk_bytes) {
            let mut at = 0;
            loop {
                let whole = framer.next_frame(chunk, &mut at).unwrap();
                got.extend(whole.map(|whole| whole.payload(chunk).to_vec()));
                let Some(wanted) = framer.body_wants() else {
                    break;
                };
                assert!(!framer.wants_direct());
                let (_, memory) = framer.arriving().expect("a body");
                let pages = room.max(16_416).next_multiple_of(ROOM_STEP_BYTES);
                assert!(memory <= pages, "{memory} in a room of {room}");
                assert!(wanted > room);
                room += room / 2;
                framer.set_body_room(room);
                waits += 1;
            }
            assert_eq!(at, chunk.len());
        }
        assert!(got == [payload.clone()] && waits > 5, "{waits} waits");
    }
}
