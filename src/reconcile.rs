//! `ez reconcile`: after the portal's database and Temporal's were restored to different instants, everything that was
//! acknowledged goes on. It may be run any number of times, with workers running or not.
//!
//! 1. Orders the table does not know are written down again: from their workflow's input in Temporal, or from what the
//!    payment page at Stripe says about them, and with them the account of whoever paid. Their machines are taken over.
//! 2. Every order that is not at its end and has no workflow begins again at its first step: each step finds what is there.
//!    One whose workflow runs looks at its payment; it begins again only when it was written down just now, or when the
//!    operator says that a database was restored, because its workflow may be giving it up. What the tables know to be given
//!    up is taken back further.
//! 3. Every living subscription without a workflow gets one; its first acts are what it was told and had not done, and a look
//!    at Stripe.
//! 4. Every payment event of the gap is due again.
//! 5. Letters that were begun and that nobody is known to have begin again, unless Temporal knows what became of them.
//! 6. Stripe's list of events is gone through for what no webhook told, and everything that lives is compared with Stripe.
//! 7. Machines of orders that are over are named. Nothing is done about them.
use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use activities::{
    machine::proxmox::FoundMachine,
    payment::{
        mirror::Mirror,
        stripe::{StripeApi, found::PaidPage, living::Portion},
    },
    round::RoundDesk,
};
use anyhow::Context;
use contract::{
    order::{GivenUp, OrderInput, OrderOutcome, PaymentReported, wire},
    subscription::SubscriptionInput,
};
use domain::{
    billing::{Phase, Standing},
    ids::{AccountId, OrderId},
    order::OrderStatus,
};
use futures::TryStreamExt;
use serde::de::DeserializeOwned;
use store::{Actor, Entry, HalfGivenUp, LivingSubscription, NewOrder, Reserved, Store, StoreError, StoredOrder};
use temporalio_client::{
    Client, UntypedWorkflow, WorkflowDescribeOptions, WorkflowExecutionStatus, WorkflowFetchHistoryOptions,
    WorkflowIdConflictPolicy, WorkflowIdReusePolicy, WorkflowListOptions, WorkflowSignalOptions, WorkflowStartOptions,
    errors::{WorkflowInteractionError, WorkflowStartError},
};
use temporalio_common::protos::temporal::api::{common::v1::Payloads, history::v1::history_event::Attributes};
use time::OffsetDateTime;
use workflows::{covered::CoveredOrder, order::Order, subscription::Subscription};

use crate::{attributes::found_by, config::Config, strays, wiring};

/// What differs has to differ this much later too: a fact may just be on its way.
const BETWEEN_COMPARISONS: Duration = Duration::from_secs(5);

/// What was done, for the operator.
#[derive(Default)]
struct Tally {
    accounts: usize,
    written_down: Vec<OrderId>,
    orders: usize,
    looking: usize,
    subscriptions: usize,
    events: u64,
    letters: u64,
    for_staff: usize,
}

impl Tally {
    /// What the trail keeps of it: from here on its chain may be another one than before the restore.
    fn entry(&self, hours: u64) -> Entry {
        Entry {
            actor: Actor::Hand,
            action: "reconcile.run",
            account: None,
            subject: "database".to_owned(),
            network: None,
            before: None,
            after: Some(serde_json::json!({
                "hours": hours, "accounts": self.accounts, "written_down": self.written_down.len(), "orders": self.orders,
                "subscriptions": self.subscriptions, "events": self.events, "letters": self.letters,
            })),
        }
    }
}

