//! The page around the charts: title, command, key figures; SVG alone or inside of HTML.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::chart::{Chart, HEIGHT, WIDTH, escaped, text};

/// Space above the first chart, without the command's lines.
const HEAD: f64 = 84.0;
const LINE: f64 = 17.0;
const GAP: f64 = 26.0;
/// Characters of the command that fit one line.
const COMMAND_COLUMNS: usize = 125;

/// Classes used by the charts. In the SVG itself, so that it can stand alone.
const STYLE: &str = "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#374151}\
.title{font-size:23px;font-weight:650;fill:#111827}.figures{font-size:14px;fill:#374151}\
.command{font-family:ui-monospace,'DejaVu Sans Mono',monospace;font-size:11.5px;fill:#6b7280}\
.head{font-size:15px;font-weight:600;fill:#111827}.legend{font-size:12.5px}.tick{font-size:12px;fill:#4b5563}\
.name{font-size:12px;fill:#6b7280}.shade{font-size:12px;fill:#a3461c}\
.grid{stroke:#dfe3e8;stroke-width:1;fill:none}.minor{stroke:#f1f3f5;stroke-width:1;fill:none}\
.axis{stroke:#6b7280;stroke-width:1.2;fill:none}\
.line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}";

/// What is drawn.
#[derive(Debug)]
pub(crate) struct Page {
    pub(super) title: String,
    /// One line with the results that matter most.
    pub(super) figures: String,
    pub(super) charts: Vec<Chart>,
}

impl Page {
    /// Writes it as HTML if the file's name ends so, else as SVG.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let command: Vec<_> = env::args_os()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        let svg = self.svg(&shown(&command));
        let is_html = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("html"));
        let page = if is_html { self.html(&svg) } else { svg };
        fs::write(path, page).with_context(|| format!("cannot write the plot {}", path.display()))
    }

    fn svg(&self, command: &str) -> String {
        let commands = wrapped(command, COMMAND_COLUMNS);
        let head = HEAD + commands.len() as f64 * LINE;
        let height = head + self.charts.len() as f64 * (HEIGHT + GAP);
        let mut out = String::new();
        let _ = write!(
            out,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}" height="{height:.0}"><style>{STYLE}</style>"#
        );
        let _ = writeln!(
            out,
            r##"<rect width="{WIDTH}" height="{height:.0}" fill="#ffffff"/>"##
        );
        text(&mut out, (24.0, 36.0), "start", "title", &self.title);
        text(&mut out, (24.0, 60.0), "start", "figures", &self.figures);
        for (index, line) in commands.iter().enumerate() {
            let y = 82.0 + index as f64 * LINE;
            text(&mut out, (24.0, y), "start", "command", line);
        }
        out.push('\n');
        for (index, chart) in self.charts.iter().enumerate() {
            chart.draw(&mut out, head + index as f64 * (HEIGHT + GAP));
        }
        out.push_str("</svg>\n");
        out
    }

    fn html(&self, svg: &str) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{}</title>\
             <style>body{{margin:2rem auto;max-width:62rem;background:#f5f6f8}}\
             svg{{width:100%;height:auto;border-radius:10px;box-shadow:0 1px 6px #0002}}</style></head>\n\
             <body>\n{svg}</body></html>\n",
            escaped(&self.title)
        )
    }
}

/// The command line in one line, without the password of a URI.
fn shown(command: &[String]) -> String {
    let program = command.first().map(|path| Path::new(path).file_name());
    let program = program
        .flatten()
        .map(|name| name.to_string_lossy().into_owned());
    let arguments = command
        .iter()
        .skip(1)
        .map(|argument| without_password(argument));
    let words: Vec<_> = program.into_iter().chain(arguments).collect();
    words.join(" ")
}

fn without_password(argument: &str) -> String {
    let hidden = || {
        let (scheme, rest) = argument.split_once("://")?;
        let (login, address) = rest.rsplit_once('@')?;
        let (user, _) = login.split_once(':')?;
        Some(format!("{scheme}://{user}:…@{address}"))
    };
    hidden().unwrap_or_else(|| argument.to_owned())
}

/// Broken between words; a word that is too long stays whole.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_shows_the_command_but_no_password() {
        let command = [
            "/a/b/leveret-loadgen",
            "latency",
            "--uri=amqps://me:s3cr:t@h:1/v",
            "-r",
            "5",
        ];
        assert_eq!(
            shown(&command.map(str::to_owned)),
            "leveret-loadgen latency --uri=amqps://me:…@h:1/v -r 5"
        );
    }

    #[test]
    fn long_commands_are_wrapped_between_words() {
        assert_eq!(wrapped("ab cd efghij k", 6), ["ab cd", "efghij", "k"]);
    }
}
