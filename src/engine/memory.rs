//! A shard without sockets or a ring: bytes in, bytes out. It is for counting instructions and
//! allocations of the path between two system calls, and for feeding hostile bytes quickly.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::channel;

use super::{EngineConfig, Idle, ShardStart};
use crate::buf::Chunk;
use crate::connection::lifecycle::Stage;
use crate::net::options::StreamOptions;
use crate::net::transport::Transport;
use crate::shard::conn::Conn;
use crate::shard::counters::Counters;
use crate::shard::mailbox::Mailbox;
use crate::shard::service::IntoServices;
use crate::shard::{Place, ShardConfig, ShardCore};
use crate::wire::limits::Limits;

/// A shard with one accepted connection, whose bytes the caller moves.
#[derive(Debug)]
pub struct MemoryConnection {
    shard: Rc<ShardCore>,
    conn: Rc<Conn>,
}

impl MemoryConnection {
    /// Makes the shard on this thread, with `services`.
    ///
    /// # Panics
    /// When the services are wrong or no descriptor is left.
    pub fn new(services: impl IntoServices + 'static, limits: Limits) -> Self {
        let start = ShardStart {
            place: Place {
                id: 0,
                count: 1,
                cpu: None,
                serves: true,
            },
            shard_config: ShardConfig {
                limits: Arc::new(limits),
                connections_max: 1,
                recv_buffers: 16,
                recv_buffer_bytes: 32 * 1024,
                memory_bytes: usize::MAX / 4,
                drain_timeout: std::time::Duration::from_secs(1),
            },
            engine_config: EngineConfig {
                idle: Idle::Spin,
                stream: StreamOptions::default(),
            },
            counters: Arc::new(Counters::default()),
            mailbox: Mailbox::new(true).expect("a descriptor for the mailbox"),
            listeners: Vec::new(),
            factory: Box::new(move |_| services.into_services()),
            ready: channel().0,
        };
        let (shard, _) = start
            .start(|shard, _, _| Ok(shard))
            .expect("the services are right");
        let conn = shard
            .accept("memory".into(), Transport::Unix)
            .expect("room for one connection");
        Self { shard, conn }
    }

    /// Takes bytes as if one receive had brought them, runs what follows, and appends what would
    /// be sent to `sent`. Says whether the connection is still open.
    ///
    /// # Panics
    /// When there are more bytes than one receive buffer holds.
    pub fn exchange(&mut self, bytes: &[u8], sent: &mut Vec<u8>) -> bool {
        let shard = &self.shard;
        shard.begin_turn();
        let buffer = shard.pool.take().expect("no handler holds all buffers");
        let chunk = shard
            .pool
            .fill_with(buffer, |memory| {
                memory[..bytes.len()].copy_from_slice(bytes);
                Ok::<_, std::convert::Infallible>(bytes.len())
            })
            .expect("can't fail");
        if let Some(chunk) = chunk {
            shard.receive(&self.conn, chunk);
        }
        shard.run_due();
        while let Some(conn) = shard.pop_attention() {
            if shard.plan(&conn).transmit {
                hand_over_output(&conn, sent);
            }
            shard.arm_timer(&conn);
        }
        shard.end_turn();
        self.conn.stage() == Stage::Open
    }

    /// Runs a call without its frame: finds the method, validates the payload, polls the handler and
    /// encodes its answer, which is dropped. Returns the bytes of that.
    ///
    /// # Panics
    /// When no method has this index, or there was no handshake.
    pub fn dispatch(&mut self, method: u16, call_id: u64, payload: &Chunk) -> usize {
        self.shard
            .dispatch(&self.conn, method, call_id, payload.clone());
        let mut queue = self.conn.output_mut();
        let answer_bytes = queue.filling().len();
        queue.filling().clear();
        answer_bytes
    }
}

/// Appends what is queued on a connection, all of which counts as sent.
#[inline(always)]
fn hand_over_output(conn: &Conn, sent: &mut Vec<u8>) {
    let spare = &conn.shard.spare_buffers;
    while let Some(message) = conn.take_output(spare) {
        message
            .unsent()
            .for_each(|bytes| sent.extend_from_slice(bytes));
        conn.sent(message.unsent_bytes(), true);
        message.recycle(spare);
    }
}

impl Drop for MemoryConnection {
    fn drop(&mut self) {
        self.shard.closed(&self.conn);
        self.shard.finish();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::connection::client::ClientConnection;
    use crate::rpc::reply::Reply;
    use crate::rpc::request::Request;
    use crate::shard::context::Context;
    use crate::shard::handler::Method;
    use crate::shard::service::{IncomingCall, Service};
    use crate::wire::frame_writer::append_bare;
    use crate::wire::header::{Header, Kind};
    use crate::wire::resolve::{MethodDescriptor, ServiceDescriptor};
    use crate::wire::status::Status;

    static SLEEPER: ServiceDescriptor = ServiceDescriptor {
        name: "sleeper",
        methods: &[MethodDescriptor {
            name: "sleeper/sleep",
            fingerprint: 1,
            idempotent: false,
            request_bytes_max: u32::MAX,
        }],
    };

    struct Sleeper;

    impl Service for Sleeper {
        fn descriptor(&self) -> &'static ServiceDescriptor {
            &SLEEPER
        }

        fn call(&self, _method: u16, call: IncomingCall<'_>) {
            call.unary::<Self, Self>(&Rc::new(Self));
        }
    }

    impl Method<Self> for Sleeper {
        type Request = ();
        type Response = ();

