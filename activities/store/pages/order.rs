//! One order in full.
use super::{OrderPage, StepLine};
use crate::{
    Store, StoreError,
    audit::{self, Actor, Entry},
    catalogue::{money, size},
    fault::{Doing, word},
    orders::close::PaidFor,
};
use domain::{
    ids::{AccountId, OrderId, ServiceId, SubscriptionId, UserId},
    order::{OrderStatus, Step, StepState},
};

impl Store {
    /// One order of an account; `None` when there is none, or it is another account's.
    pub async fn order_page(&self, order: OrderId, account: AccountId) -> Result<Option<OrderPage>, StoreError> {
        self.page_of_order(order, Some(account)).await
    }

    /// One order of anybody.
    pub async fn order_page_for_staff(&self, order: OrderId) -> Result<Option<OrderPage>, StoreError> {
        self.page_of_order(order, None).await
    }

    /// Notes that one of the staff begins to read an order of somebody, in the trail of whoever owns it.
    pub async fn note_order_read(&self, by: UserId, order: OrderId, network: String) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let account = sqlx::query_scalar!("select account_id from orders where id = $1", order.0)
            .fetch_optional(&mut *tx)
            .await
            .doing("reading whose order it is")?;
        let entry = Entry {
            actor: Actor::Staff(by),
            action: "order.read",
            account: account.map(AccountId),
            subject: format!("order/{}", order.0),
            network: Some(network),
            before: None,
            after: None,
        };
        audit::note(&mut tx, &entry).await?;
        tx.commit().await.doing("writing the trail")
    }

    async fn page_of_order(&self, order: OrderId, account: Option<AccountId>) -> Result<Option<OrderPage>, StoreError> {
        let row = sqlx::query!(
            r#"select o.service_id, o.hostname, o.status, o.reason, o.created_at, o.paid_at, o.delivered_at, o.closed_at,
                o.checkout_url, p.name as plan_name, p.slug as plan_slug,
                m.cores as "cores!", m.memory_mib as "memory_mib!", m.disk_gib as "disk_gib!", o.covered_by,
                i.name as image_name, pr.amount_minor, pr.currency, pr.term, s.status as "service_status?", s.dns_name,
                exists (
                    select 1 from attention a where a.order_id = o.id and a.settled_at is null
                ) as "attention!"
               from orders o
               join plans p on p.id = o.plan_id
               join machine_sizes m on m.order_id = o.id
               join prices pr on pr.id = o.price_id
               join images i on i.slug = o.image
               left join services s on s.order_id = o.id
               where o.id = $1 and ($2::uuid is null or o.account_id = $2)"#,
            order.0,
            account.map(|account| account.0),
        )
        .fetch_optional(&self.pool)
        .await
        .doing("reading an order")?;
        let Some(row) = row else { return Ok(None) };
        let service = ServiceId(row.service_id);
        let status: OrderStatus = word(&row.status, "an order's status")?;
        let paid = if status == OrderStatus::Abandoned { self.paid_for(order).await? } else { PaidFor::Unread };
        Ok(Some(OrderPage {
            id: order,
            service,
            service_status: row.service_status.map(|status| word(&status, "a service's status")).transpose()?,
            hostname: row.hostname,
            dns_name: row.dns_name,
            plan_name: row.plan_name,
            plan_slug: row.plan_slug,
            size: size(row.cores, row.memory_mib, row.disk_gib)?,
            image_name: row.image_name,
            money: money(row.amount_minor, &row.currency)?,
            term: word(&row.term, "a price's term")?,
            status,
            reason: row.reason,
            created_at: row.created_at,
            paid_at: row.paid_at,
            delivered_at: row.delivered_at,
            closed_at: row.closed_at,
            checkout_url: row.checkout_url.filter(|_| status == OrderStatus::AwaitingPayment),
            steps: self.step_lines(order, row.covered_by.is_some()).await?,
            covered_by: row.covered_by.map(SubscriptionId),
            paid,
            timeline: self.history(service).await?,
            attention: row.attention,
        }))
    }

    async fn step_lines(&self, order: OrderId, covered: bool) -> Result<Vec<StepLine>, StoreError> {
        let rows =
            sqlx::query!("select step, state, started_at, finished_at from order_steps where order_id = $1", order.0)
                .fetch_all(&self.pool)
                .await
                .doing("reading steps")?;
        let mut lines: Vec<StepLine> = Step::OF_AN_ORDER
            .into_iter()
            .filter(|step| !covered || !matches!(step, Step::Checkout | Step::Payment))
            .map(|step| StepLine { step, state: StepState::Waiting, started_at: None, finished_at: None })
            .collect();
        for row in rows {
            let step: Step = word(&row.step, "a step")?;
            if let Some(line) = lines.iter_mut().find(|line| line.step == step) {
                line.state = word(&row.state, "a step's state")?;
                line.started_at = Some(row.started_at);
                line.finished_at = row.finished_at;
            }
        }
        Ok(lines)
    }
}
