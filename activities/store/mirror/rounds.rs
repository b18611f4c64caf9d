//! Rounds: how far they went, what our tables say to compare, and what Stripe said otherwise.
use super::pass::Compared;
use crate::{Store, StoreError, fault::Doing};
use domain::ids::{OrderId, SubscriptionId};
use sqlx::PgConnection;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// What is gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Stripe's list of events.
    Events,
    /// Everything that lives, compared with Stripe.
    Comparison,
}

impl Round {
    /// Its name in the table and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Comparison => "comparison",
        }
    }
}

/// What may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DifferenceKind {
    /// A subscription's status, period or end.
    Subscription,
    /// Whether an invoice can still be paid.
    Invoice,
    /// Whether an order was paid.
    Order,
    /// Whether an order's payment page can be read at all.
    Page,
    /// Whether a plan covers every server there is.
    Cover,
    /// What became of something that a subscription was told.
    Instruction,
}

impl DifferenceKind {
    /// Its name in metrics and on the staff page.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subscription => "subscription",
            Self::Invoice => "invoice",
            Self::Order => "order",
            Self::Page => "page",
            Self::Cover => "cover",
            Self::Instruction => "instruction",
        }
    }

    /// Whether Stripe says otherwise than our tables.
    pub const fn is_of_stripe(self) -> bool {
        matches!(self, Self::Subscription | Self::Invoice | Self::Order)
    }

    /// Whether a person has to decide, and no workflow has to look.
    const fn asks_staff(self) -> bool {
        matches!(self, Self::Cover | Self::Page)
    }
}

/// Something of which Stripe says otherwise than our tables, or our tables contradict each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is about.
    pub kind: DifferenceKind,
    /// The Stripe id (`sub_…`, `in_…`, `cs_…`).
    pub object: String,
    /// The order that has to look.
    pub order: Option<OrderId>,
    /// The subscription that has to look.
    pub subscription: Option<SubscriptionId>,
    /// The customer whose mirror has to look (`cus_…`).
    pub customer: Option<String>,
    /// What differs, for staff.
    pub why: String,
}

/// A living subscription as our table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirroredSubscription {
    /// Which.
    pub id: String,
    /// Stripe's word when it was last read.
    pub status: String,
    /// When the paid period ends.
    pub period_end: Option<OffsetDateTime>,
    /// Whether it ends then.
    pub cancel_at_period_end: bool,
    /// When our table got it.
    pub created_at: OffsetDateTime,
}

/// An order that waits for its payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpaidOrder {
    /// Which.
    pub order: OrderId,
    /// Its payment page (`cs_…`), once it is open.
    pub session: Option<String>,
    /// When it was given.
    pub created_at: OffsetDateTime,
}