        async fn run<'a>(
            _: &'a Self,
            cx: &'a Context,
            _: Request<()>,
        ) -> Result<Reply<()>, Status> {
            cx.sleep(Duration::from_secs(3600)).await;
            Ok(().into())
        }
    }

    /// A new connection waits for attention: the shard holds it, and it the shard.
    #[test]
    fn a_shard_that_ends_before_its_first_turn_is_gone() {
        let connection = MemoryConnection::new(Sleeper, Limits::default());
        let shard = Rc::downgrade(&connection.shard);
        drop(connection);
        assert_eq!(shard.strong_count(), 0);
    }

    /// Gives the shard bytes as an engine does, and leaves its output where it is.
    fn receive(connection: &MemoryConnection, bytes: &[u8]) {
        let shard = &connection.shard;
        let buffer = shard.pool.take().expect("there are buffers");
        let filled = shard.pool.fill_with(buffer, |memory| {
            memory[..bytes.len()].copy_from_slice(bytes);
            Ok::<_, std::convert::Infallible>(bytes.len())
        });
        let chunk = filled.expect("can't fail").expect("there are bytes");
        shard.receive(&connection.conn, chunk);
    }

    #[test]
    fn what_waits_comes_before_what_is_received_into_place() {
        let limits = Limits {
            write_queue_bytes_high: 256,
            ..Limits::default()
        };
        let connection = MemoryConnection::new(Sleeper, limits);
        let (shard, conn) = (&connection.shard, &connection.conn);
        let mut wire = Vec::new();
        let limits = Arc::new(Limits::default());
        ClientConnection::<()>::new(limits, 0, &mut wire).resolve(&SLEEPER, &mut wire);
        for token in 0..16 {
            append_bare(&mut wire, Kind::Ping, token);
        }
        // A large body begins when there is too much output already.
        let request = Header::new(Kind::Request, 1 << 20, 100_000);
        wire.extend_from_slice(&request.encode());
        wire.extend_from_slice(&[1; 1000]);
        shard.begin_turn();
        receive(&connection, &wire);
        assert!(conn.wants_direct());
        receive(&connection, &[2; 1000]);
        assert!(conn.is_paused() && !conn.wants_direct());
        assert!(conn.take_direct().is_none(), "the second piece comes first");
        let mut queue = conn.output_mut();
        let output_bytes = queue.len();
        while queue.take(Vec::new).is_some() {}
        queue.sent(output_bytes, true);
        drop(queue);
        shard.begin_turn();
        shard.plan(conn);
        let mut body = conn.take_direct().expect("all that waited is used up");
        let left = 100_000 - 2000;
        assert!(body.unfilled().len() <= left && !body.unfilled().is_empty());
        shard.receive_direct(conn, body);
        assert_eq!(connection.conn.stage(), Stage::Open);
    }

    /// A peer that does not read is looked at again later, not in every turn, when there is no room to
    /// read on.
    #[test]
    fn output_that_sticks_without_room_keeps_nobody_busy() {
        let limits = Limits {
            write_queue_bytes_high: 256,
            request_bytes_in_flight_max: 0,
            ..Limits::default()
        };
        let connection = MemoryConnection::new(Sleeper, limits);
        let (shard, conn) = (&connection.shard, &connection.conn);
        let mut wire = Vec::new();
        ClientConnection::<()>::new(Arc::new(Limits::default()), 0, &mut wire);
        for token in 0..16 {
            append_bare(&mut wire, Kind::Ping, token);
        }
        shard.begin_turn();
        receive(&connection, &wire);
        receive(&connection, &wire[wire.len() - 32..]);
        // As an engine does whose socket takes nothing.
        let turn = || {
            shard.begin_turn();
            shard.run_due();
            while let Some(conn) = shard.pop_attention() {
                shard.plan(&conn);
                conn.note_progress(false);
                shard.arm_timer(&conn);
            }
        };
        turn();
        turn();
        assert!(conn.is_unread());
        let mut looks = 0;
        while shard.next_deadline_ns().expect("it is looked at again") < 500_000_000 {
            looks += 1;
            assert!(looks < 100, "a look every {} ns", shard.now_ns() / looks);
            while !shard.is_timer_due() {
                shard.begin_turn();
            }
            turn();
        }
        assert!(looks > 1 && conn.is_unread());
    }

    /// So does a handler that waits, by its connection and its timer.
    #[test]
    fn a_shard_that_ends_in_the_middle_of_a_call_is_gone() {
        let mut connection = MemoryConnection::new(Sleeper, Limits::default());
        let limits = Arc::new(Limits::default());
        let (mut hello, mut request, mut sent) = (Vec::new(), Vec::new(), Vec::new());
        let mut client = ClientConnection::new(limits, 0, &mut hello);
        client
            .begin_call(&SLEEPER, 0, 0, (), |_, _| Ok(()), &mut hello)
            .expect("begins");
        assert!(connection.exchange(&hello, &mut sent));
        let answers = crate::buf::AlignedBuf::copy_of(&sent);
        let mut at = 0;
        while let Some(event) = client
            .next_event(answers.as_slice(), &mut at, 0, &mut request)
            .expect("what a server says")
        {
            drop(event);
        }
        assert!(connection.exchange(&request, &mut sent));
        assert_eq!(connection.shard.counters.in_flight.get(), 1);
        let shard = Rc::downgrade(&connection.shard);
        drop(connection);
        assert_eq!(shard.strong_count(), 0);
    }
}
