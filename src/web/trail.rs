//! What every page group shares about the trail: where a request came from, the note about every form of staff, and how an
//! entry reads.
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use serde_json::Value;
use store::{Actor, AuditLine, Entry};
use time::OffsetDateTime;

use super::{Portal, Shared, caller::Caller, page::Refusal, visitor::Visitor};

/// How many entries a page shows.
pub(crate) const ON_A_PAGE: i64 = 50;
/// Where every form of staff is sent to.
const STAFF: &str = "/staff/";

/// Lets everything that a request writes into the trail say where the request came from.
pub(crate) async fn asked_from(State(portal): Shared, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let network = Caller::of(&parts, &portal.settings).network();
    store::audit::asked_from(network, next.run(Request::from_parts(parts, body))).await
}

/// Notes that staff sent a form, before anything is done with it: what is not written down does not happen. How it was and
/// how it is stands in the entry of whoever does it.
pub(crate) async fn note_staff(portal: &Portal, visitor: &Visitor, path: &str) -> Result<(), Refusal> {
    let Some(user) = visitor.user.as_ref().filter(|user| user.is_staff && path.starts_with(STAFF)) else {
        return Ok(());
    };
    let entry = Entry {
        actor: Actor::Staff(user.id),
        action: "staff.form",
        account: None,
        subject: format!("page{path}"),
        network: Some(visitor.caller.network()),
        before: None,
        after: None,
    };
    Ok(portal.store.note(&entry).await?)
}

/// One entry as a page shows it.
pub(crate) struct Shown {
    /// Which.
    pub(crate) id: i64,
    /// When.
    pub(crate) at: OffsetDateTime,
    /// Who, in words.
    pub(crate) who: String,
    /// What, in words.
    pub(crate) what: String,
    /// What it is about.
    pub(crate) about: About,
    /// Whose it is: the account's name, and its id to look for; nothing where it is nobody's.
    pub(crate) account: Option<(String, uuid::Uuid)>,
    /// How it was and is, in words; empty where nothing is said.
    pub(crate) change: String,
    /// From where; empty where nobody knows or may know.
    pub(crate) network: String,
    /// Its place in the chain; nothing while it waits for it.
    pub(crate) link: Option<i64>,
}

/// What an entry is about.
pub(crate) struct About {
    /// In words.
    pub(crate) text: String,
    /// The page about it, for whoever owns it.
    pub(crate) path: String,
}

/// The entry for a page. `reader` is whoever reads it: they are *you*.
pub(crate) fn shown(line: AuditLine, reader: Option<uuid::Uuid>) -> Shown {
    Shown {
        id: line.id,
        at: line.at,
        who: who(&line, reader),
        what: what(&line.action),
        about: about(&line.subject),
        account: line.account_id.map(|id| (line.account_name.clone().unwrap_or_else(|| id.to_string()), id)),
        change: change(&line),
        network: line.network.unwrap_or_default(),
        link: line.seq,
    }
}

fn who(line: &AuditLine, reader: Option<uuid::Uuid>) -> String {
    if line.actor_id.is_some() && line.actor_id == reader {
        return "You".to_owned();
    }
    let named = |unnamed: &str| line.actor_name.clone().unwrap_or_else(|| unnamed.to_owned());
    match line.actor_kind.as_str() {
        "user" => named("Somebody who is forgotten"),
        "staff" => line.actor_name.as_ref().map_or_else(|| "Our staff".to_owned(), |name| format!("{name} (staff)")),
        "token" => format!("The token {}", named("that is forgotten")),
        "stranger" => "Somebody who was not logged in".to_owned(),
        "hand" => "An operator".to_owned(),
        _ => "The portal".to_owned(),
    }
}

