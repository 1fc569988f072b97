//! The document as Markdown (CommonMark with the tables of GitHub): what a terminal, a repository and a
//! language model read.
//!
//! - A section is a heading of level 2, a folded block, a chart and an example one level below what it is in.
//! - Tables are pipe tables. Line ends in a cell become spaces, as they do in the cells of a page.
//! - A row that stands out has its first cell in bold. An interval is written after its estimate:
//!   `64.5% (61.8% to 67.1%)`.
//! - Code and quoted texts stand between fences longer than any run of backticks in them.
//! - A chart has its title, its note and what it shows in words; its figures as a table where they are few
//!   ([`FEW`]). Else a sentence says that the page has the chart.
//!
//! No text is ever taken as markup: what would be is escaped with a backslash or as a character
//! reference. Only what looks like an address may become a link where the reader's program makes one.

use crate::charts::{self, Drawing};
use crate::document::{
    Block, Cell, Chart, ChartKind, Example, Format, Rendering, Report, Section, Table, TableRow,
};
use crate::escape::visible;

/// Most rows of figures that are written under a chart.
const FEW: usize = 50;
/// The deepest heading of Markdown.
const DEEPEST: usize = 6;

impl Report {
    /// The document as Markdown: the same bytes for the same report.
    pub fn to_markdown(&self) -> String {
        let mut page = Page { out: String::with_capacity(1 << 14) };
        page.heading(1, &self.title);
        page.paragraph(&self.subtitle);
        page.list(self.summary.iter().map(|sentence| inline(sentence)));
        page.list(self.headlines.iter().map(|headline| {
            let detail = match headline.detail.is_empty() {
                true => String::new(),
                false => format!(" ({})", inline(&headline.detail)),
            };
            format!("{}: {}{detail}", inline(&headline.label), bold(&inline(&headline.value)))
        }));
        for section in self.sections.iter().filter(|s| s.is_in(Rendering::Markdown)) {
            page.section(section);
        }
        page.out
    }
}

struct Page {
    out: String,
}

impl Page {
    /// Writes a block, with an empty line before it.
    fn put(&mut self, block: &str) {
        if block.is_empty() {
            return;
        }
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        self.out.push_str(block);
        if !block.ends_with('\n') {
            self.out.push('\n');
        }
    }

    fn heading(&mut self, level: usize, text: &str) {
        let text = inline(text);
        if !text.is_empty() {
            self.put(&format!("{} {text}", "#".repeat(level.min(DEEPEST))));
        }
    }

    fn paragraph(&mut self, text: &str) {
        self.put(&at_start(inline(text)));
    }

    fn list(&mut self, items: impl Iterator<Item = String>) {
        let items: String = items.map(|item| format!("- {}\n", at_start(item))).collect();
        self.put(&items);
    }

    fn section(&mut self, section: &Section) {
        self.heading(2, &section.heading);
        self.blocks(&section.blocks, 3);
    }

    /// Writes blocks; headings in them are of `level`.
    fn blocks(&mut self, blocks: &[Block], level: usize) {
        for block in blocks {
            match block {
                Block::Paragraph(text) => self.paragraph(text),
                Block::KeyValues(pairs) => self.key_values(pairs),
                Block::Table(table) => self.table(table),
                Block::Chart(chart) => self.chart(chart, level),
                Block::Examples(examples) => examples.iter().for_each(|e| self.example(e, level)),
                Block::Code { caption, language, text } => {
                    self.paragraph(caption);
                    self.put(&fenced(text, language));
                }
                Block::Folded { summary, blocks } => {
                    self.heading(level, summary);
                    self.blocks(blocks, level + 1);
                }
                Block::Only(Rendering::Markdown, blocks) => self.blocks(blocks, level),
                Block::Only(Rendering::Html, _) => {}
            }
        }
    }

    fn key_values(&mut self, pairs: &[(String, String)]) {
        if pairs.is_empty() {
            return;
        }
        let mut text = "| | |\n|---|---|\n".to_owned();
        for (key, value) in pairs {
            text += &format!("| {} | {} |\n", inline(key), inline(value));
        }
        self.put(&text);
    }

    fn table(&mut self, table: &Table) {
        self.paragraph(&table.caption);
        self.put(&pipe_table(table));
    }

