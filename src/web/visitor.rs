//! Who is asking: from the session, looked up at every request.
use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::{Method, request::Parts},
};
use domain::ids::UserId;
use serde::{Deserialize, Serialize};
use store::{Factor, SessionRows, Shown, User, Whereabouts, sessions};
use time::OffsetDateTime;
use tower_sessions::{Expiry, Session, SessionStore, session::Id, session_store};

use super::{
    Portal,
    caller::Caller,
    csrf::Token,
    page::{Refusal, Shell, whole},
    permit,
};

const TOKEN: &str = sessions::FORM_KEY;
/// The key of what stands between the two steps of a log-in.
const HALF: &str = "half";
/// How long the second step may take.
const HALF_FOR: time::Duration = time::Duration::minutes(10);

/// Whom a session becomes, as whoever checked it knew them at that moment.
pub(crate) struct LetIn {
    /// The user.
    pub(crate) user: UserId,
    /// Whether they work here.
    pub(crate) is_staff: bool,
    /// The user's epoch; when it has gone by before the session begins, the session opens nothing.
    pub(crate) epoch: i32,
    /// What they showed besides their password.
    pub(crate) factor: Option<Factor>,
    /// Whether they said who they are just now.
    pub(crate) proven: bool,
    /// Whether they want their browser to keep the session when it is closed.
    pub(crate) remembered: bool,
}

/// Somebody whose password was right and whose second factor is still to be shown. Such a session belongs to nobody: no page but the
/// second step knows of it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Half {
    /// The user.
    pub(crate) user: UserId,
    /// Their epoch when the password was right.
    pub(crate) epoch: i32,
    /// Where they wanted to go.
    pub(crate) next: String,
    /// Whether they want to be remembered.
    #[serde(default)]
    pub(crate) remembered: bool,
    until: i64,
}

/// Somebody, logged in or not.
pub(crate) struct Visitor {
    session: Session,
    token: Option<Token>,
    shown: Shown,
    half: Option<Half>,
    /// The user, when logged in.
    pub(crate) user: Option<User>,
    /// Where they are.
    pub(crate) caller: Caller,
}

impl Visitor {
    async fn read(parts: &Parts, portal: &Portal) -> Result<Self, Refusal> {
        let Some(session) = parts.extensions.get::<Session>().cloned() else {
            return Err(Refusal::Broken("a page without sessions"));
        };
        let token = session.get::<String>(TOKEN).await?.as_deref().and_then(Token::from_kept);
        let shown = session.get::<Shown>(sessions::SHOWN_KEY).await?.unwrap_or_default();
        let half = session.get::<Half>(HALF).await?;
        let caller = Caller::of(parts, &portal.settings);
        let user = session.get::<User>(sessions::WHO_KEY).await?;
        let user = user.map(|user| permit::from_here(user, &caller, &portal.settings));
        let rested = session.get::<bool>(sessions::RESTED_KEY).await?.is_some();
        // A page is as good without the note.
        if rested
            && let Some(id) = session.id()
            && let Err(fault) = portal.store.session_used(id, &caller.network()).await
        {
            tracing::warn!(fault = whole(&fault), "the use of a session could not be noted");
        }
        Ok(Self { session, token, shown, half, user, caller })
    }

    /// The session's id, to tell it from others.
    pub(crate) fn session_id(&self) -> Option<Id> {
        self.session.id()
    }

    /// Gives what the frame of a page shows, for a page without a form of its own.
    pub(crate) fn shell(&self, here: &'static str) -> Shell {
        Shell {
            name: self.user.as_ref().map(|user| user.name.clone()),
            seat: self.user.as_ref().map(|user| user.seat.clone()),
            csrf: self.token.as_ref().map(Token::shown).unwrap_or_default(),
            here,
        }
    }

    /// Gives what the frame of a page with a form shows; the session gets its token when it has none.
    pub(crate) async fn form_shell(&mut self, here: &'static str) -> Result<Shell, Refusal> {
        if self.token.is_none() {
            let token = Token::new();
            self.session.insert(TOKEN, token.kept()).await?;
            self.token = Some(token);
        }
        Ok(self.shell(here))
    }

    /// Says whether a form brought the session's token.
    pub(crate) fn sent(&self, shown: &str) -> bool {
        self.token.as_ref().is_some_and(|token| token.matches(shown))
    }

