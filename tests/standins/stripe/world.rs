//! Everything the stand-in remembers: objects by kind, cards, the clock, events.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use rand::distr::{Alphanumeric, SampleString};
use serde_json::{Value, json};

use super::cards::Card;
use super::checkout::Typed;
use super::pending_update::Held;
use super::refusal::{Answer, Refusal};
use super::webhooks::Outbox;
use super::{clocks, forms, subscriptions, ties};

/// The API version that events are rendered in.
pub(super) const API_VERSION: &str = "2026-09-30.endive";
const LIST_LIMIT_DEFAULT: i64 = 10;
const LIST_LIMIT_MAX: i64 = 100;
/// What every customer shares; a sandbox needs all of it.
const SHARED_KINDS: &[&str] = &["product", "price", "coupon", "promotion_code", clocks::KIND];

/// What an endpoint was called with.
pub(super) struct Call {
    /// Nested parameters of query or body.
    pub(super) params: Value,
    /// The path with `/v1`, for list answers.
    pub(super) path: String,
}

/// Who caused the events that are made now.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    /// `req_…` of the API request, none for the billing engine and the pages.
    pub(super) request: Option<String>,
    /// Its idempotency key.
    pub(super) key: Option<String>,
}

/// One kind of object, in order of creation.
#[derive(Default)]
struct Table {
    order: Vec<String>,
    rows: HashMap<String, Value>,
    ties: ties::Ties,
}

/// The state behind one stand-in.
pub(super) struct World {
    tables: BTreeMap<String, Table>,
    /// The invoices of each subscription, oldest first: a list of them does not go through everybody's.
    invoices_of: HashMap<String, Vec<String>>,
    /// How each customer's card behaves.
    pub(super) cards: BTreeMap<String, Card>,
    /// Invoice lines waiting for the next invoice, by subscription.
    pub(super) pending_lines: BTreeMap<String, Vec<Value>>,
    /// Changes that wait for their invoice to be paid, by subscription.
    pub(super) held_updates: BTreeMap<String, Held>,
    /// What a session's subscription will begin with, by session.
    pub(super) session_plans: BTreeMap<String, Value>,
    /// What people have typed who are at their bank's page, by session.
    pub(super) paying: BTreeMap<String, Typed>,
    /// A price's amounts in further currencies, by price.
    pub(super) currency_options: BTreeMap<String, Value>,
    /// When drafts are finalized, by invoice.
    pub(super) drafts: BTreeMap<String, i64>,
    /// When customers are told that their trial ends, by subscription.
    pub(super) trial_notices: BTreeMap<String, i64>,
    /// How long a renewal's invoice stays a draft, in seconds.
    pub(super) draft_secs: i64,
    /// The status that the next refunds begin with.
    pub(super) refund_status: &'static str,
    /// Events and their deliveries.
    pub(super) outbox: Outbox,
    /// Who is acting.
    pub(super) origin: Origin,
    /// Base URL of the pages.
    pub(super) public_url: String,
    /// Shortest life of a Checkout Session, in seconds.
    pub(super) min_session_secs: i64,
    /// Seconds of an accelerated month; none: calendar months.
    pub(super) month_secs: Option<i64>,
    offset_secs: i64,
    acting_at: Option<i64>,
    invoice_numbers: u64,
    silent: bool,
    /// Nothing becomes an event.
    pub(super) quiet: bool,
    /// Nothing is billed of its own accord.
    pub(super) still: bool,
}

impl World {
    /// An empty world.
    pub(super) fn new(public_url: &str, min_session_secs: i64, month_secs: Option<i64>) -> Self {
        Self {
            tables: BTreeMap::new(),
            invoices_of: HashMap::new(),
            cards: BTreeMap::new(),
            pending_lines: BTreeMap::new(),
            held_updates: BTreeMap::new(),
            session_plans: BTreeMap::new(),
            paying: BTreeMap::new(),
            currency_options: BTreeMap::new(),
            drafts: BTreeMap::new(),
            trial_notices: BTreeMap::new(),
            draft_secs: 0,
            refund_status: "succeeded",
            outbox: Outbox::default(),
            origin: Origin::default(),
            public_url: public_url.trim_end_matches('/').to_owned(),
            min_session_secs,
            month_secs,
            offset_secs: 0,
            acting_at: None,
            invoice_numbers: 0,
            silent: false,
            quiet: false,
            still: false,
        }
    }

    /// A world of one customer and the catalogue, to try something in: no events, nothing outside changes.
    pub(super) fn sandbox(&self, customer: &str) -> Self {
        let mut inner = Self::new(&self.public_url, self.min_session_secs, self.month_secs);
        for (kind, table) in &self.tables {
            let shared = SHARED_KINDS.contains(&kind.as_str());
            let kept = |row: &&Value| shared || row["customer"] == customer || row["id"] == customer;
            for row in table.order.iter().filter_map(|id| table.rows.get(id)).filter(kept) {
                inner.insert_as(kind, row.clone());
            }
        }
        inner.cards.clone_from(&self.cards);
        inner.pending_lines.clone_from(&self.pending_lines);
        inner.held_updates.clone_from(&self.held_updates);
        inner.currency_options.clone_from(&self.currency_options);
        inner.offset_secs = self.offset_secs;
        inner.acting_at = self.acting_at;
        inner.silent = true;
        inner
    }

