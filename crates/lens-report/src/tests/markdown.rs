//! The document as Markdown, read back by a Markdown parser that knows nothing of this crate.

use super::*;
use proptest::prelude::*;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// What a reader sees of a Markdown text.
#[derive(Debug, Default, PartialEq)]
struct Read {
    /// Level and text of each heading.
    headings: Vec<(usize, String)>,
    paragraphs: Vec<String>,
    /// Rows of cells of each table, its head first.
    tables: Vec<Vec<Vec<String>>>,
    items: Vec<String>,
    code: Vec<String>,
    /// Anything that none of our texts may become.
    foreign: Vec<String>,
}

fn read(markdown: &str) -> Read {
    let mut read = Read::default();
    let mut text = String::new();
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_FOOTNOTES;
    for event in Parser::new_ext(markdown, options) {
        match event {
            Event::Text(part) => text.push_str(&part),
            Event::Start(Tag::Table(_)) => read.tables.push(Vec::new()),
            Event::Start(Tag::TableHead | Tag::TableRow) => {
                read.tables.last_mut().unwrap().push(Vec::new());
            }
            Event::Start(
                Tag::Heading { .. }
                | Tag::Paragraph
                | Tag::TableCell
                | Tag::Item
                | Tag::CodeBlock(_),
            ) => text.clear(),
            Event::Start(Tag::List(None) | Tag::Strong) => {}
            Event::End(TagEnd::Heading(level)) => {
                read.headings.push((level as usize, std::mem::take(&mut text)));
            }
            Event::End(TagEnd::Paragraph) => read.paragraphs.push(std::mem::take(&mut text)),
            Event::End(TagEnd::Item) => read.items.push(std::mem::take(&mut text)),
            Event::End(TagEnd::CodeBlock) => read.code.push(std::mem::take(&mut text)),
            Event::End(TagEnd::TableCell) => {
                let row = read.tables.last_mut().unwrap().last_mut().unwrap();
                row.push(std::mem::take(&mut text));
            }
            Event::End(_) => {}
            other => read.foreign.push(format!("{other:?}")),
        }
    }
    read
}

