//! One subscription as staff see it: every invoice with what was reported about it, given back and told.
use super::{InvoiceLine, TimelineLine, charges::ChargeLine, credit::CreditMoveLine};
use crate::{
    InstructionLine, RemovalLine, Store, StoreError, Subscription,
    catalogue::money,
    fault::{Doing, word},
};
use domain::{
    ids::{OrderId, ServiceId, SubscriptionId},
    instruction::{AskKind, InstructionState},
    money::Money,
    service::ServiceStatus,
};
use time::OffsetDateTime;

/// How many lines of a history are shown at most; the newest stay.
const HISTORY_LIMIT: i64 = 200;
/// How many subscriptions are looked ahead for at a time.
const MOVING_LIMIT: usize = 100;
/// How many reports are listed at most.
const REPORTS_LIMIT: i64 = 200;

/// One subscription and every cent of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionPage {
    /// The subscription as last seen.
    pub subscription: Subscription,
    /// Who pays.
    pub account_name: String,
    /// Until when staff hold what takes something away.
    pub hold_until: Option<OffsetDateTime>,
    /// What it pays for.
    pub services: Vec<PaidService>,
    /// Its newest 24 invoices, newest first.
    pub invoices: Vec<InvoiceStory>,
    /// What moved the credit of its account, newest first.
    pub credit_moves: Vec<CreditMoveLine>,
    /// What it was about to take away, newest first, and what holds that back.
    pub removals: Vec<RemovalLine>,
    /// What it was told, newest first.
    pub instructions: Vec<InstructionLine>,
    /// The history of its services, oldest first.
    pub timeline: Vec<TimelineLine>,
}

/// A service that a subscription pays for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidService {
    /// Which.
    pub id: ServiceId,
    /// The order it was built for.
    pub order: OrderId,
    /// One DNS label.
    pub hostname: String,
    /// Where it is in its life.
    pub status: ServiceStatus,
    /// Whether it is covered beside the one that was paid for.
    pub covered: bool,
    /// When it is destroyed, or was, because its customer takes it away.
    pub destroy_at: Option<OffsetDateTime>,
}

/// One invoice with everything that moved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceStory {
    /// The invoice.
    pub line: InvoiceLine,
    /// How much of it was given back, or is about to be, in minor units.
    pub given_back_minor: i64,
    /// What was charged for it, oldest first, with what became of it.
    pub charges: Vec<ChargeLine>,
    /// What Stripe reported about it, oldest first.
    pub reports: Vec<ReportLine>,
}

/// One thing Stripe reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportLine {
    /// The Stripe id (`evt_…`).
    pub id: String,
    /// Stripe's word.
    pub event_type: String,
    /// When it was told to us.
    pub received_at: OffsetDateTime,
}

/// A subscription to which something will happen soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovingSubscription {
    /// Which.
    pub id: SubscriptionId,
    /// Who pays.
    pub account_name: String,
    /// What it pays for, by name.
    pub hostnames: String,
    /// What is charged each term.
    pub money: Money,
    /// Until when staff hold what takes something away.
    pub hold_until: Option<OffsetDateTime>,
}

/// Some of the subscriptions to which something will happen soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovingPage {
    /// Those, in their order.
    pub subscriptions: Vec<MovingSubscription>,
    /// The last of them, when others come behind it.
    pub next: Option<SubscriptionId>,
}

