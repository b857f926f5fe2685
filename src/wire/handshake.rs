//! HELLO and WELCOME: the first frame of each side.
//!
//! Both carry the same 40 bytes:
//! ```text
//!  0  magic                8 bytes  "RINGCALL"
//!  8  version_min          u16      lowest version spoken (WELCOME: the chosen one, twice)
//! 10  version_max          u16      highest version spoken
//! 12  rkyv_format          u32      layout of archives, see RKYV_FORMAT
//! 16  features             u64      offered (WELCOME: accepted), none defined yet
//! 24  payload_bytes_max    u32      largest message that the sender accepts
//! 28  calls_in_flight_max  u32      calls that the sender runs at once for this connection
//! 32  shards               u16      shards of the server (HELLO: zero)
//! 34  shard                u16      which of them the connection has come to, from 0 (HELLO: zero)
//! 36  reserved             u32      zero
//! ```

use super::limits::Limits;
use super::violation::Violation;

/// First bytes of every handshake payload.
pub const MAGIC: [u8; 8] = *b"RINGCALL";
/// Lowest protocol version that this side speaks.
pub const VERSION_MIN: u16 = 1;
/// Highest protocol version that this side speaks.
pub const VERSION_MAX: u16 = 1;
/// Bytes of a handshake payload.
pub const HANDSHAKE_BYTES: usize = 40;
/// Bytes at the start of it that mean the same in every version: the magic and the versions.
const COMMON_BYTES: usize = 12;
/// Features that this side offers and accepts: none are defined in version 1.
pub const FEATURES: u64 = 0;

/// How archives are laid out: bit 0 little-endian, bit 1 aligned, bits 8 to 15 the width of
/// relative pointers, bits 16 to 23 rkyv's format generation (8, for 0.8).
///
/// rkyv's format is chosen by cargo features of the whole build, so it is looked up, not assumed.
pub const RKYV_FORMAT: u32 = {
    let pointer_bits = size_of::<rkyv::primitive::FixedIsize>() as u32 * 8;
    let layout = <rkyv::primitive::ArchivedU32 as IntegerLayout>::BITS;
    layout | pointer_bits << 8 | 8 << 16
};

/// The format of builds that choose none: little-endian, aligned, 32-bit pointers.
pub const RKYV_FORMAT_USUAL: u32 = 0x0008_2003;

/// Which of rkyv's integer types a build uses says which format features are on.
trait IntegerLayout {
    const BITS: u32;
}

impl IntegerLayout for rkyv::rend::u32_le {
    const BITS: u32 = 0b11;
}
impl IntegerLayout for rkyv::rend::u32_be {
    const BITS: u32 = 0b10;
}
impl IntegerLayout for rkyv::rend::unaligned::u32_ule {
    const BITS: u32 = 0b01;
}
impl IntegerLayout for rkyv::rend::unaligned::u32_ube {
    const BITS: u32 = 0b00;
}

/// Where a connection has come to: one of the shards of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardIndex {
    /// Number of the shard, less than `shards`.
    pub shard: u16,
    /// Shards of the server, at least one.
    pub shards: u16,
}

impl ShardIndex {
    /// That of a server of one shard.
    pub const ALONE: Self = Self {
        shard: 0,
        shards: 1,
    };

    /// That of a shard among so many. What there is no room for is told as the most that there is.
    pub fn new(shard: usize, shards: usize) -> Self {
        debug_assert!(shard < shards);
        let shards = u16::try_from(shards).unwrap_or(u16::MAX);
        let shard = u16::try_from(shard).unwrap_or(u16::MAX);
        Self {
            shard: shard.min(shards - 1),
            shards,
        }
    }
}

const MALFORMED: Violation = Violation::Malformed { what: "handshake" };

/// What one side says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Lowest version spoken.
    pub version_min: u16,
    /// Highest version spoken.
    pub version_max: u16,
    /// Layout of archives.
    pub rkyv_format: u32,
    /// Features offered or accepted.
    pub features: u64,
    /// Largest message that the sender accepts, in bytes.
    pub payload_bytes_max: u32,
    /// Calls that the sender runs at once for this connection.
    pub calls_in_flight_max: u32,
    /// Where the connection has come to; `None` of a client, and of a server that does not tell.
    pub shard_index: Option<ShardIndex>,
}

