//! Connected sockets on the ring: what is received and sent for each, and when it is closed.

use std::io;
use std::rc::Rc;

use super::kernel::Kernel;
use super::operation::{OpKey, Operation};
use crate::buf::TakenBuffer;
use crate::client::core::target::Target;
use crate::client::unread::Unread;
use crate::connection::lifecycle::{Read, Stage};
use crate::connection::outgoing::Outgoing;
use crate::net::options::StreamOptions;
use crate::planted_bugs::{Bug, is_planted};
use crate::shard::conn::Conn;
use crate::wire::framer::DirectBody;

/// The sockets of a shard, at the place that each connection remembers.
pub(super) struct Sockets<K: Kernel> {
    options: StreamOptions,
    slots: Vec<Option<Socket<K::Socket>>>,
    free: Vec<u32>,
    /// Sockets whose receive ended because there was no buffer.
    starved: Vec<u32>,
}

struct Socket<S> {
    conn: Rc<Conn>,
    system: Rc<S>,
    receive: Option<OpKey>,
    send: Option<OpKey>,
    connect: Option<OpKey>,
    watch: Watch,
    /// Whether the end of `receive` was asked for.
    is_stopping: bool,
    /// Whether the end of everything was asked for.
    is_closing: bool,
    /// Whether its receive waits for a buffer.
    is_starved: bool,
    /// Whether sending waits until what lies in the socket was received.
    awaits_bytes: bool,
    /// Whether a single receive comes next: after a large body, since another large one likely follows,
    /// for which a multishot would have to be ended again; and when buffers have run out.
    is_bulk: bool,
}

/// Looking after a socket from which nothing is received.
#[derive(Clone, Copy)]
enum Watch {
    Off,
    On(OpKey),
    /// It told that the peer has closed its side, and would tell it again and again. Reading on
    /// will find that too.
    Told,
}

impl<K: Kernel> Sockets<K> {
    pub(super) fn new(options: StreamOptions) -> Self {
        Self {
            options,
            slots: Vec::new(),
            free: Vec::new(),
            starved: Vec::new(),
        }
    }

    /// The options for new sockets.
    pub(super) fn options(&self) -> &StreamOptions {
        &self.options
    }

