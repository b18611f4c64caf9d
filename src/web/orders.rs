//! One order, step by step: as a page that can be reloaded, and as a stream of the same page's middle part.
use std::{convert::Infallible, error::Error, sync::Arc, time::Duration};

use askama::Template;
use axum::{
    extract::{Path, State},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use domain::{
    ids::OrderId,
    order::{OrderStatus, StepState},
};
use futures::stream::{self, Stream};
use store::{OrderPage, StepLine, Store, StoreError};
use tokio::time::Instant;
use tower_sessions::session::Id;

use super::{
    Portal, Shared,
    caller::Caller,
    page::{self, Refusal, Shell},
    permit,
    streams::{self, Place},
    visitor::{self, Customer, Reader},
    words,
};

/// How often a stream looks into the database.
const LOOK_EVERY: Duration = Duration::from_millis(700);
/// How long a stream goes on without asking whether its reader may still see it.
const ALLOWED_FOR: Duration = Duration::from_secs(2);
/// How long one stream lives; the browser opens the next one by itself.
const STREAM_LIFE: Duration = Duration::from_mins(10);
/// What staff read of every customer: whoever may ask for it may read any order.
const OF_EVERY_CUSTOMER: &str = "/staff/subscriptions/{id}/";

#[derive(Template)]
#[template(path = "page/order.html")]
struct Whole {
    shell: Shell,
    order: OrderPage,
    live: bool,
}

#[derive(Template)]
#[template(path = "part/progress.html")]
struct Progress<'a> {
    order: &'a OrderPage,
}

/// An order as somebody may see it.
struct Seen {
    page: OrderPage,
    /// Whether it is of the account they look at.
    is_own: bool,
}

/// Whether anything about the order can still change.
fn is_moving(status: OrderStatus) -> bool {
    matches!(status, OrderStatus::AwaitingPayment | OrderStatus::Provisioning)
}

/// The page.
pub(crate) async fn look(
    State(portal): Shared,
    customer: Customer,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let order = id.parse().map_err(|_| Refusal::NotFound)?;
    let order = begun_by(&portal, &customer.reader(&portal), order, &customer.visitor.caller).await?;
    let live = is_moving(order.status);
    Ok(page::ok(&Whole { shell: customer.visitor.shell("dashboard"), order, live }))
}

/// The order for whoever begins to look at it. What staff read of a customer is in the trail before it is shown.
async fn begun_by(portal: &Portal, reader: &Reader, order: OrderId, caller: &Caller) -> Result<OrderPage, Refusal> {
    let seen = seen_by(&portal.store, reader, order).await?.ok_or(Refusal::NotFound)?;
    if !seen.is_own {
        portal.store.note_order_read(reader.user.id, order, caller.network()).await?;
    }
    Ok(seen.page)
}

/// The order as this person may see it: their own account's, and whoever reads as staff anybody's. The way to its payment is for
/// whoever may order in that account.
async fn seen_by(store: &Store, reader: &Reader, order: OrderId) -> Result<Option<Seen>, StoreError> {
    let seat = Some(&reader.user.seat);
    let own = store.order_page(order, reader.user.account).await?;
    let is_own = own.is_some();
    let pays = is_own && permit::may(seat, "POST", "/billing/checkout/{slug}/");
    let page = match own {
        None if reader.as_staff && permit::may(seat, "GET", OF_EVERY_CUSTOMER) => {
            store.order_page_for_staff(order).await?
        }
        page => page,
    };
    Ok(page.map(|page| {
        let page = if pays { page } else { OrderPage { checkout_url: None, ..page } };
        Seen { page, is_own }
    }))
}

/// The stream: the middle of the page whenever it changed, then `finished`.
pub(crate) async fn events(
    State(portal): Shared,
    customer: Customer,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let order: OrderId = id.parse().map_err(|_| Refusal::NotFound)?;
    let reader = customer.reader(&portal);
    begun_by(&portal, &reader, order, &customer.visitor.caller).await?;
    let place = match streams::take(reader.user.account) {
        Ok(place) => place,
        Err(full) => return Ok(page::error(full.status())),
    };
    let watch = Watch {
        portal,
        order,
        session: customer.visitor.session_id(),
        caller: customer.visitor.caller,
        reader,
        allowed_at: Instant::now(),
        shown: String::new(),
        ends: Instant::now() + STREAM_LIFE,
        said: None,
        last: false,
        _place: place,
    };
    Ok(Sse::new(watch.stream()).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response())
}

struct Watch {
    portal: Arc<Portal>,
    order: OrderId,
    session: Option<Id>,
    caller: Caller,
    reader: Reader,
    allowed_at: Instant,
    shown: String,
    ends: Instant,
    said: Option<String>,
    last: bool,
    _place: Place,
}

