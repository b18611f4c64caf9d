//! Webhook deliveries: signed, retried until a 2xx, by a few workers at once.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::Semaphore;

use super::world::real_now;
use super::{App, legacy};

const WORKERS: usize = 8;
const LOOK_EVERY: Duration = Duration::from_millis(20);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(2);
const ATTEMPTS_MAX: u32 = 400;
const SHUFFLE_MS_MAX: u64 = 300;
const DUPLICATES_MAX: u32 = 50;

/// How deliveries go, as `POST /_control/webhooks` sets it.
#[derive(Debug, Clone, Default)]
pub(super) struct Conduct {
    paused: bool,
    duplicate: u32,
    duplicate_percent: u32,
    shuffle: bool,
    drop_percent: u32,
    shape: Shape,
}

/// The API version that events are rendered in for the endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Shape {
    /// The one that the API answers in.
    #[default]
    Current,
    /// One from before 2025-03-31.
    Legacy,
}

/// A change of [`Conduct`]; what is absent stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConductChange {
    paused: Option<bool>,
    duplicate: Option<u32>,
    duplicate_percent: Option<u32>,
    seed: Option<u64>,
    shuffle: Option<bool>,
    drop_percent: Option<u32>,
    shape: Option<Shape>,
}

struct Delivery {
    event_id: String,
    due: Instant,
    attempts: u32,
    in_flight: bool,
    last_outcome: Option<String>,
}

/// Deliveries that are not yet acknowledged.
#[derive(Default)]
pub(super) struct Outbox {
    /// Whether there is an endpoint to deliver to.
    pub(super) enabled: bool,
    conduct: Conduct,
    dice: Option<StdRng>,
    /// By number, so the oldest come first.
    deliveries: BTreeMap<u64, Delivery>,
    /// How many of each event there are.
    copies: HashMap<String, u32>,
    last_number: u64,
    delivered: u64,
    given_up: u64,
    /// How often chance lost, doubled and shuffled one.
    lost: u64,
    doubled: u64,
    shuffled: u64,
}

impl Outbox {
    /// Queues an event once, and once more for every duplicate asked for.
    pub(super) fn enqueue(&mut self, event_id: String) {
        if !self.enabled {
            return;
        }
        for _ in 0..self.conduct.duplicate {
            self.push(event_id.clone());
        }
        if self.throw() < self.conduct.duplicate_percent {
            self.doubled += 1;
            self.push(event_id.clone());
        }
        self.push(event_id);
    }

    /// What decides by chance: thrown from the seed that was given, if one was.
    fn dice(&mut self) -> &mut StdRng {
        self.dice.get_or_insert_with(|| StdRng::seed_from_u64(rand::random()))
    }

    /// A number below 100.
    fn throw(&mut self) -> u32 {
        self.dice().random_range(0..100)
    }

    /// Whether a delivery is lost on the way.
    fn loses(&mut self, drop_percent: u32) -> bool {
        let is_lost = self.throw() < drop_percent;
        self.lost += u64::from(is_lost);
        is_lost
    }

    /// How long a shuffled delivery waits.
    fn wait_ms(&mut self) -> u64 {
        self.shuffled += 1;
        self.dice().random_range(0..=SHUFFLE_MS_MAX)
    }

    /// Queues an event once.
    pub(super) fn push(&mut self, event_id: String) {
        self.last_number += 1;
        *self.copies.entry(event_id.clone()).or_default() += 1;
        let delivery = Delivery { event_id, due: Instant::now(), attempts: 0, in_flight: false, last_outcome: None };
        self.deliveries.insert(self.last_number, delivery);
    }

