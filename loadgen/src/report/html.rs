//! A document as one HTML file that needs nothing else.

use super::document::{Block, Document, Table, measures_it};
use crate::units::escape_markup as escape;

/// The document as HTML, with its pictures and style inside.
pub fn render(document: &Document) -> String {
    let title = escape(&document.title);
    let mut links = String::new();
    let mut body = String::new();
    for (at, section) in document.sections.iter().enumerate() {
        let (number, name) = (at + 1, inline(&section.title));
        links += &format!("<a href=\"#part{number}\">{number}. {name}</a>\n");
        body += &format!(
            "<section id=\"part{number}\">\n<h2><span class=\"number\">{number}</span>{name}</h2>\n"
        );
        for block in &section.blocks {
            body += &render_block(block);
        }
        body += "</section>\n";
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header>\n<h1>{title}</h1>\n<p>{}</p>\n</header>\n<nav>\n{links}</nav>\n{body}\
         </main>\n</body>\n</html>\n",
        inline(&document.subtitle)
    )
}

fn render_block(block: &Block) -> String {
    match block {
        Block::Text(text) => format!("<p>{}</p>\n", inline(text)),
        Block::Headline(text) => format!("<p class=\"headline\">{}</p>\n", inline(text)),
        Block::Warning(text) => format!("<p class=\"warning\">{}</p>\n", inline(text)),
        Block::List(items) => {
            let items = items
                .iter()
                .map(|item| format!("<li>{}</li>\n", inline(item)));
            format!("<ul>\n{}</ul>\n", items.collect::<String>())
        }
        Block::Code(code) => format!("<pre><code>{}</code></pre>\n", escape(code.trim_end())),
        Block::Plot { svg, caption, .. } => {
            let caption = inline(caption);
            format!("<figure>\n{svg}\n<figcaption>{caption}</figcaption>\n</figure>\n")
        }
        Block::Missing { what, command } => format!(
            "<div class=\"missing\"><p>Not measured: {} {}</p><pre><code>{}</code></pre></div>\n",
            inline(what),
            inline(measures_it(command)),
            escape(command)
        ),
        Block::Figures(figures) => {
            let figures = figures.iter().map(|figure| {
                let (name, value) = (inline(&figure.name), inline(&figure.value));
                let note = inline(&figure.note);
                format!(
                    "<div><dt>{name}</dt><dd class=\"value\">{value}</dd><dd class=\"note\">{note}</dd></div>\n"
                )
            });
            let figures: String = figures.collect();
            format!("<dl class=\"figures\">\n{figures}</dl>\n")
        }
        Block::Table(table) => render_table(table),
        Block::Folded { title, table } => format!(
            "<details>\n<summary>{}</summary>\n{}</details>\n",
            inline(title),
            render_table(table)
        ),
        Block::Facts(facts) => {
            let rows = facts.iter().map(|(name, value)| {
                let (name, value) = (inline(name), inline(value));
                format!("<tr><th>{name}</th><td>{value}</td></tr>\n")
            });
            let rows: String = rows.collect();
            format!("<table class=\"facts\">\n{rows}</table>\n")
        }
    }
}

fn render_table(table: &Table) -> String {
    let row = |tag: &str, cells: &[String]| {
        let cells = cells
            .iter()
            .map(|cell| format!("<{tag}>{}</{tag}>", inline(cell)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let head = row("th", &table.head);
    let rows: String = table.rows.iter().map(|cells| row("td", cells)).collect();
    format!(
        "<div class=\"scroll\"><table>\n<thead>{head}</thead>\n<tbody>{rows}</tbody>\n</table></div>\n"
    )
}

/// Escapes a text and sets what stands between backticks as code.
fn inline(text: &str) -> String {
    let text = &keep_together(text);
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(at, part)| match at % 2 {
        0 => escape(part),
        _ => format!("<code>{}</code>", escape(part)),
    });
    parts.collect()
}

/// Keeps lines from breaking between the digits of a number, and between it and its unit.
fn keep_together(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut before = ' ';
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let after = letters.peek().copied().unwrap_or(' ');
        let is_inside = before.is_ascii_digit() && (after.is_ascii_digit() || is_unit(after));
        kept.push(match letter {
            ' ' if is_inside => '\u{a0}',
            letter => letter,
        });
        before = letter;
    }
    kept
}

/// Whether a letter may begin a unit.
fn is_unit(letter: char) -> bool {
    matches!(letter, 'c' | 'n' | 'µ' | 'm' | 's' | '%')
}

const STYLE: &str = include_str!("style.css");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::Section;

    #[test]
    fn texts_are_escaped_and_nothing_is_fetched() {
        let document = Document {
            title: "p99<1ms & more".into(),
            subtitle: "`a<b`".into(),
            sections: vec![Section {
                title: "One".into(),
                blocks: vec![
                    Block::Text("<script> 12 345 calls/s".into()),
                    Block::Plot {
                        name: "x",
                        svg: "<svg></svg>".into(),
                        caption: "c".into(),
                    },
                ],
            }],
        };
        let html = render(&document);
        assert!(html.contains("<title>p99&lt;1ms &amp; more</title>"));
        assert!(html.contains("<code>a&lt;b</code>") && html.contains("<svg></svg>"));
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script"));
        assert!(html.contains("12\u{a0}345\u{a0}calls/s"));
        for outside in ["http://", "https://", "src=", "url(", "@import"] {
            assert!(!html.contains(outside), "{outside}");
        }
    }
}
