//! Lives by seed: what happens to money at Stripe, told in random order, each event once, twice, three times or never, some
//! facts stated under a second id, in both payload shapes. Each step ends where the clean run of it ends: a part of the lives
//! is told everything once and in order, and all of them have to stand where Stripe says.
//!
//! A life that fails prints the command that repeats it: `EZ_MONEY_SEED=17`.
use std::collections::BTreeMap;

use futures::{StreamExt as _, future::join_all, stream};
use house::{Customer, House, HouseOptions, PolicySecs};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    story::{act, at_dashboard, deleted_at_dashboard, open_page, tried_at_dashboard, word},
    teller::{Teller, legacy, restated},
};
use crate::{
    buyers::customers,
    scale::{scale, seeds},
    shop::open_with,
    world::{assert_stripe_contract, list},
};

/// How many lives share a house.
const LIVES_AT_ONCE: usize = 100;
/// A first payment and what follows.
const STEPS_EACH: usize = 5;
const RUNS_EACH: u64 = 5;
const AT_ONCE: usize = 16;
/// How often Stripe's list of events is gone through, in seconds.
const ROUND_SECS: u32 = 2;
const LIMIT: std::time::Duration = std::time::Duration::from_mins(4);

/// How a life begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
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
enum Step {
    Renews,
    FailsThenPays,
    CancelsAtTheEnd,
    TakesTheEndBack,
    RefundedInPart,
    DisputeOpened,
    DisputeWon,
    DisputeLost,
    /// Somebody makes a subscription in Stripe's dashboard.
    AnotherFromTheDashboard,
    /// Ended at once; nothing follows.
    Ends,
    /// The customer is deleted at Stripe; nothing follows.
    CustomerDeleted,
}

const MIDDLE: [Step; 9] = [
    Step::Renews,
    Step::FailsThenPays,
    Step::CancelsAtTheEnd,
    Step::TakesTheEndBack,
    Step::RefundedInPart,
    Step::DisputeOpened,
    Step::DisputeWon,
    Step::DisputeLost,
    Step::AnotherFromTheDashboard,
];

/// One customer, by seed.
struct Life<'a> {
    seed: u64,
    dice: StdRng,
    /// Told everything once and in order.
    clean: bool,
    beginning: Beginning,
    steps: Vec<Step>,
    customer: &'a Customer,
    at_stripe: String,
    order: Uuid,
    subscription: String,
    told: usize,
}