    /// Enters a connected socket.
    pub(super) fn add(&mut self, conn: &Rc<Conn>, system: K::Socket) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        conn.engine_slot.set(slot);
        self.slots[slot as usize] = Some(Socket {
            conn: Rc::clone(conn),
            system: Rc::new(system),
            receive: None,
            send: None,
            connect: None,
            watch: Watch::Off,
            is_stopping: false,
            is_closing: false,
            is_starved: false,
            awaits_bytes: false,
            is_bulk: false,
        });
        conn.attend();
    }

    /// Makes the connection of a local client.
    pub(super) fn connect(
        &mut self,
        ring: &mut K,
        conn: &Rc<Conn>,
        target: &Target,
    ) -> io::Result<()> {
        match ring.open(target, &self.options) {
            Ok(system) => self.add(conn, system),
            Err(error) => {
                conn.shard.connect_failed(conn, &error);
                return Ok(());
            }
        }
        let slot = conn.engine_slot.get();
        let address = Box::new(target.address.clone());
        let socket = self.socket(slot);
        let connect = Operation::Connect {
            socket: slot,
            address,
        };
        socket.connect = Some(ring.start(&socket.system, connect)?);
        Ok(())
    }

    pub(super) fn connected(&mut self, ring: &K, slot: u32, result: io::Result<u32>) {
        let socket = self.socket(slot);
        socket.connect = None;
        let conn = Rc::clone(&socket.conn);
        let result = result.and_then(|_| ring.refuse_itself(&socket.system));
        if let Err(error) = result
            && conn.stage() == Stage::Open
        {
            // Nothing else is in flight before a socket is connected.
            self.release(slot, &conn);
            conn.shard.connect_failed(&conn, &error);
        }
        conn.attend();
    }

    /// Closes a socket and gives its place away.
    fn release(&mut self, slot: u32, conn: &Conn) {
        self.slots[slot as usize] = None;
        self.free.push(slot);
        if !is_planted(Bug::StaleSocketPlace) {
            conn.engine_slot.set(u32::MAX);
        }
    }

    fn socket(&mut self, slot: u32) -> &mut Socket<K::Socket> {
        self.slots[slot as usize]
            .as_mut()
            .expect("an operation in flight keeps its socket")
    }

    /// Takes received bytes to the shard.
    #[inline]
    pub(super) fn received(
        &mut self,
        ring: &mut K,
        slot: u32,
        result: io::Result<u32>,
        buffer: Option<TakenBuffer>,
        is_last: bool,
    ) {
        let socket = self.socket(slot);
        let conn = Rc::clone(&socket.conn);
        let shard = &conn.shard;
        if is_last {
            socket.receive = None;
            socket.is_stopping = false;
            conn.attend();
        }
        if socket.awaits_bytes {
            socket.awaits_bytes = false;
            conn.attend();
        }
        let (bytes, buffer) = match (result, buffer) {
            (Ok(bytes @ 1..), Some(buffer)) => (bytes as usize, buffer),
            (other, buffer) => {
                if let Some(buffer) = buffer {
                    shard.pool.put_back(buffer);
                }
                return self.received_nothing(ring, slot, other);
            }
        };
        // While memory is short, buffers are given out in part.
        let is_part = bytes < shard.pool.buffer_bytes();
        if socket.is_bulk && is_part && !shard.is_short_of_memory() {
            socket.is_bulk = false;
        }
        shard.receive(&conn, shard.pool.filled(buffer, bytes));
    }

    /// A receive has brought the end of the stream, or an error.
    #[cold]
    fn received_nothing(&mut self, ring: &mut K, slot: u32, result: io::Result<u32>) {
        let socket = self.socket(slot);
        let conn = Rc::clone(&socket.conn);
        let shard = &conn.shard;
        match result {
            Ok(_) => shard.peer_closed(&conn),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOBUFS) => {
                    if ring.ran_out_of_buffers() {
                        shard.counters.buffers_exhausted.add(1);
                    }
                    if !std::mem::replace(&mut socket.is_starved, true) {
                        self.starved.push(slot);
                    }
                }
                Some(libc::ECANCELED | libc::EINTR | libc::EAGAIN) => (),
                _ => shard.lost(&conn, &error),
            },
        }
    }

    /// Whether receives wait for buffers.
    #[inline]
    pub(super) fn has_starved(&self) -> bool {
        !self.starved.is_empty()
    }

    /// When buffers are there again, the receives that waited for them go on.
    pub(super) fn feed_starved(&mut self, ring: &mut K) -> io::Result<()> {
        let is_forgotten = is_planted(Bug::StarvedForever) && self.starved.len() > 1;
        if self.starved.is_empty() || !ring.has_buffers() || is_forgotten {
            return Ok(());
        }
        for slot in std::mem::take(&mut self.starved) {
            let Some(socket) = &mut self.slots[slot as usize] else {
                continue;
            };
            if std::mem::replace(&mut socket.is_starved, false) {
                // One buffer for each: a multishot would take as many as there are bytes for, and leave the
                // others none.
                socket.is_bulk = true;
                let read = socket.conn.plan_read();
                self.receive_or_stop(ring, slot, read)?;
            }
        }
        Ok(())
    }

    /// Takes a part of a large body back to the shard.
    pub(super) fn received_direct(
        &mut self,
        slot: u32,
        mut body: DirectBody,
        result: io::Result<u32>,
    ) {
        let socket = self.socket(slot);
        socket.receive = None;
        socket.is_stopping = false;
        socket.awaits_bytes = false;
        let conn = Rc::clone(&socket.conn);
        let shard = &conn.shard;
        conn.attend();
        match result {
            Ok(0) => {
                shard.receive_direct(&conn, body);
                shard.peer_closed(&conn);
            }
            Ok(bytes) => {
                body.advance(bytes as usize);
                shard.receive_direct(&conn, body);
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::ECANCELED | libc::EINTR | libc::EAGAIN) => {
                    shard.receive_direct(&conn, body);
                }
                _ => shard.lost(&conn, &error),
            },
        }
    }

    /// A socket from which nothing is received has broken, or its peer has closed its side.
    pub(super) fn watched(&mut self, ring: &K, slot: u32, result: io::Result<u32>) {
        let socket = self.socket(slot);
        let conn = Rc::clone(&socket.conn);
        let is_broken = |events: u32| events & (libc::POLLERR | libc::POLLHUP) as u32 != 0;
        socket.watch = match result {
            Ok(events) if !is_broken(events) => Watch::Told,
            _ => Watch::Off,
        };
        // If it is read from, the receive will say so.
        if result.is_ok_and(is_broken) && conn.is_unread() {
            let reset = || io::ErrorKind::ConnectionReset.into();
            let error = ring.take_error(&socket.system).unwrap_or_else(reset);
            conn.shard.lost(&conn, &error);
        }
        conn.attend();
    }

    /// Books what was sent; what is left of it goes on.
    #[inline]
    pub(super) fn sent(
        &mut self,
        ring: &mut K,
        slot: u32,
        message: Outgoing,
        result: io::Result<u32>,
    ) -> io::Result<()> {
        let socket = self.socket(slot);
        socket.send = None;
        let conn = Rc::clone(&socket.conn);
        let sent_bytes = match result {
            Ok(bytes) => bytes as usize,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => 0,
            Err(error) => {
                conn.give_up(&message);
                conn.shard.lost(&conn, &error);
                return Ok(());
            }
        };
        match conn.sent_some(message, sent_bytes) {
            Some(rest) if conn.stage() < Stage::Closing => {
                let send = ring.send_of(slot, rest);
                socket.send = Some(ring.start(&socket.system, send)?);
            }
            Some(rest) => {
                conn.not_sent(&rest);
                conn.attend();
            }
            None => (),
        }
        Ok(())
    }

    /// Brings a connection's operations in line with its plan.
    #[inline]
    pub(super) fn attend(&mut self, ring: &mut K, conn: &Rc<Conn>) -> io::Result<()> {
        let slot = conn.engine_slot.get();
        if slot == u32::MAX {
            // A local client's connection whose socket could not be made.
            if conn.stage() == Stage::Closing {
                conn.shard.closed(conn);
            }
            return Ok(());
        }
        let Some(socket) = &mut self.slots[slot as usize] else {
            return Ok(());
        };
        let is_connected = socket.connect.is_none();
        if is_connected && conn.must_look_first() {
            socket.look_first(ring);
        }
        let plan = conn.shard.plan(conn);
        if plan.close {
            return self.close(ring, slot, conn);
        }
        if plan.transmit && is_connected && !socket.awaits_bytes {
            start_send(ring, socket, slot)?;
        }
        if plan.shutdown {
            ring.shut_down_writing(&socket.system);
            conn.shard.linger(conn);
        }
        if plan.read == Read::Watch && matches!(socket.watch, Watch::Off) {
            let watch = ring.start(&socket.system, Operation::Watch { socket: slot })?;
            socket.watch = Watch::On(watch);
        }
        if is_connected && !socket.is_starved {
            self.receive_or_stop(ring, slot, plan.read)?;
        }
        conn.shard.arm_timer(conn);
        Ok(())
    }

    #[inline]
    fn receive_or_stop(&mut self, ring: &mut K, slot: u32, read: Read) -> io::Result<()> {
        let socket = self.socket(slot);
        match socket.receive {
            // A large body has begun, or reading must stop.
            Some(key) if read != Read::Any && !socket.is_stopping => {
                socket.is_stopping = true;
                if is_planted(Bug::CancelAcknowledgedEarly) {
                    socket.receive = None;
                }
                ring.cancel(key)
            }
            None if matches!(read, Read::Any | Read::Into) => {
                let receive = match socket.conn.take_direct() {
                    Some(body) => {
                        socket.is_bulk = true;
                        Operation::ReceiveDirect { socket: slot, body }
                    }
                    None => Operation::Receive {
                        socket: slot,
                        is_multishot: !socket.is_bulk,
                    },
                };
                socket.receive = Some(ring.start(&socket.system, receive)?);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Ends what is in flight; when nothing is, the socket is closed.
    fn close(&mut self, ring: &mut K, slot: u32, conn: &Rc<Conn>) -> io::Result<()> {
        let socket = self.socket(slot);
        let watch = match socket.watch {
            Watch::On(key) => Some(key),
            Watch::Off | Watch::Told => None,
        };
        let in_flight = [socket.receive, socket.send, socket.connect, watch];
        if !std::mem::replace(&mut socket.is_closing, true) {
            for key in in_flight.into_iter().flatten() {
                ring.cancel(key)?;
            }
        }
        if in_flight.iter().all(Option::is_none) {
            self.release(slot, conn);
            conn.shard.closed(conn);
        }
        Ok(())
    }
}

impl<S> Socket<S> {
    /// Looks into the socket before a client's calls are sent. Its receive brings what lies there, but
    /// not before the kernel is entered: until then they wait.
    #[cold]
    fn look_first(&mut self, kernel: &impl Kernel<Socket = S>) {
        let shard = &self.conn.shard;
        match kernel.look(&self.system) {
            Unread::Nothing => (),
            Unread::Bytes => self.awaits_bytes = true,
            Unread::End => shard.peer_closed(&self.conn),
            Unread::Broken(error) => shard.lost(&self.conn, &error),
        }
    }
}

/// Sends everything that is queued, if nothing is being sent: at most one send per connection and
/// turn.
#[inline]
fn start_send<K: Kernel>(
    ring: &mut K,
    socket: &mut Socket<K::Socket>,
    slot: u32,
) -> io::Result<()> {
    if socket.send.is_some() && !is_planted(Bug::TwoSendsInFlight) {
        return Ok(());
    }
    let Some(message) = socket.conn.begin_send() else {
        return Ok(());
    };
    let send = ring.send_of(slot, message);
    socket.send = Some(ring.start(&socket.system, send)?);
    Ok(())
}
