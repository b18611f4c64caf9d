//! The letters about somebody's way in. Their occasions name a row; the links are made here, from its id and the portal's key.
use contract::letter::{LetterInput, LetterKind};
use domain::ids::UserId;
use store::{AccessChange, CLOSED_DOMAIN, ChangeKind, FactorChange, KEEP_PURPOSE, LinkState};
use uuid::Uuid;

use super::{
    MailDesk,
    facts::{CLOSED, Gathered, Receiver, nothing},
    letter::{Facts, minute},
};
use crate::{fault::Fault, name::of_store};

impl MailDesk {
    /// The receiver and the facts of a letter about somebody's way in; nothing for every other letter.
    pub(super) async fn about_access(
        &self,
        input: &LetterInput,
        user: UserId,
        doing: &str,
    ) -> Result<Option<Gathered>, Fault> {
        let gathered = match input.kind {
            LetterKind::PasswordReset => {
                self.with_link(input, ChangeKind::ResetPassword, "/accounts/reset/", doing).await?
            }
            LetterKind::LogInLocked | LetterKind::CodesLocked => {
                self.with_link(input, ChangeKind::Unlock, "/accounts/unlock/", doing).await?
            }
            LetterKind::AddressConfirm => {
                self.with_link(input, ChangeKind::ChangeAddress, "/accounts/address/confirm/", doing).await?
            }
            LetterKind::AddressChanging => {
                self.to_old(input, ChangeKind::ChangeAddress, "/accounts/password/", doing).await?
            }
            LetterKind::AddressChanged => self.to_old(input, ChangeKind::ChangeAddress, "/about/", doing).await?,
            LetterKind::AccountClosed => self.to_old(input, ChangeKind::Close, "/about/", doing).await?,
            LetterKind::PasswordChanged => self.password_changed(user, doing).await?,
            LetterKind::NewDevice => self.new_device(input, user, doing).await?,
            LetterKind::MemberInvitation => self.invitation(input, doing).await?,
            LetterKind::MembershipChanged => self.membership_changed(user, doing).await?,
            LetterKind::FactorsChanged => self.factors_changed(input, user, doing).await?,
            LetterKind::FactorsReset => self.factors_reset(input, user, doing).await?,
            LetterKind::ColleagueFactorsReset => self.colleague_factors_reset(input, user, doing).await?,
            _ => return Ok(None),
        };
        Ok(Some(gathered))
    }

    /// A letter whose link works once. One whose link does not work any more has nothing to say.
    async fn with_link(
        &self,
        input: &LetterInput,
        kind: ChangeKind,
        path: &str,
        doing: &str,
    ) -> Result<Gathered, Fault> {
        let (id, change) = self.change(input, kind, doing).await?;
        match change.state {
            LinkState::Good => {}
            LinkState::Used => return Ok(Gathered::Pointless("its link was used already, or is not wanted any more")),
            LinkState::Expired => return Ok(Gathered::Pointless("its link had expired before it could be sent")),
        }
        let email = match kind {
            ChangeKind::ChangeAddress => change.new_email.ok_or_else(|| nothing(doing, "no address to confirm"))?,
            _ => change.email,
        };
        let link = self.link(&format!("{path}?id={id}&tag={}", self.keys.tag(kind.as_str(), id)));
        let told = Facts { site: self.site(), day: minute(change.expires_at), link, ..Facts::default() };
        Ok(Gathered::Letter(receiver(change.user, email), Box::new(told)))
    }

    /// A letter to the address that somebody had.
    async fn to_old(&self, input: &LetterInput, kind: ChangeKind, path: &str, doing: &str) -> Result<Gathered, Fault> {
        let (_, change) = self.change(input, kind, doing).await?;
        let email = change.old_email.ok_or_else(|| nothing(doing, "there was no address before"))?;
        let told = Facts { site: self.site(), link: self.link(path), ..Facts::default() };
        Ok(Gathered::Letter(receiver(change.user, email), Box::new(told)))
    }

    async fn password_changed(&self, user: UserId, doing: &str) -> Result<Gathered, Fault> {
        let found = self.store.user(user).await.map_err(|error| of_store(doing, error))?;
        let user = found.ok_or_else(|| nothing(doing, "there is no such user"))?;
        if user.email.ends_with(CLOSED_DOMAIN) {
            return Ok(Gathered::Pointless(CLOSED));
        }
        let told = Facts { site: self.site(), link: self.link("/accounts/reset/"), ..Facts::default() };
        Ok(Gathered::Letter(receiver(user.id, user.email), Box::new(told)))
    }

