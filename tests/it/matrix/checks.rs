//! What is asked at the end of a cell, of the vendors themselves: exactly one of everything, or nothing at all.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
};

use house::{House, Record};
use serde_json::{Value, json};

use super::order::{Bought, Story};
use crate::world::{is_running, is_uncaptured, list};

/// What the vendors say, asked once for all cells of a test.
pub(super) struct World {
    cluster: Value,
    stripe: Value,
    names: Vec<Record>,
    mails: Vec<Value>,
    /// How many places that had to be empty were looked at.
    places_seen: AtomicUsize,
    /// How many could not be, because they are somebody else's by now.
    places_taken: AtomicUsize,
}

/// What is said again whenever something is paid; everything else is said once.
const RECEIPT: &str = "We received your payment";

/// Whether the same letter may have reached the mailbox more than once, under one Message-ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeats {
    Never,
    /// The mail server's answer was lost; whoever reads sees one letter.
    UnderOneId,
}

impl World {
    pub(super) async fn ask(house: &House) -> Self {
        let mails = house.mail().control.get("/api/v1/messages?limit=5000").await.expect("the mailbox");
        Self {
            cluster: house.proxmox().expect("a stand-in").state().await.expect("the cluster"),
            stripe: house.stripe().state().await.expect("Stripe"),
            names: house.dns().records().await.expect("the names"),
            mails: list(&mails["messages"]),
            places_seen: AtomicUsize::new(0),
            places_taken: AtomicUsize::new(0),
        }
    }

    /// Asks whether the order ended as its story says.
    pub(super) async fn assert_ended_well(&self, what: &str, order: &Bought<'_>, repeats: Repeats) {
        match order.story {
            Story::Delivered | Story::Renumbered | Story::Adopted | Story::Resumed | Story::Told | Story::Grown => {
                self.assert_delivered_once(what, order).await;
            }
            Story::Lapsed | Story::GivenUp | Story::Ended => self.assert_clean(what, order).await,
        }
        self.assert_letters_once(what, order, repeats);
    }

    /// Whether the places that should be empty were looked at, but for those that an order begun late was given. Where every
    /// order begins before one is over, most of them are still nobody's.
    pub(super) fn assert_places_were_seen(&self, what: &str) {
        let [seen, taken] = [&self.places_seen, &self.places_taken].map(|places| places.load(Ordering::Relaxed));
        assert!(seen > taken, "{what}: {seen} places were looked at, {taken} were taken over");
    }