impl Store {
    /// The subscriptions to which something will happen before that time: those not simply paid first, then those whose
    /// period ends soonest, or whose customer takes a server away; 100 at most, from behind the one that is named.
    pub async fn moving_subscriptions(
        &self,
        before: OffsetDateTime,
        after: Option<&str>,
    ) -> Result<MovingPage, StoreError> {
        let rows = sqlx::query!(
            r#"with place as (
                select case when phase = 'active' then 1 else 0 end as turn, coalesce(period_end, 'infinity') as ends, id
                from subscriptions where id = $3)
               select m.id as "id!", (select a.name from accounts a where a.id = m.account_id) as "name!",
                pr.amount_minor, pr.currency,
                (select h.until from instructions h
                    where h.subscription_id = m.id and h.state = 'done' and h.kind in ('hold', 'release', 'restore')
                    order by h.settled_at desc limit 1) as hold_until,
                coalesce((select string_agg(v.hostname, ', ' order by v.hostname) from services v
                    where v.subscription_id = m.id and v.status <> 'undone'), '') as "hostnames!"
               from (
                (select 0 as turn, id, account_id, price_id, period_end from subscriptions
                    where phase in ('past_due', 'suspended', 'retained') and ($3::text is null
                        or (0, coalesce(period_end, 'infinity'), id) > (select p.turn, p.ends, p.id from place p))
                    order by period_end, id limit $2)
                union all
                (select 1 as turn, id, account_id, price_id, period_end from subscriptions
                    where phase = 'active' and period_end < $1 and ($3::text is null
                        or (1, period_end, id) > (select p.turn, p.ends, p.id from place p))
                    order by period_end, id limit $2)
                union all
                (select 1 as turn, id, account_id, price_id, period_end from subscriptions
                    where phase = 'active' and period_end >= $1 and ($3::text is null
                        or (1, period_end, id) > (select p.turn, p.ends, p.id from place p))
                    and id in (select gone.subscription_id from services gone
                        where gone.status = 'retained' and gone.destroy_at < $1) order by period_end, id limit $2)
               ) as m join prices pr on pr.id = m.price_id
               order by m.turn, m.period_end, m.id limit $2"#,
            before,
            i64::try_from(MOVING_LIMIT).unwrap_or(i64::MAX).saturating_add(1),
            after,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading subscriptions")?;
        let more = rows.len() > MOVING_LIMIT;
        let subscriptions = rows
            .into_iter()
            .take(MOVING_LIMIT)
            .map(|row| {
                Ok(MovingSubscription {
                    id: SubscriptionId(row.id),
                    account_name: row.name,
                    hostnames: row.hostnames,
                    money: money(row.amount_minor, &row.currency)?,
                    hold_until: row.hold_until,
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        let next = subscriptions.last().filter(|_| more).map(|last| last.id.clone());
        Ok(MovingPage { subscriptions, next })
    }

    /// One subscription of anybody, for staff.
    pub async fn subscription_page(&self, id: &SubscriptionId) -> Result<Option<SubscriptionPage>, StoreError> {
        let Some(subscription) = self.subscription(id).await? else { return Ok(None) };
        let row = sqlx::query!(
            r#"select a.name, (select h.until from instructions h
                    where h.subscription_id = s.id and h.state = 'done' and h.kind in ('hold', 'release', 'restore')
                    order by h.settled_at desc limit 1) as hold_until
               from subscriptions s join accounts a on a.id = s.account_id where s.id = $1"#,
            id.0,
        )
        .fetch_one(&self.pool)
        .await
        .doing("reading a subscription")?;
        let instructions = self.instructions(id).await?;
        Ok(Some(SubscriptionPage {
            account_name: row.name,
            hold_until: row.hold_until,
            services: self.paid_services(id).await?,
            invoices: self.invoice_stories(id, &instructions).await?,
            credit_moves: self.credit_moves(subscription.account).await?,
            timeline: self.history_of(id).await?,
            removals: self.removals_of(id).await?,
            subscription,
            instructions,
        }))
    }

    async fn paid_services(&self, id: &SubscriptionId) -> Result<Vec<PaidService>, StoreError> {
        let rows = sqlx::query!(
            r#"select s.id, s.order_id, s.hostname, s.status, s.destroy_at, o.covered_by is not null as "covered!"
               from services s join orders o on o.id = s.order_id
               where s.subscription_id = $1 order by s.created_at, s.id"#,
            id.0,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading services")?;
        rows.into_iter()
            .map(|row| {
                Ok(PaidService {
                    id: ServiceId(row.id),
                    order: OrderId(row.order_id),
                    hostname: row.hostname,
                    status: word(&row.status, "a service's status")?,
                    covered: row.covered,
                    destroy_at: row.destroy_at,
                })
            })
            .collect()
    }

    async fn invoice_stories(
        &self,
        id: &SubscriptionId,
        told: &[InstructionLine],
    ) -> Result<Vec<InvoiceStory>, StoreError> {
        let lines = self.invoice_lines(id).await?;
        let ids: Vec<String> = lines.iter().map(|line| line.id.clone()).collect();
        let reports = sqlx::query!(
            r#"select id, type, object_id, received_at from payment_events where object_id = any($1)
               order by received_at, id limit $2"#,
            &ids,
            REPORTS_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading payment events")?;
        let mut charges = self.charges(id).await?;
        let mut story = |line: InvoiceLine| InvoiceStory {
            given_back_minor: 0,
            charges: charges.extract_if(.., |charge| charge.invoice.as_ref() == Some(&line.id)).collect(),
            reports: reports
                .iter()
                .filter(|report| report.object_id == line.id)
                .map(|report| ReportLine {
                    id: report.id.clone(),
                    event_type: report.r#type.clone(),
                    received_at: report.received_at,
                })
                .collect(),
            line,
        };
        let mut stories: Vec<InvoiceStory> = lines.into_iter().map(&mut story).collect();
        for story in &mut stories {
            story.given_back_minor = given_back_minor(story, told);
        }
        Ok(stories)
    }

    async fn history_of(&self, id: &SubscriptionId) -> Result<Vec<TimelineLine>, StoreError> {
        let mut lines = sqlx::query_as!(
            TimelineLine,
            "select happened_at as at, actor, kind, line from timeline
             where order_id in (select order_id from services where subscription_id = $1) order by id desc limit $2",
            id.0,
            HISTORY_LIMIT,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading the timeline")?;
        lines.reverse();
        Ok(lines)
    }
}

/// What was given back of an invoice, or is on its way. What staff told may not be at Stripe yet, or not in the mirror; what is
/// there counts as it stands there, so one that came back counts no more.
fn given_back_minor(story: &InvoiceStory, told: &[InstructionLine]) -> i64 {
    let all: i64 = story.charges.iter().map(ChargeLine::given_back_minor).sum();
    let (mut seen, mut unseen) = (0, 0);
    for line in told {
        let is_refund = line.kind == AskKind::Refund && line.state != InstructionState::Refused;
        let Some(money) = line.money.as_ref().filter(|_| is_refund && line.about.as_deref() == Some(&story.line.id))
        else {
            continue;
        };
        let mut mirrored = story.charges.iter().flat_map(|charge| &charge.refunds);
        match mirrored.find(|refund| line.object.as_deref() == Some(&refund.id)) {
            Some(refund) if refund.stands() => seen += money.amount_minor,
            Some(_) => {}
            None => unseen += money.amount_minor,
        }
    }
    seen + (all - seen).max(unseen)
}
