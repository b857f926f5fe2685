//! One stream cut in several ways, which must make no difference.

use ringcall::__private::AlignedBuf;
use ringcall::__private::wire::framer::DirectBody;

use crate::source::Source;

/// How a stream arrives.
#[derive(Clone, Debug)]
pub struct Chunking {
    /// Lengths of the chunks, over and over; the whole stream at once if there are none.
    lengths: Vec<usize>,
    /// Bytes before each chunk in its buffer, so that it is not aligned.
    shift: usize,
    /// Whether whole requests may be taken in the short way.
    pub is_quick: bool,
}

impl Chunking {
    /// At once; in pieces that are not aligned; and the same in the short way.
    pub fn three(source: &mut Source<'_>) -> [Self; 3] {
        let count = usize::from(source.u8() % 16);
        // Mostly a few bytes, sometimes tens of thousands.
        let length = |&byte: &u8| match usize::from(byte) {
            few @ ..200 => few + 1,
            many => (many - 199) * 997,
        };
        let lengths: Vec<usize> = source.take(count).iter().map(length).collect();
        let shift = usize::from(source.u8() % 17);
        let cut = |is_quick| Self {
            lengths: lengths.clone(),
            shift,
            is_quick,
        };
        let whole = Self {
            lengths: Vec::new(),
            shift: 0,
            is_quick: true,
        };
        [whole, cut(false), cut(true)]
    }

    /// Hands the pieces to `receive`, each in the buffer and from the place where it lies. While `lend`
    /// gives memory for a large body, bytes go there first, as a driver would receive them. Ends when
    /// `receive` says that it takes no more.
    pub fn feed<C>(
        &self,
        stream: &[u8],
        connection: &mut C,
        lend: impl Fn(&mut C) -> Option<DirectBody>,
        give_back: impl Fn(&mut C, DirectBody),
        mut receive: impl FnMut(&mut C, &[u8], usize) -> bool,
    ) {
        let mut lengths = self.lengths.iter().copied().cycle();
        let mut left = stream;
        while !left.is_empty() {
            let length = lengths.next().unwrap_or(stream.len()).min(left.len());
            let (mut piece, rest) = left.split_at(length);
            left = rest;
            if let Some(mut body) = lend(connection) {
                let room = body.unfilled();
                let count = room.len().min(piece.len());
                room[..count].copy_from_slice(&piece[..count]);
                body.advance(count);
                piece = &piece[count..];
                give_back(connection, body);
            }
            let mut chunk = vec![0; self.shift];
            chunk.extend_from_slice(piece);
            let chunk = AlignedBuf::copy_of(&chunk);
            if !receive(connection, chunk.as_slice(), self.shift) {
                return;
            }
        }
    }
}

/// Every payload is handed on where archives can be read in place.
pub fn assert_aligned(payload: &[u8]) {
    assert!(payload.is_empty() || payload.as_ptr().addr().is_multiple_of(16));
}
