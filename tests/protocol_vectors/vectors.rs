//! Reads the test vectors of `docs/PROTOCOL.md`; its section 17 describes their form.

pub const DOCUMENT: &str = include_str!("../../docs/PROTOCOL.md");

/// One block of the document.
#[derive(Debug, Default)]
pub struct Vector {
    pub class: String,
    pub name: String,
    /// The lines `key: value`.
    properties: Vec<(String, String)>,
    pub bytes: Vec<u8>,
    /// In a session: who sends, and the bytes.
    pub turns: Vec<(char, Vec<u8>)>,
}

impl Vector {
    /// The value of a property that the block must have.
    pub fn property(&self, key: &str) -> &str {
        self.find(key)
            .unwrap_or_else(|| panic!("vector {} lacks {key}", self.name))
    }

    pub fn find(&self, key: &str) -> Option<&str> {
        let mut properties = self.properties.iter();
        properties.find_map(|(name, value)| (name == key).then_some(value.as_str()))
    }

    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn read_line(&mut self, line: &str) {
        let line = line.trim_end();
        let is_property = |key: &str| !key.contains(['#', ' ']) && !key.is_empty();
        if let Some((key, value)) = line.split_once(": ")
            && is_property(key)
        {
            self.properties.push((key.into(), value.into()));
            return;
        }
        let line = line.split('#').next().unwrap_or_default();
        let (who, hex) = match line.chars().next() {
            Some(who @ ('C' | 'S')) => (Some(who), &line[1..]),
            _ => (None, line),
        };
        let bytes: Vec<u8> = hex
            .split_whitespace()
            .map(|byte| {
                assert_eq!(byte.len(), 2, "{} in vector {}", byte, self.name);
                u8::from_str_radix(byte, 16).expect("a byte in hexadecimal")
            })
            .collect();
        match (who, self.turns.last_mut()) {
            (Some(who), _) => self.turns.push((who, bytes)),
            (None, Some((_, turn))) => turn.extend(bytes),
            (None, None) => self.bytes.extend(bytes),
        }
    }
}

/// All vectors of the document, in order.
pub fn all() -> Vec<Vector> {
    let mut vectors = Vec::new();
    let mut lines = DOCUMENT.lines();
    while let Some(line) = lines.next() {
        let Some(heading) = line.strip_prefix("```vector") else {
            continue;
        };
        let mut words = heading.split_whitespace().map(str::to_owned);
        let mut vector = Vector {
            class: words.next().expect("a class"),
            name: words.next().expect("a name"),
            ..Vector::default()
        };
        assert_eq!(words.next(), None, "a class and a name, and no more");
        loop {
            match lines.next().expect("the block ends") {
                "```" => break,
                line => vector.read_line(line),
            }
        }
        vectors.push(vector);
    }
    vectors
}

/// The vectors of a class.
pub fn of_class(class: &str) -> Vec<Vector> {
    let mut vectors = all();
    vectors.retain(|vector| vector.class == class);
    assert!(!vectors.is_empty(), "no vector of class {class}");
    vectors
}

/// Bytes as the document writes them.
pub fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}