impl Store {
    /// Writes down that rounds are gone from now on: events from the first order on. Says nothing of rounds that are known.
    pub async fn begin_rounds(&self) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into rounds (name, walked_to)
             values ('events', coalesce((select min(created_at) from orders), now())), ('comparison', null)
             on conflict (name) do nothing"
        )
        .execute(&self.pool)
        .await
        .doing("beginning the rounds")?;
        Ok(())
    }

    /// Up to when Stripe's events were walked.
    pub async fn walked_to(&self) -> Result<Option<OffsetDateTime>, StoreError> {
        sqlx::query_scalar!("select walked_to from rounds where name = 'events'")
            .fetch_optional(&self.pool)
            .await
            .doing("reading how far the events were walked")
            .map(Option::flatten)
    }

    /// Notes that a round was gone to its end. How far only ever grows, but for what a wrong clock put into the future.
    pub async fn round_finished(&self, round: Round, walked_to: Option<OffsetDateTime>) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into rounds (name, walked_to) values ($1, $2)
             on conflict (name) do update set finished_at = now(), walked_to = case
                when rounds.walked_to > now() then coalesce(excluded.walked_to, rounds.walked_to)
                else greatest(rounds.walked_to, excluded.walked_to) end",
            round.as_str(),
            walked_to,
        )
        .execute(&self.pool)
        .await
        .doing("noting a round")?;
        Ok(())
    }

    /// When each round was last finished, in seconds since 1970.
    pub async fn rounds_finished(&self) -> Result<Vec<(String, f64)>, StoreError> {
        let rows = sqlx::query!(r#"select name, extract(epoch from finished_at)::float8 as "at!" from rounds"#)
            .fetch_all(&self.pool)
            .await
            .doing("reading the rounds")?;
        Ok(rows.into_iter().map(|row| (row.name, row.at)).collect())
    }

    /// Every subscription whose life is not over, as our table has it; read a page at a time.
    pub async fn mirrored_subscriptions(&self) -> Result<Vec<MirroredSubscription>, StoreError> {
        let mut living: Vec<MirroredSubscription> = vec![];
        loop {
            let last = living.last().map_or("", |known| known.id.as_str());
            let page = sqlx::query_as!(
                MirroredSubscription,
                "select id, status, period_end, cancel_at_period_end, created_at from subscriptions
                 where phase <> 'expired' and id > $1 order by id limit 1000",
                last,
            )
            .fetch_all(&self.pool)
            .await
            .doing("reading living subscriptions")?;
            if page.is_empty() {
                return Ok(living);
            }
            living.extend(page);
        }
    }

    /// Every invoice that our table calls open, with its subscription.
    pub async fn mirrored_open_invoices(&self) -> Result<Vec<(String, SubscriptionId)>, StoreError> {
        let rows = sqlx::query!("select id, subscription_id from invoices where status = 'open' order by id")
            .fetch_all(&self.pool)
            .await
            .doing("reading open invoices")?;
        Ok(rows.into_iter().map(|row| (row.id, SubscriptionId(row.subscription_id))).collect())
    }

    /// What our table calls these invoices; one it does not know is not among them.
    pub async fn invoice_statuses(&self, ids: &[String]) -> Result<BTreeMap<String, String>, StoreError> {
        let rows = sqlx::query!("select id, status from invoices where id = any($1)", ids)
            .fetch_all(&self.pool)
            .await
            .doing("reading invoices")?;
        Ok(rows.into_iter().map(|row| (row.id, row.status)).collect())
    }

    /// Every order that waits for its payment.
    pub async fn awaiting_orders(&self) -> Result<Vec<UnpaidOrder>, StoreError> {
        let rows = sqlx::query!(
            "select id, stripe_session_id, created_at from orders where status = 'awaiting_payment' order by created_at"
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading unpaid orders")?;
        Ok(rows
            .into_iter()
            .map(|row| UnpaidOrder {
                order: OrderId(row.id),
                session: row.stripe_session_id,
                created_at: row.created_at,
            })
            .collect())
    }

    /// Whether a customer is one of ours.
    pub async fn knows_customer(&self, customer: &str) -> Result<bool, StoreError> {
        sqlx::query_scalar!(
            r#"select exists (select 1 from accounts where stripe_customer_id = $1)
                or exists (select 1 from billing_customers where id = $1) as "known!""#,
            customer,
        )
        .fetch_one(&self.pool)
        .await
        .doing("looking for a customer")
    }

    /// Every subscription that has more servers than its plan covers: its price was changed at Stripe.
    pub async fn covered_too_few(&self) -> Result<Vec<Difference>, StoreError> {
        let rows = sqlx::query!(
            r#"select u.subscription_id as "subscription!", u.quantity as "quantity!", u.used as "used!"
               from entitlement_use u join subscriptions s on s.id = u.subscription_id
               where s.phase <> 'expired' and u.used > u.quantity order by u.subscription_id"#
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading what plans cover")?;
        Ok(rows
            .into_iter()
            .map(|row| covers_too_few(&SubscriptionId(row.subscription), i64::from(row.quantity), row.used))
            .collect())
    }

    /// Lets everything that differs be looked at, through the inbox: whoever lives with it is told, and what nobody lives
    /// with, or a person has to decide, is shown to staff. What differs no longer is taken from staff; what is of a
    /// subscription that was not compared this time stays, and a refund that is lost stays until as much was given back of
    /// its payment after staff saw it.
    pub async fn put_differences(&self, differences: &[Difference], compared: &Compared) -> Result<(), StoreError> {
        let (subscriptions, are_compared) = match compared {
            Compared::Only(these) => (these, true),
            Compared::AllBut(others) => (others, false),
        };
        let kinds: Vec<String> = differences.iter().map(|difference| difference.kind.as_str().to_owned()).collect();
        let objects: Vec<String> = differences.iter().map(|difference| difference.object.clone()).collect();
        sqlx::query!(
            "update payment_events set state = 'handled', last_error = null, handled_at = now()
             where type = 'difference' and state = 'unclaimed' and case when object_kind = 'refund' then false
             when object_kind in ('subscription', 'invoice') and (subscription_id = any($3::text[])) <> $4::boolean
                then false
             else not exists (
                select from unnest($1::text[], $2::text[]) as still (kind, object)
                where still.kind = payment_events.object_kind and still.object = payment_events.object_id) end",
            &kinds,
            &objects,
            subscriptions,
            are_compared,
        )
        .execute(&self.pool)
        .await
        .doing("taking differences from staff")?;
        self.take_lost_refunds_from_staff().await?;
        let mut db = self.pool.acquire().await.doing("noting a difference")?;
        for difference in differences {
            put_difference(&mut db, difference).await?;
        }
        Ok(())
    }

    /// Asks once more for every look that was left to staff: what was nobody's may be somebody's now.
    pub async fn ask_refused_looks_again(&self) -> Result<(), StoreError> {
        let left =
            sqlx::query_scalar!("select object_id from payment_events where type = 'look' and state = 'unclaimed'")
                .fetch_all(&self.pool)
                .await
                .doing("reading refused looks")?;
        if left.is_empty() { Ok(()) } else { self.ask_for_looks(&left).await }
    }
}

/// Notes one difference. One that waits already, or that staff see already, is not told again.
pub(crate) async fn put_difference(db: &mut PgConnection, difference: &Difference) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into payment_events
            (id, type, object_id, object_kind, order_id, subscription_id, customer_id, stripe_created_at, livemode,
             last_error, state, handled_at)
         select 'difference/' || $1 || '/' || $2 || '/' || extract(epoch from now())::bigint, 'difference', $2, $1, $3, $4,
            $5, now(), true, $6, case when $7 then 'unclaimed' else 'received' end, case when $7 then now() end
         where not exists (select 1 from payment_events
            where type = 'difference' and object_kind = $1 and object_id = $2 and state in ('received', 'unclaimed'))
         on conflict (id) do nothing",
        difference.kind.as_str(),
        difference.object,
        difference.order.map(|order| order.0),
        difference.subscription.as_ref().map(|id| id.0.as_str()),
        difference.customer,
        difference.why,
        difference.kind.asks_staff(),
    )
    .execute(db)
    .await
    .doing("noting a difference")?;
    Ok(())
}

/// What staff read about a subscription that has more servers than its plan covers.
pub(crate) fn covers_too_few(subscription: &SubscriptionId, quantity: i64, used: i64) -> Difference {
    Difference {
        kind: DifferenceKind::Cover,
        object: subscription.0.clone(),
        order: None,
        subscription: Some(subscription.clone()),
        customer: None,
        why: format!(
            "its plan covers {quantity} now, and it has {used} servers; nothing is taken away by itself: agree with the \
             customer which go, or on another plan"
        ),
    }
}
