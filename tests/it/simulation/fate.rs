//! What one customer does, from one seed: orders, pays or does not, and lives on with the subscription.
use std::time::Duration;

use house::{Customer, House};
use rand::{Rng, RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use crate::buyers::{self, Answer};

const PAUSE_MS: std::ops::Range<u64> = 0..2_500;

/// How the payment page is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payment {
    Pays,
    IsDeclinedThenPays,
    NeverPays,
}

/// What happens to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A month ends.
    Renews,
    /// The card expires.
    CardFails,
    /// A new card, and what is open is paid.
    PaysAgain,
    /// It is ended at once.
    Cancels,
}

/// One order and its subscription's life, each event after a pause.
#[derive(Clone, Debug)]
struct Order {
    payment: Payment,
    events: Vec<(Duration, Event)>,
}

/// Everything one customer does.
#[derive(Clone, Debug)]
pub(super) struct Fate {
    seed: u64,
    orders: Vec<Order>,
}

fn pause(dice: &mut impl Rng) -> Duration {
    Duration::from_millis(dice.random_range(PAUSE_MS))
}

fn order(dice: &mut impl Rng) -> Order {
    let payment = match dice.random_range(0..100) {
        0..70 => Payment::Pays,
        70..85 => Payment::IsDeclinedThenPays,
        _ => Payment::NeverPays,
    };
    let events: &[Event] = match dice.random_range(0..100) {
        0..35 => &[],
        35..55 => &[Event::Renews],
        55..65 => &[Event::Renews, Event::Renews],
        65..75 => &[Event::CardFails, Event::Renews],
        75..85 => &[Event::CardFails, Event::Renews, Event::PaysAgain],
        85..95 => &[Event::Cancels],
        _ => &[Event::Renews, Event::CardFails, Event::Renews, Event::PaysAgain, Event::Cancels],
    };
    Order { payment, events: events.iter().map(|event| (pause(dice), *event)).collect() }
}

impl Fate {
    /// The fate a seed says: mostly one order, now and then two.
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let orders = if dice.random_range(0..100) < 75 { 1 } else { 2 };
        Self { seed, orders: (0..orders).map(|_| order(&mut dice)).collect() }
    }

    /// Lives it. Whatever the portal and the vendors refuse meanwhile is refused; what Stripe knows in the end counts.
    pub(super) async fn live(self, house: &House, customer: &Customer) {
        let whole = format!("{self:?}");
        for (number, order) in self.orders.into_iter().enumerate() {
            let form = buyers::form(customer).await;
            let answer = buyers::order(customer, form, &format!("life-{}-{number}", self.seed)).await;
            match answer {
                Answer::Pay(page) => live_on(house, &buyers::session(&page), order).await,
                Answer::Lapsed => {}
                Answer::SoldOut(page) => panic!("sold out: {whole}: {}", page.text()),
            }
        }
    }
}

async fn live_on(house: &House, session: &str, order: Order) {
    let stripe = house.stripe();
    let act = |what: &str| format!("/_control/sessions/{session}/{what}");
    match order.payment {
        Payment::NeverPays => return,
        Payment::IsDeclinedThenPays => drop(stripe.post(&act("decline"), json!({})).await),
        Payment::Pays => {}
    }
    // Paid too late, the page is closed and nothing follows.
    let Ok(paid) = stripe.post(&act("pay"), json!({})).await else { return };
    for (pause, event) in order.events {
        tokio::time::sleep(pause).await;
        happens(house, &paid, event).await;
    }
}

async fn happens(house: &House, paid: &Value, event: Event) {
    let stripe = house.stripe();
    let (customer, subscription) = (word(&paid["customer"]), word(&paid["subscription"]));
    let card = format!("/_control/customers/{customer}/card");
    // Each may be refused by Stripe for good reasons, such as a subscription that has ended.
    match event {
        Event::Renews => drop(stripe.post(&format!("/_control/subscriptions/{subscription}/renew"), json!({})).await),
        Event::CardFails => drop(stripe.post(&card, json!({"fails": true})).await),
        Event::Cancels => drop(stripe.post(&format!("/_control/subscriptions/{subscription}/cancel"), json!({})).await),
        Event::PaysAgain => {
            drop(stripe.post(&card, json!({"fails": false})).await);
            let state = stripe.state().await.expect("Stripe");
            for payment in crate::world::list(&state["payments"]) {
                if payment["subscription"] == subscription && payment["status"] == "open" {
                    let invoice = word(&payment["invoice"]);
                    drop(stripe.post(&format!("/_control/invoices/{invoice}/pay"), json!({})).await);
                }
            }
        }
    }
}

fn word(value: &Value) -> String {
    value.as_str().expect("an id").to_owned()
}
