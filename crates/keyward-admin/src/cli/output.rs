//! Writes results to standard output: tables and sentences for people, JSON for programs.

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use terminal_size::{Width, terminal_size_of};

/// Who reads the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A person: tables and sentences.
    Human,
    /// A program: JSON.
    Json,
}

impl Format {
    /// Chooses JSON if it is asked for, or if standard output is not a terminal.
    pub fn choose(json: bool) -> Self {
        if json || !std::io::stdout().is_terminal() { Self::Json } else { Self::Human }
    }
}

/// Standard output could not be written.
#[derive(Debug)]
pub struct OutputError(io::Error);

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "standard output cannot be written: {}", self.0)
    }
}

/// Writes a JSON value.
///
/// # Errors
/// Returns an error if it could not be written, for example because the disk is full.
pub fn json(value: &serde_json::Value) -> Result<(), OutputError> {
    line(&serde_json::to_string_pretty(value).unwrap_or_default())
}

/// Writes a JSON value on one line.
///
/// # Errors
/// Returns an error if it could not be written, for example because the disk is full.
pub fn json_line(value: &serde_json::Value) -> Result<(), OutputError> {
    line(&value.to_string())
}

/// Writes a line. A reader that went away (`keyward key list | head`) is not an error.
///
/// # Errors
/// Returns an error if the line could not be written, for example because the disk is full.
pub fn line(text: &str) -> Result<(), OutputError> {
    match write(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(OutputError),
    }
}

/// Writes a line that must reach its reader: it holds a secret that is shown once.
///
/// # Errors
/// Returns an error if the line could not be written for any reason.
pub fn secret_line(text: &str) -> Result<(), OutputError> {
    write(text).map_err(OutputError)
}

fn write(text: &str) -> io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// The cells of a row, and the colour that it is shown in.
pub type Row = (Vec<String>, Option<AnsiColor>);

/// Writes rows below headings. Where a terminal is too narrow for that, each row becomes a block of lines, a line for each
/// cell.
///
/// # Errors
/// Returns an error if it could not be written, for example because the disk is full.
pub fn table(headings: &[&str], rows: Vec<Row>) -> Result<(), OutputError> {
    let width = terminal_size_of(std::io::stdout()).map(|(Width(width), _)| usize::from(width));
    let (colours, rows): (Vec<_>, Vec<_>) = rows.into_iter().map(|(cells, colour)| (colour, cells)).unzip();
    let headings: Vec<String> = headings.iter().map(|heading| in_capitals(heading)).collect();
    match lines_of(&headings, &rows, width) {
        Layout::Table(lines) => {
            let colours = std::iter::once(Some(AnsiColor::Cyan)).chain(colours);
            for (text, colour) in lines.iter().zip(colours) {
                line(&colour.map_or(text.clone(), |colour| coloured(text, colour)))?;
            }
        }
        Layout::Blocks(blocks) => {
            for (place, (block, colour)) in blocks.iter().zip(colours).enumerate() {
                if place > 0 {
                    line("")?;
                }
                for (heading, cell) in block {
                    let cell = colour.map_or(cell.clone(), |colour| coloured(cell, colour));
                    line(format!("{}  {cell}", coloured(heading, AnsiColor::Cyan)).trim_end())?;
                }
            }
        }
    }
    Ok(())
}

/// Returns a heading in capitals, but for what is in parentheses.
fn in_capitals(heading: &str) -> String {
    match heading.split_once('(') {
        Some((before, after)) => format!("{}({after}", before.to_uppercase()),
        None => heading.to_uppercase(),
    }
}

/// How rows are written.
#[derive(Debug, PartialEq, Eq)]
enum Layout {
    /// A line for the headings, and one for each row.
    Table(Vec<String>),
    /// A block for each row: its headings, which are equally wide, and its cells.
    Blocks(Vec<Vec<(String, String)>>),
}

/// Chooses the layout of rows. `width` is that of the terminal; `None` means that there is no terminal, and no limit.
fn lines_of(headings: &[String], rows: &[Vec<String>], width: Option<usize>) -> Layout {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings);
    for row in rows {
        table.add_row(row);
    }
    let lines: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    if width.is_none_or(|width| lines.iter().all(|line| line.chars().count() <= width)) {
        return Layout::Table(lines);
    }
    let longest = headings.iter().map(|heading| heading.chars().count()).max().unwrap_or_default();
    let block = |row: &Vec<String>| {
        headings.iter().zip(row).map(|(heading, cell)| (format!("{heading:<longest$}"), cell.clone())).collect()
    };
    Layout::Blocks(rows.iter().map(block).collect())
}

/// Colours a text if standard output is a terminal and `NO_COLOR` is not set.
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

/// Returns the word before an error message.
pub fn error_word() -> String {
    paint("error", AnsiColor::Red, std::io::stderr().is_terminal())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_narrow_terminal_gets_blocks() {
        let headings = ["name", "expires (UTC)"].map(in_capitals);
        let rows = vec![vec!["CI Bot".to_owned(), "2026-11-28".to_owned()], vec!["a".to_owned(), "never".to_owned()]];
        let table =
            Layout::Table(vec![" NAME    EXPIRES (UTC)".into(), " CI Bot  2026-11-28".into(), " a       never".into()]);
        for width in [None, Some(22), Some(80)] {
            assert_eq!(lines_of(&headings, &rows, width), table, "{width:?}");
        }
        let block = |name: &str, expires: &str| {
            vec![("NAME         ".to_owned(), name.to_owned()), ("EXPIRES (UTC)".to_owned(), expires.to_owned())]
        };
        let blocks = Layout::Blocks(vec![block("CI Bot", "2026-11-28"), block("a", "never")]);
        assert_eq!(lines_of(&headings, &rows, Some(21)), blocks);
    }

    proptest! {
        /// Nothing is cut off, whatever the width is, and no line of a table is wider than the terminal.
        #[test]
        fn every_cell_is_written(
            rows in proptest::collection::vec(proptest::collection::vec("[a-z:]{0,30}", 3), 0..8),
            width in proptest::option::of(1..120_usize),
        ) {
            let headings = ["name", "permissions", "id"].map(in_capitals);
            match lines_of(&headings, &rows, width) {
                Layout::Table(lines) => {
                    prop_assert_eq!(lines.len(), rows.len() + 1);
                    prop_assert!(lines.iter().all(|line| line.chars().count() <= width.unwrap_or(usize::MAX)));
                    for (line, row) in lines[1..].iter().zip(&rows) {
                        prop_assert!(row.iter().all(|cell| line.contains(cell.as_str())));
                    }
                }
                Layout::Blocks(blocks) => {
                    let cells: Vec<Vec<String>> =
                        blocks.into_iter().map(|block| block.into_iter().map(|(_, cell)| cell).collect()).collect();
                    prop_assert_eq!(cells, rows);
                }
            }
        }
    }
}
