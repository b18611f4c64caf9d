//! The services a subscription pays for, and the changes in their lives.
use super::ServiceBrief;
use crate::{
    Store, StoreError,
    fault::{Doing, count, word},
    orders::close::{erase_password, release},
    timeline::{self, Entry, SYSTEM},
};
use domain::{
    UnixSecs,
    ids::{OrderId, ServiceId, SubscriptionId, Vmid},
    service::ServiceStatus,
};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

impl ServiceBrief {
    /// The services a subscription pays for that are not expired or undone, oldest first.
    pub(crate) async fn all_of(db: &mut PgConnection, subscription: &SubscriptionId) -> Result<Vec<Self>, StoreError> {
        let rows = sqlx::query!(
            r#"select s.id, s.order_id, s.status, r.node, r.vmid, o.covered_by is not null as "covered!"
             from services s join orders o on o.id = s.order_id join reservations r on r.order_id = s.order_id
             where s.subscription_id = $1 and s.status not in ('expired', 'undone')
             order by s.created_at, s.id"#,
            subscription.0,
        )
        .fetch_all(db)
        .await
        .doing("reading services")?;
        rows.into_iter()
            .map(|row| {
                Ok(Self {
                    service: ServiceId(row.id),
                    order: OrderId(row.order_id),
                    node: row.node,
                    vmid: Vmid(count(row.vmid, "a machine's number")?),
                    status: word(&row.status, "a service's status")?,
                    covered: row.covered,
                })
            })
            .collect()
    }
}

impl Store {
    /// The services a subscription pays for that are not expired or undone, oldest first.
    pub async fn services_of(&self, subscription: &SubscriptionId) -> Result<Vec<ServiceBrief>, StoreError> {
        let mut db = self.pool.acquire().await.doing("reading services")?;
        ServiceBrief::all_of(&mut db, subscription).await
    }

    /// Notes a change in the life of a service, and when it is destroyed because its customer takes it away. The same again
    /// changes nothing. `expired` also returns its addresses, its machine's number and its place in the entitlement, and erases
    /// a password nobody asked for.
    ///
    /// *Errors*: [`StoreError::Conflict`] when there is no such service (`service_unknown`) or its life is over
    /// (`service_over`).
    pub async fn change_service(
        &self,
        service: ServiceId,
        status: ServiceStatus,
        destroy_at: Option<UnixSecs>,
    ) -> Result<(), StoreError> {
        let destroy_at = destroy_at.map(OffsetDateTime::from_unix_timestamp).transpose();
        let destroy_at = destroy_at.map_err(|_| StoreError::conflict("time_out_of_range"))?;
        let mut tx = self.begin().await?;
        let order = sqlx::query_scalar!("select id from orders where service_id = $1 for no key update", service.0)
            .fetch_optional(&mut *tx)
            .await
            .doing("locking an order")?
            .ok_or_else(|| StoreError::conflict("service_unknown"))?;
        let order = OrderId(order);
        let row = sqlx::query!(
            "select status, subscription_id, destroy_at from services where id = $1 for no key update",
            service.0,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("locking a service")?
        .ok_or_else(|| StoreError::conflict("service_unknown"))?;
        let was = word(&row.status, "a service's status")?;
        let over = matches!(status, ServiceStatus::Expired | ServiceStatus::Undone);
        // What is over says for ever whether its customer took it away.
        let change = Change { was, was_leaving: row.destroy_at, status, leaving: destroy_at };
        if change.is_none() || (over && was == status) {
            return Ok(());
        }
        if matches!(was, ServiceStatus::Expired | ServiceStatus::Undone) {
            return Err(StoreError::conflict("service_over"));
        }
        sqlx::query!(
            "update services set status = $2, changed_at = now(), destroy_at = case when $4 then destroy_at else $3 end
             where id = $1",
            service.0,
            status.as_str(),
            destroy_at,
            over,
        )
        .execute(&mut *tx)
        .await
        .doing("changing a service")?;
        if over {
            release(&mut tx, order).await?;
            erase_password(&mut tx, order).await?;
            close_unused_entitlement(&mut tx, &row.subscription_id).await?;
        }
        let line = change.line(&mut tx, &row.subscription_id).await?;
        let fact = format!("service/{service}/{status}/{}", Uuid::new_v4());
        timeline::write(&mut tx, Entry { order, actor: SYSTEM, kind: "service", line: &line, fact: &fact }).await?;
        tx.commit().await.doing("changing a service")
    }
}

/// What a service was and becomes.
struct Change {
    was: ServiceStatus,
    /// When it was to be destroyed because its customer took it away.
    was_leaving: Option<OffsetDateTime>,
    status: ServiceStatus,
    /// When it will be.
    leaving: Option<OffsetDateTime>,
}

impl Change {
    fn is_none(&self) -> bool {
        self.was == self.status && self.was_leaving == self.leaving
    }

    async fn line(&self, db: &mut PgConnection, subscription: &str) -> Result<String, StoreError> {
        if let (ServiceStatus::Retained, Some(at)) = (self.status, self.leaving) {
            return Ok(format!(
                "You removed this server: it was stopped, and is destroyed with everything on it on {}.",
                at.date()
            ));
        }
        Ok(match (self.was_leaving.is_some(), self.status) {
            (true, ServiceStatus::Running) => "Your server is kept after all, and was started again.".to_owned(),
            (true, ServiceStatus::Suspended | ServiceStatus::Retained) => "Your server is kept after all.".to_owned(),
            (true, ServiceStatus::Expired) => {
                "Your server was destroyed, as you asked; its addresses and its name were returned.".to_owned()
            }
            _ => line(db, subscription, self.was, self.status).await?,
        })
    }
}

async fn close_unused_entitlement(db: &mut PgConnection, subscription: &str) -> Result<(), StoreError> {
    sqlx::query!(
        "update entitlements set closed_at = now()
         where subscription_id = $1 and closed_at is null and not exists (
            select 1 from services s where s.subscription_id = $1 and s.kind = entitlements.kind
                and s.status not in ('expired', 'undone'))",
        subscription,
    )
    .execute(db)
    .await
    .doing("closing an entitlement")?;
    Ok(())
}

async fn line(
    db: &mut PgConnection,
    subscription: &str,
    before: ServiceStatus,
    status: ServiceStatus,
) -> Result<String, StoreError> {
    Ok(match status {
        ServiceStatus::Provisioning => "Your server is being built.".to_owned(),
        ServiceStatus::Running if before == ServiceStatus::Provisioning => "Your server runs.".to_owned(),
        ServiceStatus::Running => "Your server was started again.".to_owned(),
        ServiceStatus::Suspended => suspended(db, subscription).await?,
        ServiceStatus::Retained => {
            "The subscription is over: your server was stopped and is kept for a while.".to_owned()
        }
        ServiceStatus::Expired => "Your server was destroyed; its addresses and its name were returned.".to_owned(),
        ServiceStatus::Undone => "Your server was taken back.".to_owned(),
    })
}

async fn suspended(db: &mut PgConnection, subscription: &str) -> Result<String, StoreError> {
    let invoice = sqlx::query_scalar!(
        "select id from invoices where subscription_id = $1 and status = 'open' order by created_at, id limit 1",
        subscription,
    )
    .fetch_optional(db)
    .await
    .doing("reading invoices")?;
    Ok(invoice.map_or_else(
        || "Suspended because an invoice is unpaid.".to_owned(),
        |invoice| format!("Suspended because invoice {invoice} is unpaid."),
    ))
}
