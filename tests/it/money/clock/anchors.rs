//! Three years of renewals for each day of the month, as Stripe tells of them: the tables, the pages and the letters say what
//! Stripe says, to the second. Web, worker and database live in time zones of their own meanwhile.
use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use house::{Customer, House, HouseOptions, PolicySecs};
use serde_json::json;
use temporalio_common::UntypedWorkflow;
use time::{
    OffsetDateTime,
    format_description::{StaticFormatDescription, well_known::Rfc3339},
    macros::format_description,
};

use super::{
    super::story::{at_dashboard, open_page, pay},
    months::{Anchor, Told, advance, by_our_tables, by_stripe, end_of_month, january_before_a_leap_day},
};
use crate::{
    buyers::customers,
    scale::scale,
    shop::{SOON, open_with, until},
    storm::assert_letters_by_occasion,
    world::{assert_stripe_contract, list},
};

pub(crate) const MONTHS: u8 = 36;
pub(crate) const AT_ONCE: usize = 8;
pub(crate) const EVENTS_MAX: i64 = 10_240;
pub(crate) const DAY: StaticFormatDescription = format_description!("[day padding:none] [month repr:long] [year]");
/// Far from UTC on either side of the date line; the database has a zone of half an hour, with summer time.
const PROCESSES: &str = "Pacific/Kiritimati";
const DATABASE: &str = "America/St_Johns";

/// Somebody whose subscription is renewed on one day of the month.
pub(crate) struct Renewed {
    pub(crate) customer: Customer,
    pub(crate) subscription: String,
    pub(crate) anchor: Anchor,
}

/// After how many months everything is looked at: each year the short February and March, months of 30 days, and January.
fn stops() -> Vec<u8> {
    let all = scale().every_month;
    (0..=MONTHS).filter(|number| all || [0, 1, 2, 5, 8].contains(&(number % 12))).collect()
}

fn options() -> HouseOptions {
    let policy = PolicySecs { subscription_poll: 30_000, ..PolicySecs::default() };
    HouseOptions { policy, wide: true, ..HouseOptions::named("anchors") }.with("TZ", PROCESSES)
}

/// Gives the database a time zone, which connections made from now on have.
async fn move_database(house: &House) {
    let move_it = "do $$ begin execute format('alter database %I set timezone = %L', current_database(), 'America/St_Johns'); end $$";
    sqlx::query(move_it).execute(house.db()).await.expect("another time zone");
    tokio::try_join!(house.stop_web(), house.stop_worker()).expect("ended");
    tokio::try_join!(house.start_web(), house.start_worker()).expect("started again");
    let zones: BTreeSet<String> = sqlx::query_scalar(
        "select coalesce(s.setconfig[1], '') from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase
         where d.datname = current_database()",
    )
    .fetch_all(house.db())
    .await
    .expect("the settings")
    .into_iter()
    .collect();
    assert!(zones.iter().any(|zone: &String| zone.contains(DATABASE)), "{zones:?}");
}