    /// What was shown besides the password when this session was begun.
    pub(crate) fn factor(&self) -> Option<Factor> {
        self.shown.factor.as_deref().and_then(Factor::from_word)
    }

    /// Whether the browser keeps this session when it is closed.
    pub(crate) fn is_remembered(&self) -> bool {
        self.shown.remembered
    }

    /// Whether whoever is logged in said who they are not long ago.
    pub(crate) fn is_proven(&self, portal: &Portal) -> bool {
        let within = i64::from(portal.settings.access.factors.step_up_secs);
        self.user.is_some() && self.shown.proven_secs.is_some_and(|secs| secs < within)
    }

    /// The member of staff who asks; for everybody else there is nothing here. Where a second factor is required, whoever has
    /// shown none is led to adding one.
    pub(crate) fn staff(&self, portal: &Portal) -> Result<User, Refusal> {
        let user = self.user.clone().filter(|user| user.seat.staff.is_some()).ok_or(Refusal::NotFound)?;
        if portal.settings.access.factors.staff && self.factor().is_none() {
            return Err(Refusal::FactorFirst);
        }
        Ok(user)
    }

    /// Who is between the two steps of a log-in.
    pub(crate) fn half(&self) -> Option<&Half> {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        self.half.as_ref().filter(|half| half.until > now && self.user.is_none())
    }

    /// Keeps that somebody's password was right, under a new id and with a new token, and nothing else.
    pub(crate) async fn begin_half(
        &mut self,
        user: UserId,
        epoch: i32,
        next: &str,
        remembered: bool,
    ) -> Result<(), Refusal> {
        let ends = OffsetDateTime::now_utc() + HALF_FOR;
        let half = Half { user, epoch, next: next.to_owned(), remembered, until: ends.unix_timestamp() };
        self.session.clear().await;
        self.session.cycle_id().await?;
        let token = Token::new();
        self.session.insert(HALF, half).await?;
        self.session.insert(TOKEN, token.kept()).await?;
        self.session.set_expiry(Some(Expiry::AtDateTime(ends)));
        self.token = Some(token);
        Ok(())
    }

    /// Makes the session the user's, under a new id and with a new token. Also for one that is the user's already, whenever
    /// what it may do changes.
    pub(crate) async fn log_in(&mut self, portal: &Portal, who: &LetIn) -> Result<(), Refusal> {
        let lasts = time::Duration::seconds(portal.settings.access.stay.lasts_secs(who.remembered).into());
        self.begin(portal, who, OffsetDateTime::now_utc() + lasts).await
    }

    /// Notes that whoever is logged in said again who they are: the session goes on under a new id and ends when it would have.
    pub(crate) async fn prove(&mut self, portal: &Portal, user: &User) -> Result<(), Refusal> {
        let over = || Refusal::LoginFirst("/accounts/".to_owned());
        let id = self.session.id().ok_or_else(over)?;
        let ends = portal.store.session_end(id).await?.ok_or_else(over)?;
        let (is_staff, epoch, factor) = (user.is_staff, user.epoch, self.factor());
        let remembered = self.is_remembered();
        self.begin(portal, &LetIn { user: user.id, is_staff, epoch, factor, proven: true, remembered }, ends).await
    }

    async fn begin(&mut self, portal: &Portal, who: &LetIn, ends: OffsetDateTime) -> Result<(), Refusal> {
        let stay = &portal.settings.access.stay;
        let idle_secs = if who.is_staff { stay.staff_idle_secs } else { stay.idle_secs };
        let same = self.user.as_ref().filter(|user| user.id == who.user);
        let begun = Whereabouts {
            agent: self.caller.agent.clone(),
            network: self.caller.network(),
            idle_secs: i32::try_from(idle_secs).unwrap_or(i32::MAX),
            epoch: who.epoch,
            account: same.map(|user| user.account),
            factor: who.factor.map(|factor| factor.as_str().to_owned()),
            proven: who.proven,
            remembered: who.remembered,
            ends_at: Some(ends),
        };
        self.session.clear().await;
        self.session.cycle_id().await?;
        let token = Token::new();
        self.session.insert(sessions::USER_KEY, who.user).await?;
        self.session.insert(sessions::WHERE_KEY, begun).await?;
        self.session.insert(TOKEN, token.kept()).await?;
        // A cookie without an end goes with the browser; the row ends all the same.
        self.session.set_expiry(Some(if who.remembered { Expiry::AtDateTime(ends) } else { Expiry::OnSessionEnd }));
        self.token = Some(token);
        Ok(())
    }

