//! What the words of a report mean, from `docs/GLOSSARY.md`.

use super::document::{Block, Section, Table};

/// The words and their meanings.
pub(super) fn section() -> Section {
    let head = ["word", "what it means"];
    let rows = words().map(|(word, meaning)| vec![word, meaning]);
    Section {
        title: "Words".into(),
        blocks: vec![Block::Folded {
            title: "What the words of this report mean".into(),
            table: Table::new(&head, rows),
        }],
    }
}

/// Each paragraph that begins with a word in bold.
fn words() -> impl Iterator<Item = (String, String)> {
    let paragraphs = include_str!("../../../docs/GLOSSARY.md").split("\n\n");
    paragraphs.filter_map(|paragraph| {
        let (word, meaning) = paragraph.strip_prefix("**")?.split_once("** ")?;
        let meaning = meaning.trim_end().replace('\n', " ").replace('*', "");
        Some((word.to_owned(), meaning))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_a_meaning_and_stands_once() {
        let all: Vec<(String, String)> = words().collect();
        let mut names: Vec<&str> = all.iter().map(|(word, _)| word.as_str()).collect();
        assert!(
            names.contains(&"coordinated omission") && names.len() > 20,
            "{names:?}"
        );
        assert!(
            all.iter().all(|(_, meaning)| meaning.ends_with('.')),
            "{all:?}"
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
    }
}
