//! A document as Markdown, beside pictures in `plots/`.

use super::document::{Block, Document, Table, measures_it};

/// The document as Markdown.
pub fn render(document: &Document) -> String {
    let mut text = format!("# {}\n\n{}\n", document.title, document.subtitle);
    for (at, section) in document.sections.iter().enumerate() {
        text += &format!("\n## {}. {}\n", at + 1, section.title);
        for block in &section.blocks {
            text.push('\n');
            text += &render_block(block);
        }
    }
    text
}

fn render_block(block: &Block) -> String {
    match block {
        Block::Text(text) => format!("{text}\n"),
        Block::Headline(text) => format!("**{text}**\n"),
        Block::Warning(text) => format!("> **Note:** {text}\n"),
        Block::List(items) => items.iter().map(|item| format!("- {item}\n")).collect(),
        Block::Code(code) => format!("```sh\n{}\n```\n", code.trim_end()),
        Block::Plot { name, caption, .. } => format!("![{caption}](plots/{name}.svg)\n"),
        Block::Missing { what, command } => {
            let measures_it = measures_it(command);
            format!("Not measured: {what} {measures_it}\n\n```sh\n{command}\n```\n")
        }
        Block::Figures(figures) => {
            let rows = figures.iter().map(|figure| {
                let value = format!("**{}**", figure.value);
                vec![figure.name.clone(), value, figure.note.clone()]
            });
            let head = ["", "", "from"];
            render_table(&Table::new(&head, rows), TEXT_COLUMNS)
        }
        Block::Table(table) => render_table(table, TEXT_COLUMNS),
        Block::Folded { title, table } => {
            format!("{title}:\n\n{}", render_table(table, TEXT_COLUMNS))
        }
        Block::Facts(facts) => {
            let items = facts.iter();
            items
                .map(|(name, value)| format!("- {name}: {value}\n"))
                .collect()
        }
    }
}

/// A table whose columns are as wide as their longest cell, so that it reads well as plain text too.
/// The first `text_columns` of them are set to the left, the numbers in the others to the right.
///
/// # Panics
/// When a row has not as many cells as the head.
pub fn render_table(table: &Table, text_columns: usize) -> String {
    // A bar would end the cell.
    let escape = |row: &Vec<String>| row.iter().map(|cell| cell.replace('|', "\\|")).collect();
    let lines: Vec<Vec<String>> = [&table.head]
        .into_iter()
        .chain(&table.rows)
        .map(escape)
        .collect();
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0).max(COLUMN_CHARS_MIN)
    };
    let widths: Vec<usize> = (0..table.head.len()).map(width).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(line.len(), widths.len(), "a row is as long as the head");
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            text += &if column < text_columns {
                format!("| {cell:<width$} ")
            } else {
                format!("| {cell:>width$} ")
            };
        }
        text += "|\n";
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width - 1);
                text += &if column < text_columns {
                    format!("| :{dashes} ")
                } else {
                    format!("| {dashes}: ")
                };
            }
            text += "|\n";
        }
    }
    text
}

/// The first column of a report's tables is text.
const TEXT_COLUMNS: usize = 1;
/// Room for the line below the head.
const COLUMN_CHARS_MIN: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::Section;

    #[test]
    fn parts_are_numbered_and_tables_keep_their_columns() {
        let table = Table {
            head: vec!["a".into(), "b".into()],
            rows: vec![vec!["x|y".into(), "1".into()]],
        };
        let missing = Block::Missing {
            what: "More.".into(),
            command: "loadgen sweep".into(),
        };
        let document = Document {
            title: "T".into(),
            subtitle: "S".into(),
            sections: vec![
                Section::default(),
                Section {
                    title: "Two".into(),
                    blocks: vec![Block::Table(table), missing],
                },
            ],
        };
        let text = render(&document);
        assert!(text.starts_with("# T\n\nS\n"), "{text}");
        assert!(text.contains("## 2. Two\n"), "{text}");
        assert!(
            text.contains("| a    |   b |\n| :--- | --: |\n| x\\|y |   1 |\n"),
            "{text}"
        );
        assert!(text.contains("```sh\nloadgen sweep\n```"), "{text}");
    }
}
