//! How far an order is, and the lines its history gets for it.
use super::{lock, try_lock};
use crate::{Store, StoreError, fault::Doing, fault::word, timeline};
use domain::{
    ids::OrderId,
    order::{OrderStatus, Step, StepState},
};
use sqlx::PgConnection;

impl Store {
    /// Notes how far a step is. When it runs, is done or was skipped, every earlier step that was running is done. What is
    /// done stays done, unless it is taken back.
    pub async fn step(&self, order: OrderId, step: Step, state: StepState) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let status = lock(&mut tx, order).await?.status;
        if matches!(status, OrderStatus::Lapsed | OrderStatus::SoldOut | OrderStatus::Abandoned) {
            return Ok(());
        }
        let forward = matches!(state, StepState::Running | StepState::Done | StepState::Skipped);
        // Steps that take something back run beside the ones that failed and do not finish them.
        if forward && Step::OF_AN_ORDER.contains(&step) {
            finish_before(&mut tx, order, step).await?;
        }
        if put(&mut tx, order, step, state).await? {
            tell(&mut tx, order, step, state).await?;
        }
        tx.commit().await.doing("noting a step")
    }
}

/// Makes a step done, with every earlier one that was running. The order is locked.
pub(super) async fn finish(db: &mut PgConnection, order: OrderId, step: Step) -> Result<(), StoreError> {
    finish_before(db, order, step).await?;
    if put(db, order, step, StepState::Done).await? {
        tell(db, order, step, StepState::Done).await?;
    }
    Ok(())
}

async fn finish_before(db: &mut PgConnection, order: OrderId, step: Step) -> Result<(), StoreError> {
    let earlier: Vec<String> =
        Step::ALL.iter().filter(|other| **other < step).map(|other| other.as_str().to_owned()).collect();
    let finished = sqlx::query_scalar!(
        "update order_steps set state = 'done', finished_at = now()
         where order_id = $1 and step = any($2) and state in ('running', 'delayed') returning step",
        order.0,
        &earlier,
    )
    .fetch_all(&mut *db)
    .await
    .doing("finishing earlier steps")?;
    let mut steps = finished.iter().map(|text| word::<Step>(text, "a step")).collect::<Result<Vec<_>, _>>()?;
    steps.sort_unstable();
    for done in steps {
        tell(db, order, done, StepState::Done).await?;
    }
    Ok(())
}

/// Gives whether anything changed.
async fn put(db: &mut PgConnection, order: OrderId, step: Step, state: StepState) -> Result<bool, StoreError> {
    let put = sqlx::query!(
        "insert into order_steps (order_id, step, state, finished_at)
         values ($1, $2, $3, case when $3 in ('done', 'skipped', 'undone') then now() end)
         on conflict (order_id, step) do update set state = excluded.state, finished_at = excluded.finished_at
         where order_steps.state <> excluded.state
            and not (order_steps.state = 'done' and excluded.state in ('waiting', 'running', 'delayed'))
            and not (order_steps.state = 'skipped' and excluded.state in ('waiting', 'running', 'delayed', 'done'))",
        order.0,
        step.as_str(),
        state.as_str(),
    )
    .execute(db)
    .await
    .doing("noting a step")?;
    Ok(put.rows_affected() == 1)
}

/// Writes the line of a step that was done or taken back.
async fn tell(db: &mut PgConnection, order: OrderId, step: Step, state: StepState) -> Result<(), StoreError> {
    let line = match (step, state) {
        (Step::Checkout, StepState::Done) => "The payment page was opened.".to_owned(),
        (Step::Clone, StepState::Done) => "Server created.".to_owned(),
        (Step::Configure, StepState::Done) => assigned(db, order).await?,
        (Step::Resize, StepState::Done) => "Disk grown to its size.".to_owned(),
        (Step::Protect, StepState::Done) => "Firewall turned on.".to_owned(),
        (Step::Start, StepState::Done) => "Server started.".to_owned(),
        (Step::Answer, StepState::Done) => "Server answers.".to_owned(),
        (Step::Name, StepState::Done) => published(db, order).await?,
        (Step::Clone, StepState::Undone) => "Server removed.".to_owned(),
        (Step::Name, StepState::Undone) => "Its name was removed.".to_owned(),
        (Step::Payment, StepState::Undone) => "Payment refunded.".to_owned(),
        _ => return Ok(()),
    };
    let kind = match step {
        Step::Checkout | Step::Payment => "payment",
        Step::Configure => "address",
        Step::Name => "name",
        _ => "machine",
    };
    timeline::of_order(db, order, kind, &format!("{step}/{state}"), &line).await?;
    Ok(())
}

async fn assigned(db: &mut PgConnection, order: OrderId) -> Result<String, StoreError> {
    let row = sqlx::query!(
        r#"select host(ipv4) as "ipv4!", host(ipv6) as "ipv6!" from reservations where order_id = $1"#,
        order.0,
    )
    .fetch_one(db)
    .await
    .doing("reading a reservation")?;
    Ok(format!("Addresses {} and {} assigned.", row.ipv4, row.ipv6))
}

async fn published(db: &mut PgConnection, order: OrderId) -> Result<String, StoreError> {
    let name = sqlx::query_scalar!("select dns_name from services where order_id = $1", order.0)
        .fetch_optional(db)
        .await
        .doing("reading a service")?
        .flatten();
    Ok(name.map_or_else(
        || "Its name was published.".to_owned(),
        |name| format!("Name {} published.", name.trim_end_matches('.')),
    ))
}

/// Takes back every step that was not finished. The order is locked.
pub(super) async fn undo_open(db: &mut PgConnection, order: OrderId) -> Result<(), StoreError> {
    sqlx::query!(
        "update order_steps set state = 'undone', finished_at = now()
         where order_id = $1 and state in ('waiting', 'running', 'delayed')",
        order.0,
    )
    .execute(db)
    .await
    .doing("taking steps back")?;
    Ok(())
}

/// Marks a running step as delayed, or runs it again, for an order that may not be there.
pub(crate) async fn delay(db: &mut PgConnection, order: OrderId, step: Step, delayed: bool) -> Result<(), StoreError> {
    if try_lock(db, order).await?.is_none() {
        return Ok(());
    }
    let (from, to) = if delayed { ("running", "delayed") } else { ("delayed", "running") };
    sqlx::query!(
        "update order_steps set state = $4 where order_id = $1 and step = $2 and state = $3",
        order.0,
        step.as_str(),
        from,
        to,
    )
    .execute(db)
    .await
    .doing("noting a delay")?;
    Ok(())
}
