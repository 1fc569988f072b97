//! The document: sections of paragraphs, tables, charts and examples, before they are rendered.

/// A report: one document, rendered as a page or as Markdown.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// The heading of the page.
    pub title: String,
    /// A line below it.
    pub subtitle: String,
    /// The result in plain sentences, for a reader in a hurry.
    pub summary: Vec<String>,
    /// The few figures that matter most; large on the page.
    pub headlines: Vec<Headline>,
    /// The rest.
    pub sections: Vec<Section>,
}

/// One large figure.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Headline {
    /// Its name.
    pub label: String,
    /// The figure.
    pub value: String,
    /// Its interval, or another remark.
    pub detail: String,
}

/// A section of a report, reached from the table of contents.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Section {
    /// Its name in addresses of the page; other characters than letters, digits and `-` become `-`.
    pub id: String,
    /// Its heading.
    pub heading: String,
    /// Its content. On the page, charts that follow one another stand side by side where there is room.
    pub blocks: Vec<Block>,
}

impl Section {
    /// Whether a rendering has this section: not where all its blocks are those of the other.
    pub(crate) fn is_in(&self, rendering: Rendering) -> bool {
        let other = |b: &Block| matches!(b, Block::Only(only, _) if *only != rendering);
        self.blocks.is_empty() || !self.blocks.iter().all(other)
    }
}

/// A part of a section.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    /// Text.
    Paragraph(String),
    /// Names and values.
    KeyValues(Vec<(String, String)>),
    /// A table.
    Table(Table),
    /// A chart.
    Chart(Chart),
    /// Texts with their rewards.
    Examples(Vec<Example>),
    /// Code, or another text to copy.
    Code {
        /// Its caption.
        caption: String,
        /// Its language, as the fence in Markdown names it, such as `toml`; empty for none.
        language: String,
        /// The text.
        text: String,
    },
    /// Blocks that the page folds away until a reader opens them. In Markdown they stand under a heading of
    /// their own.
    Folded {
        /// The line that is always seen.
        summary: String,
        /// The folded blocks.
        blocks: Vec<Block>,
    },
    /// Blocks of one rendering, which the other leaves out.
    Only(Rendering, Vec<Block>),
}

/// The renderings of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rendering {
    /// The page: [`Report::to_html`].
    Html,
    /// The text: [`Report::to_markdown`].
    Markdown,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Its caption.
    pub caption: String,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows. Cells that a row has too few are empty; those beyond `columns` are left out.
    pub rows: Vec<TableRow>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Column {
    /// Its heading.
    pub name: String,
    /// Whether its cells are figures, which are aligned right.
    pub numeric: bool,
}

impl Column {
    /// A column of text.
    pub fn text(name: impl Into<String>) -> Self {
        Column { name: name.into(), numeric: false }
    }

    /// A column of figures.
    pub fn number(name: impl Into<String>) -> Self {
        Column { name: name.into(), numeric: true }
    }
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableRow {
    /// Its cells.
    pub cells: Vec<Cell>,
    /// Whether it stands out.
    pub highlight: bool,
}

impl TableRow {
    /// A row that does not stand out.
    pub fn plain(cells: Vec<Cell>) -> Self {
        TableRow { cells, highlight: false }
    }
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Text, or a figure as it is to be shown.
    Text(String),
    /// An estimate with its interval. The page also draws it, on one scale with the others of its column.
    /// Where both ends are the estimate it has no interval, and is drawn as a point.
    Interval {
        /// The estimate.
        value: f64,
        /// The lower end.
        low: f64,
        /// The upper end.
        high: f64,
        /// How they are written.
        format: Format,
    },
}

impl Cell {
    /// Text, or a figure as it is to be shown.
    pub fn text(text: impl Into<String>) -> Self {
        Cell::Text(text.into())
    }
}

/// How a figure is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A plain number.
    #[default]
    Number,
    /// A share, as a percentage.
    Percent,
    /// A difference of shares, in signed percentage points.
    Points,
}

impl Format {
    /// A figure as text, with `digits` decimals; percentages have two fewer.
    pub fn show(self, value: f64, digits: usize) -> String {
        if !value.is_finite() {
            return "not a number".to_owned();
        }
        let text = match self {
            Format::Number => plain(value, digits),
            Format::Percent => format!("{}%", plain(100.0 * value, digits.saturating_sub(2))),
            Format::Points => format!("{:+.1$}", 100.0 * value, digits.saturating_sub(2)),
        };
        // A minus sign is as wide as a digit, a hyphen is not.
        text.replace('-', "\u{2212}")
    }
}

/// A number of moderate size as a decimal, another with an exponent; never `-0`.
fn plain(value: f64, digits: usize) -> String {
    if value.abs() >= 1e6 || (value != 0.0 && value.abs() < 1e-4 && digits < 8) && digits > 4 {
        return format!("{value:.2e}");
    }
    let text = format!("{value:.digits$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| matches!(c, '0' | '.')) => rest.to_owned(),
        _ => text,
    }
}

