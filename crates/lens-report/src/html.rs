//! The page: one file without scripts, fonts or addresses outside itself.

use crate::charts::{self, Drawing};
use crate::document::{
    Block, Cell, Chart, ChartKind, Example, Rendering, Report, Section, Table, TableRow,
};
use crate::escape::escape;
use crate::text::shortened;

const STYLE: &str = include_str!("style.css");
/// Forbids the browser to load or run anything.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
/// Says who made the page.
const GENERATOR: &str = "<meta name=\"generator\" content=\"LENS\">";
/// Characters of a text that are seen without unfolding it, and lines.
const TEASER: usize = 420;
const TEASER_LINES: usize = 10;
/// Columns of intervals that have room side by side.
const SPACIOUS: usize = 3;

impl Report {
    /// The page as HTML: the same bytes for the same report.
    pub fn to_html(&self) -> String {
        let mut page = Page { out: String::with_capacity(1 << 16), figures: 0 };
        page.write(self);
        page.out
    }
}

struct Page {
    out: String,
    figures: usize,
}

/// Whether a file is a page of this crate, told by its first four thousand bytes.
pub fn is_page(text: &str) -> bool {
    text.starts_with("<!doctype html>") && text.contains(GENERATOR)
}

impl Page {
    fn write(&mut self, report: &Report) {
        let title = escape(&report.title);
        self.out += &format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n\
             {GENERATOR}\n\
             <link rel=\"icon\" href=\"data:,\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <a class=\"skip\" href=\"#content\">To the content</a>\n\
             <header class=\"top\">\n<h1>{title}</h1>\n"
        );
        if !report.subtitle.is_empty() {
            self.out += &format!("<p class=\"subtitle\">{}</p>\n", escape(&report.subtitle));
        }
        if !report.summary.is_empty() {
            self.out.push_str("<ul class=\"summary\">\n");
            for sentence in &report.summary {
                self.out += &format!("<li>{}</li>\n", escape(sentence));
            }
            self.out.push_str("</ul>\n");
        }
        if !report.headlines.is_empty() {
            self.out.push_str("<dl class=\"headlines\">\n");
            for headline in &report.headlines {
                self.out += &format!(
                    "<div><dt>{}</dt><dd class=\"big\">{}</dd>",
                    escape(&headline.label),
                    escape(&headline.value)
                );
                if !headline.detail.is_empty() {
                    self.out += &format!("<dd class=\"detail\">{}</dd>", escape(&headline.detail));
                }
                self.out.push_str("</div>\n");
            }
            self.out.push_str("</dl>\n");
        }
        let sections = report.sections.iter().enumerate();
        let sections: Vec<_> = sections.filter(|(_, s)| s.is_in(Rendering::Html)).collect();
        if sections.len() > 1 {
            self.out.push_str("<nav aria-label=\"Contents\"><ul>\n");
            for &(i, section) in &sections {
                let (id, heading) = (name(section, i), escape(&section.heading));
                self.out += &format!("<li><a href=\"#{id}\">{heading}</a></li>\n");
            }
            self.out.push_str("</ul></nav>\n");
        }
        self.out.push_str("</header>\n<main id=\"content\">\n");
        for (i, section) in sections {
            let id = name(section, i);
            self.out += &format!(
                "<section id=\"{id}\" aria-labelledby=\"{id}-heading\">\n\
                 <h2 id=\"{id}-heading\">{}</h2>\n",
                escape(&section.heading)
            );
            self.blocks(&section.blocks);
            self.out.push_str("</section>\n");
        }
        self.out.push_str("</main>\n</body>\n</html>\n");
    }

    fn blocks(&mut self, blocks: &[Block]) {
        let is_chart = |b: &Block| matches!(b, Block::Chart(_));
        let mut rest = blocks;
        while let Some(first) = rest.first() {
            if is_chart(first) {
                // Neighbours share a row.
                let many = rest.iter().take_while(|b| is_chart(b)).count();
                let one = if many == 1 { " one" } else { "" };
                self.out += &format!("<div class=\"charts{one}\">\n");
                for block in &rest[..many] {
                    if let Block::Chart(chart) = block {
                        self.chart(chart);
                    }
                }
                self.out.push_str("</div>\n");
                rest = &rest[many..];
            } else {
                self.block(first);
                rest = &rest[1..];
            }
        }
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Paragraph(text) => self.out += &format!("<p>{}</p>\n", escape(text)),
            Block::KeyValues(pairs) => {
                self.out.push_str("<dl class=\"pairs\">\n");
                for (key, value) in pairs {
                    self.out += &format!("<dt>{}</dt><dd>{}</dd>\n", escape(key), escape(value));
                }
                self.out.push_str("</dl>\n");
            }
            Block::Table(table) => self.table(table),
            Block::Chart(chart) => self.chart(chart),
            Block::Examples(examples) => examples.iter().for_each(|e| self.example(e)),
            Block::Code { caption, text, .. } => {
                if !caption.is_empty() {
                    self.out += &format!("<p class=\"label\">{}</p>\n", escape(caption));
                }
                self.out += &format!("<pre tabindex=\"0\"><code>{}</code></pre>\n", escape(text));
            }
            Block::Folded { summary, blocks } => {
                self.out +=
                    &format!("<details class=\"folded\"><summary>{}</summary>\n", escape(summary));
                self.blocks(blocks);
                self.out.push_str("</details>\n");
            }
            Block::Only(Rendering::Html, blocks) => self.blocks(blocks),
            Block::Only(Rendering::Markdown, _) => {}
        }
    }

    fn table(&mut self, table: &Table) {
        // A box that scrolls must be reached by keyboard too, and then says what it is.
        let label = if table.caption.is_empty() { "Table" } else { &table.caption };
        let dense = if intervals(table) > SPACIOUS { " class=\"dense\"" } else { "" };
        self.out += &format!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table{dense}>\n",
            escape(label)
        );
        if !table.caption.is_empty() {
            let caption = escape(&table.caption);
            self.out += &format!("<caption><span>{caption}</span></caption>\n");
        }
        self.out.push_str("<thead><tr>");
        for column in &table.columns {
            let class = if column.numeric { " class=\"num\"" } else { "" };
            self.out += &format!("<th scope=\"col\"{class}>{}</th>", escape(&column.name));
        }
        self.out.push_str("</tr></thead>\n<tbody>\n");
        for row in &table.rows {
            self.row(table, row);
        }
        self.out.push_str("</tbody></table></div>\n");
    }

    fn row(&mut self, table: &Table, row: &TableRow) {
        let highlight = if row.highlight { " class=\"highlight\"" } else { "" };
        self.out += &format!("<tr{highlight}>");
        for (i, column) in table.columns.iter().enumerate() {
            let class = if column.numeric { " class=\"num\"" } else { "" };
            let (open, close) = match i {
                0 => (format!("<th scope=\"row\"{class}>"), "</th>"),
                _ => (format!("<td{class}>"), "</td>"),
            };
            let content = match row.cells.get(i) {
                None => String::new(),
                Some(Cell::Text(text)) => escape(text),
                Some(cell @ Cell::Interval { value, low, high, format }) => {
                    let interval = match low == high {
                        true => String::new(),
                        false => format!("{} to {}", format.show(*low, 3), format.show(*high, 3)),
                    };
                    format!(
                        "{}<span class=\"interval\">{interval}</span>{}",
                        format.show(*value, 3),
                        whisker(table, i, cell)
                    )
                }
            };
            self.out += &format!("{open}{content}{close}");
        }
        self.out.push_str("</tr>\n");
    }

    fn chart(&mut self, chart: &Chart) {
        self.figures += 1;
        let id = format!("figure-{}", self.figures);
        let drawing = match &chart.kind {
            ChartKind::Lines(lines) => charts::lines(lines),
            ChartKind::Calibration(calibration) => charts::calibration(calibration),
            ChartKind::Histogram(histogram) => charts::histogram(histogram),
            ChartKind::Scatter(scatter) => charts::scatter(scatter),
        };
        let title = escape(&chart.title);
        self.out += &format!("<figure id=\"{id}\"><figcaption><b>{title}</b>");
        if !chart.note.is_empty() {
            self.out += &format!("<span>{}</span>", escape(&chart.note));
        }
        self.out.push_str("</figcaption>\n");
        let Some(Drawing { size, content, legend, description, table }) = drawing else {
            self.out.push_str("<p>There is nothing to draw.</p></figure>\n");
            return;
        };
        if !legend.is_empty() {
            self.out.push_str("<ul class=\"legend\">");
            for (sample, name) in &legend {
                self.out += &format!(
                    "<li><svg viewBox=\"0 0 24 12\" aria-hidden=\"true\">{sample}</svg>{}</li>",
                    escape(name)
                );
            }
            self.out.push_str("</ul>\n");
        }
        let [width, height] = size;
        self.out += &format!(
            "<svg role=\"img\" viewBox=\"0 0 {width} {height}\" \
             aria-labelledby=\"{id}-title {id}-desc\">\
             <title id=\"{id}-title\">{title}</title><desc id=\"{id}-desc\">{}</desc>{content}</svg>\n",
            escape(&description)
        );
        self.out.push_str("<details><summary>As a table</summary>\n");
        self.table(&table);
        self.out.push_str("</details></figure>\n");
    }

    fn example(&mut self, example: &Example) {
        self.out += &format!(
            "<article class=\"example\"><header><h3>{}</h3><dl class=\"facts\">",
            escape(&example.heading)
        );
        for (name, value) in &example.facts {
            self.out += &format!("<div><dt>{} </dt><dd>{}</dd></div>", escape(name), escape(value));
        }
        self.out.push_str("</dl></header>\n<div class=\"texts\">\n");
        for (what, text) in &example.texts {
            self.out += &format!("<div><h4>{}</h4>", escape(what));
            let teaser = teaser(text);
            if teaser.len() < text.len() {
                self.out += &format!(
                    "<details><summary><div class=\"quote\" dir=\"auto\">{}\u{2026}</div>\
                     <span class=\"more\">the whole text</span></summary>\
                     <div class=\"quote\" dir=\"auto\">{}</div></details>",
                    escape(teaser.trim_end()),
                    escape(text)
                );
            } else {
                self.out += &format!("<div class=\"quote\" dir=\"auto\">{}</div>", escape(text));
            }
            self.out.push_str("</div>\n");
        }
        self.out.push_str("</div></article>\n");
    }
}

