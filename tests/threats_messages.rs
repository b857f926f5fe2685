//! Payloads that are no archives: each fails its call with INVALID_ARGUMENT, reaches no handler,
//! and costs neither time nor stack out of proportion.

#[path = "support/raw.rs"]
mod raw;
#[path = "support/rig.rs"]
mod rig;

use raw::{ERROR, Frame, RESPONSE, RawPeer};
use rig::{Colour, ECHO, INSPECT, Node, Rig, Shape, TREE, WAIT, number, on_both_engines};
use ringcall::Engine;
use ringcall::rkyv::rancor::Error;
use ringcall::rkyv::to_bytes;

on_both_engines!(
    every_damaged_byte_is_survived,
    wild_overlapping_and_cyclic_pointers_are_refused,
    bad_tags_bools_chars_and_texts_are_refused,
    lengths_beyond_the_payload_are_refused,
    nesting_is_bounded,
    shared_subtrees_cost_no_exponential_time,
    payloads_of_the_wrong_size_are_refused,
);

fn shape() -> Shape {
    Shape {
        id: 77,
        name: "a name that does not fit inline".into(),
        tags: vec!["short".into(), "another text that is not inline".into()],
        points: vec![(1, 2), (3, 4), (5, 6)],
        colour: Colour::Mixed {
            parts: vec![1, 2, 3],
        },
        solid: true,
        initial: '\u{e9}',
        inner: Some(Box::new(Shape {
            id: 78,
            name: "inner".into(),
            tags: vec![],
            points: vec![],
            colour: Colour::Named("some colour or other".into()),
            solid: false,
            initial: 'x',
            inner: None,
        })),
    }
}

/// Sends a payload that is invalid; sees that only its call fails.
fn assert_invalid(rig: &Rig, peer: &mut RawPeer, call_id: u64, method: u16, payload: &[u8]) {
    let (before, started) = (rig.server.metrics(), rig.probe.started());
    peer.send(&Frame::request(method, call_id, payload));
    assert_eq!(peer.expect_error(call_id), 3);
    let after = rig.server.metrics();
    assert_eq!(after.invalid, before.invalid + 1);
    assert_eq!(after.requests, before.requests, "no handler is given it");
    assert_eq!(rig.probe.started(), started, "none runs");
    assert_eq!(rig.rejected_in_all(), 0);
}

fn assert_valid(peer: &mut RawPeer, call_id: u64, method: u16, payload: &[u8], answer: u64) {
    peer.send(&Frame::request(method, call_id, payload));
    peer.expect_response(call_id, &answer.to_le_bytes());
}

fn every_damaged_byte_is_survived(engine: Engine) {
    let rig = Rig::start(engine);
    let mut bystander = rig.peer();
    let mut peer = rig.peer();
    let honest = to_bytes::<Error>(&shape()).expect("serialises");
    assert_valid(&mut peer, 1, INSPECT, &honest, 77);
    let mut call_id = 1;
    for at in 0..honest.len() {
        let damages: [fn(u8) -> u8; 6] = [
            |_| 0,
            |_| 0xff,
            |_| 0x7f,
            |_| 0x80,
            |byte| byte ^ 0x04,
            |byte| byte.wrapping_add(1),
        ];
        for damage in damages {
            let mut damaged = honest.to_vec();
            damaged[at] = damage(damaged[at]);
            call_id += 1;
            peer.send(&Frame::request(INSPECT, call_id, &damaged));
        }
    }
    let mut refused = 0;
    for call_id in 2..=call_id {
        let answer = peer.read();
        assert_eq!(answer.call_id, call_id);
        match answer.kind {
            RESPONSE => (),
            ERROR => {
                assert_eq!(answer.code(), 3);
                refused += 1;
            }
            _ => panic!("{answer:?}"),
        }
    }
    // Most bytes are numbers and texts, which may have any value.
    assert!(refused > 300, "{refused} of {call_id} are refused");
    let metrics = rig.server.metrics();
    assert_eq!(metrics.invalid, refused);
    assert_eq!(
        rig.probe.started(),
        call_id - refused,
        "only valid ones reach the handler"
    );
    assert_eq!(rig.rejected_in_all(), 0);
    peer.echo_works(call_id + 1);
    bystander.echo_works(1);
}

/// An archived vector: where its elements lie, relative to itself, and how many.
fn vector(offset: i32, count: u32) -> Vec<u8> {
    [offset.to_le_bytes(), count.to_le_bytes()].concat()
}