    /// Whether everything there is belongs to one of these orders: what was made twice may bear nobody's mark.
    pub(super) fn assert_nothing_of_nobody(&self, what: &str, orders: &[&Bought<'_>]) {
        let is_machine_of =
            |vm: &Value, order: &Bought<'_>| vm["config"].to_string().contains(&order.service.to_string());
        let mut machines = list(&self.cluster["vms"]);
        machines.retain(|vm| vm["template"] != true && !orders.iter().any(|order| is_machine_of(vm, order)));
        assert_eq!(machines, Vec::<Value>::new(), "{what}: machines of nobody");
        for kind in ["firewalls", "disks"] {
            assert_eq!(list(&self.cluster["leftovers"][kind]), Vec::<Value>::new(), "{what}: {kind} of nobody");
        }
        let is_name_of =
            |record: &Record, order: &Bought<'_>| record.name == order.name || record.content == order.name;
        let of_nobody = |record: &&Record| !orders.iter().any(|order| is_name_of(record, order));
        assert_eq!(self.names.iter().find(of_nobody), None, "{what}: a name of nobody");
        for (kind, mark) in [("sessions", "/client_reference_id"), ("subscriptions", "/metadata/order")] {
            let is_of = |row: &Value, order: &Bought<'_>| row.pointer(mark) == Some(&json!(order.order));
            let mut rows = list(&self.stripe[kind]);
            rows.retain(|row| !orders.iter().any(|order| is_of(row, order)));
            assert_eq!(rows, Vec::<Value>::new(), "{what}: {kind} of nobody");
        }
    }

    /// One machine that runs behind its firewall, four names, one payment page, one subscription, and each charge once.
    async fn assert_delivered_once(&self, what: &str, order: &Bought<'_>) {
        let machines = self.machines_of(order);
        assert_eq!(machines.len(), 1, "{what}: built {} times", machines.len());
        let machine = &machines[0];
        assert_eq!(machine["status"], "running", "{what}: it does not run");
        assert!(machine["lock"].is_null(), "{what}: it is locked");
        assert!(machine["config"].to_string().contains(&order.ipv4), "{what}: it does not have its address");
        assert_eq!(self.disks_of(order), list(&machine["disks"]).len(), "{what}: disks");
        let disk_gib: u64 = if order.story == Story::Grown { 40 } else { 20 };
        assert!(machine["disks"].to_string().contains(&(disk_gib << 30).to_string()), "{what}: {}", machine["disks"]);
        let firewall = machine["firewall"].to_string();
        assert!(firewall.contains(&order.ipv4) && firewall.contains("ipfilter"), "{what}: {firewall}");
        assert_eq!(self.names_of(order), 4, "{what}: A, AAAA and two PTR");
        let sessions = self.sessions_of(order);
        assert_eq!(sessions.len(), 1, "{what}: payment pages");
        assert_eq!(sessions[0]["status"], "complete", "{what}: its payment page");
        let subscriptions = self.subscriptions_of(order);
        assert_eq!(subscriptions.len(), 1, "{what}: subscriptions");
        assert_eq!(subscriptions[0]["status"], "active", "{what}: its subscription");
        self.assert_charges(what, order, usize::from(order.story == Story::Told));
        assert_eq!(rows(order, HELD).await, 1, "{what}: reservations");
        assert_eq!(rows(order, "select count(*) from services where order_id = $1 and status = 'running'").await, 1);
        assert_eq!(rows(order, ENTITLED).await, 1, "{what}: entitlements");
        assert_eq!(rows(order, WAITING).await, 0, "{what}: something waits for staff");
    }

    /// Nothing of it is left anywhere, and no money was kept for what was not delivered.
    async fn assert_clean(&self, what: &str, order: &Bought<'_>) {
        assert_eq!(self.machines_of(order), Vec::<Value>::new(), "{what}: a machine is left");
        assert_eq!(self.names_of(order), 0, "{what}: a name is left");
        // A place that is free again may be somebody else's by now.
        if rows(order, TAKEN_OVER).await == 0 {
            self.assert_nothing_at_its_place(what, order);
            self.places_seen.fetch_add(1, Ordering::Relaxed);
        } else {
            self.places_taken.fetch_add(1, Ordering::Relaxed);
        }
        for session in self.sessions_of(order) {
            assert_ne!(session["status"], "open", "{what}: a payment page is open");
        }
        for subscription in self.subscriptions_of(order) {
            assert_eq!(subscription["status"], "canceled", "{what}: a subscription lives");
        }
        for invoice in self.of_customer("invoices", order) {
            assert!(invoice["status"] != "open" && invoice["status"] != "draft", "{what}: {invoice} is open");
        }
        let refunds = usize::from(order.story == Story::GivenUp);
        self.assert_charges(what, order, refunds);
        assert_eq!(rows(order, HELD).await, 0, "{what}: a place is held");
        assert_eq!(rows(order, ENTITLED).await, 0, "{what}: an entitlement is open");
        assert_eq!(rows(order, WAITING).await, 0, "{what}: something waits for staff");
        let lives = "select count(*) from services where order_id = $1 and status not in ('undone', 'expired')";
        assert_eq!(rows(order, lives).await, 0, "{what}: a service lives");
    }

    fn assert_nothing_at_its_place(&self, what: &str, order: &Bought<'_>) {
        assert_eq!(self.disks_of(order), 0, "{what}: a disk is left");
        assert_eq!(self.tasks_of(order), 0, "{what}: a task runs");
        for kind in ["firewalls", "disks"] {
            let left = list(&self.cluster["leftovers"][kind]);
            let own = left.iter().any(|thing| thing.to_string().contains(&order.vmid.to_string()));
            assert!(!own, "{what}: {kind} left behind: {left:?}");
        }
        let taken = self.names.iter().any(|record| record.content == order.ipv4);
        assert!(!taken, "{what}: a name says its address");
    }

    /// Each paid invoice was charged once, and given back once or not at all; nothing is authorised and not captured.
    fn assert_charges(&self, what: &str, order: &Bought<'_>, refunds: usize) {
        for payment in self.of_customer("payments", order) {
            let paid = usize::from(payment["status"] == "paid");
            assert_eq!(payment["paid_charges"], json!(paid), "{what}: charged otherwise than once: {payment}");
            let back = if refunds == 0 { json!(0) } else { payment["charged"].clone() };
            assert_eq!(payment["refunded"], back, "{what}: what was given back");
        }
        let uncaptured = self.of_customer("charges", order).into_iter().find(is_uncaptured);
        assert_eq!(uncaptured, None, "{what}: a charge is not captured");
        let given_back =
            list(&self.stripe["refunds"]).iter().filter(|r| r["payment_intent"] == order.intent.as_str()).count();
        let given_back = if order.intent.is_empty() { 0 } else { given_back };
        assert_eq!(given_back, refunds, "{what}: given back otherwise than {refunds} times");
    }

    /// No letter twice: each Message-ID once in the mailbox, and no two letters of one kind about one fact.
    fn assert_letters_once(&self, what: &str, order: &Bought<'_>, repeats: Repeats) {
        let own = self.mails.iter().filter(|mail| mail["To"].to_string().contains(&order.email));
        let mut letters: Vec<(&str, &str)> =
            own.filter_map(|mail| Some((mail["MessageID"].as_str()?, mail["Subject"].as_str()?))).collect();
        if repeats == Repeats::UnderOneId {
            letters.sort_unstable();
            letters.dedup();
        }
        let ids: BTreeSet<&str> = letters.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids.len(), letters.len(), "{what}: a letter came twice: {letters:?}");
        self.assert_said_once(what, order, &letters);
        let expected: &[&str] = match order.story {
            Story::Delivered | Story::Renumbered | Story::Adopted | Story::Told => &["ready"],
            Story::Lapsed => &[],
            Story::GivenUp => &["sorry"],
            Story::Grown => &["ready", "new size"],
            Story::Resumed => &["ready", "suspended", "runs again"],
            Story::Ended => &["ready", "suspended", "is gone"],
        };
        for word in expected {
            let came = letters.iter().filter(|(_, subject)| subject.to_lowercase().contains(word)).count();
            assert_eq!(came, 1, "{what}: letters with “{word}”: {letters:?}");
        }
    }

