//! Prints each step with its duration as it happens.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const NAME_WIDTH: usize = 68;

/// The steps of one run, numbered.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: u32,
}

impl Steps {
    /// Says what begins now.
    pub(crate) fn heading(text: &str) -> Result<()> {
        writeln!(io::stdout(), "\n{text}")?;
        Ok(())
    }

    /// Does one step, and prints its name when it begins and its duration when it ended.
    ///
    /// *Errors*: the step's own, under the step's name.
    pub(crate) async fn run<T>(&mut self, name: &str, step: impl Future<Output = Result<T>>) -> Result<T> {
        self.done += 1;
        write!(io::stdout(), "{:>3}  {name:<NAME_WIDTH$} ", self.done)?;
        io::stdout().flush()?;
        let began = Instant::now();
        let ended = step.await;
        writeln!(io::stdout(), "{}{}", duration(began.elapsed()), if ended.is_ok() { "" } else { "  FAILED" })?;
        ended.with_context(|| format!("step {} failed: {name}", self.done))
    }

    /// Prints a part of a step that others timed.
    pub(crate) fn part(name: &str, took: Duration) -> Result<()> {
        let width = NAME_WIDTH - 2;
        writeln!(io::stdout(), "     - {name:<width$} {}", duration(took))?;
        Ok(())
    }
}

fn duration(took: Duration) -> String {
    format!("{:>7.2} s", took.as_secs_f64())
}
