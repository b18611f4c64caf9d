//! One customer by seed: what happens at Stripe and on our pages, and what is told of it.
use futures::future::join_all;
use house::{Customer, House};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{
        story::{act, at_dashboard, deleted_at_dashboard, open_page, tried_at_dashboard, word},
        teller::{legacy, restated},
    },
    STEPS_EACH,
};
use crate::world::list;

/// How a life begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    Pays,
    /// The same page is completed in two tabs.
    PaysInTwoTabs,
    /// The page is closed in one tab and paid in another: one of both is refused.
    PaysWhileThePageCloses,
    /// The page closes before it is paid, and the customer orders again.
    LapsesAndOrdersAgain,
}

/// What happens then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Renews,
    FailsThenPays,
    CancelsAtTheEnd,
    TakesTheEndBack,
    RefundedInPart,
    DisputeOpened,
    DisputeWon,
    DisputeLost,
    /// The customer takes a larger plan on our own page, and is charged the difference.
    LargerPlan,
    /// The customer chooses a smaller one for the next period, which comes.
    SmallerPlan,
    /// Somebody makes a subscription in Stripe's dashboard.
    AnotherFromTheDashboard,
    /// Ended at once; nothing follows.
    Ends,
    /// The customer is deleted at Stripe; nothing follows.
    CustomerDeleted,
}

const MIDDLE: [Step; 11] = [
    Step::Renews,
    Step::FailsThenPays,
    Step::CancelsAtTheEnd,
    Step::TakesTheEndBack,
    Step::RefundedInPart,
    Step::DisputeOpened,
    Step::DisputeWon,
    Step::DisputeLost,
    Step::LargerPlan,
    Step::SmallerPlan,
    Step::AnotherFromTheDashboard,
];

/// One customer, by seed.
pub(crate) struct Life<'a> {
    pub(super) seed: u64,
    dice: StdRng,
    /// Told everything once and in order.
    pub(super) clean: bool,
    pub(super) beginning: Beginning,
    pub(super) steps: Vec<Step>,
    customer: &'a Customer,
    pub(super) at_stripe: String,
    pub(super) order: Uuid,
    pub(super) subscription: String,
    told: usize,
}

