//! Where messages are kept: one file each, written whole before the client hears "accepted".
//!
//! A file is one line of JSON (`{"from", "to", "at_unix_ms"}`), then the message as it came.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::io::AsyncWriteExt;

use super::letter::Letter;

/// Who a message is from and for, as the client said.
#[derive(Clone, Default, Deserialize, Serialize)]
pub(super) struct Envelope {
    pub(super) from: String,
    pub(super) to: Vec<String>,
    #[serde(default)]
    pub(super) at_unix_ms: i64,
}

/// The messages kept; clones share them.
#[derive(Clone)]
pub(super) struct Spool {
    folder: Arc<PathBuf>,
    /// Oldest first.
    letters: Arc<Mutex<Vec<Arc<Letter>>>>,
}

impl Spool {
    /// Opens a folder, made if it is not there, and reads what it holds.
    pub(super) async fn open(folder: &Path) -> anyhow::Result<Self> {
        tokio::fs::create_dir_all(folder).await.with_context(|| format!("making {}", folder.display()))?;
        let mut letters = Vec::new();
        let mut files = tokio::fs::read_dir(folder).await?;
        while let Some(file) = files.next_entry().await? {
            let path = file.path();
            if path.extension().is_some_and(|kind| kind == "eml") {
                let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let whole = tokio::fs::read(&path).await?;
                letters.push(Arc::new(read(&id, &whole).with_context(|| format!("reading {}", path.display()))?));
            }
        }
        letters.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(Self { folder: Arc::new(folder.to_owned()), letters: Arc::new(Mutex::new(letters)) })
    }

    /// Writes a message to disk and lists it; gives its id. May be repeated: each time is a message of its own.
    pub(super) async fn keep(&self, mut envelope: Envelope, message: Vec<u8>) -> anyhow::Result<String> {
        let now = OffsetDateTime::now_utc();
        envelope.at_unix_ms = i64::try_from(now.unix_timestamp_nanos() / 1_000_000)?;
        let id = format!("{:013}-{}", envelope.at_unix_ms, &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let mut whole = serde_json::to_vec(&envelope)?;
        whole.push(b'\n');
        whole.extend_from_slice(&message);
        let letter = read(&id, &whole)?;
        let path = self.folder.join(format!("{id}.eml"));
        let beside = self.folder.join(format!("{id}.part"));
        let mut file = tokio::fs::File::create(&beside).await?;
        file.write_all(&whole).await?;
        file.sync_all().await?;
        tokio::fs::rename(&beside, &path).await?;
        self.lock().push(Arc::new(letter));
        Ok(id)
    }

    /// All messages, newest first.
    pub(super) fn letters(&self) -> Vec<Arc<Letter>> {
        self.lock().iter().rev().cloned().collect()
    }

    /// One message.
    pub(super) fn letter(&self, id: &str) -> Option<Arc<Letter>> {
        self.lock().iter().find(|letter| letter.id == id).cloned()
    }

    /// Takes every message away, from disk too.
    pub(super) async fn clear(&self) -> anyhow::Result<()> {
        let gone: Vec<_> = self.lock().drain(..).collect();
        for letter in gone {
            tokio::fs::remove_file(self.folder.join(format!("{}.eml", letter.id))).await?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Letter>>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(id: &str, whole: &[u8]) -> anyhow::Result<Letter> {
    let end = whole.iter().position(|byte| *byte == b'\n').context("no envelope")?;
    let envelope: Envelope = serde_json::from_slice(&whole[..end])?;
    Ok(Letter::read(id, envelope, &whole[end + 1..]))
}
