//! A report as a document, apart from how it is written.

/// A report. Texts may hold `code` between backticks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// Its title.
    pub title: String,
    /// When and of what.
    pub subtitle: String,
    /// Its parts, which are numbered.
    pub sections: Vec<Section>,
}

/// A part of a report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// Its title.
    pub title: String,
    /// What it says.
    pub blocks: Vec<Block>,
}

/// A piece of a part.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// The sentence that matters most.
    Headline(String),
    /// Figures that a reader came for.
    Figures(Vec<Figure>),
    /// Something that a reader must not overlook.
    Warning(String),
    /// Points.
    List(Vec<String>),
    /// A table; the first column is text, the others are numbers.
    Table(Table),
    /// A long table that is shown when a reader wants it.
    Folded {
        /// What it holds.
        title: String,
        /// The table.
        table: Table,
    },
    /// Names and what there is to say about them.
    Facts(Vec<(String, String)>),
    /// Commands.
    Code(String),
    /// A picture, with the name of its file.
    Plot {
        /// Without a folder or an ending.
        name: &'static str,
        /// The picture.
        svg: String,
        /// What it shows, in a sentence.
        caption: String,
    },
    /// What was not measured, and the command that does.
    Missing {
        /// What a reader would see here.
        what: String,
        /// How to get it.
        command: String,
    },
}

/// What leads to a command. Results keep no names of hosts and folders.
pub(super) fn measures_it(command: &str) -> &'static str {
    match (command.contains("//HOST:"), command.contains("DIR/")) {
        (false, false) => "This command measures it:",
        (true, false) => "This command measures it, with your server's name for `HOST`:",
        (_, true) => "This command measures it, with your own names for `HOST` and `DIR`:",
    }
}

/// A figure with its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// The figure with its unit.
    pub value: String,
    /// Where it comes from.
    pub note: String,
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Names of the columns.
    pub head: Vec<String>,
    /// Cells.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this head.
    pub fn new(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Self {
        Self {
            head: head.iter().map(|&name| name.to_owned()).collect(),
            rows: rows.into_iter().collect(),
        }
    }
}

impl Document {
    /// All pictures with their names.
    pub fn plots(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let blocks = self.sections.iter().flat_map(|section| &section.blocks);
        blocks.filter_map(|block| match block {
            Block::Plot { name, svg, .. } => Some((*name, svg.as_str())),
            _ => None,
        })
    }
}