    /// Ends the session: its id is worth nothing from now on.
    pub(crate) async fn log_out(&mut self) -> Result<(), Refusal> {
        self.session.flush().await?;
        self.user = None;
        self.token = None;
        Ok(())
    }
}

impl FromRequestParts<Arc<Portal>> for Visitor {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, portal: &Arc<Portal>) -> Result<Self, Refusal> {
        Self::read(parts, portal).await
    }
}

impl OptionalFromRequestParts<Arc<Portal>> for Visitor {
    type Rejection = Refusal;

    /// For pages that are as good without knowing who asks, even while the database is away.
    async fn from_request_parts(parts: &mut Parts, portal: &Arc<Portal>) -> Result<Option<Self>, Refusal> {
        Ok(Self::read(parts, portal).await.ok())
    }
}

/// Who reads a page that is its owner's and, for staff, anybody's.
pub(crate) struct Reader {
    /// Who it is.
    pub(crate) user: User,
    /// Whether they read as staff: with a role, from a network of staff, and with a second factor where one is required.
    pub(crate) as_staff: bool,
}

impl Reader {
    fn new(user: User, factor: Option<Factor>, portal: &Portal) -> Self {
        let shown = factor.is_some() || !portal.settings.access.factors.staff;
        let as_staff = shown && user.seat.staff.is_some();
        Self { user, as_staff }
    }
}

/// Whose a session is at this moment, for what goes on after its request was answered; nobody when it is over.
pub(crate) async fn of_session(
    portal: &Portal,
    session: Id,
    caller: &Caller,
) -> Result<Option<Reader>, session_store::Error> {
    let Some(mut record) = SessionRows(portal.store.clone()).load(&session).await? else { return Ok(None) };
    let undecodable = |fault: serde_json::Error| session_store::Error::Decode(fault.to_string());
    let who = record.data.remove(sessions::WHO_KEY).map(serde_json::from_value::<User>).transpose();
    let Some(user) = who.map_err(undecodable)? else { return Ok(None) };
    let shown = record.data.remove(sessions::SHOWN_KEY).map(serde_json::from_value::<Shown>).transpose();
    let factor = shown.map_err(undecodable)?.and_then(|shown| shown.factor).as_deref().and_then(Factor::from_word);
    Ok(Some(Reader::new(permit::from_here(user, caller, &portal.settings), factor, portal)))
}

/// The visitor, when a page has to be written for them alone because they are logged in.
pub(crate) fn known(visitor: Option<&Visitor>) -> Option<&Visitor> {
    visitor.filter(|visitor| visitor.user.is_some())
}

/// Somebody who is logged in; everybody else is sent to the log-in page and back.
pub(crate) struct Customer {
    /// The visit.
    pub(crate) visitor: Visitor,
    /// Who it is.
    pub(crate) user: User,
}

impl Customer {
    /// The same person as a reader of what staff read of everybody.
    pub(crate) fn reader(&self, portal: &Portal) -> Reader {
        Reader::new(self.user.clone(), self.visitor.factor(), portal)
    }
}

impl FromRequestParts<Arc<Portal>> for Customer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, portal: &Arc<Portal>) -> Result<Self, Refusal> {
        let visitor = Visitor::read(parts, portal).await?;
        match visitor.user.clone() {
            Some(user) => Ok(Self { visitor, user }),
            None => Err(Refusal::LoginFirst(way_back(parts))),
        }
    }
}

/// A form cannot be sent again after logging in, so only pages are come back to.
pub(crate) fn way_back(parts: &Parts) -> String {
    if parts.method != Method::GET {
        return "/dashboard/".to_owned();
    }
    parts.uri.path_and_query().map_or_else(|| "/dashboard/".to_owned(), ToString::to_string)
}

/// A member of staff; for everybody else these pages do not exist.
pub(crate) struct Staff {
    /// The visit.
    pub(crate) visitor: Visitor,
    /// Who it is.
    pub(crate) user: User,
}

impl FromRequestParts<Arc<Portal>> for Staff {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, portal: &Arc<Portal>) -> Result<Self, Refusal> {
        let visitor = Visitor::read(parts, portal).await?;
        let user = visitor.staff(portal)?;
        Ok(Self { visitor, user })
    }
}