impl Watch {
    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut watch| async move {
            let event = watch.next().await?;
            Some((Ok(event), watch))
        })
    }

    /// Waits until the page's middle reads differently; nothing when the stream is over.
    async fn next(&mut self) -> Option<Event> {
        if self.last {
            return None;
        }
        if let Some(said) = self.said.take() {
            return Some(Event::default().event("said").data(said));
        }
        while Instant::now() < self.ends {
            match self.read().await {
                Ok(Some(order)) => {
                    let text = fragment(&order)?;
                    if text != self.shown {
                        self.shown.clone_from(&text);
                        self.said = Some(spoken(&order));
                        return Some(Event::default().event("progress").data(text));
                    }
                    if !is_moving(order.status) {
                        self.last = true;
                        return Some(Event::default().event("finished").data("over"));
                    }
                }
                Ok(None) => return None,
                Err(fault) => tracing::warn!(fault = page::whole(&*fault), "an order could not be read for its stream"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        None
    }

    /// The order, while its reader may see it: who left the account, or was logged out, sees no more of it.
    async fn read(&mut self) -> Result<Option<OrderPage>, Box<dyn Error + Send + Sync>> {
        if self.allowed_at.elapsed() >= ALLOWED_FOR {
            let reader = match self.session {
                Some(session) => visitor::of_session(&self.portal, session, &self.caller).await?,
                None => None,
            };
            let Some(reader) = reader else { return Ok(None) };
            self.reader = reader;
            self.allowed_at = Instant::now();
        }
        Ok(seen_by(&self.portal.store, &self.reader, self.order).await?.map(|seen| seen.page))
    }
}

/// One sentence for those who hear the page instead of seeing it.
fn spoken(order: &OrderPage) -> String {
    let state = words::order(&order.status).word;
    let moving = |line: &&StepLine| matches!(line.state, StepState::Running | StepState::Delayed);
    match order.steps.iter().find(moving) {
        Some(line) => format!("{state}. {}: {}.", line.step.title(), words::step(&line.state).word),
        None => format!("{state}."),
    }
}

/// The middle of the page.
fn fragment(order: &OrderPage) -> Option<String> {
    Progress { order }.render().map_err(|fault| tracing::error!(%fault, "a stream could not be rendered")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{
        ids::ServiceId,
        order::Step,
        plan::{MachineSize, Term},
    };
    use time::macros::datetime;
    use uuid::Uuid;

    fn order(status: OrderStatus, delayed: bool) -> OrderPage {
        let line = |step, state| StepLine { step, state, started_at: None, finished_at: None };
        let state = if delayed { StepState::Delayed } else { StepState::Running };
        OrderPage {
            id: OrderId(Uuid::nil()),
            service: ServiceId(Uuid::nil()),
            service_status: None,
            hostname: "web-1".to_owned(),
            dns_name: None,
            plan_name: "Small".to_owned(),
            plan_slug: "small".to_owned(),
            size: MachineSize { cores: 1, memory_mib: 1024, disk_gib: 20 },
            image_name: "Debian <13>".to_owned(),
            money: domain::money::Money { amount_minor: 500, currency: "eur".parse().unwrap() },
            term: Term::Monthly,
            status,
            reason: None,
            created_at: datetime!(2026-01-01 00:00 UTC),
            paid_at: None,
            delivered_at: None,
            closed_at: None,
            checkout_url: None,
            covered_by: None,
            paid: store::PaidFor::Unread,
            steps: vec![line(Step::Reserve, StepState::Done), line(Step::Clone, state)],
            timeline: Vec::new(),
            attention: delayed,
        }
    }

    #[test]
    fn the_stream_shows_each_step_with_its_state_in_words() {
        let text = fragment(&order(OrderStatus::Provisioning, false)).unwrap();
        assert!(text.contains("Reserve a place") && text.contains("Done"), "{text}");
        assert!(text.contains("Copy the operating system") && text.contains("In progress"), "{text}");
        assert!(!text.contains("we are on it"), "{text}");
        assert!(!text.contains("<html"), "{text}");
    }

    #[test]
    fn a_delay_is_admitted() {
        let text = fragment(&order(OrderStatus::Provisioning, true)).unwrap();
        assert!(text.contains("Delayed") && text.contains("we are on it"), "{text}");
        assert_eq!(
            spoken(&order(OrderStatus::Provisioning, true)),
            "Being set up. Copy the operating system: Delayed."
        );
        assert_eq!(spoken(&order(OrderStatus::Delivered, false)).split('.').next(), Some("Delivered"));
    }

    #[test]
    fn only_open_orders_are_watched() {
        let moving = OrderStatus::ALL.iter().copied().filter(|status| is_moving(*status)).collect::<Vec<_>>();
        assert_eq!(moving, [OrderStatus::AwaitingPayment, OrderStatus::Provisioning]);
    }
}