/// A text pair with its figures.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Example {
    /// Its heading, such as its line in the file.
    pub heading: String,
    /// Figures: rewards, margin, lengths.
    pub facts: Vec<(String, String)>,
    /// Texts with their names: prompt, chosen, rejected. The page folds long ones.
    pub texts: Vec<(String, String)>,
}

/// A chart. The page draws it, and has its figures as a table too.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Its title.
    pub title: String,
    /// How to read it; may be empty.
    pub note: String,
    /// The chart.
    pub kind: ChartKind,
}

/// The kinds of charts.
#[derive(Debug, Clone, PartialEq)]
pub enum ChartKind {
    /// Lines, with bands around them where points have intervals.
    Lines(Lines),
    /// Predicted against observed frequencies.
    Calibration(Calibration),
    /// Distributions over each other.
    Histogram(Histogram),
    /// Points of several classes.
    Scatter(Scatter),
}

/// How an axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Evenly.
    #[default]
    Linear,
    /// By powers of 2; values must be positive.
    Log2,
    /// By powers of 10; values must be positive.
    Log10,
}

/// An axis.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Axis {
    /// The measured quantity, with its unit.
    pub label: String,
    /// How it is divided.
    pub scale: Scale,
    /// How its figures are written.
    pub format: Format,
}

impl Axis {
    /// An evenly divided axis of plain figures.
    pub fn linear(label: impl Into<String>) -> Self {
        Axis { label: label.into(), ..Axis::default() }
    }

    /// An evenly divided axis of percentages.
    pub fn percent(label: impl Into<String>) -> Self {
        Axis { label: label.into(), format: Format::Percent, ..Axis::default() }
    }

    /// The same, divided by a scale.
    pub fn scaled(self, scale: Scale) -> Self {
        Axis { scale, ..self }
    }
}

/// A line chart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lines {
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines; at most 8 are told apart.
    pub series: Vec<Series>,
    /// Vertical marks, such as the epoch that was kept.
    pub marks: Vec<(f64, String)>,
    /// Horizontal marks, such as a baseline.
    pub levels: Vec<(f64, String)>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<LinePoint>,
}

/// One point of a line.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LinePoint {
    /// Horizontal coordinate.
    pub x: f64,
    /// Vertical coordinate.
    pub y: f64,
    /// The ends of its interval, if it has one.
    pub interval: Option<[f64; 2]>,
}

impl LinePoint {
    /// A point without an interval.
    pub fn at(x: f64, y: f64) -> Self {
        LinePoint { x, y, interval: None }
    }
}

/// A calibration plot.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Calibration {
    /// Name of the predicted probability.
    pub x: String,
    /// Name of the observed frequency.
    pub y: String,
    /// The least probability that can be predicted: 0, or one half of an undirected choice.
    pub least: f64,
    /// Curves, such as one a model.
    pub curves: Vec<(String, Vec<CalibrationBin>)>,
}

/// One point of a calibration plot.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CalibrationBin {
    /// Mean predicted probability.
    pub predicted: f64,
    /// Observed frequency.
    pub observed: f64,
    /// The ends of its interval.
    pub interval: [f64; 2],
    /// Number of observations.
    pub count: usize,
}

/// Distributions over each other, in the same bins.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    /// The quantity that is counted.
    pub x: String,
    /// Names and values.
    pub groups: Vec<(String, Vec<f64>)>,
    /// A vertical mark, such as one at 0 for margins, with its label.
    pub mark: Option<(f64, String)>,
}

/// Points of several classes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scatter {
    /// The horizontal axis; `None` for maps, whose directions mean nothing.
    pub x: Option<Axis>,
    /// The vertical axis.
    pub y: Option<Axis>,
    /// The classes, drawn in this order; at most 8 are told apart.
    pub classes: Vec<PointClass>,
    /// Lines through the points, each with a name and the number of its class.
    pub trends: Vec<Trend>,
}

/// Points of one class.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PointClass {
    /// Their name.
    pub name: String,
    /// Their coordinates.
    pub points: Vec<[f64; 2]>,
    /// How they are drawn.
    pub shape: Shape,
    /// The number of their colour, from 0; classes that belong together share one.
    pub colour: usize,
}

/// How a point is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// A filled circle.
    #[default]
    Circle,
    /// A filled triangle.
    Triangle,
    /// Two lines, upright.
    Plus,
    /// Two lines, slanting.
    Cross,
}

/// A line through points.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trend {
    /// Its name.
    pub name: String,
    /// The number of its colour.
    pub colour: usize,
    /// Its points.
    pub points: Vec<[f64; 2]>,
}
