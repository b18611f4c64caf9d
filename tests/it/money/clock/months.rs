//! The months of Stripe, counted by a rule of the tests' own, and what Stripe and our tables say of them.
use std::collections::BTreeMap;

use house::House;
use serde_json::{Value, json};
use time::{Date, Month, OffsetDateTime, Time};

use crate::world::list;

/// The times of day that anchors have: the last second, the first, and hours that summer time leaves out or has twice.
const TIMES: [(u8, u8, u8); 5] = [(12, 34, 56), (0, 0, 0), (23, 59, 59), (1, 30, 0), (2, 30, 0)];

/// One day of the month, from which a subscription's periods are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anchor {
    year: i32,
    pub(crate) day: u8,
    time: Time,
}

impl Anchor {
    /// The days of a January, each at a time of its own.
    pub(crate) fn every_day_of_january(year: i32) -> impl Iterator<Item = Self> {
        (1..=31).map(move |day| {
            let (hour, minute, second) = TIMES[usize::from(day - 1) % TIMES.len()];
            Self { year, day, time: Time::from_hms(hour, minute, second).expect("a time") }
        })
    }

    /// So many months later: the same day at the same time in UTC, or the last day of a month that is shorter.
    pub(crate) fn after(self, months: u8) -> OffsetDateTime {
        let (year, month) = (self.year + i32::from(months / 12), month(months % 12));
        let date = Date::from_calendar_date(year, month, self.day.min(month.length(year))).expect("a day");
        date.with_time(self.time).assume_utc()
    }
}

/// One of the months of a year, from 0.
fn month(number: u8) -> Month {
    Month::January.nth_next(number)
}

/// The first January after a moment that begins three years with a leap day.
pub(crate) fn january_before_a_leap_day(now: OffsetDateTime) -> i32 {
    let leaps = |year: &i32| (*year..year + 3).any(time::util::is_leap_year);
    (now.year() + 1..now.year() + 9).find(leaps).expect("a year")
}

/// The last second of a month, counted from the January of a year.
pub(crate) fn end_of_month(year: i32, months: u8) -> OffsetDateTime {
    Anchor { year, day: 31, time: Time::from_hms(23, 59, 59).expect("a time") }.after(months)
}

/// A subscription and its invoices: status, begin and end of the period; and by invoice its status, when it was made and paid,
/// and its period.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) status: String,
    pub(crate) period: (i64, i64),
    pub(crate) invoices: BTreeMap<String, (String, i64, Option<i64>, i64, i64)>,
}

/// The subscription, the invoice, its status, when it was made and paid, its period.
type InvoiceLine = (String, String, String, i64, Option<i64>, i64, i64);

/// What Stripe says of every subscription, with the invoices made since.
pub(crate) async fn by_stripe(house: &House, since: i64) -> BTreeMap<String, Told> {
    let mut told: BTreeMap<String, Told> = BTreeMap::new();
    for row in listed(house, "/v1/subscriptions?status=all&limit=100").await {
        let item = &row["items"]["data"][0];
        let period = (number(&item["current_period_start"]), number(&item["current_period_end"]));
        told.insert(word(&row["id"]), Told { status: word(&row["status"]), period, ..Told::default() });
    }
    for row in listed(house, &format!("/v1/invoices?limit=100&created[gte]={since}")).await {
        let invoice = (
            word(&row["status"]),
            number(&row["created"]),
            row["status_transitions"]["paid_at"].as_i64(),
            number(&row["period_start"]),
            number(&row["period_end"]),
        );
        let of = word(&row["parent"]["subscription_details"]["subscription"]);
        told.get_mut(&of).expect("its subscription").invoices.insert(word(&row["id"]), invoice);
    }
    told
}

/// The same as our tables have it.
pub(crate) async fn by_our_tables(house: &House, since: i64) -> BTreeMap<String, Told> {
    let subscriptions: Vec<(String, String, i64, i64)> = sqlx::query_as(
        "select id, status, extract(epoch from period_start)::bigint, extract(epoch from period_end)::bigint
         from subscriptions where period_end is not null",
    )
    .fetch_all(house.db())
    .await
    .expect("the subscriptions");
    let invoices: Vec<InvoiceLine> = sqlx::query_as(
        "select subscription_id, id, status, extract(epoch from created_at)::bigint, extract(epoch from paid_at)::bigint,
            extract(epoch from period_start)::bigint, extract(epoch from period_end)::bigint
         from invoices where created_at >= to_timestamp($1)",
    )
    .bind(since)
    .fetch_all(house.db())
    .await
    .expect("the invoices");
    let mut ours: BTreeMap<String, Told> = subscriptions
        .into_iter()
        .map(|(id, status, start, end)| (id, Told { status, period: (start, end), ..Told::default() }))
        .collect();
    for (of, id, status, created, paid, start, end) in invoices {
        ours.entry(of).or_default().invoices.insert(id, (status, created, paid, start, end));
    }
    ours
}

/// Stripe's clock goes on to a moment, and bills what falls due on the way.
pub(crate) async fn advance(house: &House, to: OffsetDateTime) {
    let clock = house.stripe().get("/_control/clock").await.expect("the clock");
    let left = to.unix_timestamp() - number(&clock["now"]);
    house.stripe().post("/_control/clock", json!({"advance_secs": left.max(0)})).await.expect("later");
}

/// All of a list, newest first.
async fn listed(house: &House, path: &str) -> Vec<Value> {
    let key = house.setting("STRIPE_SECRET_KEY").expect("a key");
    let (http, mut rows) = (reqwest::Client::new(), Vec::<Value>::new());
    loop {
        let after = rows.last().map_or_else(String::new, |row| format!("&starting_after={}", word(&row["id"])));
        let url = house.stripe().base().join(&format!("{path}{after}")).expect("a path");
        let answer = http.get(url).bearer_auth(key).send().await.expect("an answer");
        let page: Value = answer.error_for_status().expect("a list").json().await.expect("JSON");
        rows.extend(list(&page["data"]));
        if page["has_more"] == false {
            return rows;
        }
    }
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("no number: {value}"))
}
