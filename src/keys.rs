//! `ez keys rotate`: every sealed column sealed anew with the newest key, while everything runs.
//!
//! It may be stopped and run again at any moment: what is sealed with the newest key already stays, and a value that somebody
//! changes meanwhile is left to them. It ends when a whole pass found nothing to do.
use std::io::{self, Write};

use anyhow::{Context, bail};
use store::{KeyRing, SEED_PURPOSE, SealedColumn, Store};
use uuid::Uuid;

use activities::{
    machine::{PASSWORD_PURPOSE, SSH_KEY_PURPOSE},
    privacy::ARCHIVE_PURPOSE,
};

use crate::{config::Config, wiring};

/// After how many passes it is given up: somebody still seals with a former key.
const PASSES_LIMIT: u32 = 10;

/// How a column stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Values in it.
    pub(crate) all: u64,
    /// Sealed with another key than the newest.
    pub(crate) former: u64,
    /// Opened by none of our keys.
    pub(crate) lost: u64,
}

/// What a column is sealed for.
fn purpose(column: SealedColumn) -> &'static str {
    match column {
        SealedColumn::SshKey => SSH_KEY_PURPOSE,
        SealedColumn::Password => PASSWORD_PURPOSE,
        SealedColumn::Seed => SEED_PURPOSE,
        SealedColumn::Archive => ARCHIVE_PURPOSE,
    }
}

/// Seals everything anew and says how much it was.
///
/// *Errors*: a value opens with none of our keys, or the database is away; what was done stays done.
pub(crate) async fn rotate(config: &Config) -> anyhow::Result<()> {
    let (store, keys) = (wiring::store(config)?, wiring::keys(config)?);
    for column in SealedColumn::ALL {
        let mut written = 0;
        let mut standing = Standing::default();
        for pass in 1.. {
            standing = pass_over(&store, &keys, column, true).await?;
            if standing.former == 0 {
                break;
            }
            written += standing.former;
            if pass == PASSES_LIMIT {
                bail!(
                    "{}: somebody still seals with a former key; restart every `ez serve` and `ez work`",
                    column.name()
                );
            }
        }
        writeln!(io::stdout(), "{}: {} value(s), {written} sealed anew", column.name(), standing.all)?;
        if standing.lost > 0 {
            bail!(
                "{}: {} value(s) open with none of our keys; give the key to EZ_SECRET_KEYS_OTHER",
                column.name(),
                standing.lost
            );
        }
    }
    Ok(())
}

/// How every column stands, for the doctor.
pub(crate) async fn standing(store: &Store, keys: &KeyRing) -> anyhow::Result<Standing> {
    let mut whole = Standing::default();
    for column in SealedColumn::ALL {
        let one = pass_over(store, keys, column, false).await?;
        whole.all += one.all;
        whole.former += one.former;
        whole.lost += one.lost;
    }
    Ok(whole)
}

/// Goes through a column once, and seals anew what needs it when asked to.
async fn pass_over(store: &Store, keys: &KeyRing, column: SealedColumn, write: bool) -> anyhow::Result<Standing> {
    let (mut after, mut standing) = (Uuid::nil(), Standing::default());
    loop {
        let rows = store.sealed_rows(column, after).await.context("reading what is sealed")?;
        let Some(last) = rows.last().map(|row| row.id) else { return Ok(standing) };
        for row in &rows {
            standing.all += 1;
            match keys.reseal(purpose(column), &row.sealed) {
                Ok(None) => {}
                Ok(Some(sealed)) => {
                    standing.former += 1;
                    if write {
                        store.reseal(column, row, &sealed).await.context("sealing anew")?;
                    }
                }
                Err(_) => standing.lost += 1,
            }
        }
        after = last;
    }
}
