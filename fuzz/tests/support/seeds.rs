//! Seeds of each target, made of the vectors of the document.

use ringcall_fuzz::targets::archives::case_of;
use ringcall_fuzz::wire::{ERROR, GOAWAY, HELLO, RESOLVE, RESOLVED, WELCOME};

use crate::vectors::{Vector, all as vectors};

/// Target, name of the file, bytes.
pub type Seed = (&'static str, String, Vec<u8>);

pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for vector in vectors() {
        match vector.class.as_str() {
            "payload" | "invalid" | "tolerated" => archives(&vector, &mut seeds),
            "frame" => frames(&vector, &mut seeds),
            "violation" => violations(&vector, &mut seeds),
            "session" => session(&vector, &mut seeds),
            _ => (),
        }
    }
    memory_connection(&mut seeds);
    seeds
}

fn archives(vector: &Vector, seeds: &mut Vec<Seed>) {
    let type_name: String = vector.property("type").split_whitespace().collect();
    if let Some(case) = case_of(&type_name) {
        let name = format!("{}_{}", vector.class, vector.name);
        seeds.push(("archives", name, with(&[case], &vector.bytes)));
    }
}

fn frames(vector: &Vector, seeds: &mut Vec<Seed>) {
    let wire = &vector.bytes;
    let payload_bytes = u32::from_le_bytes([wire[0], wire[1], wire[2], wire[3]]) as usize;
    let payload = &wire[32..32 + payload_bytes];
    let mut decoders = |how: &str, start: &[u8], bytes: &[u8]| {
        let name = format!("{how}_{}", vector.name);
        seeds.push(("decoders", name, with(start, bytes)));
    };
    decoders("header", &[1], &wire[..32]);
    match wire[4] {
        HELLO | WELCOME => decoders("handshake", &[0], payload),
        RESOLVE => decoders("resolve", &[2], payload),
        RESOLVED => decoders("resolved", &[3], payload),
        GOAWAY => decoders("goaway", &[4], payload),
        ERROR => decoders("status", &[5, wire[6], wire[7]], payload),
        _ => (),
    }
    seeds.push(("framer", vector.name.clone(), with(&[0], &with(&CUT, wire))));
}

/// Chunks of 32, 1 and 6 bytes, behind 5 others.
const CUT: [u8; 5] = [3, 31, 0, 5, 5];

fn violations(vector: &Vector, seeds: &mut Vec<Seed>) {
    // Behind HELLO and RESOLVE, unless it is the first that is sent.
    let how = if vector.find("state") == Some("new") {
        0
    } else {
        3
    };
    let name = format!("violation_{}", vector.name);
    let stream = with(&[0], &vector.bytes);
    seeds.push((
        "server_connection",
        name.clone(),
        with(&[how], &with(&CUT, &stream)),
    ));
    seeds.push(("framer", name, with(&[0], &with(&CUT, &vector.bytes))));
}

fn session(vector: &Vector, seeds: &mut Vec<Seed>) {
    let stream_of = |who| {
        let turns = vector.turns.iter().filter(|(sender, _)| *sender == who);
        turns
            .flat_map(|(_, bytes)| bytes.clone())
            .collect::<Vec<u8>>()
    };
    let name = format!("session_{}", vector.name);
    for goaway_after in [0, 2] {
        let stream = with(&[goaway_after], &stream_of('C'));
        let seed = with(&[0], &with(&CUT, &stream));
        seeds.push(("server_connection", format!("{name}_{goaway_after}"), seed));
    }
    // Three calls, of which one is cancelled after the first event.
    let acts = [4, 0, 0, 9, 0, 2, 20, 0, 1, 3, 2, 1, 3];
    for how in [0, 1] {
        let stream = with(&acts, &stream_of('S'));
        let seed = with(&[how], &with(&CUT, &stream));
        seeds.push(("client_connection", format!("{name}_{how}"), seed));
    }
    // The same calls, with frames that are made of choices: RESOLVED, two responses, an error, a GOAWAY.
    let frames: [&[u8]; 6] = [
        &[0, 1, 2, 1, 0, 4, 0, 2, 0, 5, 0, 0, 0, 0],
        &[0, 2, 1, 3, 0, 6, 0, 0, 0, 0],
        &[3, 0, 0, 40, 0, 0, 0],
        &[7, 0, 1, 3, b'a', b'b', b'c', 5, 0, 0, 0, 0],
        &[3, 2, 2, 200, 0, 0, 0],
        &[10, 0, 0, 0, 0, 0],
    ];
    for count in 1..=frames.len() {
        let stream = with(&acts, &frames[..count].concat());
        let seed = with(&[3], &with(&CUT, &stream));
        seeds.push(("client_connection", format!("choices_{count}"), seed));
    }
}

/// Scripts of choices, since handlers are called by frames that the target writes itself.
fn memory_connection(seeds: &mut Vec<Seed>) {
    let deliver: &[u8] = &[6, 0xff, 0x7f];
    let scripts: [(&str, &[&[u8]]); 8] = [
        ("echo", &[&[0, 0, 0, 9, 0], deliver]),
        (
            "echo_large",
            &[
                &[0, 0, 128, 0xff, 0xff],
                deliver,
                deliver,
                deliver,
                deliver,
                deliver,
                deliver,
            ],
        ),
        ("sleep", &[&[0, 0, 1, 50, 0], deliver, &[5, 200]]),
        (
            "put_and_get",
            &[&[0, 0, 2, 12, 40, 0], &[0, 0, 3], deliver, &[5, 9]],
        ),
        (
            "fail",
            &[
                &[0, 0, 4, 0],
                &[0, 0, 4, 1],
                &[0, 0, 4, 3],
                deliver,
                &[5, 20],
            ],
        ),
        (
            "hold_and_cancel",
            &[
                &[0, 0, 5, 9],
                &[0, 0, 5, 3],
                deliver,
                &[3, 0],
                deliver,
                &[5, 255],
            ],
        ),
        (
            "limited",
            &[
                &[0, 0, 1, 9, 9],
                &[0, 0, 1, 9, 9],
                &[0, 0, 1, 9, 9],
                deliver,
                &[5, 255],
            ],
        ),
        (
            "damaged",
            &[
                &[0, 0, 37, 9, 7, 255],
                &[0, 0, 34, 9, 9, 0, 3, 128],
                deliver,
                &[4, 9, 1],
                deliver,
            ],
        ),
    ];
    for (name, script) in scripts {
        let how = if name == "limited" { 7 } else { 0 };
        seeds.push((
            "memory_connection",
            name.into(),
            with(&[how], &script.concat()),
        ));
    }
}

fn with(start: &[u8], rest: &[u8]) -> Vec<u8> {
    [start, rest].concat()
}
