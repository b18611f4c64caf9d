//! What a restored database still owes: events to drive on again, orders and subscriptions that must have a workflow.
use crate::{
    Store, StoreError,
    attention::{AttentionVerdict, SettledAttention},
    fault::{Doing, count, word},
    timeline::SYSTEM,
};
use domain::{
    UnixSecs,
    billing::{Leaving, Phase},
    ids::{AccountId, InstructionId, OrderId, ServiceId, SubscriptionId, Vmid},
    instruction::{Ask, Instruction},
    order::{OrderStatus, Step, StepState},
    plan::Term,
};
use std::net::IpAddr;
use time::OffsetDateTime;

/// An order as it was given, to be started again. Has no `Debug`, because it carries a sealed key.
#[derive(Clone)]
pub struct StoredOrder {
    /// Which order.
    pub order: OrderId,
    /// Who buys.
    pub account: AccountId,
    /// The service it becomes.
    pub service: ServiceId,
    /// Where it is in its life.
    pub status: OrderStatus,
    /// The plan's slug.
    pub plan_slug: String,
    /// Monthly or annual.
    pub term: Term,
    /// The currency's lower-case code.
    pub currency: String,
    /// One DNS label.
    pub hostname: String,
    /// The image's slug.
    pub image: String,
    /// The customer's SSH public key, sealed.
    pub sealed_ssh_key: Option<String>,
    /// How many days cost nothing at first.
    pub trial_days: u32,
    /// The subscription that covers it, when nothing is paid for it.
    pub covered_by: Option<SubscriptionId>,
}

/// An order that was being given up when its workflow was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HalfGivenUp {
    /// Why it was.
    pub reason: String,
    /// The steps that had begun.
    pub begun: Vec<Step>,
    /// The subscription that paid for it; none when nothing is known to be paid, or another one covers it.
    pub subscription: Option<SubscriptionId>,
}

/// What is said of an order of which nobody knows any more why it was given up.
const REASON_LOST: &str = "it was being given up when its workflow was lost";

/// A subscription that must have a workflow, and where it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivingSubscription {
    /// Which subscription.
    pub subscription: SubscriptionId,
    /// Whose.
    pub account: AccountId,
    /// Our phase.
    pub phase: Phase,
    /// When its services were last changed: stopped, in the phases that stop them.
    pub changed_at: UnixSecs,
    /// The price at Stripe that its machine was last fitted to.
    pub fitted_price: Option<String>,
    /// How often its customer was told that the machine was fitted to another.
    pub fitted: u32,
}

impl Store {
    /// Makes every event due again that was told to us since then and is not ignored, and says how many. A workflow that
    /// is told twice only looks twice. What a person has to decide stays with staff.
    pub async fn redrive_payment_events(&self, since: OffsetDateTime) -> Result<u64, StoreError> {
        let due = sqlx::query!(
            "update payment_events set state = 'received', attempts = 0, last_error = null, next_attempt_at = now()
             where received_at >= $1 and state in ('received', 'handled', 'unclaimed')
                and not (type = 'difference' and object_kind in ('cover', 'page', 'refund'))",
            since,
        )
        .execute(&self.pool)
        .await
        .doing("making payment events due again")?;
        Ok(due.rows_affected())
    }

    /// Puts every letter back into the queue that a workflow was begun for and that nobody is known to have, and says how
    /// many. One whose workflow runs is not begun again.
    pub async fn requeue_letters(&self) -> Result<u64, StoreError> {
        let queued = sqlx::query!("update letters set state = 'queued' where state = 'started'")
            .execute(&self.pool)
            .await
            .doing("queueing letters again")?;
        Ok(queued.rows_affected())
    }

    /// Whether an order is in the table.
    pub async fn order_status(&self, order: OrderId) -> Result<Option<OrderStatus>, StoreError> {
        sqlx::query_scalar!("select status from orders where id = $1", order.0)
            .fetch_optional(&self.pool)
            .await
            .doing("reading an order")?
            .map(|status| word(&status, "an order's status"))
            .transpose()
    }

    /// Writes an account of which only Stripe knows down again, with one user who confirmed their address (nobody else can
    /// pay) and has no password until they are given one. Says `false` when the address has become somebody else's.
    pub async fn write_account_down(
        &self,
        account: AccountId,
        (name, email): (&str, &str),
        stripe_customer: &str,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query!(
            "insert into accounts (id, name, stripe_customer_id) values ($1, $2, $3)",
            account.0,
            name,
            stripe_customer,
        )
        .execute(&mut *tx)
        .await
        .doing("writing an account down again")?;
        let user = sqlx::query!(
            "insert into users (id, account_id, name, email, password_hash, email_verified_at)
             values (gen_random_uuid(), $1, $2, lower($3), '', now()) on conflict (email) do nothing",
            account.0,
            name,
            email,
        )
        .execute(&mut *tx)
        .await
        .doing("writing a user down again")?;
        if user.rows_affected() == 0 {
            return Ok(false);
        }
        tx.commit().await.doing("writing an account down again")?;
        Ok(true)
    }

