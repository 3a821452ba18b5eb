//! How far it is: a line that moves on a terminal, a line now and then elsewhere.

use std::time::{Duration, Instant};

use crate::migration::import::outcome::{Outcome, Tally};

/// How often a terminal is told.
const OFTEN: Duration = Duration::from_millis(200);

/// How often a log is told.
const SELDOM: Duration = Duration::from_secs(10);

/// Letters of a line that is written over.
const WIDTH: usize = 110;

/// The progress of one step. What it gives is to be written where problems go.
pub struct Progress {
    terminal: bool,
    quiet: bool,
    began: Instant,
    /// How many were done before this start.
    before: Option<u64>,
    last: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// A new one.
    pub fn new(terminal: bool, quiet: bool) -> Self {
        Self {
            terminal,
            quiet,
            began: Instant::now(),
            before: None,
            last: None,
            shown: false,
        }
    }

    fn is_due(&mut self) -> bool {
        let often = if self.terminal { OFTEN } else { SELDOM };
        let due = !self.quiet && self.last.unwrap_or(self.began).elapsed() >= often;
        if due {
            self.last = Some(Instant::now());
        }
        due
    }

    fn line(&mut self, text: &str) -> String {
        self.shown = true;
        match self.terminal {
            true => format!("\r{text:<WIDTH$}"),
            false => format!("{text}\n"),
        }
    }

    /// So many entries are read.
    pub fn read(&mut self, entries: u64) -> Option<String> {
        self.is_due().then(|| {
            let rate = rate(entries, self.began.elapsed());
            self.line(&format!("reading: {entries} entries, {rate}/s"))
        })
    }

    /// So much of `total` came to this.
    pub fn done(&mut self, tally: &Tally, total: u64) -> Option<String> {
        let done = tally.total();
        let before = *self.before.get_or_insert(done.saturating_sub(1));
        if !self.is_due() {
            return None;
        }
        let rate = rate(done.saturating_sub(before), self.began.elapsed());
        let left = total
            .saturating_sub(done)
            .checked_div(rate.max(1))
            .unwrap_or(0);
        let outcomes: Vec<String> = Outcome::ALL
            .into_iter()
            .map(|outcome| (outcome.as_str(), tally.with(outcome)))
            .filter(|(_, count)| *count > 0)
            .map(|(word, count)| format!("{word} {count}"))
            .collect();
        let percent = (done * 100).checked_div(total).unwrap_or(100);
        let text = format!(
            "{percent:>3} %  {done}/{total}  {rate}/s  {left} s left  {}",
            outcomes.join(", ")
        );
        Some(self.line(&text))
    }

    /// Begins to count anew: another step follows.
    pub fn next(&mut self) -> String {
        let over = self.over();
        *self = Self::new(self.terminal, self.quiet);
        over
    }

    /// Nothing more comes.
    pub fn over(&self) -> String {
        match self.terminal && self.shown {
            true => format!("\r{:<WIDTH$}\r", ""),
            false => String::new(),
        }
    }
}

fn rate(count: u64, elapsed: Duration) -> u64 {
    let ms = u64::try_from(elapsed.as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    count.saturating_mul(1000) / ms
}