    /// The time to write on what happens now, in Unix seconds.
    pub(super) fn now(&self) -> i64 {
        self.acting_at.unwrap_or_else(|| self.clock())
    }

    /// The stand-in's clock, in Unix seconds.
    pub(super) fn clock(&self) -> i64 {
        real_now() + self.offset_secs
    }

    /// Moves the stand-in's clock forward.
    pub(super) fn advance(&mut self, secs: i64) {
        self.offset_secs += secs;
    }

    /// The time an object lives in: its test clock's, or the stand-in's.
    pub(super) fn clock_of(&self, object: &Value) -> i64 {
        object["test_clock"]
            .as_str()
            .and_then(|clock| self.get(clocks::KIND, clock, "test_clock").ok())
            .and_then(|clock| clock["frozen_time"].as_i64())
            .unwrap_or_else(|| self.clock())
    }

    /// The time of what happens now to an object.
    pub(super) fn now_of(&self, object: &Value) -> i64 {
        self.acting_at.unwrap_or_else(|| self.clock_of(object))
    }

    /// The length of a month for an object: test clocks keep calendar months.
    pub(super) fn month_secs_of(&self, object: &Value) -> Option<i64> {
        self.month_secs.filter(|_| object["test_clock"].is_null())
    }

    /// Runs `work` as if it were `at`.
    pub(super) fn acting_at<T>(&mut self, at: i64, work: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.acting_at.replace(at);
        let done = work(self);
        self.acting_at = before;
        done
    }

    /// The number printed on the next invoice.
    pub(super) fn next_invoice_number(&mut self) -> String {
        self.invoice_numbers += 1;
        format!("EZ-{:04}", self.invoice_numbers)
    }

    /// Remembers a new object under its `object` and `id`.
    pub(super) fn insert(&mut self, object: Value) {
        let kind = object["object"].as_str().unwrap_or_default().to_owned();
        self.insert_as(&kind, object);
    }

    /// Remembers a new object as one of a kind of its own.
    pub(super) fn insert_as(&mut self, kind: &str, object: Value) {
        let id = object["id"].as_str().unwrap_or_default().to_owned();
        if kind == "invoice"
            && let Some(subscription) = subscriptions::of_invoice(&object)
        {
            self.invoices_of.entry(subscription.to_owned()).or_default().push(id.clone());
        }
        let table = self.tables.entry(kind.to_owned()).or_default();
        table.ties.add(kind, &id, &object);
        table.order.push(id.clone());
        table.rows.insert(id, object);
    }

    /// Forgets an object and gives it.
    pub(super) fn remove(&mut self, kind: &str, id: &str) -> Option<Value> {
        let table = self.tables.get_mut(kind)?;
        table.order.retain(|known| known != id);
        table.rows.remove(id)
    }

    /// An object; `param` is what the error names (`id` for the path).
    pub(super) fn get(&self, kind: &str, id: &str, param: &str) -> Result<&Value, Refusal> {
        self.tables.get(kind).and_then(|table| table.rows.get(id)).ok_or_else(|| Refusal::no_such(kind, id, param))
    }

    /// An object to change.
    pub(super) fn get_mut(&mut self, kind: &str, id: &str) -> Result<&mut Value, Refusal> {
        self.tables
            .get_mut(kind)
            .and_then(|table| table.rows.get_mut(id))
            .ok_or_else(|| Refusal::no_such(kind, id, "id"))
    }

    /// A copy of an object that an endpoint answers with.
    pub(super) fn copy(&self, kind: &str, id: &str) -> Answer {
        self.get(kind, id, "id").cloned()
    }

    /// Every object of a kind, oldest first.
    pub(super) fn all(&self, kind: &str) -> impl DoubleEndedIterator<Item = &Value> {
        self.tables.get(kind).into_iter().flat_map(|table| table.order.iter().filter_map(|id| table.rows.get(id)))
    }

    /// The objects of a kind that may have this value in a field, oldest first: all of them where nothing is known about the field.
    pub(super) fn tied(&self, kind: &str, field: &str, value: &str) -> Vec<&Value> {
        let Some(table) = self.tables.get(kind) else { return vec![] };
        match table.ties.held(field, value) {
            Some(ids) => ids.into_iter().filter_map(|id| table.rows.get(id)).collect(),
            None => self.all(kind).collect(),
        }
    }

    /// An object of any kind by its id alone.
    pub(super) fn find(&self, id: &str) -> Option<&Value> {
        self.tables.values().find_map(|table| table.rows.get(id))
    }

