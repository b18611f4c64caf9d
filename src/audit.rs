//! The trail, kept: entries are linked as they come, the chain is gone through again and again, and `ez audit verify` says
//! whether it is right.
use std::{
    fmt::Write as _,
    io::{self, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use store::{AuditBreak, AuditHead, AuditStep, Store, StoreError};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio_util::sync::CancellationToken;

use crate::{config::Config, inbox::chain, wiring};

/// How often it is looked for entries that wait for their link.
const POLL: Duration = Duration::from_millis(500);
/// How long after a failure it is looked again.
const AGAIN: Duration = Duration::from_secs(5);
/// How many entries are linked in one transaction.
const BATCH_ENTRIES: i64 = 1_000;
/// How often the end of the chain is written into the log: kept elsewhere, it proves what was before.
const TELL_EVERY: Duration = Duration::from_hours(1);
/// How often a stretch of the chain is gone through, and how many links it has.
const PATROL_EVERY: Duration = Duration::from_mins(1);
const STRETCH_LINKS: i64 = 5_000;
/// Whether the chain was found broken.
const BROKEN_METRIC: &str = "ez_audit_broken";

/// Links what waits, and goes through the chain, until `stop`. Several workers may do it side by side: one of them links.
pub(crate) async fn keep(store: Store, stop: CancellationToken) {
    metrics::gauge!(BROKEN_METRIC).set(0.0);
    tokio::join!(link(&store, &stop), patrol(&store, &stop));
}

async fn link(store: &Store, stop: &CancellationToken) {
    let mut told: Option<Instant> = None;
    loop {
        let rest = match store.link_audit(BATCH_ENTRIES).await {
            Ok(linked) if i64::try_from(linked).unwrap_or(i64::MAX) >= BATCH_ENTRIES => Duration::ZERO,
            Ok(_) => POLL,
            Err(fault) => {
                tracing::warn!(error = %chain(&fault), "the trail could not be linked; trying again");
                AGAIN
            }
        };
        if told.is_none_or(|at| at.elapsed() >= TELL_EVERY)
            && let Ok(head) = store.audit_head().await
        {
            tracing::info!(head = written(&head), "the end of the trail");
            told = Some(Instant::now());
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(rest) => {}
        }
    }
}

/// Goes through the chain stretch by stretch, and then from its beginning again.
async fn patrol(store: &Store, stop: &CancellationToken) {
    let mut reached = AuditHead::BEGINNING;
    loop {
        if let Err(fault) = look_back(store).await {
            tracing::warn!(error = %chain(&fault), "the end of the trail could not be remembered; trying again");
        }
        match store.check_audit(&reached, STRETCH_LINKS).await {
            Ok(AuditStep::More(head)) => reached = head,
            Ok(AuditStep::End(_)) => {
                // All of it was right, whatever was found before.
                if let Err(fault) = round_is_over(store).await {
                    tracing::warn!(error = %chain(&fault), "the trail could not be gone through; trying again");
                }
                reached = AuditHead::BEGINNING;
            }
            Ok(AuditStep::Broken(broken)) => {
                alarm(&broken);
                reached = AuditHead::BEGINNING;
            }
            Err(fault) => tracing::warn!(error = %chain(&fault), "the trail could not be gone through; trying again"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PATROL_EVERY) => {}
        }
    }
}

async fn round_is_over(store: &Store) -> Result<(), StoreError> {
    if let Some(stray) = store.stray_audit().await? {
        alarm(&stray);
    } else if store.missed_audit().await?.is_none() {
        metrics::gauge!(BROKEN_METRIC).set(0.0);
    }
    Ok(())
}

/// Misses the end of the chain that was seen last, also by a worker before this one, and otherwise remembers where it is now.
async fn look_back(store: &Store) -> Result<(), StoreError> {
    store.see_audit().await?;
    if let Some(missed) = store.missed_audit().await? {
        alarm(&AuditBreak { seq: missed.seq, entry: None, at: None, why: "a worker saw the link, and it is gone" });
    }
    Ok(())
}

fn alarm(broken: &AuditBreak) {
    metrics::gauge!(BROKEN_METRIC).set(1.0);
    tracing::error!(link = broken.seq, entry = broken.entry, why = broken.why, "the trail is broken");
}

/// A place in the chain in words, as `--head` takes it: `<link>:<hash>`.
fn written(head: &AuditHead) -> String {
    let mut text = format!("{}:", head.seq);
    for byte in head.hash {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Reads what [`written`] wrote.
fn read(text: &str) -> Option<AuditHead> {
    let (seq, hex) = text.trim().split_once(':')?;
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; 32];
    for (place, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(AuditHead { seq: seq.parse().ok().filter(|seq| *seq >= 0)?, hash })
}

/// What was found.
enum Found {
    Sound(AuditHead),
    Broken(AuditBreak),
    /// The chain is right in itself, and not the one whose end a worker saw.
    Missed(AuditHead),
    /// The chain is right in itself, and not the one whose place was given.
    Another(AuditHead),
}

/// `ez audit verify`: goes through all of it and says from where to where it is right, or what the first place is that is not.
/// The exit code is 1 when it is not.
pub(crate) async fn verify(config: &Config, known: Option<&str>) -> anyhow::Result<ExitCode> {
    let store = wiring::store(config)?;
    let known = known.map(|text| read(text).context("--head takes <link>:<hash>, as this command prints it"));
    let known = known.transpose()?;
    let mut told = io::stdout();
    let found = gone_through(&store, known.as_ref()).await?;
    match found {
        Found::Sound(head) => {
            let waiting = store.audit_waiting().await?.count;
            match store.audit_times().await? {
                Some((first, last)) => {
                    let (first, last) = (moment(first), moment(last));
                    writeln!(
                        told,
                        "right: links 1 to {}, from {first} to {last}; {waiting} wait for theirs",
                        head.seq
                    )?;
                }
                None => writeln!(told, "right: no link yet; {waiting} wait for theirs")?,
            }
            writeln!(told, "head: {}", written(&head))?;
            Ok(ExitCode::SUCCESS)
        }
        Found::Broken(broken) => {
            let entry = broken.entry.map_or_else(|| "no entry".to_owned(), |id| format!("entry {id}"));
            let at = broken.at.map(|at| format!(" of {}", moment(at))).unwrap_or_default();
            writeln!(told, "BROKEN at link {}, {entry}{at}: {}", broken.seq, broken.why)?;
            writeln!(told, "right before it: {} link(s)", broken.seq - 1)?;
            Ok(ExitCode::FAILURE)
        }
        Found::Missed(seen) => {
            writeln!(told, "BROKEN: a worker saw the link {}, and it is gone", written(&seen))?;
            writeln!(told, "the end of the trail was cut off, or another chain took its place")?;
            Ok(ExitCode::FAILURE)
        }
        Found::Another(known) => {
            writeln!(told, "BROKEN: this is not the chain that had the link {}", written(&known))?;
            writeln!(
                told,
                "after a restore it is another one from the moment of the backup on; otherwise it was replaced"
            )?;
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn gone_through(store: &Store, known: Option<&AuditHead>) -> anyhow::Result<Found> {
    let mut reached = AuditHead::BEGINNING;
    let head = loop {
        match store.check_audit(&reached, STRETCH_LINKS).await? {
            AuditStep::More(head) => reached = head,
            AuditStep::End(head) => break head,
            AuditStep::Broken(broken) => return Ok(Found::Broken(broken)),
        }
    };
    if let Some(stray) = store.stray_audit().await? {
        return Ok(Found::Broken(stray));
    }
    if let Some(missed) = store.missed_audit().await? {
        return Ok(Found::Missed(missed));
    }
    if let Some(known) = known.filter(|known| known.seq > 0)
        && store.audit_link(known.seq).await?.as_ref() != Some(known)
    {
        return Ok(Found::Another(*known));
    }
    Ok(Found::Sound(head))
}

fn moment(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_chain_is_read_as_it_was_written() {
        let head = AuditHead { seq: 12, hash: std::array::from_fn(|place| u8::try_from(place * 7).unwrap_or(255)) };
        assert_eq!(read(&written(&head)), Some(head));
        assert_eq!(read(&format!(" {}\n", written(&head))), Some(head));
        for bad in ["", "12", "12:", "12:00", ":00", &format!("x:{}", "0".repeat(64)), &format!("1:{}", "é".repeat(32))]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