impl<'a> Life<'a> {
    fn of(seed: u64, customer: &'a Customer) -> Self {
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
    async fn begin(&mut self, house: &House) {
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
    async fn happens(&self, house: &House, step: Step, state: &Value) {
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
            Step::AnotherFromTheDashboard => {
                let own = list(&state["subscriptions"]).into_iter().find(|row| row["id"] == subscription.as_str());
                let made = json!({"price": own.expect("its subscription")["items"]["data"][0]["price"]["id"]});
                control(format!("customers/{customer}/subscriptions"), made).await.expect("another subscription");
            }
            Step::Ends => drop(control(format!("subscriptions/{subscription}/cancel"), json!({})).await),
            Step::CustomerDeleted => deleted_at_dashboard(house, &format!("/v1/customers/{customer}")).await,
        }
    }

    /// What is told of it, and how.
    fn telling(&mut self, events: &[Value]) -> Vec<Value> {
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

/// Where an order of ours stands, as it has to agree with Stripe.
const OURS: &str = "
    select o.id, jsonb_build_object(
        'order', o.status,
        'subscription', (select jsonb_build_object('id', s.id, 'phase', s.phase, 'status', s.status,
            'ends', s.cancel_at_period_end, 'period_end', extract(epoch from s.period_end)::bigint)
            from subscriptions s where s.order_id = o.id),
        'services', (select jsonb_agg(v.status) from services v where v.order_id = o.id),
        'invoices', (select jsonb_object_agg(i.id, jsonb_build_array(i.status, i.amount_paid_minor))
            from invoices i join subscriptions s on s.id = i.subscription_id where s.order_id = o.id),
        'payments', (select jsonb_object_agg(p.id, jsonb_build_array(p.status, p.amount_minor, p.refunded_minor, p.disputed))
            from payments p join billing_customers c on c.id = p.customer_id where c.account_id = o.account_id),
        'refunds', (select jsonb_object_agg(r.id, r.status) from refunds r join payments p on p.id = r.payment_id
            where p.account_id = o.account_id),
        'disputes', (select jsonb_object_agg(d.id, d.status) from disputes d join payments p on p.id = d.payment_id
            where p.account_id = o.account_id),
        'deleted', (select jsonb_object_agg(c.id, c.deleted) from billing_customers c where c.account_id = o.account_id),
        'twice', (select count(*) from (select 1 from letters l where l.kind = 'service_delivered'
            and (l.order_id = o.id or l.service_id = o.service_id) offset 1) more),
        'strangers', (select coalesce(jsonb_agg(distinct e.subscription_id order by e.subscription_id), '[]') from payment_events e
            where e.state = 'unclaimed' and e.customer_id in
                (select c.id from billing_customers c where c.account_id = o.account_id)),
        'waits', (select count(*) from attention a where a.order_id = o.id and a.settled_at is null)
    ) from orders o";

/// The same as Stripe says it.
fn expected(life: &Life<'_>, state: &Value) -> Value {
    let customer = life.at_stripe.as_str();
    let of_customer = |kind: &str| -> Vec<Value> {
        list(&state[kind]).into_iter().filter(|row| row["customer"] == customer).collect()
    };
    let subscriptions = of_customer("subscriptions");
    let own = subscriptions.iter().find(|row| row["id"] == life.subscription.as_str()).expect("its subscription");
    let (phase, service) = match own["status"].as_str() {
        Some("active") => ("active", "running"),
        Some("canceled") => ("retained", "retained"),
        other => panic!("the subscription is {other:?}"),
    };
    let invoice_of = |row: &Value| row["parent"]["subscription_details"]["subscription"].clone();
    let map = |rows: Vec<(String, Value)>| -> Value {
        if rows.is_empty() { Value::Null } else { Value::Object(rows.into_iter().collect()) }
    };
    let charges = of_customer("charges");
    let ours = |row: &Value| charges.iter().any(|charge| charge["id"] == row["charge"]);
    let by_charge = |kind: &str| -> Vec<(String, Value)> {
        list(&state[kind]).iter().filter(|row| ours(row)).map(|row| (word(&row["id"]), row["status"].clone())).collect()
    };
    let mut strangers: Vec<Value> =
        subscriptions.iter().filter(|row| row["id"] != own["id"]).map(|row| row["id"].clone()).collect();
    strangers.sort_by_key(ToString::to_string);
    let gone = list(&state["customers"]).iter().all(|row| row["id"] != customer || row["deleted"] == true);
    json!({
        "order": "delivered",
        "subscription": {
            "id": own["id"], "phase": phase, "status": own["status"], "ends": own["cancel_at_period_end"],
            "period_end": own["items"]["data"][0]["current_period_end"],
        },
        "services": [service],
        "invoices": map(of_customer("invoices").iter().filter(|row| invoice_of(row) == own["id"])
            .map(|row| (word(&row["id"]), json!([row["status"], row["amount_paid"]]))).collect()),
        "payments": map(charges.iter().map(|row| (word(&row["id"]),
            json!([row["status"], row["amount"], row["amount_refunded"], row["disputed"]]))).collect()),
        "refunds": map(by_charge("refunds")),
        "disputes": map(by_charge("disputes")),
        "deleted": {customer: gone},
        "twice": 0,
        "strangers": strangers,
        "waits": 0,
    })
}

/// Every life that does not stand where Stripe says.
async fn astray(house: &House, lives: &[Life<'_>]) -> Vec<String> {
    // What nobody lives with is shown to staff after a minute of tries: the minute passes.
    sqlx::query(
        "update payment_events set attempts = 100, next_attempt_at = least(next_attempt_at, now())
         where state = 'received' and attempts > 0 and order_id is null
            and subscription_id is not null and subscription_id not in (select id from subscriptions)",
    )
    .execute(house.db())
    .await
    .expect("time passes");
    let state = house.stripe().state().await.expect("Stripe");
    let ours: Vec<(Uuid, Value)> = sqlx::query_as(OURS).fetch_all(house.db()).await.expect("the standings");
    let ours: BTreeMap<Uuid, Value> = ours.into_iter().collect();
    let mut left = vec![];
    for life in lives {
        let (stands, wanted) = (&ours[&life.order], expected(life, &state));
        let differs: Vec<String> = wanted
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(field, value)| stands[field.as_str()] != **value)
            .map(|(field, value)| format!("{field}: we say {}, Stripe {value}", stands[field.as_str()]))
            .collect();
        if !differs.is_empty() {
            let (seed, clean) = (life.seed, life.clean);
            left.push(format!(
                "EZ_MONEY_SEED={seed} cargo test --locked --test it money::lives -- --ignored --nocapture (clean: {clean}, {:?}, {:?}): {}",
                life.beginning,
                life.steps,
                differs.join("; ")
            ));
        }
    }
    left
}

async fn agree(house: &House, lives: &[Life<'_>], what: &str) {
    let began = tokio::time::Instant::now();
    loop {
        let left = astray(house, lives).await;
        if left.is_empty() {
            return;
        }
        assert!(
            began.elapsed() < LIMIT,
            "{what}: {} of {} lives went astray:\n{}",
            left.len(),
            lives.len(),
            left.join("\n")
        );
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
}

/// Tells every life what happened to it, each in its own way.
async fn tell(teller: &Teller<'_>, lives: &mut [Life<'_>]) {
    let events = teller.events().await;
    stream::iter(lives)
        .for_each_concurrent(AT_ONCE, async |life| {
            for event in life.telling(&events[&life.at_stripe]) {
                teller.tell(&event).await;
            }
        })
        .await;
}

async fn live_together(house: &House, batch: &[u64]) {
    let buyers = customers(house, batch.len()).await;
    let teller = Teller::of(house).await;
    let mut lives: Vec<Life<'_>> =
        batch.iter().zip(&buyers).map(|(seed, customer)| Life::of(*seed, customer)).collect();
    stream::iter(lives.iter_mut()).for_each_concurrent(AT_ONCE, async |life| life.begin(house).await).await;
    tell(&teller, &mut lives).await;
    agree(house, &lives, "after the first payment").await;
    for number in 0..STEPS_EACH - 1 {
        let state = house.stripe().state().await.expect("Stripe");
        stream::iter(&lives)
            .for_each_concurrent(AT_ONCE, async |life| life.happens(house, life.steps[number], &state).await)
            .await;
        tell(&teller, &mut lives).await;
        agree(house, &lives, &format!("after step {}", number + 2)).await;
    }
    let machines = house.machines().vms().await.expect("the machines").len();
    assert_eq!(machines, batch.len(), "one machine for each life");
    assert_stripe_contract(house).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it has the machine at work for two minutes; make test-long runs it"]
async fn events_in_any_order_any_number_of_times_or_never_end_where_the_clean_run_ends() {
    let seeds = seeds("EZ_MONEY_SEED", scale().money_runs.div_ceil(RUNS_EACH));
    for batch in seeds.chunks(LIVES_AT_ONCE) {
        let policy = PolicySecs {
            checkout_poll: 3_000,
            payment_window: 3_000,
            subscription_poll: 30_000,
            retention: 6_000,
            retention_warning: 60,
            events: ROUND_SECS,
            ..PolicySecs::default()
        };
        let house = open_with(HouseOptions { policy, wide: true, ..HouseOptions::named("lives") }).await;
        live_together(&house, batch).await;
        house.stop().await.expect("a clean end");
    }
}
