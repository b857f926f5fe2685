//! A document as Markdown, beside pictures in `plots/`.

use super::document::{Block, Document, Table};

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
            format!("Not measured: {what} This command measures it:\n\n```sh\n{command}\n```\n")
        }
        Block::Figures(figures) => {
            let rows = figures.iter().map(|figure| {
                let value = format!("**{}**", figure.value);
                vec![figure.name.clone(), value, figure.note.clone()]
            });
            render_table(&Table {
                head: ["", "", "from"].map(str::to_owned).into(),
                rows: rows.collect(),
            })
        }
        Block::Table(table) => render_table(table),
        Block::Facts(facts) => {
            let items = facts.iter();
            items
                .map(|(name, value)| format!("- {name}: {value}\n"))
                .collect()
        }
    }
}

fn render_table(table: &Table) -> String {
    let cells = |cells: &[String]| {
        // A bar would end the cell.
        let cells = cells.iter().map(|cell| cell.replace('|', "\\|"));
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let columns = table.head.len();
    let aligned = (0..columns).map(|column| if column == 0 { ":--" } else { "--:" });
    let mut text = cells(&table.head);
    text += &format!("|{}|\n", aligned.collect::<Vec<_>>().join("|"));
    for row in &table.rows {
        text += &cells(row);
    }
    text
}

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
            text.contains("| a | b |\n|:--|--:|\n| x\\|y | 1 |\n"),
            "{text}"
        );
        assert!(text.contains("```sh\nloadgen sweep\n```"), "{text}");
    }
}
