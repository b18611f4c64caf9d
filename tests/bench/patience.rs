//! Waiting for what comes by itself.
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// How often it is looked, and for how long at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// The pause between two looks.
    pub(crate) look_every: Duration,
    /// After this nothing is waited for any more.
    pub(crate) limit: Duration,
}

impl Patience {
    /// Waits until there are so many of `what`.
    ///
    /// *Errors*: `count`'s own, or that there are still too few at the end.
    pub(crate) async fn until<F>(self, wanted: usize, what: &str, count: impl Fn() -> F) -> Result<()>
    where
        F: Future<Output = Result<usize>>,
    {
        self.until_telling(wanted, what, count, |_| Ok(())).await
    }

    /// The same; each time there are too few, `tell` is told how many there are.
    pub(crate) async fn until_telling<F>(
        self,
        wanted: usize,
        what: &str,
        count: impl Fn() -> F,
        mut tell: impl FnMut(usize) -> Result<()>,
    ) -> Result<()>
    where
        F: Future<Output = Result<usize>>,
    {
        let began = Instant::now();
        loop {
            let there = count().await?;
            if there >= wanted {
                return Ok(());
            }
            tell(there)?;
            ensure!(began.elapsed() < self.limit, "only {there} of {wanted} {what} after {:?}", self.limit);
            tokio::time::sleep(self.look_every).await;
        }
    }
}
