//! The gate: what has to be so before anything is taken away, asked of our own tables right before the act.
use super::{Held, NewRemoval};
use crate::{StoreError, fault::Doing, letters::QueuedLetter, subscriptions::ServiceBrief};
use domain::{
    ids::ServiceId,
    removal::{HeldBy, RemovalKind},
    service::ServiceStatus,
};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

/// A notice that was to be sent.
struct Notice {
    occasion: String,
    state: String,
    sent_at: Option<OffsetDateTime>,
}

/// Gives what is not as it has to be, if anything.
pub(super) async fn held(db: &mut PgConnection, asked: &NewRemoval) -> Result<Option<Held>, StoreError> {
    if let Some(held) = by_the_invoice(db, asked).await? {
        return Ok(Some(held));
    }
    if let Some(until) = hold(db, asked).await? {
        let held = Held::by(HeldBy::Hold, format!("Staff hold it until {}.", until.date()));
        return Ok(Some(Held { until: Some(until.unix_timestamp()), ..held }));
    }
    let notices = match asked.kind {
        RemovalKind::Suspend => reminders(db, asked).await?,
        RemovalKind::Expire => match asked.service {
            Some(service) => farewell(db, asked, service).await?,
            None => warnings(db, asked).await?,
        },
        RemovalKind::Retain => vec![],
    };
    by_a_notice(db, asked, &notices).await
}

/// Only an invoice that is finalised and unpaid counts, and none whose payment is on its way.
async fn by_the_invoice(db: &mut PgConnection, asked: &NewRemoval) -> Result<Option<Held>, StoreError> {
    if asked.payment_pending {
        let invoice = asked.invoice.as_deref().unwrap_or("an invoice");
        return Ok(Some(Held::by(HeldBy::Payment, format!("A payment of {invoice} is on its way."))));
    }
    let Some(invoice) = &asked.invoice else { return Ok(None) };
    let is_open = sqlx::query_scalar!(
        r#"select exists (select from invoices where id = $1 and subscription_id = $2 and status = 'open') as "open!""#,
        invoice,
        asked.subscription.0,
    )
    .fetch_one(db)
    .await
    .doing("reading an invoice")?;
    Ok((!is_open).then(|| Held::by(HeldBy::Invoice, format!("We know of no finalised and unpaid invoice {invoice}."))))
}

/// Until when staff hold.
async fn hold(db: &mut PgConnection, asked: &NewRemoval) -> Result<Option<OffsetDateTime>, StoreError> {
    let until = sqlx::query_scalar!(
        "select case when until > now() then until end from instructions
         where subscription_id = $1 and state = 'done' and kind in ('hold', 'release', 'restore')
         order by settled_at desc limit 1",
        asked.subscription.0,
    )
    .fetch_optional(&mut *db)
    .await
    .doing("reading a hold")?;
    Ok(until.flatten())
}

/// The reminders of an invoice. One that was never written down, or was lost with a database, is written down to be sent.
/// They are locked, so that one that is handed over meanwhile is waited for.
async fn reminders(db: &mut PgConnection, asked: &NewRemoval) -> Result<Vec<Notice>, StoreError> {
    let Some(invoice) = &asked.invoice else { return Ok(vec![]) };
    // After staff had it started again the occasion says when, and so do the reminders: its customer is reminded anew.
    let of = format!("{}/{}/", asked.kind, asked.subscription);
    let fact = asked.occasion.strip_prefix(&of).filter(|fact| fact.starts_with(invoice)).unwrap_or(invoice);
    let wanted: Vec<String> = (1..=asked.reminders).map(|nth| format!("payment_reminder/{fact}/{nth}")).collect();
    sqlx::query!(
        r#"with queued as (
            insert into letters (occasion, kind, subscription_id, state)
            select occasion, 'payment_reminder', $2, 'queued' from unnest($1::text[]) as wanted (occasion)
            on conflict (occasion) do nothing returning occasion
           )
           select pg_notify('payment_events', occasion) as "done: ()" from queued"#,
        &wanted,
        asked.subscription.0,
    )
    .fetch_all(&mut *db)
    .await
    .doing("queueing a letter")?;
    sqlx::query_as!(
        Notice,
        "select occasion, state, sent_at from letters where occasion = any($1) order by occasion for share",
        &wanted,
    )
    .fetch_all(db)
    .await
    .doing("reading letters")
}

