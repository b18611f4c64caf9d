//! The trail for staff: searched by person, account, action, subject and day. For everybody else it does not exist.
use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use store::AuditFilter;
use time::{Duration, OffsetDateTime};
use url::form_urlencoded::Serializer;
use uuid::Uuid;

use super::{
    Portal, Shared,
    page::{self, Refusal, Shell},
    tell,
    trail::{self, ON_A_PAGE, Shown},
    visitor::Staff,
};

/// The longest text that is looked for, in characters.
const LONGEST: usize = 300;

/// What is looked for, as it was typed.
#[derive(Deserialize, Default, Clone)]
pub(crate) struct Wanted {
    #[serde(default)]
    person: String,
    #[serde(default)]
    account: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    until: String,
    #[serde(default)]
    before: String,
}

#[derive(Template)]
#[template(path = "page/audit.html")]
struct Trail {
    shell: Shell,
    wanted: Wanted,
    fault: &'static str,
    lines: Vec<Shown>,
    older: String,
}

impl Trail {
    /// What was typed as a day, if it is one: a browser's field for days holds nothing else.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    fn typed_day<'a>(&self, text: &'a str) -> &'a str {
        if day(text).is_ok() { text.trim() } else { "" }
    }
}

/// The page.
pub(crate) async fn search(
    State(portal): Shared,
    mut staff: Staff,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refusal> {
    let shell = staff.visitor.form_shell("staff").await?;
    let before = trail::beginning(&wanted.before)?;
    let filter = match filter(&portal, &wanted).await? {
        Ok(filter) => filter,
        Err(fault) => {
            let page = Trail { shell, wanted, fault, lines: vec![], older: String::new() };
            return Ok(page::render(StatusCode::UNPROCESSABLE_ENTITY, &page));
        }
    };
    tracing::debug!(user = %staff.user.id, "the trail is searched");
    let found = portal.store.search_audit(&filter, before, ON_A_PAGE).await?;
    let lines: Vec<Shown> = found.into_iter().map(|line| trail::shown(line, None)).collect();
    let older = older(&wanted, &lines);
    Ok(page::ok(&Trail { shell, wanted, fault: "", lines, older }))
}

/// What is looked for, or what cannot be read of it.
async fn filter(portal: &Portal, wanted: &Wanted) -> Result<Result<AuditFilter, &'static str>, Refusal> {
    let typed = [&wanted.person, &wanted.account, &wanted.action, &wanted.subject];
    if typed.iter().any(|text| text.chars().count() > LONGEST || text.contains('\0')) {
        return Ok(Err("Look for something shorter."));
    }
    let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let person = match given(&wanted.person) {
        None => None,
        Some(text) if text.contains('@') => match portal.store.user_by_email(&text).await? {
            Some(user) => Some(user.id.0),
            None => return Ok(Err("Nobody has this address. Look for the person's id, or for their account.")),
        },
        Some(text) => match Uuid::parse_str(&text) {
            Ok(id) => Some(id),
            Err(_) => return Ok(Err("A person is an e-mail address or an id.")),
        },
    };
    let Ok(account) = given(&wanted.account).map(|text| Uuid::parse_str(&text)).transpose() else {
        return Ok(Err("An account is an id."));
    };
    let (Ok(from), Ok(until)) = (day(&wanted.from), day(&wanted.until)) else {
        return Ok(Err("Write a day such as 2026-12-31."));
    };
    // The last day counts to its end.
    let until = until.map(|day| day.saturating_add(Duration::days(1)));
    Ok(Ok(AuditFilter { person, account, action: given(&wanted.action), subject: given(&wanted.subject), from, until }))
}

fn day(text: &str) -> Result<Option<OffsetDateTime>, ()> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let secs = tell::day(text.trim()).map_err(|_| ())?;
    OffsetDateTime::from_unix_timestamp(secs).map(Some).map_err(|_| ())
}

/// The way to what is older; empty when this is all.
fn older(wanted: &Wanted, lines: &[Shown]) -> String {
    let Some(last) = lines.last().filter(|_| i64::try_from(lines.len()) == Ok(ON_A_PAGE)) else {
        return String::new();
    };
    let mut query = Serializer::new(String::new());
    let fields = [
        ("person", &wanted.person),
        ("account", &wanted.account),
        ("action", &wanted.action),
        ("subject", &wanted.subject),
        ("from", &wanted.from),
        ("until", &wanted.until),
    ];
    for (name, text) in fields.iter().filter(|(_, text)| !text.is_empty()) {
        query.append_pair(name, text);
    }
    query.append_pair("before", &last.id.to_string());
    format!("/staff/audit/?{}", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_day_or_nothing() {
        assert_eq!(day(" "), Ok(None));
        assert_eq!(day("1970-01-02"), Ok(Some(OffsetDateTime::UNIX_EPOCH + Duration::days(1))));
        for bad in ["yesterday", "2026-02-30", "02.01.2026"] {
            assert_eq!(day(bad), Err(()), "{bad}");
        }
    }
}