    async fn new_device(&self, input: &LetterInput, user: UserId, doing: &str) -> Result<Gathered, Fault> {
        let id = named(input).ok_or_else(|| nothing(doing, "the occasion names no device"))?;
        let device = self.store.device(id).await.map_err(|error| of_store(doing, error))?;
        let Some(device) = device.filter(|device| device.user == user) else {
            return Ok(Gathered::Pointless("the device was forgotten before the letter could be sent"));
        };
        let found = self.store.user(user).await.map_err(|error| of_store(doing, error))?;
        let user = found.ok_or_else(|| nothing(doing, "there is no such user"))?;
        let told = Facts {
            site: self.site(),
            day: minute(device.created_at),
            device: device.agent,
            network: device.network,
            link: self.link("/accounts/sessions/"),
            ..Facts::default()
        };
        Ok(Gathered::Letter(receiver(user.id, user.email), Box::new(told)))
    }

    async fn factors_changed(&self, input: &LetterInput, user: UserId, doing: &str) -> Result<Gathered, Fault> {
        let id = named(input).ok_or_else(|| nothing(doing, "the occasion names no change of factors"))?;
        let found = self.store.factor_change(id).await.map_err(|error| of_store(doing, error))?;
        let change = found.filter(|change| change.user == user);
        let change = change.ok_or_else(|| nothing(doing, "there is no such change of factors"))?;
        let told = Facts {
            site: self.site(),
            day: minute(change.at),
            what: words(change.what),
            link: self.link("/accounts/password/"),
            ..Facts::default()
        };
        self.to_user(user, told, doing).await
    }

    async fn factors_reset(&self, input: &LetterInput, user: UserId, doing: &str) -> Result<Gathered, Fault> {
        let id = named(input).ok_or_else(|| nothing(doing, "the occasion names no wish"))?;
        let found = self.store.factor_reset(id).await.map_err(|error| of_store(doing, error))?;
        let reset = found.filter(|reset| reset.user == user).ok_or_else(|| nothing(doing, "there is no such wish"))?;
        if reset.ended {
            return Ok(Gathered::Pointless("it was over before the letter could be sent"));
        }
        let link = self.link(&format!("/accounts/factors/keep/?id={id}&tag={}", self.keys.tag(KEEP_PURPOSE, id)));
        let told = Facts { site: self.site(), day: minute(reset.due_at), link, ..Facts::default() };
        self.to_user(user, told, doing).await
    }

    /// To an admin about a colleague. Who that is stands on the page alone.
    async fn colleague_factors_reset(&self, input: &LetterInput, user: UserId, doing: &str) -> Result<Gathered, Fault> {
        let id = named(input).ok_or_else(|| nothing(doing, "the occasion names no wish"))?;
        let found = self.store.factor_reset(id).await.map_err(|error| of_store(doing, error))?;
        let reset = found.ok_or_else(|| nothing(doing, "there is no such wish"))?;
        if reset.ended {
            return Ok(Gathered::Pointless("it was over before the letter could be sent"));
        }
        let link = self.link("/staff/factors/");
        let told = Facts { site: self.site(), day: minute(reset.due_at), link, ..Facts::default() };
        self.to_user(user, told, doing).await
    }

    async fn to_user(&self, user: UserId, told: Facts, doing: &str) -> Result<Gathered, Fault> {
        let found = self.store.user(user).await.map_err(|error| of_store(doing, error))?;
        let user = found.ok_or_else(|| nothing(doing, "there is no such user"))?;
        if user.email.ends_with(CLOSED_DOMAIN) {
            return Ok(Gathered::Pointless(CLOSED));
        }
        Ok(Gathered::Letter(receiver(user.id, user.email), Box::new(told)))
    }

    async fn change(&self, input: &LetterInput, kind: ChangeKind, doing: &str) -> Result<(Uuid, AccessChange), Fault> {
        let id = named(input).ok_or_else(|| nothing(doing, "the occasion names no change"))?;
        let found = self.store.access_change(id, kind).await.map_err(|error| of_store(doing, error))?;
        found.map(|change| (id, change)).ok_or_else(|| nothing(doing, "there is no such change"))
    }
}

/// Security letters name nobody: an address that is new or was taken may be somebody else's.
pub(super) fn receiver(user: UserId, email: String) -> Receiver {
    Receiver { user: Some(user), order: None, name: String::new(), email }
}

/// What changed, as a sentence.
fn words(what: FactorChange) -> &'static str {
    match what {
        FactorChange::AppAdded => "An app that shows codes was added.",
        FactorChange::AppRemoved => "The app that shows codes was removed.",
        FactorChange::PasskeyAdded => "A passkey was added.",
        FactorChange::PasskeyRemoved => "A passkey was removed.",
        FactorChange::CodesMade => "New recovery codes replaced the old ones.",
        FactorChange::CodeUsed => "Somebody logged in with one of your recovery codes, which is used up now.",
        FactorChange::TakenAway => "Our staff removed every app, passkey and recovery code, as they were asked to.",
        FactorChange::Forgotten => "Every app, passkey and recovery code from before was removed. Add your own anew.",
    }
}

/// The row an occasion names: `kind/<uuid>`, also where it goes on with whom it is to.
pub(super) fn named(input: &LetterInput) -> Option<Uuid> {
    input.occasion.strip_prefix(input.kind.as_str())?.strip_prefix('/')?.split('/').next()?.parse().ok()
}