fn wild_overlapping_and_cyclic_pointers_are_refused(engine: Engine) {
    let rig = Rig::start(engine);
    let mut peer = rig.peer();
    let mut ids = 1..;
    let mut refuse = |method: u16, payload: &[u8]| {
        assert_invalid(
            &rig,
            &mut peer,
            ids.next().expect("endless"),
            method,
            payload,
        );
    };
    // One byte in front of the payload, in the root itself, behind it, or far away.
    for target in [
        -1,
        -17,
        8,
        9,
        15,
        16,
        4096,
        i32::MAX,
        i32::MIN,
        -0x1000_0000,
    ] {
        let offset = target.wrapping_sub(8);
        refuse(ECHO, &[[1; 8].to_vec(), vector(offset, 1)].concat());
    }
    // A vector whose elements are the vector itself, or reach into it.
    refuse(ECHO, &[[1; 8].to_vec(), vector(0, 8)].concat());
    refuse(ECHO, &[[1; 8].to_vec(), vector(-8, 9)].concat());
    // A node that is its own child, and its own grandchild.
    refuse(TREE, &vector(0, 1));
    refuse(TREE, &[vector(8, 1), vector(-8, 1)].concat());
    // Two children that share their only child.
    let (leaf, root) = (vector(0, 0), vector(-16, 2));
    refuse(TREE, &[leaf, vector(-8, 1), vector(-16, 1), root].concat());
    // Elements at an odd address.
    refuse(TREE, &[vec![0; 4], vector(-4, 0), vector(-11, 1)].concat());
    // Any pointer of an honest message, made to point to the root or in front of the payload.
    let honest = to_bytes::<Error>(&shape()).expect("serialises");
    let pointers: Vec<usize> = (0..honest.len() - 3)
        .step_by(4)
        .filter(|&at| {
            let offset = i32::from_le_bytes(honest[at..at + 4].try_into().expect("four bytes"));
            offset < -3 && at as i32 + offset >= 0
        })
        .collect();
    assert!(pointers.len() >= 6, "{pointers:?}");
    for at in pointers {
        for target in [honest.len() as i32 - 8, -16] {
            let mut damaged = honest.to_vec();
            damaged[at..at + 4].copy_from_slice(&(target - at as i32).to_le_bytes());
            refuse(INSPECT, &damaged);
        }
    }
}

fn bad_tags_bools_chars_and_texts_are_refused(engine: Engine) {
    let rig = Rig::start(engine);
    let mut peer = rig.peer();
    let mut ids = 1..;
    // Two messages that differ in one thing show where it lies.
    let mut refuse = |change: fn(&mut Shape), bad: &[u8]| {
        let mut other = shape();
        change(&mut other);
        let honest = to_bytes::<Error>(&shape()).expect("serialises");
        let changed = to_bytes::<Error>(&other).expect("serialises");
        let at = honest
            .iter()
            .zip(&*changed)
            .position(|(one, two)| one != two);
        let at = at.expect("they differ");
        assert_eq!(honest.len(), changed.len());
        let mut damaged = honest.to_vec();
        damaged[at..at + bad.len()].copy_from_slice(bad);
        assert_invalid(
            &rig,
            &mut peer,
            ids.next().expect("endless"),
            INSPECT,
            &damaged,
        );
    };
    for bad in [2, 3, 0x80, 0xff] {
        refuse(|shape| shape.solid = false, &[bad]);
    }
    for bad in [0xd800_u32, 0xdfff, 0x11_0000, u32::MAX] {
        refuse(|shape| shape.initial = '\u{101e9}', &bad.to_le_bytes());
    }
    for bad in [0xff, 0x80, 0xc0, 0xf8] {
        refuse(|shape| shape.name.replace_range(..1, "b"), &[bad]);
        refuse(|shape| shape.tags[1].replace_range(..1, "b"), &[bad]);
    }
    // In an inline text 0xff ends it, and 0x80 says that it is none.
    for bad in [0xc0, 0xf8] {
        refuse(|shape| shape.tags[0].replace_range(..1, "b"), &[bad]);
    }
    let honest = |shape: &Shape| to_bytes::<Error>(shape).expect("serialises").to_vec();
    let tag_of = |one: &Shape, two: &Shape, first: u8, second: u8| {
        let (one, two) = (honest(one), honest(two));
        // From the end, where the root lies.
        let back = (1..one.len().min(two.len()))
            .find(|back| (one[one.len() - back], two[two.len() - back]) == (first, second));
        one.len() - back.expect("the tags differ")
    };
    let plain = Shape {
        colour: Colour::Plain,
        inner: None,
        ..shape()
    };
    let named = Shape {
        colour: Colour::Named("tiny".into()),
        ..plain.clone()
    };
    let at = tag_of(&plain, &named, 0, 1);
    for bad in [3, 4, 0x80, 0xff] {
        let mut damaged = honest(&plain);
        damaged[at] = bad;
        assert_invalid(&rig, &mut peer, 1000 + u64::from(bad), INSPECT, &damaged);
    }
    let boxed = Shape {
        inner: Some(Box::new(plain.clone())),
        ..plain.clone()
    };
    let at = tag_of(&plain, &boxed, 0, 1);
    for bad in [2, 3, 0x80, 0xff] {
        let mut damaged = honest(&plain);
        damaged[at] = bad;
        assert_invalid(&rig, &mut peer, 2000 + u64::from(bad), INSPECT, &damaged);
    }
}