    /// Changes how deliveries go.
    pub(super) fn change(&mut self, change: &ConductChange) -> Value {
        let conduct = &mut self.conduct;
        conduct.paused = change.paused.unwrap_or(conduct.paused);
        conduct.duplicate = change.duplicate.unwrap_or(conduct.duplicate).min(DUPLICATES_MAX);
        conduct.duplicate_percent = change.duplicate_percent.unwrap_or(conduct.duplicate_percent).min(100);
        conduct.shuffle = change.shuffle.unwrap_or(conduct.shuffle);
        conduct.drop_percent = change.drop_percent.unwrap_or(conduct.drop_percent).min(100);
        conduct.shape = change.shape.unwrap_or(conduct.shape);
        if let Some(seed) = change.seed {
            self.dice = Some(StdRng::seed_from_u64(seed));
        }
        self.describe()
    }

    /// The shape events are delivered in.
    pub(super) const fn shape(&self) -> Shape {
        self.conduct.shape
    }

    /// Forgets everything that is not yet acknowledged: it is never delivered.
    pub(super) fn forget(&mut self) -> Value {
        let forgotten = self.deliveries.len();
        self.deliveries.clear();
        self.copies.clear();
        json!({"forgotten": forgotten})
    }

    /// The conduct and everything not yet acknowledged.
    pub(super) fn describe(&self) -> Value {
        let pending: Vec<Value> = self
            .deliveries
            .values()
            .map(|row| {
                json!({
                    "event_id": row.event_id, "attempts": row.attempts, "in_flight": row.in_flight,
                    "last_outcome": row.last_outcome,
                })
            })
            .collect();
        json!({
            "paused": self.conduct.paused, "duplicate": self.conduct.duplicate,
            "duplicate_percent": self.conduct.duplicate_percent,
            "shuffle": self.conduct.shuffle, "drop_percent": self.conduct.drop_percent,
            "shape": self.conduct.shape,
            "pending": pending, "delivered": self.delivered, "given_up": self.given_up,
            "lost": self.lost, "doubled": self.doubled, "shuffled": self.shuffled,
        })
    }

    fn take_due(&mut self) -> Vec<(u64, String)> {
        if self.conduct.paused {
            return Vec::new();
        }
        let now = Instant::now();
        let mut due: Vec<(u64, String)> = self
            .deliveries
            .iter_mut()
            .filter(|(_, row)| !row.in_flight && row.due <= now)
            .map(|(number, row)| {
                row.in_flight = true;
                (*number, row.event_id.clone())
            })
            .collect();
        if self.conduct.shuffle {
            due.shuffle(self.dice());
        }
        due
    }

    /// Notes an attempt; gives the event's id once nothing of it is left to deliver.
    fn finish(&mut self, number: u64, outcome: &Result<(), String>) -> Option<String> {
        let row = self.deliveries.get_mut(&number)?;
        row.attempts += 1;
        row.in_flight = false;
        if let Err(why) = outcome
            && row.attempts < ATTEMPTS_MAX
        {
            row.due = Instant::now() + retry_after(row.attempts);
            row.last_outcome = Some(why.clone());
            return None;
        }
        match outcome {
            Ok(()) => self.delivered += 1,
            Err(_) => self.given_up += 1,
        }
        let event_id = self.deliveries.remove(&number)?.event_id;
        let copies = self.copies.get_mut(&event_id)?;
        *copies -= 1;
        if *copies > 0 {
            return None;
        }
        self.copies.remove(&event_id);
        Some(event_id)
    }
}

fn retry_after(attempts: u32) -> Duration {
    FIRST_RETRY.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1).min(10))).min(RETRY_MAX)
}

/// The `Stripe-Signature` header of a body at a time.
pub(super) fn signature(secret: &str, at: i64, body: &str) -> String {
    let mut hex = String::new();
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) {
        mac.update(format!("{at}.{body}").as_bytes());
        for byte in mac.finalize().into_bytes() {
            let _ = write!(hex, "{byte:02x}");
        }
    }
    format!("t={at},v1={hex}")
}