/// The newest warning of each server that is to be destroyed.
async fn warnings(db: &mut PgConnection, asked: &NewRemoval) -> Result<Vec<Notice>, StoreError> {
    let known = sqlx::query_as!(
        Notice,
        "select distinct on (service_id) occasion, state, sent_at from letters
         where subscription_id = $1 and kind = 'destruction_warning'
         order by service_id, created_at desc, occasion",
        asked.subscription.0,
    )
    .fetch_all(&mut *db)
    .await
    .doing("reading letters")?;
    with_what_is_lost(db, asked, known, "destruction_warning", "").await
}

/// The newest letter that says that a server was stopped because its customer took it away.
async fn farewell(db: &mut PgConnection, asked: &NewRemoval, service: ServiceId) -> Result<Vec<Notice>, StoreError> {
    let known = sqlx::query_as!(
        Notice,
        "select occasion, state, sent_at from letters
         where service_id = $1 and kind = 'service_removed' order by created_at desc, occasion limit 1",
        service.0,
    )
    .fetch_all(&mut *db)
    .await
    .doing("reading letters")?;
    // Each wish has a letter of its own.
    let wish = asked.occasion.rsplit('/').next().unwrap_or_default();
    with_what_is_lost(db, asked, known, "service_removed", &format!("{wish}/")).await
}

/// Adds the notices that no row tells of, because they were never written down, or were lost with a database: each is written
/// down to be sent, with a day that leaves its customer as much time.
async fn with_what_is_lost(
    db: &mut PgConnection,
    asked: &NewRemoval,
    mut notices: Vec<Notice>,
    kind: &str,
    of_what: &str,
) -> Result<Vec<Notice>, StoreError> {
    for found in ServiceBrief::all_of(&mut *db, &asked.subscription).await? {
        let goes = match asked.service {
            Some(service) => found.service == service && found.status == ServiceStatus::Retained,
            // An order that is being built is waited for.
            None => found.status != ServiceStatus::Provisioning,
        };
        let about = format!("{kind}/{}/{of_what}", found.service);
        if !goes || notices.iter().any(|notice| notice.occasion.starts_with(&about)) {
            continue;
        }
        let until = now(&mut *db).await?.saturating_add(Duration::seconds(asked.notice_secs.max(0)));
        let letter = QueuedLetter {
            occasion: format!("{about}{}", until.unix_timestamp()),
            kind: kind.to_owned(),
            user: None,
            order: None,
            subscription: Some(asked.subscription.clone()),
            service: Some(found.service),
        };
        letter.queue(&mut *db).await?;
        notices.push(Notice { occasion: letter.occasion, state: "queued".to_owned(), sent_at: None });
    }
    Ok(notices)
}

/// Every notice has to have been handed to the mail server, and the last one long enough ago. What the mail server refused
/// for good is for staff to decide.
async fn by_a_notice(
    db: &mut PgConnection,
    asked: &NewRemoval,
    notices: &[Notice],
) -> Result<Option<Held>, StoreError> {
    if let Some(refused) = notices.iter().find(|notice| notice.state == "refused")
        && !is_approved(&mut *db, asked).await?
    {
        let why = format!(
            "The mail server refused the letter {}. Approve it, or reach the customer otherwise.",
            refused.occasion
        );
        return Ok(Some(Held::by(HeldBy::Refused, why)));
    }
    if let Some(waiting) = notices.iter().find(|notice| !matches!(notice.state.as_str(), "sent" | "refused")) {
        let why = format!("The mail server does not have the letter {} yet.", waiting.occasion);
        return Ok(Some(Held::by(HeldBy::Notice, why)));
    }
    let Some(last) = notices.iter().filter_map(|notice| notice.sent_at).max() else { return Ok(None) };
    let until = last.saturating_add(Duration::seconds(asked.notice_secs.max(0)));
    if until <= now(db).await? {
        return Ok(None);
    }
    let why = format!("The last notice left on {}; the customer has until {}.", last.date(), until.date());
    Ok(Some(Held { until: Some(until.unix_timestamp() + 1), ..Held::by(HeldBy::Notice, why) }))
}

/// By the clock that dates the notices.
async fn now(db: &mut PgConnection) -> Result<OffsetDateTime, StoreError> {
    sqlx::query_scalar!(r#"select now() as "now!""#).fetch_one(db).await.doing("reading the time")
}

async fn is_approved(db: &mut PgConnection, asked: &NewRemoval) -> Result<bool, StoreError> {
    sqlx::query_scalar!(
        r#"select exists (select from removals where occasion = $1 and approved_at is not null) as "approved!""#,
        asked.occasion,
    )
    .fetch_one(db)
    .await
    .doing("reading what staff approved")
}
