//! What people tell a subscription, in the columns: of every kind that Stripe has a part in the one call that does it is
//! spoilt, and it is done once all the same. One server for each kind is told it in every column, one after the other; at the
//! end each of them is ended in a column of its own.
use domain::{
    DAY_SECS,
    ids::{InstructionId, SubscriptionId},
    instruction::{Ask, AskKind},
    money::Money,
    order::Step,
};
use futures::future::{FutureExt as _, LocalBoxFuture, join_all};
use house::{Catalogue, House, HouseOptions};
use serde_json::{Value, json};
use temporalio_client::Client;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    COLUMNS,
    order::{Bought, Story, waiting},
    rows::stripe,
    story::{Aim, decide_firmly, waiting_step},
    stuck::{WORDS, broken},
    wire::{effects, kill_at_every_effect},
};
use crate::{
    money::hands,
    shop::open_with,
    world::{assert_stripe_contract, count, list},
};

const FOR_GOOD: &str = "fails for good";
const KILLED: &str = "worker killed after the effect";

/// How many calls of the kinds are spoilt in one column, the end aside.
const CALLS: usize = 8;
/// How many looks are refused for good besides.
const LOOKS: usize = 1;
/// What is told elsewhere, or never reaches Stripe.
const ELSEWHERE: [AskKind; 6] = [
    // `rows` has it.
    AskKind::Refund,
    AskKind::Hold,
    AskKind::Release,
    AskKind::Restore,
    AskKind::RemoveServer,
    AskKind::KeepServer,
];
/// How many plans there are that a server can change to at once: one for each column.
const DEARER: i64 = 6;
const CREDIT_MINOR: i64 = 100;

/// The columns that are faults.
fn columns() -> impl Iterator<Item = &'static str> {
    COLUMNS.into_iter().filter(|column| !column.contains("run twice"))
}

/// What the call meets in a column, one after the other.
fn faults(column: &str) -> Vec<Value> {
    let busy = |status: u16| json!({"kind": "status", "status": status, "body": "slow down", "times": 2});
    let lie = |body: &str| json!({"kind": "status", "status": 200, "body": body, "times": 1});
    match column {
        FOR_GOOD => broken().to_vec(),
        KILLED => vec![json!({"kind": "hang", "after_work": true, "times": 1})],
        "work done but answer lost" => vec![json!({"kind": "drop", "times": 1})],
        "429/503" => vec![busy(429), busy(503)],
        "hangs past its timeout" => vec![json!({"kind": "hang", "times": 1})],
        // At last the work is done, and half of the answer is missing.
        "malformed answer" => vec![lie(""), lie("{}"), lie("[]"), json!({"kind": "malformed", "times": 1})],
        other => panic!("nothing is met in the column “{other}”"),
    }
}

/// Sells plans of one size, each dearer than the one before: a disk cannot shrink, and what costs nothing is not charged.
fn with_dearer(catalogue: &mut Catalogue) {
    for nth in 1..=DEARER {
        let mut plan = catalogue.plans[0].clone();
        (plan.slug, plan.name) = (format!("dearer-{nth}"), format!("Dearer {nth}"));
        plan.prices.retain(|price| price.term == "monthly");
        for price in &mut plan.prices {
            price.amount_minor += 100 * nth;
        }
        catalogue.plans.push(plan);
    }
}

/// A delivered server whose subscription is told something.
struct Server<'a> {
    bought: Bought<'a>,
    client: Client,
}

impl<'a> Server<'a> {
    async fn delivered(house: &'a House, client: &Client, word: &str) -> Self {
        let mut bought = Bought::new(house, Story::Delivered, word).await;
        bought.begin(client).await;
        bought.page_opens().await;
        bought.pay().await;
        bought.reaches("delivered").await;
        bought.is_told("service_delivered").await;
        Self { bought, client: client.clone() }
    }

    /// Is told something whose call meets what is in the column, and does it. Gives what that made at Stripe.
    async fn does(&self, column: &str, what: Ask, aim: &Aim) -> Option<String> {
        let (cell, vendor) = (format!("{} × {column}", what.kind()), self.bought.house.stripe());
        let mut laid = vec![];
        for fault in faults(column) {
            laid.push(vendor.add_fault(aim.fault(fault)).await.expect("a fault"));
        }
        let id = InstructionId(Uuid::new_v4());
        self.bought.is_asked(&self.client, id, what).await;
        if column == FOR_GOOD {
            self.is_mended(&cell, &laid).await;
        }
        let object = self.bought.has_done(id).await;
        let left = list(&vendor.get("/_control/faults").await.expect("the faults"));
        let own = |fault: &&Value| fault["id"].as_u64().is_some_and(|id| laid.contains(&id));
        assert_eq!(left.iter().find(own), None, "{cell}: it never struck");
        object
    }