impl Handshake {
    /// What this side says with these limits.
    pub fn ours(limits: &Limits) -> Self {
        Self {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            rkyv_format: RKYV_FORMAT,
            features: FEATURES,
            payload_bytes_max: limits.payload_bytes_max,
            calls_in_flight_max: limits.calls_in_flight_max,
            shard_index: None,
        }
    }

    /// The payload as it goes on the wire.
    pub fn encode(&self) -> [u8; HANDSHAKE_BYTES] {
        let mut wire = [0; HANDSHAKE_BYTES];
        wire[0..8].copy_from_slice(&MAGIC);
        wire[8..10].copy_from_slice(&self.version_min.to_le_bytes());
        wire[10..12].copy_from_slice(&self.version_max.to_le_bytes());
        wire[12..16].copy_from_slice(&self.rkyv_format.to_le_bytes());
        wire[16..24].copy_from_slice(&self.features.to_le_bytes());
        wire[24..28].copy_from_slice(&self.payload_bytes_max.to_le_bytes());
        wire[28..32].copy_from_slice(&self.calls_in_flight_max.to_le_bytes());
        if let Some(shard_index) = self.shard_index {
            wire[32..34].copy_from_slice(&shard_index.shards.to_le_bytes());
            wire[34..36].copy_from_slice(&shard_index.shard.to_le_bytes());
        }
        wire
    }

    /// Reads and checks a client's payload: magic, a common version, the rkyv format.
    pub fn decode(payload: &[u8]) -> Result<Self, Violation> {
        let peer = Self::read(payload)?;
        if peer.shard_index.is_some() {
            return Err(MALFORMED);
        }
        Ok(peer)
    }