/// What was done, in words. What is not listed reads as it is written.
fn what(action: &str) -> String {
    let words = match action {
        "session.begun" => "Logged in",
        "session.ended" => "A session ended",
        "log_in.refused" => "A log-in was refused",
        "log_in.locked" => "A log-in was refused, and the way locked",
        "log_in.opened" => "The locked log-in was opened",
        "password.refused" => "A password that was asked for again did not fit",
        "user.made" => "Signed up",
        "user.confirmed" => "The address was confirmed",
        "user.password" => "The password was changed",
        "user.address" => "The address was changed",
        "user.staff" => "The right to work here was changed",
        "user.closed" => "The account was closed",
        "member.changed" => "What a member may do was changed",
        "member.removed" => "A member left, or was taken out",
        "invitation.made" => "Somebody was invited",
        "invitation.withdrawn" => "An invitation was taken back",
        "invitation.taken" => "An invitation was taken",
        "viewing.begun" => "Staff began to look at the account's pages",
        "viewing.ended" => "Staff look at the account's pages no more",
        "order.read" => "Staff read the order",
        "factor.refused" => "A second factor did not fit",
        "factor.locked" => "A second factor did not fit, and the way was locked",
        "factor.app_added" => "An app that shows codes was added",
        "factor.app_removed" => "The app that shows codes was removed",
        "factor.passkey_added" => "A passkey was added",
        "factor.passkey_removed" => "A passkey was removed",
        "factor.codes_made" => "New recovery codes were made",
        "factor.code_used" => "A recovery code was used",
        "factor.reset_asked" => "Staff were asked to take second factors away",
        "factor.kept" => "Second factors that were said to be lost stay",
        "factor.taken_away" => "Every second factor was taken away",
        "factor.forgotten" => "Second factors from before were forgotten",
        "copy.asked" => "A copy of everything was asked for",
        "copy.fetched" => "The copy of everything was fetched",
        "erasure.asked" => "Asked that everything is erased",
        "erasure.confirmed" => "Confirmed that everything is erased",
        "erasure.taken_back" => "Took the erasure back",
        "erasure.begun" => "What is erased cannot be taken back any more",
        "erasure.done" => "Everything was erased",
        "token.made" => "A token was made",
        "token.revoked" => "A token was revoked",
        "staff.form" => "Staff sent a form",
        "step.decided" => "Decided about a step that waited",
        "instruction.given" => "Told the subscription something",
        "instruction.done" => "What the subscription was told was done",
        "instruction.refused" => "What the subscription was told could not be done",
        "removal.approved" => "Approved what was held back",
        "refund.settled" => "Settled a refund that came back",
        "audit.forgotten" => "What said something of a person was forgotten",
        "reconcile.run" => "Made up for a restore",
        _ => return plain(action),
    };
    words.to_owned()
}

/// `order.awaiting_payment` as `Order: awaiting payment`.
fn plain(action: &str) -> String {
    let text = action.replacen('.', ": ", 1).replace('_', " ");
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn about(subject: &str) -> About {
    let path = match subject.split_once('/') {
        Some(("order", id)) => format!("/dashboard/orders/{id}/"),
        Some(("service", id)) => format!("/dashboard/vps/{id}/"),
        _ => String::new(),
    };
    About { text: subject.to_owned(), path }
}

fn change(line: &AuditLine) -> String {
    match (&line.before, &line.after) {
        (None, None) if line.is_forgotten => "forgotten".to_owned(),
        (None, None) => String::new(),
        (Some(before), None) => format!("was {}", readable(before)),
        (None, Some(after)) => readable(after),
        (Some(before), Some(after)) => format!("{} → {}", readable(before), readable(after)),
    }
}

/// What an entry holds as a person writes it; what is no object of JSON stays as it is.
fn readable(text: &str) -> String {
    let Ok(Value::Object(facts)) = serde_json::from_str(text) else { return text.to_owned() };
    let told = facts.iter().map(|(name, value)| {
        let name = name.replace('_', " ");
        match value {
            Value::String(text) => format!("{name}: {text}"),
            Value::Bool(true) => format!("{name}: yes"),
            Value::Bool(false) => format!("{name}: no"),
            Value::Null => format!("{name}: none"),
            other => format!("{name}: {other}"),
        }
    });
    told.collect::<Vec<_>>().join(", ")
}

/// The number of the entry before which a page begins; the newest when there is none.
pub(crate) fn beginning(text: &str) -> Result<Option<i64>, Refusal> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| Refusal::Unreadable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_words_for_reads_as_it_is_written() {
        assert_eq!(what("order.awaiting_payment"), "Order: awaiting payment");
        assert_eq!(what("session.begun"), "Logged in");
        assert_eq!(what(""), "");
    }

    #[test]
    fn what_an_entry_holds_reads_as_a_person_writes_it() {
        assert_eq!(readable(r#"{"browser": "Chrome on Linux"}"#), "browser: Chrome on Linux");
        assert_eq!(readable(r#"{"amount": 5, "staff_too": false}"#), "amount: 5, staff too: no");
        assert_eq!(readable(r#"{"until": null}"#), "until: none");
        for other in ["", "plain", "[1]", "{"] {
            assert_eq!(readable(other), other);
        }
    }

    #[test]
    fn an_order_and_a_server_lead_to_their_pages_and_nothing_else_does() {
        assert_eq!(about("order/1").path, "/dashboard/orders/1/");
        assert_eq!(about("service/2").path, "/dashboard/vps/2/");
        for other in ["session/3", "page/staff/", "orders", ""] {
            assert_eq!(about(other).path, "", "{other}");
        }
    }
}