    /// It waits for staff with Stripe's words; then Stripe is mended, and they have it tried again.
    async fn is_mended(&self, cell: &str, laid: &[u64]) {
        let (house, workflow_id) = (self.bought.house, self.bought.subscription_workflow_id());
        assert_eq!(waiting_step(house, &workflow_id).await, Step::CarryOut.as_str(), "{cell}");
        let reason: String =
            sqlx::query_scalar("select reason from attention where workflow_id = $1 and settled_at is null")
                .bind(&workflow_id)
                .fetch_one(house.db())
                .await
                .expect("what waits");
        assert!(reason.contains(WORDS), "{cell}: {reason}");
        for id in laid {
            house.stripe().remove_fault(*id).await.expect("mended");
        }
        decide_firmly(house, &workflow_id, &[("verdict", "retry")]).await;
    }

    /// What Stripe holds of a kind, oldest first.
    async fn rows(&self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let state = self.bought.house.stripe().state().await.expect("Stripe");
        list(&state[kind]).into_iter().filter(wanted).collect()
    }

    async fn subscription(&self) -> Value {
        self.rows("subscriptions", |row| row["id"] == self.bought.subscription.as_str()).await.remove(0)
    }

    /// The address of its subscription.
    fn path(&self) -> String {
        format!("/v1/subscriptions/{}", self.bought.subscription)
    }

    /// How often this of its subscription became another.
    async fn changes(&self, what: &str) -> usize {
        let changed = |event: &Value| {
            let data = &event["data"];
            data["object"]["id"] == self.bought.subscription.as_str() && data["previous_attributes"].get(what).is_some()
        };
        self.rows("events", changed).await.len()
    }

    async fn price(&self, plan: &str) -> String {
        sqlx::query_scalar(
            "select pr.stripe_price_id from prices pr join plans p on p.id = pr.plan_id
             where p.slug = $1 and pr.term = 'monthly' and pr.active",
        )
        .bind(plan)
        .fetch_one(self.bought.house.db())
        .await
        .expect("a price")
    }
}

fn period_end(subscription: &Value) -> i64 {
    subscription["items"]["data"][0]["current_period_end"].as_i64().expect("a time")
}

async fn credit(server: &Server<'_>, column: &str) {
    let path = format!("/v1/customers/{}/balance_transactions", server.bought.customer);
    credit_meets(server, column, &stripe("POST", path.clone(), "")).await;
    if column == FOR_GOOD {
        // What was given before is looked for first.
        credit_meets(server, column, &stripe("GET", path, "")).await;
    }
}

/// Credit is given once although this call meets what is in the column.
async fn credit_meets(server: &Server<'_>, column: &str, aim: &Aim) {
    let customer = server.bought.customer.as_str();
    let of_customer = |row: &Value| row["customer"] == customer;
    let before = server.rows("balance_transactions", of_customer).await.len();
    let money = Money { amount_minor: CREDIT_MINOR, currency: "eur".parse().expect("a currency") };
    let made = server.does(column, Ask::Credit { money }, aim).await;
    let given = server.rows("balance_transactions", of_customer).await;
    assert_eq!(given.len(), before + 1, "{column}: credit was given otherwise than once: {given:?}");
    assert_eq!(given.last().and_then(|row| row["id"].as_str()), made.as_deref(), "{column}");
    let payer = server.rows("customers", |row| row["id"] == customer).await.remove(0);
    let times = i64::try_from(given.len()).expect("few");
    assert_eq!(payer["balance"], json!(-CREDIT_MINOR * times), "{column}: another credit than was given");
}

async fn extend(server: &Server<'_>, column: &str) {
    let before = server.changes("trial_end").await;
    let until = period_end(&server.subscription().await) + DAY_SECS;
    let extending = stripe("POST", server.path(), &format!("trial_end={until}"));
    server.does(column, Ask::Extend { until }, &extending).await;
    let after = server.subscription().await;
    assert_eq!((&after["trial_end"], period_end(&after)), (&json!(until), until), "{column}");
    assert_eq!(server.changes("trial_end").await, before + 1, "{column}: extended otherwise than once");
}