    /// No two letters with one subject; receipts, which name no more than an amount, as many as invoices were paid; and nothing
    /// at all to somebody who never paid.
    fn assert_said_once(&self, what: &str, order: &Bought<'_>, letters: &[(&str, &str)]) {
        if order.story == Story::Lapsed {
            assert!(letters.is_empty(), "{what}: whoever never paid is told {letters:?}");
        }
        let paid = self.of_customer("invoices", order).iter().filter(|invoice| invoice["status"] == "paid").count();
        let mut said = BTreeMap::<&str, BTreeSet<&str>>::new();
        for &(id, subject) in letters {
            said.entry(subject).or_default().insert(id);
        }
        for (subject, ids) in said {
            let most = if subject.starts_with(RECEIPT) { paid } else { 1 };
            assert!(ids.len() <= most, "{what}: “{subject}” came as {} letters: {letters:?}", ids.len());
        }
    }

    fn machines_of(&self, order: &Bought<'_>) -> Vec<Value> {
        let stamp = order.service.to_string();
        let own = |vm: &Value| vm["config"].to_string().contains(&stamp);
        list(&self.cluster["vms"]).into_iter().filter(own).collect()
    }

    fn disks_of(&self, order: &Bought<'_>) -> usize {
        list(&self.cluster["disks"]).iter().filter(|disk| disk["vmid"] == order.vmid).count()
    }

    fn tasks_of(&self, order: &Bought<'_>) -> usize {
        let vmid = order.vmid.to_string();
        let runs = |task: &&Value| task["id"] == vmid.as_str() && is_running(task);
        list(&self.cluster["tasks"]).iter().filter(runs).count()
    }

    fn names_of(&self, order: &Bought<'_>) -> usize {
        let own = |record: &&Record| record.name == order.name || record.content == order.name;
        self.names.iter().filter(own).count()
    }

    fn sessions_of(&self, order: &Bought<'_>) -> Vec<Value> {
        let id = order.order.to_string();
        let own = |session: &Value| session["client_reference_id"] == id.as_str();
        list(&self.stripe["sessions"]).into_iter().filter(own).collect()
    }

    fn subscriptions_of(&self, order: &Bought<'_>) -> Vec<Value> {
        let id = order.order.to_string();
        let own = |subscription: &Value| subscription["metadata"]["order"] == id.as_str();
        list(&self.stripe["subscriptions"]).into_iter().filter(own).collect()
    }

    fn of_customer(&self, kind: &str, order: &Bought<'_>) -> Vec<Value> {
        list(&self.stripe[kind]).into_iter().filter(|thing| thing["customer"] == order.customer.as_str()).collect()
    }
}

const HELD: &str = "select count(*) from reservations where order_id = $1 and released_at is null";
const TAKEN_OVER: &str =
    "select count(*) from reservations own join reservations other on other.order_id <> own.order_id
                          and other.released_at is null and (other.vmid = own.vmid or other.ipv4 = own.ipv4)
                          where own.order_id = $1";
const ENTITLED: &str = "select count(*) from entitlements e join subscriptions s on s.id = e.subscription_id
                        where s.order_id = $1 and e.closed_at is null";
const WAITING: &str = "select count(*) from attention where settled_at is null
                       and (order_id = $1 or subscription_id = (select subscription_id from orders where id = $1))";

async fn rows(order: &Bought<'_>, query: &'static str) -> i64 {
    sqlx::query_scalar(query).bind(order.order.0).fetch_one(order.house.db()).await.expect("a count")
}