/// A text as one line of Markdown shows it.
fn line(text: &str) -> String {
    crate::escape::visible(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn of(blocks: Vec<Block>) -> String {
    let section = Section { blocks, ..Section::default() };
    Report { sections: vec![section], ..Report::default() }.to_markdown()
}

#[test]
fn a_small_report_by_hand() {
    let interval =
        |v: f64| Cell::Interval { value: v, low: v - 0.1, high: v + 0.1, format: Format::Percent };
    let point = Cell::Interval { value: 0.5, low: 0.5, high: 0.5, format: Format::Percent };
    let table = Table {
        caption: "Accuracy on 40 pairs".into(),
        columns: vec![Column::text("head"), Column::number("accuracy")],
        rows: vec![
            TableRow { cells: vec![Cell::text("plain (saved)"), interval(0.6)], highlight: true },
            TableRow::plain(vec![Cell::text("a|b"), point]),
            TableRow::plain(vec![Cell::text("only one cell")]),
        ],
    };
    let bin = CalibrationBin { predicted: 0.6, observed: 0.5, interval: [0.4, 0.6], count: 30 };
    let calibration = Calibration {
        x: "predicted".into(),
        y: "observed".into(),
        least: 0.5,
        curves: vec![("saved".into(), vec![bin])],
    };
    let histogram = Histogram {
        x: "margin".into(),
        groups: vec![("pairs".into(), vec![1.0, 3.0])],
        mark: None,
    };
    let chart = |title: &str, note: &str, kind| {
        Block::Chart(Chart { title: title.into(), note: note.into(), kind })
    };
    let example = Example {
        heading: "Line 7".into(),
        facts: vec![("margin".into(), "-2.5".into()), ("sure".into(), "92.4%".into())],
        texts: vec![("Prompt".into(), "How?\n```\nlike this".into())],
    };
    let report = Report {
        title: "Reward model from pairs_1.jsonl".into(),
        subtitle: "Trained on 40 pairs".into(),
        summary: vec!["It is *right* in <60%.".into(), "1. Second.".into()],
        headlines: vec![Headline {
            label: "Accuracy".into(),
            value: "60.0%".into(),
            detail: "40 pairs".into(),
        }],
        sections: vec![
            Section {
                id: "result".into(),
                heading: "Result".into(),
                blocks: vec![
                    Block::Table(table),
                    Block::KeyValues(vec![("seed".into(), "7".into())]),
                    Block::Only(Rendering::Html, vec![Block::Paragraph("page".into())]),
                    Block::Only(Rendering::Markdown, vec![Block::Paragraph("text".into())]),
                ],
            },
            Section {
                id: "page".into(),
                heading: "Page alone".into(),
                blocks: vec![Block::Only(Rendering::Html, vec![])],
            },
            Section {
                id: "more".into(),
                heading: "More".into(),
                blocks: vec![
                    chart(
                        "Sureness",
                        "Below the diagonal: too sure.",
                        ChartKind::Calibration(calibration),
                    ),
                    chart("Margins", "", ChartKind::Histogram(histogram)),
                    Block::Folded {
                        summary: "Worst".into(),
                        blocks: vec![Block::Examples(vec![example])],
                    },
                    Block::Code {
                        caption: "lens.toml".into(),
                        language: "toml".into(),
                        text: "seed = 7\n".into(),
                    },
                ],
            },
        ],
    };
    let expected = r"# Reward model from pairs_1.jsonl

Trained on 40 pairs

- It is \*right\* in &lt;60%.
- 1\. Second.

- Accuracy: **60.0%** (40 pairs)

## Result

Accuracy on 40 pairs

| head | accuracy |
|---|---:|
| **plain (saved)** | 60.0% (50.0% to 70.0%) |
| a\|b | 50.0% |
| only one cell | |

| | |
|---|---|
| seed | 7 |

text

## More

### Sureness

Below the diagonal: too sure.

observed against predicted: on the diagonal they agree. The larger a point, the more it stands for.

| | predicted | observed | count |
|---|---:|---:|---:|
| saved | 60.0% | 50.0% (40.0% to 60.0%) | 30 |

### Margins

How often each margin occurs. pairs: mean 2.000. The chart is on the HTML page.

### Worst

#### Line 7

margin **-2.5**, sure **92.4%**

Prompt:

````text
How?
```
like this
````

lens.toml

```toml
seed = 7
```
";
    assert_eq!(report.to_markdown(), expected);
    let page = report.to_html();
    assert!(page.contains("<p>page</p>") && !page.contains("<p>text</p>"));
    assert!(page.contains("<a href=\"#page\">"), "the page has its own sections");
    let own = Section {
        id: "own".into(),
        heading: "Text alone".into(),
        blocks: vec![Block::Only(Rendering::Markdown, vec![])],
    };
    let report = Report { sections: vec![own], ..report };
    assert!(report.to_markdown().contains("## Text alone\n"));
    assert!(!report.to_html().contains("Text alone"));
}

#[test]
fn lines_with_few_points_are_a_table_and_others_a_sentence() {
    let curve = |n: u32| {
        let points = (0..n).map(|i| LinePoint::at(f64::from(i), 0.5)).collect();
        let series = vec![Series { name: "loss".into(), points }];
        let lines = Lines { x: Axis::linear("epoch"), series, ..Lines::default() };
        of(vec![chart(ChartKind::Lines(lines))])
    };
    let few = curve(50);
    assert!(few.contains("\n26 of 50 places, evenly spread\n"), "{few}");
    assert_eq!(read(&few).tables[0].len(), 1 + 26);
    assert!(!few.contains("HTML page"), "{few}");
    let many = curve(51);
    assert!(read(&many).tables.is_empty());
    assert!(
        many.contains("loss: from 0.5000 at 0 to 0.5000 at 50. The chart is on the HTML page.")
    );
    assert!(curve(0).contains("There is nothing to draw."));
}

#[test]
fn hostile_texts_are_texts_in_markdown_too() {
    let markdown = everything().to_markdown();
    let read = read(&markdown);
    assert_eq!(read.foreign, Vec::<String>::new());
    let hostile = line(HOSTILE);
    let headings: Vec<usize> =
        read.headings.iter().filter(|h| h.1 == hostile).map(|h| h.0).collect();
    // Title, section, five charts and an example, and what is folded.
    assert_eq!(headings, [1, 2, 3, 3, 3, 3, 3, 3, 3]);
    assert_eq!(read.tables[0], [["", ""], [&*hostile, &*hostile]]);
    // One cell of a column of figures, where the page draws intervals.
    assert_eq!(read.tables[1][1], [hostile.clone(), "50.0% (40.0% to 60.0%)".to_owned()]);
    let code = crate::escape::visible(HOSTILE) + "\n";
    assert_eq!((read.code.first(), read.code.last()), (Some(&code), Some(&code)));
    assert_eq!(everything().to_markdown(), markdown);
}

/// Characters and words to which Markdown or HTML gives a meaning.
const PARTS: &[&str] = &[
    "|",
    "\\",
    "\\|",
    "\n",
    "\r\n",
    "`",
    "```",
    "~~~",
    "*",
    "**",
    "_",
    "a_b",
    "__",
    "#",
    "-",
    "- ",
    "+ ",
    "1. ",
    "2) ",
    "=",
    "===",
    ">",
    "<",
    "<b>",
    "<!--",
    "&",
    "&amp;",
    "&#124;",
    "[",
    "]",
    "](x)",
    "[^1]",
    "!",
    "(",
    ")",
    " ",
    "    ",
    "\t",
    "\0",
    "\u{202e}",
    "---",
    "|---|",
    ":-:",
    "word",
    "\u{e4}",
    "\u{1f9ed}",
    "\u{a0}",
    "$",
    "~",
];

/// Texts of such parts and of any characters.
fn texts() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        3 => prop::sample::select(PARTS).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_cell_breaks_out_of_its_table(
        cells in prop::collection::vec(texts(), 6),
        highlight in any::<bool>(),
    ) {
        let [a, b, c, d, e, f] = [0, 1, 2, 3, 4, 5].map(|i: usize| cells[i].clone());
        let row = |a: &str, b: &str| TableRow {
            cells: vec![Cell::text(a), Cell::text(b)],
            highlight,
        };
        let table = Table {
            caption: String::new(),
            columns: vec![Column::text(a.clone()), Column::number(b.clone())],
            rows: vec![row(&c, &d), row(&e, &f)],
        };
        let read = read(&of(vec![Block::Table(table)]));
        prop_assert_eq!(&read.foreign, &Vec::<String>::new());
        let expected = [[a, b], [c, d], [e, f]].map(|row| row.map(|cell| line(&cell)));
        prop_assert_eq!(&read.tables, &[expected.map(|row| row.to_vec()).to_vec()]);
        prop_assert!(read.paragraphs.is_empty() && read.code.is_empty());
    }

    #[test]
    fn no_text_breaks_out_of_its_block(
        heading in texts(),
        paragraph in texts(),
        code in texts(),
        key in texts(),
        sentence in texts(),
    ) {
        let section = Section {
            heading: heading.clone(),
            blocks: vec![
                Block::Paragraph(paragraph.clone()),
                Block::Code {
                    caption: String::new(),
                    language: String::new(),
                    text: code.clone(),
                },
                Block::KeyValues(vec![(key.clone(), sentence.clone())]),
            ],
            ..Section::default()
        };
        let report = Report {
            title: "title".into(),
            summary: vec![sentence.clone()],
            sections: vec![section],
            ..Report::default()
        };
        let read = read(&report.to_markdown());
        prop_assert_eq!(&read.foreign, &Vec::<String>::new());
        let shown = |text: &str| Some(line(text)).filter(|text| !text.is_empty());
        let expected: Vec<(usize, String)> =
            std::iter::once((1, "title".to_owned())).chain(shown(&heading).map(|h| (2, h))).collect();
        prop_assert_eq!(&read.headings, &expected);
        prop_assert_eq!(&read.paragraphs, &Vec::from_iter(shown(&paragraph)));
        prop_assert_eq!(&read.items, &[line(&sentence)]);
        prop_assert_eq!(&read.tables[0][1], &[line(&key), line(&sentence)]);
        let mut code = crate::escape::visible(&code);
        if !code.is_empty() && !code.ends_with('\n') {
            code.push('\n');
        }
        prop_assert_eq!(&read.code, &[code]);
    }
}