/// Reconciles everything that happened since `hours` ago. Orders whose workflow runs begin again when a database was
/// `restored`.
pub(crate) async fn run(config: &Config, hours: u64, restored: bool) -> anyhow::Result<()> {
    let gap = Gap {
        store: wiring::store(config)?,
        temporal: wiring::temporal(&config.temporal).await?,
        stripe: wiring::stripe(config)?,
        config,
        since: OffsetDateTime::now_utc() - Duration::from_secs(hours * 3_600),
    };
    let mut tally = Tally::default();
    gap.write_down_lost(&mut tally).await?;
    for order in gap.store.unfinished_orders().await? {
        let anew = restored || tally.written_down.contains(&order.order);
        match gap.go_on(order, anew).await? {
            GoneOn::Again => tally.orders += 1,
            GoneOn::Looking => tally.looking += 1,
            GoneOn::Over => {}
        }
    }
    for subscription in gap.store.living_subscriptions().await? {
        tally.subscriptions += usize::from(gap.revive(subscription).await?);
    }
    tally.events = gap.store.redrive_payment_events(gap.since).await?;
    tally.letters = gap.store.requeue_letters().await?;
    let (missed, differ) = go_rounds(&gap).await?;
    gap.store.note(&tally.entry(hours)).await?;
    let mut told = io::stdout();
    writeln!(told, "accounts written down again: {}", tally.accounts)?;
    writeln!(told, "orders written down again: {}", tally.written_down.len())?;
    writeln!(told, "orders begun again: {}; subscriptions given a workflow: {}", tally.orders, tally.subscriptions)?;
    writeln!(told, "orders whose workflow runs: {}", tally.looking)?;
    writeln!(told, "payment events due again: {}; payments left for staff: {}", tally.events, tally.for_staff)?;
    writeln!(told, "letters looked after: {}", tally.letters)?;
    writeln!(told, "events no webhook told: {missed}; differences being looked at: {differ}")?;
    // All the rest is done, so a cluster that does not answer ends nothing.
    match strays::find(&gap.store, &wiring::proxmox(config)?).await {
        Ok(strays) => writeln!(told, "machines: {strays}")?,
        Err(fault) => writeln!(told, "machines could not be looked through: {fault:#}")?,
    }
    Ok(())
}

/// Both rounds at once, and from the beginning of the gap.
async fn go_rounds(gap: &Gap<'_>) -> anyhow::Result<(u64, u64)> {
    let mirror = Mirror { store: gap.store.clone(), stripe: gap.stripe.clone() };
    let rounds = RoundDesk { mirror, portion: Portion::Whole };
    let said = |fault: activities::fault::Fault| anyhow::anyhow!(fault.words());
    let walked = rounds.mirror.walk(gap.since, OffsetDateTime::now_utc()).await.map_err(said)?;
    let compared = Box::pin(rounds.compared(BETWEEN_COMPARISONS)).await.map_err(said)?;
    Ok((walked.missed, compared.found))
}

/// An order that is in no table.
struct Lost {
    id: OrderId,
    /// As it was given, if anybody still knows.
    order: Option<NewOrder>,
    /// The payment page that was paid for it.
    paid: Option<PaidPage>,
    /// The machine that carries its stamp.
    machine: Option<FoundMachine>,
}

/// How an unfinished order goes on.
enum GoneOn {
    /// It began again.
    Again,
    /// Its workflow runs, and looks at its payment.
    Looking,
    /// It came to its end meanwhile.
    Over,
}

struct Gap<'a> {
    store: Store,
    temporal: Client,
    stripe: StripeApi,
    config: &'a Config,
    since: OffsetDateTime,
}