fn lengths_beyond_the_payload_are_refused(engine: Engine) {
    let rig = Rig::start(engine);
    let mut peer = rig.peer();
    let mut ids = 1..;
    for count in [
        9,
        16,
        17,
        1 << 16,
        1 << 29,
        1 << 30,
        1 << 31,
        u32::MAX - 8,
        u32::MAX,
    ] {
        let bytes = [[1; 8].to_vec(), vector(-8, count)].concat();
        assert_invalid(&rig, &mut peer, ids.next().expect("endless"), ECHO, &bytes);
        let nodes = [vector(0, 0), vector(-8, count)].concat();
        assert_invalid(&rig, &mut peer, ids.next().expect("endless"), TREE, &nodes);
    }
    // The same at the end of a large body, which has a buffer of its own.
    for count in [100_001, 1 << 30, u32::MAX] {
        let bytes = [vec![1; 100_000], vector(-100_000, count)].concat();
        assert_invalid(&rig, &mut peer, ids.next().expect("endless"), ECHO, &bytes);
    }
}

/// The archive of nodes that each have one child, this many of them.
fn chain(nodes: usize) -> Vec<u8> {
    let mut bytes = vector(0, 0);
    for _ in 1..nodes {
        bytes.extend_from_slice(&vector(-8, 1));
    }
    bytes
}

fn nesting_is_bounded(engine: Engine) {
    let rig = Rig::start(engine);
    let mut bystander = rig.peer();
    let mut peer = rig.peer();
    let two = Node {
        children: vec![Node { children: vec![] }],
    };
    assert_eq!(
        chain(2),
        to_bytes::<Error>(&two).expect("serialises")[..],
        "made right by hand"
    );
    // Deep but honest ones pass: 63 pointers below the root.
    assert_valid(&mut peer, 1, TREE, &chain(1), 0);
    assert_valid(&mut peer, 2, TREE, &chain(2), 1);
    assert_valid(&mut peer, 3, TREE, &chain(60), 1);
    for (call_id, nodes) in (4..).zip([70, 1000, 200_000, 2_000_000]) {
        assert_invalid(&rig, &mut peer, call_id, TREE, &chain(nodes));
    }
    // Wide is not deep: a hundred thousand children.
    let mut wide: Vec<u8> = (0..100_000).flat_map(|at| vector(-8 * at, 0)).collect();
    wide.extend_from_slice(&vector(-(wide.len() as i32), 100_000));
    assert_valid(&mut peer, 10, TREE, &wide, 100_000);
    bystander.echo_works(1);
    assert_eq!(rig.probe.started(), 5);
}

fn shared_subtrees_cost_no_exponential_time(engine: Engine) {
    let rig = Rig::start(engine);
    let mut peer = rig.peer();
    // On each level two nodes with the same two children: 2^60 paths from the root.
    let mut bytes = [vector(0, 0), vector(-8, 0)].concat();
    for _ in 0..60 {
        bytes.extend_from_slice(&vector(-16, 2));
        bytes.extend_from_slice(&vector(-24, 2));
    }
    bytes.extend_from_slice(&vector(-16, 2));
    assert_invalid(&rig, &mut peer, 1, TREE, &bytes);
    peer.echo_works(2);
}

fn payloads_of_the_wrong_size_are_refused(engine: Engine) {
    let rig = Rig::start(engine);
    let mut peer = rig.peer();
    let mut ids = 1..;
    // Shorter than the root, and with the root at an odd address.
    for bytes in 0..8 {
        for method in [ECHO, TREE, WAIT] {
            let call_id = ids.next().expect("endless");
            assert_invalid(&rig, &mut peer, call_id, method, &vec![0; bytes]);
        }
    }
    for bytes in [9, 10, 11, 13] {
        assert_invalid(
            &rig,
            &mut peer,
            ids.next().expect("endless"),
            WAIT,
            &vec![0; bytes],
        );
    }
    let honest = to_bytes::<Error>(&shape()).expect("serialises");
    for cut in 1..honest.len() {
        let (front, back) = (&honest[cut..], &honest[..honest.len() - cut]);
        peer.send(&Frame::request(
            INSPECT,
            ids.next().expect("endless"),
            front,
        ));
        peer.send(&Frame::request(INSPECT, ids.next().expect("endless"), back));
        for _ in 0..2 {
            // The front holds only what the root points to: some of it may be missed by nobody.
            let answer = peer.read();
            assert!(answer.kind == RESPONSE || answer.code() == 3, "{answer:?}");
        }
    }
    assert_eq!(rig.rejected_in_all(), 0);
    rig.probe.release(1);
    let last = ids.next().expect("endless");
    peer.send(&number(WAIT, last, 1));
    peer.expect_response(last, &1_u64.to_le_bytes());
}