/// Waits until our tables say what Stripe says, and every receipt has left; gives it.
pub(crate) async fn agree(house: &House, what: &str, since: i64) -> BTreeMap<String, Told> {
    let wanted = by_stripe(house, since).await;
    let began = std::time::Instant::now();
    loop {
        let ours = by_our_tables(house, since).await;
        // Of several that were paid since the last look, the newest is told of.
        let newest = wanted.values().filter_map(|told| {
            let paid = told.invoices.iter().filter(|(_, invoice)| invoice.0 == "paid");
            paid.max_by_key(|(_, invoice)| invoice.1).map(|(id, _)| format!("payment_received/{id}"))
        });
        let paid: Vec<String> = newest.collect();
        let unsent: Vec<String> = sqlx::query_scalar(
            "select occasion from unnest($1::text[]) as occasion
             where occasion not in (select occasion from letters where state = 'sent')",
        )
        .bind(&paid)
        .fetch_all(house.db())
        .await
        .expect("the letters");
        if ours == wanted && unsent.is_empty() {
            return wanted;
        }
        if began.elapsed() > SOON * 2 {
            let differ: Vec<_> = wanted.iter().filter(|(id, told)| ours.get(*id) != Some(told)).take(3).collect();
            panic!("{what}: Stripe says {differ:#?}, we {:#?}; no receipt: {unsent:?}", ours.get(differ[0].0));
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// A day as pages show it: to the second for machines, in UTC for people.
fn shown(at: OffsetDateTime) -> String {
    let (stamp, day) = (at.format(&Rfc3339).expect("a time"), at.format(DAY).expect("a day"));
    format!(r#"<time datetime="{stamp}">{day}</time>"#)
}

async fn assert_dashboard(renewed: &Renewed, period_end: OffsetDateTime) {
    let page = renewed.customer.dashboard().await.expect("the dashboard");
    let (when, day) = (shown(period_end), renewed.anchor.day);
    assert!(page.html.contains(&format!("Renews on</dt><dd>{when}")), "day {day}: not {when}: {}", page.html);
    assert!(page.html.contains(&format!("for Small on {when}")), "day {day}: no charge on {when}: {}", page.html);
}

/// The longest history of any run so far.
pub(crate) async fn assert_histories_stay_small(house: &House, all: &[Renewed]) {
    let client = house.temporal().await.expect("Temporal");
    for renewed in all {
        let handle = client.get_workflow_handle::<UntypedWorkflow>(format!("subscription-{}", renewed.subscription));
        let described = handle.describe(Default::default()).await.expect("its workflow");
        let events = described.raw_description.workflow_execution_info.as_ref().map_or(0, |info| info.history_length);
        assert!((1..EVENTS_MAX).contains(&events), "day {}: {events} events", renewed.anchor.day);
    }
}

/// One customer for each day of the month.
pub(crate) async fn begin(house: &House) -> Vec<Renewed> {
    let state = house.stripe().get("/_control/clock").await.expect("the clock");
    let now = OffsetDateTime::from_unix_timestamp(state["now"].as_i64().expect("a time")).expect("a time");
    let anchors = Anchor::every_day_of_january(january_before_a_leap_day(now));
    let buyers = customers(house, 31).await;
    stream::iter(buyers.into_iter().zip(anchors))
        .map(async |(customer, anchor)| {
            let session = open_page(&customer, &format!("anchor-{}", anchor.day)).await;
            let subscription = pay(house, &session).await.subscription;
            Renewed { customer, subscription, anchor }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

/// Moves the billing day as a person at Stripe's dashboard does: free until then, and counted from then on.
pub(crate) async fn move_to_anchor(house: &House, renewed: &Renewed) {
    let until = renewed.anchor.after(0).unix_timestamp().to_string();
    let form = [("trial_end", until.as_str()), ("proration_behavior", "none")];
    at_dashboard(house, &format!("/v1/subscriptions/{}", renewed.subscription), &form).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes minutes: make test-long"]
async fn every_day_of_the_month_is_renewed_for_three_years_exactly_when_stripe_says() {
    let house = open_with(options()).await;
    move_database(&house).await;
    let mut all = begin(&house).await;
    all.sort_by_key(|renewed| renewed.anchor.day);
    let delivered = "select count(*) from orders where status = 'delivered'";
    super::super::story::becomes(&house, "every server is delivered", delivered, 31).await;
    agree(&house, "bought", 0).await;
    stream::iter(&all).for_each_concurrent(AT_ONCE, |renewed| move_to_anchor(&house, renewed)).await;

    let year = all[0].anchor.after(0).year();
    let (mut since, mut before) = (0, 0);
    for number in stops() {
        if number > 0 {
            advance(&house, end_of_month(year, number - 1)).await;
        }
        let said = agree(&house, &format!("month {number}"), since).await;
        stream::iter(&all)
            .for_each_concurrent(AT_ONCE, async |renewed| {
                let (told, due) = (&said[&renewed.subscription], renewed.anchor.after(number));
                let day = renewed.anchor.day;
                assert_eq!(told.period.1, due.unix_timestamp(), "day {day}, month {number}: not the rule of months");
                assert!(number == 0 || told.period.0 == renewed.anchor.after(number - 1).unix_timestamp(), "day {day}");
                assert!(told.invoices.len() >= usize::from(number - before), "day {day}: invoices are missing");
                assert_dashboard(renewed, due).await;
            })
            .await;
        if number.is_multiple_of(12) {
            assert_histories_stay_small(&house, &all).await;
        }
        if number > 0 {
            since = end_of_month(year, number - 1).unix_timestamp();
        }
        before = number;
    }
    assert_money_and_letters(&house, &all).await;
    assert_stripe_contract(&house).await;
    house.stop().await.expect("a clean end");
}

/// Each period is charged once and follows the one before it; each invoice stands on the customer's page, and one letter says
/// until when it pays.
async fn assert_money_and_letters(house: &House, all: &[Renewed]) {
    assert_letters_by_occasion(house).await;
    let state = house.stripe().state().await.expect("Stripe");
    let (invoices, payments) = (list(&state["invoices"]), list(&state["payments"]));
    for renewed in all {
        let day = renewed.anchor.day;
        let its: Vec<_> = invoices
            .iter()
            .filter(|row| row["parent"]["subscription_details"]["subscription"] == renewed.subscription.as_str())
            .filter(|row| row["billing_reason"] == "subscription_cycle")
            .collect();
        assert_eq!(its.len(), usize::from(MONTHS), "day {day}: one invoice for each period");
        let page = renewed.customer.visitor.open("/billing/invoices/").await.expect("the invoices").html;
        let letters = renewed.customer.mailbox().letters(&renewed.customer.email, "received your payment").await;
        let letters = letters.expect("the letters");
        for number in 0..MONTHS {
            let (from, to) = (renewed.anchor.after(number), renewed.anchor.after(number + 1));
            let period = json!({"start": from.unix_timestamp(), "end": to.unix_timestamp()});
            let of_it: Vec<_> = its.iter().filter(|row| row["lines"]["data"][0]["period"] == period).collect();
            assert_eq!(of_it.len(), 1, "day {day}: {} invoices from {from} to {to}", of_it.len());
            let paid = payments.iter().find(|row| row["invoice"] == of_it[0]["id"]).expect("its payment");
            assert_eq!((&paid["paid_charges"], &paid["charged"]), (&json!(1), &json!(500)), "day {day}: {from}");
            assert!(page.contains(&shown(from)), "day {day}: no invoice of {from}: {page}");
            let until = format!("It is paid until {}.", to.format(DAY).expect("a day"));
            let told = letters.iter().filter(|letter| letter.text.contains(&until)).count();
            let wanted = usize::from(stops().contains(&(number + 1)));
            assert_eq!(told, wanted, "day {day}: {told} letters say: {until} of {letters:#?}");
        }
    }
    until("no letter is left to send", SOON, || async {
        let waiting = "select count(*) from letters where state not in ('sent', 'refused')";
        (crate::world::count(house.db(), waiting).await == 0).then_some(())
    })
    .await;
}