/// Is cancelled at the end, and goes on after all.
async fn end_and_go_on(server: &Server<'_>, column: &str) {
    for (what, ends) in [(Ask::CancelAtEnd, true), (Ask::GoOn, false)] {
        let before = server.changes("cancel_at_period_end").await;
        let setting = stripe("POST", server.path(), &format!("cancel_at_period_end={ends}"));
        server.does(column, what, &setting).await;
        assert_eq!(server.subscription().await["cancel_at_period_end"], json!(ends), "{column}");
        let now = server.changes("cancel_at_period_end").await;
        assert_eq!(now, before + 1, "{column}: its end was changed otherwise than once");
    }
}

/// Another plan at the end, which takes a schedule and its phases, and the plan is kept after all.
async fn plan_at_end(server: &Server<'_>, column: &str) {
    const SCHEDULES: &str = "/v1/subscription_schedules";
    let subscription = server.bought.subscription.as_str();
    let own = |row: &Value| row["subscription"] == subscription || row["released_subscription"] == subscription;
    let before = server.rows("schedules", own).await.len();
    let (medium, large) = (server.price("medium").await, server.price("large").await);
    let making = stripe("POST", SCHEDULES.to_owned(), subscription);
    let made = server.does(column, Ask::ChangePlanAtEnd { price: medium.clone() }, &making).await;
    let made = made.expect("a schedule");
    let phasing = stripe("POST", format!("{SCHEDULES}/{made}"), "phases");
    for (price, aim) in [(&medium, None), (&large, Some(&phasing))] {
        if let Some(aim) = aim {
            let changed = server.does(column, Ask::ChangePlanAtEnd { price: price.clone() }, aim).await;
            assert_eq!(changed.as_deref(), Some(made.as_str()), "{column}");
        }
        let known = server.rows("schedules", own).await;
        assert_eq!(known.len(), before + 1, "{column}: scheduled otherwise than once: {known:?}");
        let phases = list(&known[before]["phases"]);
        assert_eq!(phases.len(), 2, "{column}: {phases:?}");
        assert_eq!(phases[1]["items"][0]["price"], price.as_str(), "{column}: another plan follows");
    }
    let releasing = stripe("POST", format!("{SCHEDULES}/{made}/release"), "");
    server.does(column, Ask::KeepPlan, &releasing).await;
    let now = server.subscription().await;
    assert_eq!(now["schedule"], Value::Null, "{column}: its plan is not kept");
    assert_eq!(now["items"]["data"][0]["price"]["id"], server.price("small").await, "{column}: another plan");
    // It is scheduled and released once in each column.
    assert_eq!(server.changes("schedule").await, 2 * (before + 1), "{column}: kept otherwise than once");
}

async fn plan_now(server: &Server<'_>, column: &str) {
    let id = SubscriptionId(server.bought.subscription.clone());
    let of_change =
        |row: &Value| row["subscription"] == id.0.as_str() && row["billing_reason"] == "subscription_update";
    let before = server.rows("payments", of_change).await.len();
    let price = server.price(&format!("dearer-{}", before + 1)).await;
    let proration_date = OffsetDateTime::now_utc().unix_timestamp();
    let shown = hands(server.bought.house).preview_plan(&id, &price, proration_date).await.expect("a price");
    let what = Ask::ChangePlan { price: price.clone(), proration_date, shown: shown.clone() };
    let made = server.does(column, what, &stripe("POST", server.path(), "always_invoice")).await;
    let paid = server.rows("payments", of_change).await;
    assert_eq!(paid.len(), before + 1, "{column}: charged otherwise than once: {paid:?}");
    let newest = &paid[before];
    assert_eq!(
        (&newest["paid_charges"], &newest["charged"]),
        (&json!(1), &json!(shown.amount_minor)),
        "{column}: charged otherwise than shown: {newest}"
    );
    assert_eq!(newest["invoice"].as_str(), made.as_deref(), "{column}: what was paid is not known");
    assert_eq!(server.subscription().await["items"]["data"][0]["price"]["id"], price, "{column}");
}

