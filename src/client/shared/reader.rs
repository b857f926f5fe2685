//! Receives into memory that responses share.

use std::io;
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use rustix::io::retry_on_intr;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::wire::framer::DirectBody;
use crate::wire::limits::FRAME_ALIGN;

/// Reads chunks out of one large buffer after the other. A response holds the buffer that it lies
/// in; one that nobody holds any more is used again.
///
/// Within a buffer, chunk follows chunk without a gap, and a new buffer begins at an address that
/// fits the stream's position. So every frame is aligned, and only one that straddles two chunks
/// is copied.
#[derive(Debug, Default)]
pub(super) struct Reader {
    buffer: BytesMut,
    /// Bytes that were read so far, into whatever memory.
    position: usize,
}

fn recv_now(socket: impl AsFd, memory: &mut [u8]) -> io::Result<usize> {
    let received = retry_on_intr(|| recv(&socket, &mut *memory, RecvFlags::DONTWAIT));
    Ok(received.map(|(bytes, _)| bytes)?)
}

/// Bytes of a buffer.
const BUFFER_BYTES: usize = 64 * 1024;
/// A buffer with less room than this is left to the responses in it.
const ROOM_BYTES_MIN: usize = 8 * 1024;

impl Reader {
    /// Reads what has arrived; an empty chunk is the end of the stream.
    pub(super) fn poll_chunk<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Bytes>> {
        self.make_room();
        let read = pin!(stream.read_buf(&mut self.buffer));
        self.position += ready!(read.poll(cx))?;
        Poll::Ready(Ok(self.buffer.split().freeze()))
    }

    /// Reads the next part of a large body into its place; zero bytes are the end of the stream.
    pub(super) fn poll_direct<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        body: &mut DirectBody,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut part = ReadBuf::new(body.unfilled());
        ready!(Pin::new(stream).poll_read(cx, &mut part))?;
        let bytes = part.filled().len();
        body.advance(bytes);
        self.position += bytes;
        Poll::Ready(Ok(bytes))
    }

    /// Reads what lies in a socket, without waiting and whatever the runtime knows of it; an empty chunk
    /// is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing lies there.
    pub(super) fn read_now(&mut self, socket: impl AsFd) -> io::Result<Bytes> {
        self.make_room();
        let begin = self.buffer.len();
        self.buffer.resize(self.buffer.capacity(), 0);
        let received = recv_now(socket, &mut self.buffer[begin..]);
        let bytes = *received.as_ref().unwrap_or(&0);
        self.buffer.truncate(begin + bytes);
        received?;
        self.position += bytes;
        Ok(self.buffer.split().freeze())
    }

    /// The same for the next part of a large body.
    pub(super) fn read_direct_now(
        &mut self,
        socket: impl AsFd,
        body: &mut DirectBody,
    ) -> io::Result<usize> {
        let bytes = recv_now(socket, body.unfilled())?;
        body.advance(bytes);
        self.position += bytes;
        Ok(bytes)
    }

    fn make_room(&mut self) {
        if self.buffer.capacity() >= ROOM_BYTES_MIN {
            return;
        }
        self.buffer.reserve(BUFFER_BYTES);
        let address = self.buffer.as_ptr() as usize;
        let skew = self.position.wrapping_sub(address) % FRAME_ALIGN;
        self.buffer.resize(skew, 0);
        self.buffer.advance(skew);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// Reads all that is written in steps, and checks that addresses keep pace with the stream.
    #[tokio::test]
    async fn addresses_follow_the_stream_over_any_number_of_buffers() {
        let (mut far, mut near) = tokio::io::duplex(10_000);
        let writer = tokio::spawn(async move {
            for step in 0..200_u32 {
                let bytes = vec![step as u8; 16 * (step as usize % 90) + 7];
                far.write_all(&bytes).await.expect("read");
            }
        });
        let (mut reader, mut held, mut position) = (Reader::default(), Vec::new(), 0);
        loop {
            let chunk = std::future::poll_fn(|cx| reader.poll_chunk(&mut near, cx)).await;
            let chunk = chunk.expect("no error");
            if chunk.is_empty() {
                break;
            }
            assert_eq!(
                chunk.as_ptr() as usize % FRAME_ALIGN,
                position % FRAME_ALIGN
            );
            position += chunk.len();
            held.push(chunk);
        }
        writer.await.expect("no panic");
        assert!(position > 2 * BUFFER_BYTES, "more than two buffers");
    }
}
