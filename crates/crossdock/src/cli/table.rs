//! Lists as tables: one line per item, no frames, made to fit.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};
use serde_json::Value;

use super::{age, screen::Screen};
use crate::safe;

/// The narrowest that free text is made before a table is given up.
const TEXT_COLUMNS_MIN: u16 = 16;

/// A column of a list.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its head.
    pub title: &'static str,
    /// Which value of the item.
    pub field: &'static str,
    /// How it is shown.
    pub show: Show,
    /// Whether it is left out where it does not fit.
    pub if_it_fits: bool,
}

impl Column {
    /// The same column, left out where it does not fit.
    pub const fn if_it_fits(self) -> Self {
        Self { if_it_fits: true, ..self }
    }
}

/// How a value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// A name or id that people copy: never broken over lines.
    Name,
    /// Text that may be broken over lines.
    Text,
    /// A number.
    Count,
    /// A moment.
    Moment,
}

/// A column.
pub const fn column(title: &'static str, field: &'static str, show: Show) -> Column {
    Column { title, field, show, if_it_fits: false }
}

/// The items as a table. Where it is too wide, columns that need not be there go first, the last one before the others;
/// where that is not enough, each item is a paragraph.
pub fn render(items: &[Value], columns: &[Column], screen: &Screen) -> String {
    let mut left = columns.to_vec();
    loop {
        let drawn = table(items, &left, screen);
        let widest = drawn.lines().map(|line| line.chars().count()).max().unwrap_or_default();
        match screen.width {
            Some(width) if widest > usize::from(width) => {}
            _ => return drawn,
        }
        match left.iter().rposition(|column| column.if_it_fits) {
            Some(place) => drop(left.remove(place)),
            None => return paragraphs(items, columns, screen),
        }
    }
}

fn table(items: &[Value], columns: &[Column], screen: &Screen) -> String {
    let mut table = blank(screen);
    table.set_header(columns.iter().map(|column| column.title));
    for item in items {
        table.add_row(columns.iter().map(|column| cell(item, column, screen)));
    }
    let widths = table.column_max_content_widths();
    for ((place, column), width) in columns.iter().enumerate().zip(widths) {
        let Some(drawn) = table.column_mut(place) else { continue };
        if column.show == Show::Count {
            drawn.set_cell_alignment(CellAlignment::Right);
        }
        drawn.set_constraint(match column.show {
            Show::Text => ColumnConstraint::LowerBoundary(Width::Fixed(width.min(TEXT_COLUMNS_MIN))),
            _ => ColumnConstraint::ContentWidth,
        });
    }
    lines(&mut table)
}

fn paragraphs(items: &[Value], columns: &[Column], screen: &Screen) -> String {
    let wide = columns.iter().map(|column| column.title.len()).max().unwrap_or_default();
    let line = |item, column: &Column| format!("{:wide$}  {}", column.title, cell(item, column, screen));
    let paragraph = |item| columns.iter().map(|column| line(item, column)).collect::<Vec<_>>().join("\n");
    items.iter().map(paragraph).collect::<Vec<_>>().join("\n\n")
}

/// A table without frames that fits the screen if it can.
pub fn blank(screen: &Screen) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    match screen.width {
        Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    table
}

/// The lines of a table: columns two spaces apart, no spaces at the end.
pub fn lines(table: &mut Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

fn cell(item: &Value, column: &Column, screen: &Screen) -> String {
    let value = item.pointer(column.field);
    match column.show {
        Show::Moment => screen.moment(value),
        Show::Count => match value.and_then(Value::as_u64) {
            Some(number) if screen.terminal => age::count(number),
            Some(number) => number.to_string(),
            None => "-".to_owned(),
        },
        Show::Name | Show::Text => text(value),
    }
}

/// A value in one line.
pub fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => safe::line(text),
        Some(Value::Array(items)) => items.iter().map(|item| text(Some(item))).collect::<Vec<_>>().join(", "),
        Some(Value::Number(number)) => number
            .as_f64()
            .filter(|_| number.is_f64())
            .map_or_else(|| number.to_string(), |number| number.to_string()),
        Some(other) => safe::line(&other.to_string()),
    }
}