    /// Whether an account is in the table.
    pub async fn knows_account(&self, account: AccountId) -> Result<bool, StoreError> {
        sqlx::query_scalar!(r#"select exists (select 1 from accounts where id = $1) as "known!""#, account.0)
            .fetch_one(&self.pool)
            .await
            .doing("looking for an account")
    }

    /// Every order that is not at its end, as it was given.
    pub async fn unfinished_orders(&self) -> Result<Vec<StoredOrder>, StoreError> {
        let rows = sqlx::query!(
            "select o.id, o.account_id, o.service_id, o.status, p.slug, pr.term, pr.currency, o.hostname, o.image,
                o.sealed_ssh_key, o.trial_days, o.covered_by
             from orders o join plans p on p.id = o.plan_id join prices pr on pr.id = o.price_id
             where o.status in ('awaiting_payment', 'provisioning') order by o.created_at"
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading unfinished orders")?;
        rows.into_iter()
            .map(|row| {
                Ok(StoredOrder {
                    order: OrderId(row.id),
                    account: AccountId(row.account_id),
                    service: ServiceId(row.service_id),
                    status: word(&row.status, "an order's status")?,
                    plan_slug: row.slug,
                    term: word(&row.term, "a price's term")?,
                    currency: row.currency,
                    hostname: row.hostname,
                    image: row.image,
                    sealed_ssh_key: row.sealed_ssh_key,
                    trial_days: count(row.trial_days, "an order's trial")?,
                    covered_by: row.covered_by.map(SubscriptionId),
                })
            })
            .collect()
    }

    /// Settles in our own name whatever a workflow that is lost, or begins again, left waiting for staff, and says how often
    /// it has waited: the next one goes on counting there, so that what it waits for is a new line and a new letter.
    pub async fn settle_lost_waits(&self, workflow_id: &str) -> Result<u32, StoreError> {
        let waits = sqlx::query!(
            r#"select occurrence, settled_at is null as "is_open!" from attention where workflow_id = $1 order by occurrence"#,
            workflow_id,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading the steps that wait")?;
        let mut raised = 0;
        for wait in waits {
            raised = count(wait.occurrence, "an occurrence")?;
            if wait.is_open {
                let settled = SettledAttention {
                    workflow_id: workflow_id.to_owned(),
                    occurrence: raised,
                    verdict: AttentionVerdict::Retry,
                    result: None,
                    by: SYSTEM.to_owned(),
                    because: "its workflow begins again".to_owned(),
                };
                self.settle_attention(&settled).await?;
            }
        }
        Ok(raised)
    }

    /// What an unfinished order has to take back, when it was being given up: its end is written down last, but a decision
    /// of staff, a step back that waited for them, and a step that was taken back stand here before.
    pub async fn half_given_up(&self, order: OrderId) -> Result<Option<HalfGivenUp>, StoreError> {
        let why = sqlx::query_scalar!(
            r#"select case when verdict = 'abandon' and decided_by = 'system' then decided_because when verdict = 'abandon' then reason end
                as "reason?"
               from attention
               where workflow_id = $1 and (verdict = 'abandon' or step in ('unname', 'destroy', 'refund'))
               order by raised_at, id limit 1"#,
            order.workflow_id(),
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading why an order was given up")?;
        let rows = sqlx::query!(
            r#"select s.step, s.state, case when o.covered_by is null then o.subscription_id end as "paid_by?"
               from order_steps s join orders o on o.id = s.order_id where s.order_id = $1"#,
            order.0,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading steps")?;
        let (mut begun, mut undone, mut subscription) = (vec![], false, None);
        for row in rows {
            let state = word::<StepState>(&row.state, "a step's state")?;
            undone |= state == StepState::Undone;
            if state != StepState::Waiting {
                begun.push(word(&row.step, "a step")?);
            }
            subscription = row.paid_by.map(SubscriptionId);
        }
        if why.is_none() && !undone {
            return Ok(None);
        }
        let reason = why.flatten().unwrap_or_else(|| REASON_LOST.to_owned());
        Ok(Some(HalfGivenUp { reason, begun, subscription }))
    }

    /// Every subscription that is not at its end.
    pub async fn living_subscriptions(&self) -> Result<Vec<LivingSubscription>, StoreError> {
        let rows = sqlx::query!(
            r#"select s.id, s.account_id, s.phase,
                (select pr.stripe_price_id from orders o join prices pr on pr.id = o.price_id where o.id = s.order_id) as fitted_price,
                (select count(*) from letters l where l.subscription_id = s.id
                    and l.kind in ('service_resized', 'term_changed')) as "fitted!",
                extract(epoch from coalesce((select max(changed_at) from services where subscription_id = s.id),
                    s.created_at))::bigint as "changed_at!"
               from subscriptions s where s.phase <> 'expired' order by s.created_at"#
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading living subscriptions")?;
        rows.into_iter()
            .map(|row| {
                Ok(LivingSubscription {
                    subscription: SubscriptionId(row.id),
                    account: AccountId(row.account_id),
                    phase: word(&row.phase, "a subscription's phase")?,
                    changed_at: row.changed_at,
                    fitted_price: row.fitted_price,
                    fitted: u32::try_from(row.fitted).unwrap_or(u32::MAX),
                })
            })
            .collect()
    }

    /// Which servers of a subscription were set aside because their customer takes them away, and since when.
    pub async fn set_aside(&self, subscription: &SubscriptionId) -> Result<Vec<Leaving>, StoreError> {
        let rows = sqlx::query!(
            r#"select s.id, extract(epoch from s.changed_at)::bigint as "stopped_at!", i.id as "instruction?",
                i.actor as "actor?", i.reason as "reason?"
               from services s left join lateral (
                select told.id, told.actor, told.reason from instructions told
                where told.subscription_id = s.subscription_id and told.kind = 'remove_server' and told.about = s.id::text
                order by told.asked_at desc limit 1
               ) i on true
               where s.subscription_id = $1 and s.status = 'retained' and s.destroy_at is not null
               order by s.changed_at, s.id"#,
            subscription.0,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading what was set aside")?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let service = ServiceId(row.id);
                let instruction = Instruction {
                    id: InstructionId(row.instruction.unwrap_or(row.id)),
                    by: row.actor.unwrap_or_else(|| SYSTEM.to_owned()),
                    reason: row.reason.unwrap_or_default(),
                    what: Ask::RemoveServer { service },
                };
                Leaving { service, instruction, stopped_at: Some(row.stopped_at) }
            })
            .collect())
    }

    /// Makes an order hold the place where its machine was found, instead of the one it was given just now. Addresses that
    /// somebody else holds stay theirs.
    pub async fn take_over(
        &self,
        order: OrderId,
        vmid: Vmid,
        node: &str,
        addresses: &[IpAddr],
    ) -> Result<(), StoreError> {
        self.adopt_number(order, vmid).await?;
        sqlx::query!(
            "update reservations r set
                node = coalesce((select name from nodes where name = $2), r.node),
                ipv4 = coalesce((select a.address from addresses a where a.family = 4 and host(a.address) = any($3)
                    and not exists (select 1 from reservations o where o.ipv4 = a.address and o.released_at is null
                        and o.order_id <> $1) limit 1), r.ipv4),
                ipv6 = coalesce((select a.address from addresses a where a.family = 6 and host(a.address) = any($3)
                    and not exists (select 1 from reservations o where o.ipv6 = a.address and o.released_at is null
                        and o.order_id <> $1) limit 1), r.ipv6)
             where r.order_id = $1",
            order.0,
            node,
            &addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        )
        .execute(&self.pool)
        .await
        .doing("taking a machine's place over")?;
        Ok(())
    }

    /// How many other processes of ours use the database now.
    pub async fn other_processes(&self) -> Result<i64, StoreError> {
        sqlx::query_scalar!(
            r#"select count(*) as "count!" from pg_stat_activity
               where datname = current_database() and application_name = 'ez' and pid <> pg_backend_pid()"#
        )
        .fetch_one(&self.pool)
        .await
        .doing("looking for other processes")
    }

    /// Puts the order of a payment page we have no order for where staff see it.
    pub async fn note_lost_order(&self, session: &str, order: OrderId, why: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into payment_events
                (id, type, object_id, object_kind, order_id, stripe_created_at, livemode, state, last_error)
             values ('found/' || $1, 'checkout.session.completed', $1, 'checkout.session', $2, now(), true, 'unclaimed', $3)
             on conflict (id) do update set state = 'unclaimed', last_error = excluded.last_error",
            session,
            order.0,
            why,
        )
        .execute(&self.pool)
        .await
        .doing("noting a lost order")?;
        Ok(())
    }
}