/// Delivers what is due until the process ends.
pub(super) async fn deliver_forever(app: Arc<App>) {
    let slots = Arc::new(Semaphore::new(WORKERS));
    loop {
        let (due, conduct) = {
            let mut world = app.world();
            (world.outbox.take_due(), world.outbox.conduct.clone())
        };
        for (number, event_id) in due {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let (app, conduct) = (Arc::clone(&app), conduct.clone());
            tokio::spawn(async move {
                let outcome = attempt(&app, &event_id, &conduct).await;
                let mut world = app.world();
                if let Some(done) = world.outbox.finish(number, &outcome)
                    && let Ok(event) = world.get_mut("event", &done)
                {
                    event["pending_webhooks"] = json!(0);
                }
                drop(slot);
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn attempt(app: &App, event_id: &str, conduct: &Conduct) -> Result<(), String> {
    if conduct.shuffle {
        let wait_ms = app.world().outbox.wait_ms();
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
    if app.world().outbox.loses(conduct.drop_percent) {
        return Err("lost on the way".to_owned());
    }
    post(app, event_id, conduct.shape).await
}

/// Posts an event once, as it would be delivered.
///
/// *Errors*: why it was not acknowledged.
pub(super) async fn post(app: &App, event_id: &str, shape: Shape) -> Result<(), String> {
    let url = app.webhook_url.as_ref().ok_or("there is no endpoint")?;
    let body = {
        let world = app.world();
        let event = world.get("event", event_id, "id").map_err(|refusal| refusal.message().to_owned())?;
        match shape {
            Shape::Current => event.to_string(),
            Shape::Legacy => legacy::event(&world, event).to_string(),
        }
    };
    let answer = app
        .http
        .post(url)
        .timeout(ANSWER_WITHIN)
        .header("content-type", "application/json; charset=utf-8")
        .header("user-agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
        .header("stripe-signature", signature(&app.webhook_secret, real_now(), &body))
        .body(body)
        .send()
        .await
        .map_err(|error| error.to_string())?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("answered {}", answer.status().as_u16())) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::{Conduct, Outbox, retry_after, signature};

    #[test]
    fn the_signature_is_the_hmac_of_time_and_body() {
        assert_eq!(
            signature("whsec_test", 1_700_000_000, "{\"id\":\"evt_1\"}"),
            "t=1700000000,v1=c89214b5b5da833daed6f0b8c5bb6bd58cea9022bd80ccc78230f3942d632925"
        );
    }

    #[test]
    fn retries_double_up_to_a_limit() {
        assert_eq!(retry_after(1), Duration::from_millis(200));
        assert_eq!(retry_after(3), Duration::from_millis(800));
        assert_eq!(retry_after(300), super::RETRY_MAX);
    }

    #[test]
    fn one_seed_shuffles_and_waits_in_one_way() {
        let thrown = || {
            let conduct = Conduct { shuffle: true, ..Conduct::default() };
            let dice = Some(StdRng::seed_from_u64(17));
            let mut outbox = Outbox { enabled: true, conduct, dice, ..Outbox::default() };
            let names: Vec<String> = (0..40).map(|number| format!("evt_{number}")).collect();
            for name in &names {
                outbox.push(name.clone());
            }
            let order: Vec<String> = outbox.take_due().into_iter().map(|(_, event_id)| event_id).collect();
            assert_ne!(order, names, "nothing was shuffled");
            (order, [(); 10].map(|()| outbox.wait_ms()))
        };
        assert_eq!(thrown(), thrown());
    }

    #[test]
    fn an_unacknowledged_delivery_stays_and_an_acknowledged_one_goes() {
        let mut outbox = Outbox { enabled: true, ..Outbox::default() };
        outbox.enqueue("evt_1".to_owned());
        let (number, _) = outbox.take_due()[0].clone();
        assert_eq!(outbox.finish(number, &Err("answered 500".to_owned())), None);
        assert_eq!(outbox.deliveries.len(), 1);
        assert_eq!(outbox.finish(number, &Ok(())), Some("evt_1".to_owned()));
        assert!(outbox.deliveries.is_empty());
    }
}