    /// Reads what both sides say.
    ///
    /// The magic and the versions stand at the same place in every version, so a peer of another
    /// version hears which ones are spoken here, however long its payload is.
    fn read(payload: &[u8]) -> Result<Self, Violation> {
        let (common, _) = payload
            .split_first_chunk::<COMMON_BYTES>()
            .ok_or(Violation::NotRingcall)?;
        if common[0..8] != MAGIC {
            return Err(Violation::NotRingcall);
        }
        let version_min = u16::from_le_bytes([common[8], common[9]]);
        let version_max = u16::from_le_bytes([common[10], common[11]]);
        // A range that is upside down contains no version.
        let lowest_common = version_min.max(VERSION_MIN);
        let highest_common = version_max.min(VERSION_MAX);
        if version_min > version_max || lowest_common > highest_common {
            return Err(Violation::Version {
                peer: (version_min, version_max),
            });
        }
        let wire: &[u8; HANDSHAKE_BYTES] = payload.try_into().map_err(|_| MALFORMED)?;
        let word =
            |at: usize| u32::from_le_bytes([wire[at], wire[at + 1], wire[at + 2], wire[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let peer = Self {
            version_min,
            version_max,
            rkyv_format: word(12),
            features: long(16),
            payload_bytes_max: word(24),
            calls_in_flight_max: word(28),
            shard_index: match (word(32) as u16, (word(32) >> 16) as u16) {
                (0, 0) => None,
                (shards, shard) => Some(ShardIndex { shard, shards }),
            },
        };
        if peer.rkyv_format != RKYV_FORMAT {
            return Err(Violation::Format {
                peer: peer.rkyv_format,
            });
        }
        let is_seat_sound = peer
            .shard_index
            .is_none_or(|shard_index| shard_index.shard < shard_index.shards);
        if word(36) != 0 || !is_seat_sound || peer.calls_in_flight_max == 0 {
            return Err(MALFORMED);
        }
        Ok(peer)
    }

    /// Reads and checks a server's payload: it must choose one version, and features that were
    /// offered.
    pub fn decode_answer(payload: &[u8]) -> Result<Self, Violation> {
        let peer = Self::read(payload)?;
        if peer.version_min != peer.version_max || peer.features & !FEATURES != 0 {
            return Err(MALFORMED);
        }
        Ok(peer)
    }

    /// A server's answer to `peer`, which has come to `shard_index`: the highest common version, the common
    /// features.
    pub fn answer(limits: &Limits, peer: &Self, shard_index: ShardIndex) -> Self {
        let version = peer.version_max.min(VERSION_MAX);
        Self {
            version_min: version,
            version_max: version,
            features: FEATURES & peer.features,
            shard_index: Some(shard_index),
            ..Self::ours(limits)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_little_endian_aligned_32_bit() {
        assert_eq!(RKYV_FORMAT, RKYV_FORMAT_USUAL);
    }

    #[test]
    fn a_handshake_survives_the_wire() {
        let ours = Handshake::ours(&Limits::default());
        assert_eq!(Handshake::decode(&ours.encode()), Ok(ours));
    }

    #[test]
    fn strangers_are_told_apart() {
        let ours = Handshake::ours(&Limits::default());
        let later = Handshake {
            version_min: 2,
            version_max: 9,
            ..ours
        };
        assert_eq!(
            Handshake::decode(&later.encode()),
            Err(Violation::Version { peer: (2, 9) })
        );
        let longer = [&later.encode()[..], b"more"].concat();
        assert_eq!(
            Handshake::decode(&longer),
            Err(Violation::Version { peer: (2, 9) }),
            "a later version may say more"
        );
        let foreign = Handshake {
            rkyv_format: 0,
            ..ours
        };
        assert_eq!(
            Handshake::decode(&foreign.encode()),
            Err(Violation::Format { peer: 0 })
        );
        assert_eq!(
            Handshake::decode(b"GET / HTTP/1.1"),
            Err(Violation::NotRingcall)
        );
    }

    #[test]
    fn a_range_that_contains_our_version_is_accepted_and_one_upside_down_is_not() {
        let offer = |version_min, version_max| {
            let offer = Handshake {
                version_min,
                version_max,
                ..Handshake::ours(&Limits::default())
            };
            Handshake::decode(&offer.encode()).map(|peer| (peer.version_min, peer.version_max))
        };
        for accepted in [(0, 1), (1, 9), (0, u16::MAX)] {
            assert_eq!(offer(accepted.0, accepted.1), Ok(accepted));
        }
        for peer in [(0, 0), (1, 0), (2, 0), (2, 1), (5, 2), (2, 2)] {
            assert_eq!(offer(peer.0, peer.1), Err(Violation::Version { peer }));
        }
    }

    #[test]
    fn the_answer_is_the_highest_common_version_and_no_unknown_feature() {
        let peer = Handshake {
            version_max: 7,
            features: u64::MAX,
            ..Handshake::ours(&Limits::default())
        };
        let answer = Handshake::answer(&Limits::default(), &peer, ShardIndex::ALONE);
        assert_eq!(
            (answer.version_min, answer.version_max, answer.features),
            (1, 1, 0)
        );
        assert_eq!(Handshake::decode_answer(&answer.encode()), Ok(answer));
        let malformed = Err(MALFORMED);
        assert_eq!(Handshake::decode_answer(&peer.encode()), malformed);
        let unasked = Handshake {
            features: 1,
            ..answer
        };
        assert_eq!(Handshake::decode_answer(&unasked.encode()), malformed);
    }

    #[test]
    fn a_server_says_where_a_connection_has_come_to_and_a_client_does_not() {
        let told = |shards, shard| {
            let shard_index = Some(ShardIndex { shard, shards });
            let ours = Handshake::ours(&Limits::default());
            let wire = Handshake {
                shard_index,
                ..ours
            }
            .encode();
            assert_eq!(Handshake::decode(&wire).is_ok(), (shards, shard) == (0, 0));
            Handshake::decode_answer(&wire).map(|answer| answer.shard_index)
        };
        assert_eq!(told(0, 0), Ok(None), "it does not say");
        for (shards, shard) in [(1, 0), (4, 3), (u16::MAX, 0), (u16::MAX, u16::MAX - 1)] {
            assert_eq!(told(shards, shard), Ok(Some(ShardIndex { shard, shards })));
        }
        for (shards, shard) in [(0, 1), (1, 1), (4, 4), (u16::MAX, u16::MAX)] {
            assert_eq!(told(shards, shard), Err(MALFORMED));
        }
        let mut reserved = Handshake::ours(&Limits::default()).encode();
        reserved[36] = 1;
        assert_eq!(Handshake::decode(&reserved), Err(MALFORMED));
        assert_eq!(Handshake::decode_answer(&reserved), Err(MALFORMED));
    }

    #[test]
    fn a_shard_beyond_what_can_be_told_is_told_as_the_last() {
        assert_eq!(ShardIndex::new(0, 1), ShardIndex::ALONE);
        let last = ShardIndex::new(70_000, 70_001);
        assert_eq!((last.shard, last.shards), (u16::MAX - 1, u16::MAX));
        let first = ShardIndex::new(3, 70_001);
        assert_eq!((first.shard, first.shards), (3, u16::MAX));
    }
}