impl<'a> Life<'a> {
    pub(super) fn of(seed: u64, customer: &'a Customer) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let beginning = match dice.random_range(0..100) {
            0..55 => Beginning::Pays,
            55..70 => Beginning::PaysInTwoTabs,
            70..85 => Beginning::PaysWhileThePageCloses,
            _ => Beginning::LapsesAndOrdersAgain,
        };
        let mut steps: Vec<Step> = (2..STEPS_EACH).map(|_| MIDDLE[dice.random_range(0..MIDDLE.len())]).collect();
        steps.push(match dice.random_range(0..100) {
            0..25 => Step::Ends,
            25..50 => Step::CustomerDeleted,
            _ => MIDDLE[dice.random_range(0..MIDDLE.len())],
        });
        let clean = seed.is_multiple_of(10);
        let (at_stripe, subscription) = (String::new(), String::new());
        Self { seed, dice, clean, beginning, steps, customer, at_stripe, order: Uuid::nil(), subscription, told: 0 }
    }

    /// Orders, and pays at Stripe.
    pub(super) async fn begin(&mut self, house: &House) {
        let session = open_page(self.customer, &format!("life-{}", self.seed)).await;
        let pay = format!("/_control/sessions/{session}/pay");
        let expire = format!("/_control/sessions/{session}/expire");
        let stripe = house.stripe();
        let paid = match self.beginning {
            Beginning::Pays => stripe.post(&pay, json!({})).await,
            Beginning::PaysInTwoTabs => {
                let tabs = join_all((0..2).map(|_| stripe.post(&pay, json!({})))).await;
                tabs.into_iter().find(Result::is_ok).expect("one tab pays")
            }
            Beginning::PaysWhileThePageCloses => {
                let (paid, _) = tokio::join!(stripe.post(&pay, json!({})), stripe.post(&expire, json!({})));
                paid
            }
            Beginning::LapsesAndOrdersAgain => stripe.post(&expire, json!({})).await,
        };
        let paid = match paid {
            Ok(paid) if paid["status"] == "complete" => paid,
            // The page was closed first: the customer orders once more.
            _ => {
                let session = open_page(self.customer, &format!("again-{}", self.seed)).await;
                act(house, &format!("sessions/{session}/pay"), json!({})).await
            }
        };
        self.order = word(&paid["client_reference_id"]).parse().expect("our order");
        self.at_stripe = word(&paid["customer"]);
        self.subscription = word(&paid["subscription"]);
    }

    /// Lets one step happen at Stripe. What Stripe refuses there (an ended subscription, nothing left to give back) has not
    /// happened.
    pub(super) async fn happens(&self, house: &House, step: Step, state: &Value) {
        let (subscription, customer) = (&self.subscription, &self.at_stripe);
        let mine = |kind: &str, wanted: &dyn Fn(&Value) -> bool| {
            let mut rows = list(&state[kind]).into_iter().rev();
            rows.find(|row| row["customer"] == customer.as_str() && wanted(row)).map(|row| word(&row["id"]))
        };
        let stripe = house.stripe();
        let control = async |path: String, body: Value| stripe.post(&format!("/_control/{path}"), body).await.ok();
        let card = format!("customers/{customer}/card");
        let renew = format!("subscriptions/{subscription}/renew");
        let end = |cancel: &'static str| [("cancel_at_period_end", cancel)];
        let at = format!("/v1/subscriptions/{subscription}");
        match step {
            Step::Renews => drop(control(renew, json!({})).await),
            Step::FailsThenPays => {
                control(card.clone(), json!({"fails": true})).await;
                control(renew, json!({})).await;
                control(card, json!({"fails": false})).await;
                let now = stripe.state().await.expect("Stripe");
                for invoice in list(&now["invoices"]).iter().filter(|row| row["customer"] == customer.as_str()) {
                    if invoice["status"] == "open" {
                        control(format!("invoices/{}/pay", word(&invoice["id"])), json!({})).await;
                    }
                }
            }
            Step::CancelsAtTheEnd => drop(tried_at_dashboard(house, &at, &end("true")).await),
            Step::TakesTheEndBack => {
                tried_at_dashboard(house, &at, &end("true")).await.ok();
                tried_at_dashboard(house, &at, &end("false")).await.ok();
            }
            Step::RefundedInPart => {
                let left = |row: &Value| row["paid"] == true && row["amount_refunded"] == 0 && row["disputed"] == false;
                if let Some(charge) = mine("charges", &left) {
                    at_dashboard(house, "/v1/refunds", &[("charge", &charge), ("amount", "100")]).await;
                }
            }
            Step::DisputeOpened | Step::DisputeWon | Step::DisputeLost => {
                let whole =
                    |row: &Value| row["paid"] == true && row["amount_refunded"] == 0 && row["disputed"] == false;
                let Some(charge) = mine("charges", &whole) else { return };
                let dispute = control(format!("charges/{charge}/dispute"), json!({})).await.expect("a dispute");
                let id = word(&dispute["id"]);
                match step {
                    Step::DisputeWon => drop(control(format!("disputes/{id}/win"), json!({})).await.expect("won")),
                    Step::DisputeLost => drop(control(format!("disputes/{id}/lose"), json!({})).await.expect("lost")),
                    _ => {}
                }
            }
            Step::LargerPlan => drop(self.takes("medium").await),
            Step::SmallerPlan => {
                self.takes("tiny").await;
                control(renew, json!({})).await;
            }
            Step::AnotherFromTheDashboard => {
                let own = list(&state["subscriptions"]).into_iter().find(|row| row["id"] == subscription.as_str());
                let made = json!({"price": own.expect("its subscription")["items"]["data"][0]["price"]["id"]});
                control(format!("customers/{customer}/subscriptions"), made).await.expect("another subscription");
            }
            Step::Ends => drop(control(format!("subscriptions/{subscription}/cancel"), json!({})).await),
            Step::CustomerDeleted => deleted_at_dashboard(house, &format!("/v1/customers/{customer}")).await,
        }
    }

    /// Chooses another plan as a customer does; one that is not offered to the server is not chosen.
    async fn takes(&self, plan: &str) -> Option<()> {
        let visitor = &self.customer.visitor;
        let server = self.customer.dashboard().await.ok()?.link("/dashboard/vps/").ok()?;
        let plans = visitor.open(&format!("{server}plan/")).await.ok()?.ok().ok()?;
        let price = visitor.open(plans.link(&format!("/plan/{plan}/")).ok()?.as_str()).await.ok()?.ok().ok()?;
        visitor.submit(&price, &format!("/plan/{plan}/"), &[("restart", "yes")]).await.ok().map(drop)
    }

    /// What is told of it, and how.
    pub(super) fn telling(&mut self, events: &[Value]) -> Vec<Value> {
        let fresh = &events[self.told..];
        self.told = events.len();
        if self.clean {
            return fresh.to_vec();
        }
        let mut told = vec![];
        for event in fresh {
            for _ in 0..self.dice.random_range(0..=3) {
                let event = if self.dice.random_range(0..100) < 25 { restated(event) } else { event.clone() };
                told.push(if self.dice.random_range(0..100) < 40 { legacy(&event) } else { event });
            }
        }
        told.shuffle(&mut self.dice);
        told
    }
}