/// The beginning of a text that is seen without unfolding it. A text that is only a little longer is not
/// folded.
fn teaser(text: &str) -> &str {
    let (beginning, rest) = shortened(text, TEASER);
    let beginning = if rest < TEASER / 4 { text } else { beginning };
    match beginning.char_indices().filter(|(_, c)| *c == '\n').nth(TEASER_LINES - 1) {
        Some((at, _)) => &beginning[..at],
        None => beginning,
    }
}

/// A section's name in addresses, each its own.
fn name(section: &Section, index: usize) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let id: String = section.id.chars().map(plain).collect();
    if id.is_empty() { format!("section-{}", index + 1) } else { id }
}

/// How many columns have intervals.
fn intervals(table: &Table) -> usize {
    let has = |column: &usize| {
        table.rows.iter().any(|row| matches!(row.cells.get(*column), Some(Cell::Interval { .. })))
    };
    (0..table.columns.len()).filter(has).count()
}

/// An interval drawn on one scale with those of its column.
fn whisker(table: &Table, column: usize, cell: &Cell) -> String {
    let Cell::Interval { value, low, high, .. } = cell else { return String::new() };
    let ends = table.rows.iter().filter_map(|row| match row.cells.get(column) {
        Some(Cell::Interval { low, high, value, .. }) => Some([*low, *high, *value]),
        _ => None,
    });
    let ends: Vec<[f64; 3]> = ends.collect();
    let finite = ends.iter().flatten().all(|v| v.is_finite());
    let least = ends.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let most = ends.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    if ends.len() < 2 || !finite || most - least <= 0.0 {
        return String::new();
    }
    let x = |v: f64| crate::axes::c(4.0 + 92.0 * (v - least) / (most - least));
    let bar = match low == high {
        true => String::new(),
        false => {
            let (low, high) = (x(*low), x(*high));
            format!("<path class=\"bar s0\" d=\"M{low} 8H{high}M{low} 5v6M{high} 5v6\"/>")
        }
    };
    format!(
        "<svg class=\"whisker\" viewBox=\"0 0 100 16\" aria-hidden=\"true\">{bar}\
         <path class=\"dots s0\" d=\"M{} 8h0\"/></svg>",
        x(*value)
    )
}
