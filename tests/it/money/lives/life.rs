//! One customer by seed: what happens at Stripe and on our pages, and what is told of it.
use futures::future::join_all;
use house::{Customer, House, Page};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{
        story::{act, at_dashboard, deleted_at_dashboard, open_page, tried_at_dashboard, word},
        teller::{legacy, restated},
    },
    LIMIT,
    deal::{Beginning, Step, dealt},
};
use crate::{shop::until, world::list};

/// One customer, by seed.
pub(crate) struct Life<'a> {
    pub(super) seed: u64,
    dice: StdRng,
    /// Told everything once and in order.
    pub(super) clean: bool,
    pub(super) beginning: Beginning,
    pub(super) steps: Vec<Step>,
    /// Those of them that really happened.
    pub(super) lived: Vec<Step>,
    customer: &'a Customer,
    staff: &'a Customer,
    pub(super) at_stripe: String,
    pub(super) order: Uuid,
    pub(super) subscription: String,
    told: usize,
}

impl<'a> Life<'a> {
    pub(super) fn of(seed: u64, customer: &'a Customer, staff: &'a Customer) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let (beginning, steps) = dealt(seed, &mut dice);
        let clean = seed.is_multiple_of(10);
        let (at_stripe, subscription) = (String::new(), String::new());
        let (lived, order) = (vec![], Uuid::nil());
        Self { seed, dice, clean, beginning, steps, lived, customer, staff, at_stripe, order, subscription, told: 0 }
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

    /// Lives one of its steps, and remembers it if it really happened.
    pub(super) async fn goes_on(&mut self, house: &House, step: Step, state: &Value) {
        if self.happens(house, step, state).await {
            self.lived.push(step);
        }
    }

    /// Lets one step happen at Stripe, and gives whether it did. What Stripe refuses there (an ended subscription, nothing
    /// left to give back) has not happened, nor a plan that is not offered to the server.
    async fn happens(&self, house: &House, step: Step, state: &Value) -> bool {
        let at = format!("/v1/subscriptions/{}", self.subscription);
        let ends =
            async |answer: &str| tried_at_dashboard(house, &at, &[("cancel_at_period_end", answer)]).await.is_ok();
        match step {
            Step::Renews => self.renews(house, state).await.is_some(),
            Step::FailsThenPays => {
                let failed = self.fails(house, state).await;
                self.pays(house).await;
                failed
            }
            // It is paid when everybody stands where Stripe says.
            Step::SuspendedThenPays => self.fails(house, state).await,
            Step::CancelsAtTheEnd => ends("true").await,
            Step::TakesTheEndBack => ends("true").await && ends("false").await,
            Step::CancelsByDate => {
                let end = self.own(state)["items"]["data"][0]["current_period_end"].as_i64();
                let date = (end.expect("the end of its period") - 1).to_string();
                tried_at_dashboard(house, &at, &[("cancel_at", date.as_str())]).await.is_ok()
            }
            Step::RefundedInPart => self.refunded(house, state).await.is_some(),
            Step::RefundedByStaff => self.given_back(house).await,
            Step::RefundFailsLater => {
                let Some(refund) = self.refunded(house, state).await else { return false };
                act(house, &format!("refunds/{refund}/fail"), json!({})).await;
                true
            }
            Step::DisputeOpened => self.disputed(house, state).await.is_some(),
            Step::DisputeWon | Step::DisputeLost => {
                let Some(dispute) = self.disputed(house, state).await else { return false };
                let end = if step == Step::DisputeWon { "win" } else { "lose" };
                act(house, &format!("disputes/{dispute}/{end}"), json!({})).await;
                true
            }
            Step::LargerPlan => self.takes(house, "medium").await,
            Step::SmallerPlan => {
                let chosen = self.takes(house, "tiny").await;
                self.renews(house, state).await.is_some() && chosen
            }
            Step::AnotherFromTheDashboard => {
                let price = self.own(state)["items"]["data"][0]["price"]["id"].clone();
                act(house, &format!("customers/{}/subscriptions", self.at_stripe), json!({"price": price})).await;
                true
            }
            Step::Ends => {
                act(house, &format!("subscriptions/{}/cancel", self.subscription), json!({})).await;
                self.own(state)["status"] != "canceled"
            }
            Step::CustomerDeleted => {
                deleted_at_dashboard(house, &format!("/v1/customers/{}", self.at_stripe)).await;
                true
            }
        }
    }

    fn own(&self, state: &Value) -> Value {
        let mut rows = list(&state["subscriptions"]).into_iter();
        rows.find(|row| row["id"] == self.subscription.as_str()).expect("its subscription")
    }

    /// Its newest payment of which nothing went back.
    fn whole_charge(&self, state: &Value) -> Option<String> {
        let whole = |row: &Value| row["paid"] == true && row["amount_refunded"] == 0 && row["disputed"] == false;
        let mut rows = list(&state["charges"]).into_iter().rev();
        rows.find(|row| row["customer"] == self.at_stripe.as_str() && whole(row)).map(|row| word(&row["id"]))
    }

    /// Somebody gives a part of a payment back in Stripe's dashboard. Gives the refund.
    async fn refunded(&self, house: &House, state: &Value) -> Option<String> {
        let charge = self.whole_charge(state)?;
        let refund = at_dashboard(house, "/v1/refunds", &[("charge", &charge), ("amount", "100")]).await;
        Some(word(&refund["id"]))
    }

