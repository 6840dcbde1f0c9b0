//! How commands show what they have: tables for people, JSON for programs.

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use std::io::{IsTerminal as _, Write as _};

/// For whom to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A table and words.
    Human,
    /// JSON.
    Json,
}

impl Format {
    /// JSON where it is asked for, or where no one is at the other end of standard output.
    pub fn choose(json: bool) -> Self {
        if json || !std::io::stdout().is_terminal() { Self::Json } else { Self::Human }
    }
}

/// Writes a JSON value.
pub fn json(value: &serde_json::Value) {
    line(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Writes a line; a reader that went away is no failure.
pub fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A row, and the colour it stands out by.
pub type Row = (Vec<String>, Option<AnsiColor>);

/// Writes rows below headings.
pub fn table(headings: &[&str], rows: Vec<Row>) {
    let terminal = std::io::stdout().is_terminal();
    let colours: Vec<Option<AnsiColor>> = rows.iter().map(|(_, colour)| *colour).collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.iter().map(|heading| heading.to_uppercase()));
    for (row, _) in rows {
        table.add_row(row);
    }
    let text = table.to_string();
    let mut lines = text.lines().map(str::trim_end);
    line(&paint(lines.next().unwrap_or_default(), AnsiColor::Cyan, terminal));
    for (text, colour) in lines.zip(colours) {
        line(&colour.map_or(text.to_owned(), |colour| paint(text, colour, terminal)));
    }
}

/// Text in a colour, where standard output is a terminal and nobody asked for none.
pub fn coloured(text: &str, colour: AnsiColor) -> String {
    paint(text, colour, std::io::stdout().is_terminal())
}

fn paint(text: &str, colour: AnsiColor, terminal: bool) -> String {
    if !terminal || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return text.to_owned();
    }
    let style = Style::new().fg_color(Some(colour.into())).bold();
    format!("{style}{text}{style:#}")
}

/// What stands before an error.
pub fn error_word() -> String {
    paint("error", AnsiColor::Red, std::io::stderr().is_terminal())
}