impl Gap<'_> {
    /// Writes every order down again that is in no table. Those with a machine come first, so that nobody else is given
    /// its number and addresses.
    async fn write_down_lost(&self, tally: &mut Tally) -> anyhow::Result<()> {
        let mut lost: Vec<Lost> = vec![];
        for order in self.lost_in_temporal().await.context("looking for orders in Temporal")? {
            lost.push(Lost { id: order.order, order: Some(order), paid: None, machine: None });
        }
        for page in self.lost_at_stripe().await.context("looking for paid orders at Stripe")? {
            if let Some(known) = lost.iter_mut().find(|lost| lost.id == page.order) {
                known.paid = Some(page);
            } else {
                let order = new_order(&page);
                lost.push(Lost { id: page.order, order, paid: Some(page), machine: None });
            }
        }
        let proxmox = wiring::proxmox(self.config)?;
        for lost in &mut lost {
            if let Some(order) = &lost.order {
                lost.machine = proxmox.find_of(order.service).await?;
            }
        }
        lost.sort_by_key(|lost| lost.machine.is_none());
        for lost in lost {
            if let (Some(order), Some(customer)) = (&lost.order, lost.paid.as_ref().and_then(|p| p.customer.as_deref()))
            {
                tally.accounts += usize::from(self.write_account_down(order.account, customer).await?);
            }
            let written = match &lost.order {
                Some(order) => self.write_down(order, lost.machine.as_ref()).await?,
                None => false,
            };
            match (written, lost.paid) {
                (true, paid) => {
                    tally.written_down.push(lost.id);
                    // Its subscription may live already, and looks for its row.
                    if let Some(subscription) = paid.and_then(|page| page.subscription) {
                        self.store.paid(lost.id, &subscription).await?;
                    }
                }
                (false, Some(page)) => {
                    let why = "it was paid, and we do not know enough to begin its order again; refund it at Stripe";
                    self.store.note_lost_order(&page.session, lost.id, why).await?;
                    tally.for_staff += 1;
                }
                // Nobody paid for it, and whoever ordered it is not known any more.
                (false, None) => {}
            }
        }
        Ok(())
    }

    /// Writes the account of whoever paid down again, unless it is known. Says whether it did.
    async fn write_account_down(&self, account: AccountId, customer: &str) -> anyhow::Result<bool> {
        if self.store.knows_account(account).await? {
            return Ok(false);
        }
        let person = self.stripe.person(customer).await.map_err(|fault| anyhow::anyhow!(fault.words()))?;
        match person.filter(|person| person.account == account) {
            Some(person) => Ok(self.store.write_account_down(account, (&person.name, &person.email), customer).await?),
            None => Ok(false),
        }
    }

    /// Pages that were paid for orders that are in no table.
    async fn lost_at_stripe(&self) -> anyhow::Result<Vec<PaidPage>> {
        let paid = self.stripe.paid_pages(self.since).await.map_err(|fault| anyhow::anyhow!(fault.words()))?;
        let mut lost = vec![];
        for page in paid {
            if self.store.order_status(page.order).await?.is_none() {
                lost.push(page);
            }
        }
        Ok(lost)
    }

    /// Orders whose workflow Temporal knows and that are in no table.
    async fn lost_in_temporal(&self) -> anyhow::Result<Vec<NewOrder>> {
        let since = self.since.format(&time::format_description::well_known::Rfc3339)?;
        let types = format!("(WorkflowType = '{}' OR WorkflowType = '{}')", wire::TYPE, wire::COVERED);
        let query = format!("{types} AND StartTime >= '{since}'");
        let found: Vec<_> = self.temporal.list_workflows(&query, WorkflowListOptions::default()).try_collect().await?;
        let mut lost: Vec<NewOrder> = vec![];
        for known in found {
            let id = known.id().to_owned();
            let Some(order) = id.strip_prefix("order-").and_then(|id| id.parse().ok()) else { continue };
            // Several houses may share one Temporal; an order that ran two times is listed two times.
            let ours = known.task_queue() == self.config.temporal.task_queue;
            let known = lost.iter().any(|known| known.order == order);
            if !ours || known || self.store.order_status(order).await?.is_some() {
                continue;
            }
            lost.extend(self.input_of(&id).await?.map(activities::ledger::new_order));
        }
        Ok(lost)
    }

    /// The input a workflow was started with, from its history. Nothing for a covered order that was refused a place: who was
    /// told so is not given one now.
    async fn input_of(&self, id: &str) -> anyhow::Result<Option<OrderInput>> {
        let handle = self.temporal.get_workflow_handle::<UntypedWorkflow>(id);
        let events = handle.fetch_history(WorkflowFetchHistoryOptions::default()).into_events().await?;
        let (mut input, mut outcome): (Option<OrderInput>, Option<OrderOutcome>) = (None, None);
        for event in events {
            match event.attributes {
                Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) => input = first(started.input),
                Some(Attributes::WorkflowExecutionCompletedEventAttributes(ended)) => outcome = first(ended.result),
                _ => {}
            }
        }
        let over = outcome.is_some_and(|outcome| outcome.status != OrderStatus::Delivered);
        Ok(input.filter(|input| input.covered_by.is_none() || !over))
    }

    /// Writes an order down and holds a place for it: its machine's, if it has one. Says whether that could be done.
    async fn write_down(&self, order: &NewOrder, machine: Option<&FoundMachine>) -> anyhow::Result<bool> {
        match self.store.reserve(order).await {
            Ok(Reserved::Held(_)) => {}
            Ok(Reserved::SoldOut) => return Ok(false),
            Err(StoreError::Conflict { constraint }) => {
                tracing::warn!(order = %order.order, constraint, "an order cannot be written down again");
                return Ok(false);
            }
            Err(fault) => return Err(fault.into()),
        }
        if let Some(FoundMachine { vmid, node, addresses }) = machine {
            self.store.take_over(order.order, *vmid, node, addresses).await?;
        }
        Ok(true)
    }

    /// Has an order go on: the workflow that runs, unless it is to begin anew, or else one from its beginning.
    async fn go_on(&self, stored: StoredOrder, anew: bool) -> anyhow::Result<GoneOn> {
        if !anew && self.lives(&stored.order.workflow_id()).await? {
            // Nothing is paid for a covered one, so there is no payment to look at.
            if stored.covered_by.is_none() {
                self.have_it_look(stored.order).await?;
            }
            return Ok(GoneOn::Looking);
        }
        let status = self.store.order_status(stored.order).await?;
        if !matches!(status, Some(OrderStatus::AwaitingPayment | OrderStatus::Provisioning)) {
            return Ok(GoneOn::Over);
        }
        Box::pin(self.begin_again(stored)).await?;
        Ok(GoneOn::Again)
    }

    /// Starts an order's workflow from its beginning, in place of one that runs, and has it look at its payment: the
    /// event that told of it may have been handled long ago.
    async fn begin_again(&self, stored: StoredOrder) -> anyhow::Result<()> {
        let stage = if stored.status == OrderStatus::Provisioning { "provisioning" } else { "reserve" };
        let id = stored.order.workflow_id();
        let attention_raised = self.store.settle_lost_waits(&id).await?;
        let input = OrderInput {
            order: stored.order,
            account: stored.account,
            service: stored.service,
            plan: stored.plan_slug,
            term: stored.term,
            currency: stored.currency,
            hostname: stored.hostname,
            image: stored.image,
            sealed_ssh_key: stored.sealed_ssh_key,
            trial_days: stored.trial_days,
            covered_by: stored.covered_by,
            attention_raised,
            given_up: self.store.half_given_up(stored.order).await?.map(given_up),
            policy: self.config.policy.clone(),
        };
        let (attributes, order) = (found_by(wire::TYPE, stage, Some(input.account)), input.order);
        let options = WorkflowStartOptions::new(self.config.temporal.task_queue.clone(), id)
            .search_attributes(attributes)
            .id_reuse_policy(WorkflowIdReusePolicy::AllowDuplicate)
            .id_conflict_policy(WorkflowIdConflictPolicy::TerminateExisting)
            .build();
        if input.covered_by.is_some() {
            let begun = self.temporal.start_workflow(CoveredOrder::run, input, options).await;
            return begun.map(drop).context("beginning a covered order again");
        }
        self.temporal.start_workflow(Order::run, input, options).await.context("beginning an order again")?;
        self.have_it_look(order).await
    }

    /// Has an order's workflow look at its payment. One that is over has nothing to look at.
    async fn have_it_look(&self, order: OrderId) -> anyhow::Result<()> {
        let look = PaymentReported { event: "reconcile".to_owned() };
        let handle = self.temporal.get_workflow_handle::<Order>(order.workflow_id());
        match handle.signal(Order::payment_reported, look, WorkflowSignalOptions::default()).await {
            Ok(()) | Err(WorkflowInteractionError::NotFound(_)) => Ok(()),
            Err(fault) => Err(fault).context("having an order look at its payment"),
        }
    }

    /// Starts a subscription's workflow unless one runs. Says whether it did.
    async fn revive(&self, living: LivingSubscription) -> anyhow::Result<bool> {
        let id = living.subscription.workflow_id();
        if self.lives(&id).await? {
            return Ok(false);
        }
        let attention_raised = self.store.settle_lost_waits(&id).await?;
        let stopped = |phase| (living.phase == phase).then_some(living.changed_at);
        let standing = Standing {
            phase: living.phase,
            suspended_at: stopped(Phase::Suspended),
            retained_at: stopped(Phase::Retained),
            price: living.fitted_price,
            fitted: living.fitted,
            leaving: self.store.set_aside(&living.subscription).await?,
            ..Standing::default()
        };
        let told = self.store.to_carry_on(&living.subscription).await?;
        let attributes = found_by("subscription", living.phase.as_str(), Some(living.account));
        let options = WorkflowStartOptions::new(self.config.temporal.task_queue.clone(), id)
            .search_attributes(attributes)
            .id_reuse_policy(WorkflowIdReusePolicy::AllowDuplicate)
            .build();
        let input = SubscriptionInput {
            subscription: living.subscription,
            account: living.account,
            policy: self.config.policy.subscription.clone(),
            standing,
            attention_raised,
            told,
        };
        match self.temporal.start_workflow(Subscription::run, input, options).await {
            Ok(_) => Ok(true),
            Err(WorkflowStartError::AlreadyStarted { .. }) => Ok(false),
            Err(fault) => Err(fault).context("starting a subscription's workflow"),
        }
    }

    /// Whether a workflow of that id runs.
    async fn lives(&self, id: &str) -> anyhow::Result<bool> {
        let handle = self.temporal.get_workflow_handle::<UntypedWorkflow>(id);
        match handle.describe(WorkflowDescribeOptions::default()).await {
            Ok(described) => Ok(described.status() == WorkflowExecutionStatus::Running),
            Err(WorkflowInteractionError::NotFound(_)) => Ok(false),
            Err(fault) => Err(fault).context("looking whether a workflow runs"),
        }
    }
}

/// What stands in the first payload.
fn first<T: DeserializeOwned>(said: Option<Payloads>) -> Option<T> {
    said?.payloads.first().and_then(|payload| serde_json::from_slice(&payload.data).ok())
}

/// What an order's workflow is told of its giving up.
fn given_up(known: HalfGivenUp) -> GivenUp {
    let HalfGivenUp { reason, begun, subscription } = known;
    GivenUp { reason, begun, subscription }
}

/// The order of a payment page that says enough. Its SSH key is nowhere but with us: it gets a password.
fn new_order(page: &PaidPage) -> Option<NewOrder> {
    let said: &BTreeMap<String, String> = &page.metadata;
    Some(NewOrder {
        order: page.order,
        account: said.get("account")?.parse().ok()?,
        service: said.get("service")?.parse().ok()?,
        plan_slug: said.get("plan")?.clone(),
        term: said.get("term")?.parse().ok()?,
        currency: said.get("currency")?.clone(),
        hostname: said.get("hostname")?.clone(),
        image: said.get("image")?.clone(),
        sealed_ssh_key: None,
        trial_days: said.get("trial_days").and_then(|days| days.parse().ok()).unwrap_or(0),
        covered_by: None,
    })
}
