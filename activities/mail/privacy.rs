//! The letters about somebody's own data. Their occasions name a row; the links are made here, from its id and the portal's key.
use contract::letter::{LetterInput, LetterKind};
use domain::ids::{ErasureId, ExportId, UserId};
use store::{Erasure, ErasureState, ExportState, LinkState, kept_after_erasure};
use uuid::Uuid;

use super::{
    MailDesk,
    facts::{CLOSED, Gathered, Receiver, nothing},
    letter::{Facts, minute},
};
use crate::{fault::Fault, name::of_store, privacy::purpose};

impl MailDesk {
    /// The receiver and the facts of a letter about somebody's own data; nothing for every other letter.
    pub(super) async fn about_privacy(
        &self,
        input: &LetterInput,
        user: UserId,
        doing: &str,
    ) -> Result<Option<Gathered>, Fault> {
        Ok(Some(match input.kind {
            LetterKind::DataExport => self.copy_is_ready(input, doing).await?,
            LetterKind::ErasureConfirm => self.asked_again(input, doing).await?,
            LetterKind::ErasureWaiting => self.can_be_taken_back(input, doing).await?,
            LetterKind::ErasureTakenBack => self.taken_back(user, doing).await?,
            LetterKind::ErasureDone => self.erased(input, doing).await?,
            _ => return Ok(None),
        }))
    }

    async fn copy_is_ready(&self, input: &LetterInput, doing: &str) -> Result<Gathered, Fault> {
        let id = named(input, doing)?;
        let found = self.store.export(ExportId(id)).await.map_err(|error| of_store(doing, error))?;
        let Some(export) = found.filter(|export| export.state == ExportState::Ready) else {
            return Ok(Gathered::Pointless("the copy was gone before the letter could be sent"));
        };
        let found = self.store.user(export.user).await.map_err(|error| of_store(doing, error))?;
        let user = found.ok_or_else(|| nothing(doing, "there is no such user"))?;
        let link = format!("/accounts/data/file/?id={id}&tag={}", self.keys.tag(purpose::EXPORT, id));
        let told = Facts {
            site: self.site(),
            day: export.expires_at.map(minute).unwrap_or_default(),
            link: self.link(&link),
            ..Facts::default()
        };
        Ok(letter(export.user, user.email, told))
    }

    async fn asked_again(&self, input: &LetterInput, doing: &str) -> Result<Gathered, Fault> {
        let (id, erasure) = self.wish(input, doing).await?;
        match (erasure.confirm_link(), erasure.email) {
            (LinkState::Good, Some(email)) => {
                let link = format!("/accounts/erase/confirm/?id={id}&tag={}", self.keys.tag(purpose::CONFIRM, id));
                let (day, link) = (minute(erasure.expires_at), self.link(&link));
                let told = Facts { site: self.site(), day, link, ..Facts::default() };
                Ok(letter(erasure.user, email, told))
            }
            _ => Ok(Gathered::Pointless("its link does not work any more")),
        }
    }

    async fn can_be_taken_back(&self, input: &LetterInput, doing: &str) -> Result<Gathered, Fault> {
        let (id, erasure) = self.wish(input, doing).await?;
        match (erasure.undo_link(), erasure.email) {
            (LinkState::Good, Some(email)) => {
                let link = format!("/accounts/erase/undo/?id={id}&tag={}", self.keys.tag(purpose::UNDO, id));
                let (day, link) = (erasure.due_at.map(minute).unwrap_or_default(), self.link(&link));
                let told = Facts { site: self.site(), day, link, ..Facts::default() };
                Ok(letter(erasure.user, email, told))
            }
            _ => Ok(Gathered::Pointless("its link does not work any more")),
        }
    }

    async fn taken_back(&self, user: UserId, doing: &str) -> Result<Gathered, Fault> {
        let found = self.store.user(user).await.map_err(|error| of_store(doing, error))?;
        let user = found.ok_or_else(|| nothing(doing, "there is no such user"))?;
        if user.email.ends_with(store::CLOSED_DOMAIN) {
            return Ok(Gathered::Pointless(CLOSED));
        }
        let told = Facts { site: self.site(), link: self.link("/accounts/login/"), ..Facts::default() };
        Ok(letter(user.id, user.email, told))
    }

    async fn erased(&self, input: &LetterInput, doing: &str) -> Result<Gathered, Fault> {
        let (_, erasure) = self.wish(input, doing).await?;
        let (ErasureState::Erased, Some(email)) = (erasure.state, erasure.email) else {
            return Ok(Gathered::Pointless("where it would have gone is forgotten already"));
        };
        let told = Facts {
            site: self.site(),
            link: self.link("/privacy/"),
            kept: kept_after_erasure(erasure.kept_until),
            ..Facts::default()
        };
        Ok(letter(erasure.user, email, told))
    }

    async fn wish(&self, input: &LetterInput, doing: &str) -> Result<(Uuid, Erasure), Fault> {
        let id = named(input, doing)?;
        let found = self.store.erasure(ErasureId(id)).await.map_err(|error| of_store(doing, error))?;
        found.map(|erasure| (id, erasure)).ok_or_else(|| nothing(doing, "there is no such erasure"))
    }
}

/// These letters name nobody: whoever reads them may not be who was meant.
fn letter(user: UserId, email: String, told: Facts) -> Gathered {
    let receiver = Receiver { user: Some(user), order: None, name: String::new(), email };
    Gathered::Letter(receiver, Box::new(told))
}

/// The row an occasion names: `kind/<uuid>`.
fn named(input: &LetterInput, doing: &str) -> Result<Uuid, Fault> {
    let id = input.occasion.strip_prefix(input.kind.as_str()).and_then(|rest| rest.strip_prefix('/')?.parse().ok());
    id.ok_or_else(|| nothing(doing, "the occasion names nothing of its kind"))
}
