//! Why calls failed: by text, and by which side said so.

use std::borrow::Cow;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Why calls failed, in the order in which it was first seen. However many texts there are, few are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Failures(Vec<FailureCount>);

/// Calls that failed alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureCount {
    /// Why.
    pub text: String,
    /// Whether the server said so. Otherwise the generator's own client did: there was no connection, or
    /// the call was refused before it was sent.
    pub is_of_server: bool,
    /// How many.
    pub count: u64,
}

impl Failures {
    /// Calls failed.
    pub fn add(&mut self, text: &str, is_of_server: bool, count: u64) {
        let text = &*printable(shortened(text));
        let is_alike =
            |known: &&mut FailureCount| known.text == text && known.is_of_server == is_of_server;
        if let Some(known) = self.0.iter_mut().find(is_alike) {
            known.count = known.count.saturating_add(count);
        } else if text == OTHERS || self.0.len() < TEXTS_MAX {
            self.0.push(FailureCount {
                text: text.to_owned(),
                is_of_server,
                count,
            });
        } else {
            self.add(OTHERS, is_of_server, count);
        }
    }

    /// What was seen first.
    pub fn first(&self) -> Option<&FailureCount> {
        self.0.first()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &FailureCount> {
        self.0.iter()
    }

    /// Whether none failed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Calls that the generator's own client failed.
    pub fn of_generator(&self) -> u64 {
        let own = self.0.iter().filter(|failure| !failure.is_of_server);
        own.map(|failure| failure.count).sum()
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl AddAssign<&Failures> for Failures {
    fn add_assign(&mut self, other: &Failures) {
        for failure in &other.0 {
            self.add(&failure.text, failure.is_of_server, failure.count);
        }
    }
}

/// Texts go to terminals and into tables: what would move the cursor or break the line is a space.
fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.replace(char::is_control, " ").into()
    } else {
        text.into()
    }
}

/// Texts can be as long as the server likes.
fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// Different texts that are kept, besides [`OTHERS`]: some servers put a number into each.
const TEXTS_MAX: usize = 16;
const TEXT_BYTES_MAX: usize = 300;
/// What stands for all further ones.
const OTHERS: &str = "other errors, each with a text of its own";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alike_ones_are_counted_and_few_texts_are_kept() {
        let mut failures = Failures::default();
        failures.add("no", true, 1);
        failures.add("no", true, 2);
        failures.add("no", false, 4);
        for number in 0..1000 {
            failures.add(&format!("error {number}"), true, 1);
        }
        let first = failures.first().unwrap();
        assert_eq!((first.text.as_str(), first.count), ("no", 3));
        assert_eq!(failures.of_generator(), 4);
        assert_eq!(failures.iter().count(), TEXTS_MAX + 1);
        assert_eq!(
            failures.iter().map(|failure| failure.count).sum::<u64>(),
            1007
        );
        let mut twice = failures.clone();
        twice += &failures;
        assert_eq!(twice.iter().map(|failure| failure.count).sum::<u64>(), 2014);
        assert_eq!(twice.iter().count(), TEXTS_MAX + 1);
    }

    #[test]
    fn long_texts_are_cut_at_a_letter() {
        let mut failures = Failures::default();
        failures.add(&"ß".repeat(1000), true, 1);
        assert_eq!(failures.first().unwrap().text, "ß".repeat(150));
        failures.add("a\u{1b}[2Jb\nc", true, 1);
        assert_eq!(failures.iter().nth(1).unwrap().text, "a [2Jb c");
        assert!(!failures.is_empty());
        failures.clear();
        assert!(failures.is_empty());
    }
}
