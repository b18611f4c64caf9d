//! A wrong clock for the processes of a house: they believe in another time of day than the machine, and it can jump.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::place::Place;
use crate::process::Launch;

const SOURCE: &str = include_str!("wrong_clock.c");
const BUILD_LIMIT: Duration = Duration::from_mins(1);

/// By how much the clock of a house's processes is wrong. What measures durations is as right as ever.
#[derive(Debug)]
pub struct WrongClock {
    library: PathBuf,
    file: PathBuf,
}

impl WrongClock {
    /// A clock that is right as yet; `name` tells it from others.
    ///
    /// *Errors*: no C compiler (Rust needs one too), or it refused.
    pub async fn new(place: &Place, name: &str) -> Result<Self> {
        let folder = place.data().join(format!("clock-{name}"));
        fs::create_dir_all(&folder)?;
        let (source, library, file) = (folder.join("clock.c"), folder.join("clock.so"), folder.join("wrong-by"));
        fs::write(&source, SOURCE)?;
        fs::write(&file, 0_i64.to_ne_bytes())?;
        let compile = Launch::new("cc", "cc").args(["-shared", "-fPIC", "-O2", "-o"]).args([&library, &source]);
        compile.args(["-ldl"]).run(&place.logs(), BUILD_LIMIT).await.context("building a wrong clock")?;
        Ok(Self { library, file })
    }

    /// What a process has to be started with to believe in it.
    pub fn settings(&self) -> [(&'static str, String); 2] {
        [
            ("LD_PRELOAD", self.library.to_string_lossy().into_owned()),
            ("HOUSE_CLOCK", self.file.to_string_lossy().into_owned()),
        ]
    }

    /// From now on it is wrong by so many seconds: ahead of the true time, or behind it when negative.
    pub fn wrong_by(&self, secs: i64) -> Result<()> {
        let file = File::options().write(true).open(&self.file)?;
        Ok(file.write_all_at(&secs.to_ne_bytes(), 0)?)
    }
}
