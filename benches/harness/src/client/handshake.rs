//! What is said on a connection before the first call, with plain blocking reads and writes.

use std::io::{self, Read, Write};

use ringcall::__private::wire::header::{Header, Kind};
use ringcall::__private::wire::limits::{CONTROL_BYTES_MAX, HEADER_BYTES};
use socket2::Socket;

use super::frames::refusal;
use crate::servers::Frames;
use crate::wire::Answer;

/// Sends the peer's preamble, and reads one answer for each frame of it.
pub(crate) fn run(mut socket: &Socket, peer: &dyn Frames) -> io::Result<Vec<Answer>> {
    let preamble = peer.preamble();
    socket.write_all(&preamble.concat())?;
    preamble.iter().map(|_| read_answer(socket)).collect()
}

fn read_answer(mut socket: &Socket) -> io::Result<Answer> {
    let mut wire = [0; HEADER_BYTES];
    socket.read_exact(&mut wire)?;
    let header = Header::decode(&wire, CONTROL_BYTES_MAX)
        .map_err(|violation| io::Error::other(format!("answer to the preamble: {violation:?}")))?;
    let mut payload = vec![0; header.body_bytes()];
    socket.read_exact(&mut payload)?;
    payload.truncate(header.payload_bytes as usize);
    match header.kind {
        Kind::Error | Kind::Goaway => Err(refusal(header.kind as u8, header.selector, &payload)),
        _ => Ok(Answer { header, payload }),
    }
}