    /// A list answer, newest first, with Stripe's cursors.
    pub(super) fn list(&self, kind: &str, call: &Call, keep: impl Fn(&Value) -> bool) -> Answer {
        let given = |field: &&&str| forms::text(&call.params, field);
        match ties::of_kind(kind).iter().find_map(|field| Some((field, given(&field)?))) {
            Some((field, value)) => self.list_among(self.tied(kind, field, value).into_iter().rev(), kind, call, keep),
            None => self.list_among(self.all(kind).rev(), kind, call, keep),
        }
    }

    /// A list answer of what one customer has whom the path names, newest first, with Stripe's cursors.
    pub(super) fn list_of_customer(
        &self,
        customer: &str,
        kind: &str,
        call: &Call,
        keep: impl Fn(&Value) -> bool,
    ) -> Answer {
        let own = self.tied(kind, "customer", customer);
        self.list_among(own.into_iter().rev(), kind, call, |row| row["customer"] == customer && keep(row))
    }

    /// A list answer of one subscription's invoices, newest first, with Stripe's cursors.
    pub(super) fn list_invoices_of(&self, subscription: &str, call: &Call, keep: impl Fn(&Value) -> bool) -> Answer {
        let ids = self.invoices_of.get(subscription).into_iter().flatten().rev();
        self.list_among(ids.filter_map(|id| self.get("invoice", id, "id").ok()), "invoice", call, keep)
    }

    fn list_among<'a>(
        &'a self,
        newest_first: impl Iterator<Item = &'a Value>,
        kind: &str,
        call: &Call,
        keep: impl Fn(&Value) -> bool,
    ) -> Answer {
        let params = &call.params;
        let limit = forms::integer(params, "limit")?.unwrap_or(LIST_LIMIT_DEFAULT);
        if !(1..=LIST_LIMIT_MAX).contains(&limit) {
            return Err(Refusal::invalid(format!("This value must be between 1 and {LIST_LIMIT_MAX}."), "limit"));
        }
        let created = CreatedRange::read(params)?;
        let mut rows: Vec<&Value> = newest_first
            .filter(|row| created.holds(row["created"].as_i64().unwrap_or_default()) && keep(row))
            .collect();
        let position = |rows: &[&Value], id: &str, param: &str| {
            self.get(kind, id, param)?;
            Ok::<_, Refusal>(rows.iter().position(|row| row["id"] == id).unwrap_or(0))
        };
        let limit = usize::try_from(limit).unwrap_or(1);
        let mut has_more = None;
        if let Some(after) = forms::text(params, "starting_after") {
            let at = position(&rows, after, "starting_after")?;
            rows.drain(..=at.min(rows.len().saturating_sub(1)));
        } else if let Some(before) = forms::text(params, "ending_before") {
            rows.truncate(position(&rows, before, "ending_before")?);
            has_more = Some(rows.len() > limit);
            rows.drain(..rows.len().saturating_sub(limit));
        }
        let has_more = has_more.unwrap_or(rows.len() > limit);
        rows.truncate(limit);
        Ok(json!({"object": "list", "data": rows, "has_more": has_more, "url": call.path}))
    }

    /// Makes an event about an object as it is now and hands it to the webhooks.
    pub(super) fn emit(&mut self, kind: &str, id: &str, event_type: &str, previous: Option<Value>) {
        if self.silent || self.quiet {
            return;
        }
        let Ok(object) = self.copy(kind, id) else {
            return;
        };
        let mut data = json!({"object": object});
        if let Some(previous) = previous {
            data["previous_attributes"] = previous;
        }
        let event_id = new_id("evt_");
        let event = json!({
            "id": event_id,
            "object": "event",
            "api_version": API_VERSION,
            "created": self.now(),
            "data": data,
            "livemode": false,
            "pending_webhooks": 1,
            "request": {"id": self.origin.request, "idempotency_key": self.origin.key},
            "type": event_type,
        });
        self.insert(event);
        self.outbox.enqueue(event_id);
    }
}

/// The `created` filter of a list: an exact second or bounds.
struct CreatedRange {
    exact: Option<i64>,
    from: Option<i64>,
    to: Option<i64>,
}

impl CreatedRange {
    fn read(params: &Value) -> Result<Self, Refusal> {
        let above = forms::integer(params, "created.gt")?.map(|secs| secs + 1);
        let below = forms::integer(params, "created.lt")?.map(|secs| secs - 1);
        Ok(Self {
            exact: forms::integer(params, "created")?,
            from: forms::integer(params, "created.gte")?.max(above),
            to: forms::integer(params, "created.lte")?.or(below),
        })
    }

    fn holds(&self, at: i64) -> bool {
        self.exact.is_none_or(|exact| exact == at)
            && self.from.is_none_or(|from| at >= from)
            && self.to.is_none_or(|to| at <= to)
    }
}

/// An object with more fields, all empty.
pub(super) fn with_nulls(mut object: Value, fields: &[&str]) -> Value {
    for field in fields {
        object[*field] = Value::Null;
    }
    object
}

/// A new id, unique over processes.
pub(super) fn new_id(prefix: &str) -> String {
    format!("{prefix}{}", Alphanumeric.sample_string(&mut rand::rng(), 24))
}

/// The machine's time, in Unix seconds.
pub(super) fn real_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