    /// Staff give a part of its first whole payment back on our own page. Gives whether it was done.
    async fn given_back(&self, house: &House) -> bool {
        let invoice: Option<String> = until("its payments are read", LIMIT, || async {
            sqlx::query_scalar(
                "select invoice_id from payments where subscription_id = $1 and status = 'succeeded'
                    and refunded_minor = 0 and not disputed and invoice_id is not null order by created_at, id limit 1",
            )
            .bind(&self.subscription)
            .fetch_optional(house.db())
            .await
            .ok()
        })
        .await;
        let Some(invoice) = invoice else { return false };
        let address = format!("/staff/subscriptions/{}/", self.subscription);
        let page = page(self.staff, &address).await.expect("its page for staff");
        let named = page.attributes("form[action$='/refund/'] input[name=instruction]", "value").pop();
        let Some(named) = named else { return false };
        let values = [("invoice", invoice.as_str()), ("amount", "1.00"), ("reason", "it was slow in May")];
        is_done(house, self.staff, &page, &named, "/refund/", &values).await
    }

    async fn disputed(&self, house: &House, state: &Value) -> Option<String> {
        let charge = self.whole_charge(state)?;
        Some(word(&act(house, &format!("charges/{charge}/dispute"), json!({})).await["id"]))
    }

    /// The next period begins, in another second than the last one: no two periods are the same. Gives the subscription then;
    /// nothing if it has ended.
    async fn renews(&self, house: &House, state: &Value) -> Option<Value> {
        let began = self.own(state)["items"]["data"][0]["current_period_start"].as_i64();
        until("another second begins", LIMIT, || async {
            let clock = house.stripe().get("/_control/clock").await.expect("Stripe's clock");
            (clock["now"].as_i64() > began).then_some(())
        })
        .await;
        let renew = format!("/_control/subscriptions/{}/renew", self.subscription);
        house.stripe().post(&renew, json!({})).await.ok().filter(|after| after["status"] != "canceled")
    }

    /// Its card fails from now on, and the next period begins. Gives whether a payment is missing then.
    async fn fails(&self, house: &House, state: &Value) -> bool {
        act(house, &format!("customers/{}/card", self.at_stripe), json!({"fails": true})).await;
        self.renews(house, state).await.is_some_and(|after| after["status"] == "past_due")
    }

    /// Its card is good again, and pays whatever is open.
    pub(super) async fn pays(&self, house: &House) {
        act(house, &format!("customers/{}/card", self.at_stripe), json!({"fails": false})).await;
        let now = house.stripe().state().await.expect("Stripe");
        let mine = |row: &&Value| row["customer"] == self.at_stripe.as_str() && row["status"] == "open";
        for invoice in list(&now["invoices"]).iter().filter(mine) {
            act(house, &format!("invoices/{}/pay", word(&invoice["id"])), json!({})).await;
        }
    }

    /// Chooses another plan as a customer does, and waits until that has come to its end. Gives whether it was done: one that
    /// is not offered to the server is not chosen.
    async fn takes(&self, house: &House, plan: &str) -> bool {
        let Some(price) = self.price_of(plan).await else { return false };
        let named = price.attributes("input[name=instruction]", "value").pop().expect("a name for what is told");
        let action = format!("/plan/{plan}/");
        is_done(house, self.customer, &price, &named, &action, &[("restart", "yes")]).await
    }

    /// The page with the price of another plan; nothing if that is not offered, or is the one it has for another term.
    async fn price_of(&self, plan: &str) -> Option<Page> {
        let server = page(self.customer, "/dashboard/").await?.link("/dashboard/vps/").ok()?;
        let plans = page(self.customer, &format!("{server}plan/")).await?;
        let price = page(self.customer, plans.link(&format!("/plan/{plan}/")).ok()?.as_str()).await?;
        (!price.attributes("input[name=restart]", "value").is_empty()).then_some(price)
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

/// A page, asked for until it is answered; nothing if there is none.
async fn page(reader: &Customer, address: &str) -> Option<Page> {
    until(&format!("{address} is answered"), LIMIT, || async {
        let page = reader.visitor.open(address).await.ok()?;
        match page.status {
            200 => Some(Some(page)),
            404 | 409 => Some(None),
            _ => None,
        }
    })
    .await
}

/// Sends the form of a page that tells a subscription something until that is answered, and waits until what it tells, which
/// is named so, has come to its end. Gives whether it was done.
async fn is_done(
    house: &House,
    person: &Customer,
    page: &Page,
    named: &str,
    action: &str,
    values: &[(&str, &str)],
) -> bool {
    let named: Uuid = named.parse().expect("a name for what is told");
    let status = until(&format!("{action} is answered"), LIMIT, || async {
        let sent = person.visitor.submit(page, action, values).await.ok()?;
        Some(sent.status).filter(|status| *status < 500)
    })
    .await;
    until(&format!("{action} is settled"), LIMIT, || async {
        let state: Option<String> = sqlx::query_scalar("select state from instructions where id = $1")
            .bind(named)
            .fetch_optional(house.db())
            .await
            .ok()?;
        match state.as_deref() {
            Some("accepted") => None,
            Some(end) => Some(end == "done"),
            // It was refused before it was written down.
            None => (status != 200).then_some(false),
        }
    })
    .await
}