    fn chart(&mut self, chart: &Chart, level: usize) {
        self.heading(level, &chart.title);
        self.paragraph(&chart.note);
        let drawing = match &chart.kind {
            ChartKind::Lines(lines) => charts::lines(lines),
            ChartKind::Calibration(calibration) => charts::calibration(calibration),
            ChartKind::Histogram(histogram) => charts::histogram(histogram),
            ChartKind::Scatter(scatter) => charts::scatter(scatter),
        };
        let Some(Drawing { description, table, .. }) = drawing else {
            self.paragraph("There is nothing to draw.");
            return;
        };
        let few = match &chart.kind {
            ChartKind::Lines(lines) => charts::places(lines).len() <= FEW,
            ChartKind::Calibration(_) => table.rows.len() <= FEW,
            ChartKind::Histogram(_) | ChartKind::Scatter(_) => false,
        };
        match few {
            true => {
                self.paragraph(&description);
                self.table(&table);
            }
            false => self.paragraph(&format!("{description} The chart is on the HTML page.")),
        }
    }

    fn example(&mut self, example: &Example, level: usize) {
        self.heading(level, &example.heading);
        let facts: Vec<String> = example
            .facts
            .iter()
            .map(|(name, value)| format!("{} {}", inline(name), bold(&inline(value))))
            .collect();
        self.put(&at_start(facts.join(", ")));
        for (name, text) in &example.texts {
            let name = inline(name);
            if !name.is_empty() {
                self.put(&format!("{}:", at_start(name)));
            }
            self.put(&fenced(text, "text"));
        }
    }
}

/// A table as GitHub writes it: a head, a rule and a line for each row. Empty without columns.
fn pipe_table(table: &Table) -> String {
    if table.columns.is_empty() {
        return String::new();
    }
    let line = |cells: &mut dyn Iterator<Item = String>| {
        let mut line = "|".to_owned();
        for cell in cells {
            line += &if cell.is_empty() { " |".to_owned() } else { format!(" {cell} |") };
        }
        line + "\n"
    };
    let mut text = line(&mut table.columns.iter().map(|c| inline(&c.name)));
    let rules = table.columns.iter().map(|c| if c.numeric { "---:|" } else { "---|" });
    text += &format!("|{}\n", rules.collect::<String>());
    for row in &table.rows {
        text += &line(&mut (0..table.columns.len()).map(|column| cell(row, column)));
    }
    text
}

fn cell(row: &TableRow, column: usize) -> String {
    let text = match row.cells.get(column) {
        None => String::new(),
        Some(Cell::Text(text)) => inline(text),
        Some(Cell::Interval { value, low, high, format }) => {
            inline(&estimate(*format, *value, [*low, *high]))
        }
    };
    if row.highlight && column == 0 { bold(&text) } else { text }
}

/// An estimate with its interval; without one where both ends are the same.
fn estimate(format: Format, value: f64, [low, high]: [f64; 2]) -> String {
    let value = format.show(value, 3);
    match low == high {
        true => value,
        false => format!("{value} ({} to {})", format.show(low, 3), format.show(high, 3)),
    }
}

/// Already escaped text in bold.
fn bold(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("**{text}**") }
}

/// A text in one line, in which nothing is markup: for headings, paragraphs, list items and cells.
/// White space is one space, as on a page.
fn inline(text: &str) -> String {
    let text = visible(text);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    let mut before = ' ';
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '~' | '[' | ']' | '|' | '#' => out.extend(['\\', c]),
            // Within a word an underscore is one.
            '_' => {
                let word = |c: char| c.is_alphanumeric();
                if !(word(before) && characters.peek().is_some_and(|&next| word(next))) {
                    out.push('\\');
                }
                out.push('_');
            }
            c => out.push(c),
        }
        before = c;
    }
    out
}

/// Already escaped text at the beginning of a block, where some characters would make a list of it.
fn at_start(text: String) -> String {
    if text.starts_with(['-', '+', '=']) {
        return format!("\\{text}");
    }
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    if digits > 0 && text[digits..].starts_with(['.', ')']) {
        return format!("{}\\{}", &text[..digits], &text[digits..]);
    }
    text
}

/// A text as it is, between fences that nothing in it can end.
fn fenced(text: &str, language: &str) -> String {
    let text = visible(text);
    let (mut longest, mut run) = (0, 0);
    for c in text.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat((longest + 1).max(3));
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{fence}{language}\n{text}{end}{fence}\n")
}
