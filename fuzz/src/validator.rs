//! Section 14.3 of `docs/PROTOCOL.md`, written from the document alone.

/// A type, as far as its layout goes. Parts are functions, so that a type may contain itself.
pub enum Type {
    /// Any bytes are one.
    Number(usize),
    Bool,
    Char,
    String,
    Vec(Part),
    Boxed(Part),
    Option(Part),
    Array(Part, usize),
    Struct(&'static [Part]),
    /// Fields of each variant, numbered from 0.
    Enum(&'static [&'static [Part]]),
}

pub type Part = fn() -> Type;

/// Whether this payload must be read as this type.
pub fn is_valid(of: Part, payload: &[u8]) -> bool {
    let (size, align) = of().layout();
    let Some(at) = payload.len().checked_sub(size) else {
        return false;
    };
    if longest(of).is_some_and(|bytes_max| payload.len() > bytes_max) {
        return false;
    }
    let mut reader = Reader {
        payload,
        low: 0,
        high: payload.len() as i64,
        visits: 0,
    };
    let at = at as i64;
    let visited = reader.visit(at, size as i64, align as i64, |reader| {
        reader.body(of, at as usize)
    });
    visited.is_some()
}

/// The longest payload of a type, if it has one.
fn longest(of: Part) -> Option<usize> {
    let (size, align) = of().layout();
    let outside = of().outside()?;
    let gap = if outside > 0 { align - 1 } else { 0 };
    Some((outside + gap + size).next_multiple_of(16))
}

impl Type {
    /// Size and alignment of a body.
    fn layout(&self) -> (usize, usize) {
        match self {
            Self::Number(size) => (*size, (*size).max(1)),
            Self::Bool => (1, 1),
            Self::Char | Self::Boxed(_) => (4, 4),
            Self::String | Self::Vec(_) => (8, 4),
            Self::Option(part) => {
                let (size, align) = part().layout();
                (align + size, align)
            }
            Self::Array(part, count) => {
                let (size, align) = part().layout();
                (size * count, align)
            }
            Self::Struct(fields) => {
                let (_, end, align) = offsets(fields, 0);
                (end.next_multiple_of(align), align)
            }
            Self::Enum(variants) => {
                let variants = variants.iter().map(|fields| offsets(fields, 1));
                let (end, align) =
                    variants.fold((1, 1), |(end, align), (_, end_here, align_here)| {
                        (end.max(end_here), align.max(align_here))
                    });
                (end.next_multiple_of(align), align)
            }
        }
    }

    /// Bytes at most outside of a body; `None` if there is no bound. The types that contain themselves
    /// must do so through a `Vec` first, or this has no end.
    fn outside(&self) -> Option<usize> {
        match self {
            Self::Number(_) | Self::Bool | Self::Char => Some(0),
            Self::String | Self::Vec(_) => None,
            Self::Boxed(part) => {
                let (size, align) = part().layout();
                Some(part().outside()? + align - 1 + size)
            }
            Self::Option(part) => part().outside(),
            Self::Array(_, 0) => Some(0),
            Self::Array(part, count) => Some(part().outside()? * count),
            Self::Struct(fields) => outside_of(fields),
            Self::Enum(variants) => variants
                .iter()
                .try_fold(0, |most, fields| Some(outside_of(fields)?.max(most))),
        }
    }
}

fn outside_of(fields: &[Part]) -> Option<usize> {
    fields
        .iter()
        .try_fold(0, |sum, field| Some(sum + field().outside()?))
}

/// Where fields lie that begin at `start`, where they end, and their alignment.
fn offsets(fields: &[Part], start: usize) -> (Vec<usize>, usize, usize) {
    let (mut offsets, mut end, mut align) = (Vec::new(), start, 1);
    for field in fields {
        let (size, field_align) = field().layout();
        let offset = end.next_multiple_of(field_align);
        offsets.push(offset);
        end = offset + size;
        align = align.max(field_align);
    }
    (offsets, end, align)
}

struct Reader<'a> {
    payload: &'a [u8],
    low: i64,
    high: i64,
    visits: usize,
}

impl Reader<'_> {
    fn visit(
        &mut self,
        at: i64,
        size: i64,
        align: i64,
        contents: impl FnOnce(&mut Self) -> Option<()>,
    ) -> Option<()> {
        let is_inside = self.low <= at && at + size <= self.high && at % align == 0;
        if !is_inside || self.visits == 63 {
            return None;
        }
        let saved = std::mem::replace(&mut self.high, at);
        self.visits += 1;
        contents(self)?;
        self.visits -= 1;
        (self.low, self.high) = (at + size, saved);
        Some(())
    }

    fn word(&self, at: usize) -> u32 {
        let bytes = self.payload[at..]
            .first_chunk()
            .expect("inside of what is visited");
        u32::from_le_bytes(*bytes)
    }

    /// The target of the relative pointer at `at`.
    fn target(&self, at: usize) -> i64 {
        at as i64 + i64::from(self.word(at) as i32)
    }

    fn body(&mut self, of: Part, at: usize) -> Option<()> {
        match of() {
            Type::Number(_) => Some(()),
            Type::Bool => (self.payload[at] <= 1).then_some(()),
            Type::Char => char::from_u32(self.word(at)).map(drop),
            Type::String => self.string(at),
            Type::Vec(part) => {
                let (size, align) = part().layout();
                let (to, count) = (self.target(at), i64::from(self.word(at + 4)));
                self.visit(to, count * size as i64, align as i64, |reader| {
                    (0..count as usize)
                        .try_for_each(|nth| reader.body(part, to as usize + nth * size).ok_or(()))
                        .ok()
                })
            }
            Type::Boxed(part) => {
                let (size, align) = part().layout();
                let to = self.target(at);
                self.visit(to, size as i64, align as i64, |reader| {
                    reader.body(part, to as usize)
                })
            }
            Type::Option(part) => match self.payload[at] {
                0 => Some(()),
                1 => self.body(part, at + part().layout().1),
                _ => None,
            },
            Type::Array(part, count) => {
                let size = part().layout().0;
                (0..count)
                    .try_for_each(|nth| self.body(part, at + nth * size).ok_or(()))
                    .ok()
            }
            Type::Struct(fields) => self.fields(fields, at, 0),
            Type::Enum(variants) => {
                let fields = variants.get(usize::from(self.payload[at]))?;
                self.fields(fields, at, 1)
            }
        }
    }

    fn fields(&mut self, fields: &[Part], at: usize, start: usize) -> Option<()> {
        let (offsets, ..) = offsets(fields, start);
        let mut fields = fields.iter().zip(offsets);
        fields
            .try_for_each(|(&field, offset)| self.body(field, at + offset).ok_or(()))
            .ok()
    }

    fn string(&mut self, at: usize) -> Option<()> {
        let body = &self.payload[at..at + 8];
        if body[0] & 0xc0 != 0x80 {
            let end = body.iter().position(|&byte| byte == 0xff).unwrap_or(8);
            return std::str::from_utf8(&body[..end]).ok().map(drop);
        }
        let word = self.word(at);
        let length = i64::from(word & 63 | word >> 8 << 6);
        if length <= 8 {
            return None;
        }
        let to = at as i64 + i64::from(self.word(at + 4) as i32);
        self.visit(to, length, 1, |reader| {
            let text = &reader.payload[to as usize..(to + length) as usize];
            std::str::from_utf8(text).ok().map(drop)
        })
    }
}
