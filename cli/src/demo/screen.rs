//! What a person sees while the demo runs: a line for each step, a live table of rounds, a bar for the rest.
//!
//! On a pipe there is no bar, only plain lines. With `--format json` all of it goes to standard error, so that standard output
//! holds the one object.

use std::io::{IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::commands::view::RoundView;
use crate::output::Format;

/// The demo's screen.
pub(crate) struct Screen {
    format: Format,
    bar: ProgressBar,
}

impl Screen {
    /// A screen for this kind of output.
    pub(crate) fn new(format: Format) -> Screen {
        let bar = ProgressBar::new(0);
        let seen = match format {
            Format::Text => std::io::stdout().is_terminal() && std::io::stderr().is_terminal(),
            Format::Json => std::io::stderr().is_terminal(),
        };
        if !seen {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template("  {bar:34} {pos}/{len} rounds · {msg}") {
            bar.set_style(style.progress_chars("━╸ "));
        }
        Screen { format, bar }
    }

    /// One line, kept.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        let write = || match self.format {
            Format::Text => crate::output::say(text),
            Format::Json => {
                let _ = writeln!(std::io::stderr().lock(), "{text}");
            }
        };
        // Before the first round there is no bar to make room for, and drawing one of 0 of 0 rounds would say "done".
        match self.bar.length() {
            Some(1..) => self.bar.suspend(write),
            _ => write(),
        }
    }

    /// A step's name, and what came out of it.
    pub(crate) fn step(&self, name: &str, what: impl AsRef<str>) {
        self.line(format!("{name:<12} {}", what.as_ref()));
    }

    /// The table's heading; the bar begins.
    pub(crate) fn begin_rounds(&self, rounds: u32) {
        self.line("");
        self.line("  round       sites      loss  val. AUC   seconds");
        self.bar.set_length(u64::from(rounds));
    }

    /// One row of the table.
    pub(crate) fn round(&self, r: &RoundView) {
        let figure = |x: Option<f64>| x.map_or_else(|| "–".into(), |x| format!("{x:.3}"));
        let name = match r.kind.as_str() {
            "statistics" => "statistics".to_owned(),
            "evaluate" => "evaluation".to_owned(),
            _ => r.round.to_string(),
        };
        let outcome = if r.outcome == "committed" {
            String::new()
        } else {
            format!("  abandoned: {}", r.outcome)
        };
        self.line(format!(
            "  {name:<10} {:>6} {:>9} {:>9} {:>9.2}{outcome}",
            r.participants,
            figure(r.loss),
            figure(r.validation_auc),
            r.seconds
        ));
        if r.kind == "train" {
            self.bar.set_position(u64::from(r.round));
        }
    }

    /// What goes on right now, beside the bar.
    pub(crate) fn now(&self, text: String) {
        self.bar.set_message(text);
        self.bar.tick();
    }

    /// The bar goes.
    pub(crate) fn end_rounds(&self) {
        self.bar.finish_and_clear();
    }
}
