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
    /// done stays done, unless it is taken back. Of an order that is over nothing is noted.
    pub async fn step(&self, order: OrderId, step: Step, state: StepState) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let status = lock(&mut tx, order).await?.status;
        if matches!(status, OrderStatus::Lapsed | OrderStatus::SoldOut | OrderStatus::Abandoned) {
            return Ok(());
        }
        advance(&mut tx, order, step, state).await?;
        tx.commit().await.doing("noting a step")
    }

    /// Notes that a step of building the machine runs, and what that says of the earlier ones; `false` when the order is
    /// over, so that nothing may be begun for it. The same as [`Store::step`], in one question: a machine has six of them.
    pub async fn begin_step(&self, order: OrderId, step: Step) -> Result<bool, StoreError> {
        let earlier = Step::ALL.iter().filter(|other| **other < step);
        let told = earlier.map(|step| {
            (step.as_str().to_owned(), (kind(*step).to_owned(), done_line(*step).unwrap_or("").to_owned()))
        });
        let (steps, (kinds, lines)): (Vec<String>, (Vec<String>, Vec<String>)) = told.unzip();
        sqlx::query_scalar!(
            r#"with locked as (
                select id, account_id, service_id, subscription_id, status from orders where id = $1 for no key update
               ), live as (
                select * from locked where status not in ('lapsed', 'sold_out', 'abandoned')
               ), finished as (
                update order_steps s set state = 'done', finished_at = now() from live
                where s.order_id = live.id and s.step = any($3) and s.state in ('running', 'delayed') returning s.step
               ), begun as (
                insert into order_steps (order_id, step, state) select id, $2, 'running' from live
                on conflict (order_id, step) do update set state = excluded.state, finished_at = null
                where order_steps.state not in ('running', 'done', 'skipped')
               ), told as (
                insert into timeline (account_id, order_id, service_id, subscription_id, actor, kind, line, fact)
                select live.account_id, live.id, live.service_id, live.subscription_id, 'system', l.kind,
                    case l.step
                        when 'configure' then format('Addresses %s and %s assigned.', host(r.ipv4), host(r.ipv6))
                        else l.line
                    end,
                    format('order/%s/%s/done', live.id, l.step)
                from live
                join reservations r on r.order_id = live.id
                join unnest($3::text[], $4::text[], $5::text[]) with ordinality as l(step, kind, line, place) on true
                join finished on finished.step = l.step
                where l.step = 'configure' or l.line <> ''
                order by l.place
                on conflict (fact) do nothing
               )
               select exists (select from live) as "live!""#,
            order.0,
            step.as_str(),
            &steps,
            &kinds,
            &lines,
        )
        .fetch_one(&self.pool)
        .await
        .doing("noting a step")
    }

    /// The steps of an order that are done, by us or by hand.
    pub async fn steps_done(&self, order: OrderId) -> Result<Vec<Step>, StoreError> {
        let done = sqlx::query_scalar!(
            "select step from order_steps where order_id = $1 and state in ('done', 'skipped')",
            order.0,
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading steps")?;
        done.iter().map(|text| word(text, "a step")).collect()
    }
}

/// Writes down how far a step is, and what that says of the earlier ones. The order is locked.
pub(super) async fn advance(
    db: &mut PgConnection,
    order: OrderId,
    step: Step,
    state: StepState,
) -> Result<(), StoreError> {
    let forward = matches!(state, StepState::Running | StepState::Done | StepState::Skipped);
    // Steps that take something back run beside the ones that failed and do not finish them.
    if forward && Step::OF_AN_ORDER.contains(&step) {
        finish_before(db, order, step).await?;
    }
    if put(db, order, step, state).await? {
        tell(db, order, step, state).await?;
    }
    Ok(())
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
        (Step::Configure, StepState::Done) => assigned(db, order).await?,
        (Step::Name, StepState::Done) => published(db, order).await?,
        (Step::Clone, StepState::Undone) => "Server removed.".to_owned(),
        (Step::Name, StepState::Undone) => "Its name was removed.".to_owned(),
        (Step::Payment, StepState::Undone) => "Payment refunded.".to_owned(),
        (step, StepState::Done) => match done_line(step) {
            Some(line) => line.to_owned(),
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    timeline::of_order(db, order, kind(step), &format!("{step}/{state}"), &line).await?;
    Ok(())
}

/// What the history says about a step that is done; nothing, or something that has to be looked up, for the others.
fn done_line(step: Step) -> Option<&'static str> {
    Some(match step {
        Step::Checkout => "The payment page was opened.",
        Step::Clone => "Server created.",
        Step::Resize => "Disk grown to its size.",
        Step::Protect => "Firewall turned on.",
        Step::Start => "Server started.",
        Step::Answer => "Server answers.",
        _ => return None,
    })
}

/// What a line about a step is about.
fn kind(step: Step) -> &'static str {
    match step {
        Step::Checkout | Step::Payment => "payment",
        Step::Configure => "address",
        Step::Name => "name",
        _ => "machine",
    }
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
