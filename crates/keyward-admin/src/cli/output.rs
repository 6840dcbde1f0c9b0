//! Writes results to standard output: tables and sentences for people, JSON for programs.

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

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
/// If it could not be written, for example because the disk is full.
pub fn json(value: &serde_json::Value) -> Result<(), OutputError> {
    line(&serde_json::to_string_pretty(value).unwrap_or_default())
}

/// Writes a JSON value on one line.
///
/// # Errors
/// If it could not be written, for example because the disk is full.
pub fn json_line(value: &serde_json::Value) -> Result<(), OutputError> {
    line(&value.to_string())
}

/// Writes a line. A reader that went away (`keyward key list | head`) is not an error.
///
/// # Errors
/// If the line could not be written, for example because the disk is full.
pub fn line(text: &str) -> Result<(), OutputError> {
    match write(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(OutputError),
    }
}

/// Writes a line that must reach its reader: it holds a secret that is shown once.
///
/// # Errors
/// If the line could not be written for any reason.
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

/// Writes rows below headings.
///
/// # Errors
/// If it could not be written, for example because the disk is full.
pub fn table(headings: &[&str], rows: Vec<Row>) -> Result<(), OutputError> {
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
    line(&paint(lines.next().unwrap_or_default(), AnsiColor::Cyan, terminal))?;
    for (text, colour) in lines.zip(colours) {
        line(&colour.map_or(text.to_owned(), |colour| paint(text, colour, terminal)))?;
    }
    Ok(())
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