async fn cancel_now(server: &Server<'_>, column: &str) {
    server.does(column, Ask::CancelNow, &stripe("DELETE", server.path(), "")).await;
    assert_eq!(server.subscription().await["status"], "canceled", "{column}");
    let subscription = server.bought.subscription.as_str();
    let ended = |event: &Value| {
        event["type"] == "customer.subscription.deleted" && event["data"]["object"]["id"] == subscription
    };
    assert_eq!(server.rows("events", ended).await.len(), 1, "{column}: ended otherwise than once");
}

/// Every kind in one column, side by side.
async fn every_kind(servers: &[Server<'_>], column: &str) {
    let [credited, extended, ending, planned, grown] = servers else { panic!("{} servers", servers.len()) };
    let kinds: [LocalBoxFuture<'_, ()>; 5] = [
        credit(credited, column).boxed_local(),
        extend(extended, column).boxed_local(),
        end_and_go_on(ending, column).boxed_local(),
        plan_at_end(planned, column).boxed_local(),
        plan_now(grown, column).boxed_local(),
    ];
    join_all(kinds).await;
}

/// Nothing was charged but what was shown, nothing went back, and staff were asked only where Stripe refused for good.
async fn assert_nothing_else(house: &House, servers: &[Server<'_>]) {
    let state = house.stripe().state().await.expect("Stripe");
    let payments = list(&state["payments"]);
    for payment in &payments {
        let charges = usize::from(payment["amount_due"] != 0);
        assert_eq!(payment["paid_charges"], json!(charges), "charged otherwise than once: {payment}");
    }
    // The first month of each, each change of plan, and the invoice for nothing that begins the time given.
    assert_eq!(payments.len(), servers.len() + columns().count() + 1, "{payments:?}");
    assert_eq!(state["refunds"], json!([]), "something was given back");
    assert_eq!(waiting(house).await, 0, "something waits for staff");
    let strange = "select count(*) from attention where step <> 'carry_out'";
    assert_eq!(count(house.db(), strange).await, 0, "staff were asked although nothing was for them");
    let asked = count(house.db(), "select count(*) from attention").await;
    assert_eq!(usize::try_from(asked), Ok(CALLS + 1 + LOOKS), "staff were asked otherwise than once for each call");
    assert_stripe_contract(house).await;
}

/// A kind that is new is told in every column, or it is said where it is told.
async fn assert_every_kind_was_done(house: &House) {
    let done: Vec<(String, i64)> =
        sqlx::query_as("select kind, count(*) from instructions where state = 'done' group by kind")
            .fetch_all(house.db())
            .await
            .expect("the instructions");
    let least = i64::try_from(columns().count()).expect("few");
    for kind in AskKind::ALL.iter().filter(|kind| !ELSEWHERE.contains(kind)) {
        let times = done.iter().find(|(word, _)| word == kind.as_str()).map_or(0, |(_, times)| *times);
        assert!(times >= least, "{kind} was done {times} times in {least} columns");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_subscription_is_told_is_done_once_however_its_call_at_stripe_fails() {
    let options = HouseOptions { change_catalogue: with_dearer, ..HouseOptions::named("matrix-told") };
    let house = open_with(options.with_gates()).await;
    let client = house.temporal().await.expect("Temporal");
    let words = ["told-credit", "told-time", "told-end", "told-next-plan", "told-plan", "told-now"];
    let servers = join_all(words.map(|word| Server::delivered(&house, &client, word))).await;
    let [kept @ .., ended] = servers.as_slice() else { panic!("no server") };
    for column in columns().filter(|column| *column != KILLED) {
        every_kind(kept, column).await;
    }
    let seen = effects(&house).await;
    let all = seen + CALLS + 1;
    let told = join_all([every_kind(kept, KILLED).boxed_local(), cancel_now(ended, KILLED).boxed_local()]);
    let (held, _) = tokio::join!(kill_at_every_effect(&house, seen, all), told);
    assert_eq!(held, all, "a worker did not die after the effect of every call");
    for server in kept {
        server.bought.machine_is("running").await;
    }
    let others: Vec<&str> = columns().filter(|column| *column != KILLED).collect();
    assert_eq!(others.len(), kept.len(), "a column in which nothing is ended");
    join_all(kept.iter().zip(others).map(|(server, column)| cancel_now(server, column))).await;
    assert_every_kind_was_done(&house).await;
    assert_nothing_else(&house, &servers).await;
}
