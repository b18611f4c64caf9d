//! The weather one seed throws: how much of everything is lost, late and doubled.
use std::{collections::BTreeMap, time::Duration};

use house::{Control, House};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use crate::world::list;

const LOST_MAX_PERCENT: u32 = 30;
const DOUBLED_MAX_PERCENT: u32 = 50;
/// How long one seed's weather lasts before that of the next.
const LASTS: Duration = Duration::from_millis(800);
/// What happens to calls and to reports.
const TO_CALLS: [&str; 3] = ["refuse", "drop", "delay"];
const TO_REPORTS: [&str; 3] = ["lost", "doubled", "shuffled"];
/// What happens to what the mail server answers when it has a letter, and what that is called here.
const TO_LETTERS: [(&str, &str); 2] = [("drop", "letters unanswered"), ("garble", "letters answered with rubbish")];

/// How much goes wrong, from one seed.
#[derive(Debug)]
pub(super) struct Weather {
    seed: u64,
    calls_lost_percent: u32,
    answers_lost_percent: u32,
    answers_late_percent: u32,
    reports_lost_percent: u32,
    reports_doubled_percent: u32,
    letters_unanswered_percent: u32,
    letters_garbled_percent: u32,
}

impl Weather {
    /// The weather a seed says.
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed ^ 0x3EA7_4E12);
        let lost = dice.random_range(0..=LOST_MAX_PERCENT);
        // Of the calls that are lost, some are lost on the way there and some on the way back.
        let calls_lost_percent = dice.random_range(0..=lost);
        Self {
            seed,
            calls_lost_percent,
            answers_lost_percent: lost - calls_lost_percent,
            answers_late_percent: dice.random_range(0..=30),
            reports_lost_percent: dice.random_range(0..=LOST_MAX_PERCENT),
            reports_doubled_percent: dice.random_range(0..=DOUBLED_MAX_PERCENT),
            letters_unanswered_percent: dice.random_range(0..=LOST_MAX_PERCENT),
            letters_garbled_percent: dice.random_range(0..=LOST_MAX_PERCENT),
        }
    }

    /// Lets it take the place of the weather before.
    async fn begin(&self, house: &House) {
        for (vendor, path) in vendors(house) {
            let faults: [(Value, u32); 3] = [
                (json!({"kind": "refuse"}), self.calls_lost_percent),
                (json!({"kind": "drop"}), self.answers_lost_percent),
                (json!({"kind": "delay", "ms": 400, "after_work": true}), self.answers_late_percent),
            ];
            vendor.clear_faults().await.expect("cleared");
            for (number, (mut fault, percent)) in faults.into_iter().enumerate() {
                fault["path"] = json!(path);
                fault["percent"] = json!(percent);
                fault["seed"] = json!(self.dice(number));
                vendor.add_fault(fault).await.expect("a fault");
            }
        }
        self.begin_at_the_mail_server(house).await;
        let conduct = json!({
            "drop_percent": self.reports_lost_percent, "duplicate_percent": self.reports_doubled_percent,
            "shuffle": true, "seed": self.seed,
        });
        house.stripe().post("/_control/webhooks", conduct).await.expect("the reports");
    }

    /// The mail server dies now and then: then it takes no weather, and when it is back it is fair there until the next.
    async fn begin_at_the_mail_server(&self, house: &House) {
        let mail = &house.mail().control;
        drop(mail.clear_faults().await);
        let percents = [self.letters_unanswered_percent, self.letters_garbled_percent];
        for (number, ((kind, _), percent)) in TO_LETTERS.into_iter().zip(percents).enumerate() {
            // Two numbers that follow each other may throw the same.
            let seed = self.dice(2 * number);
            drop(mail.add_fault(json!({"kind": kind, "percent": percent, "seed": seed})).await);
        }
    }

    /// What the dice of its fault of this number are thrown from.
    fn dice(&self, number: usize) -> u64 {
        self.seed.wrapping_mul(31).wrapping_add(u64::try_from(number).expect("few")) >> 1
    }
}

fn vendors(house: &House) -> [(&Control, &'static str); 3] {
    [
        (house.stripe(), "/v1/"),
        (house.proxmox().expect("a stand-in"), "/api2/json/"),
        (house.names_gate().expect("a gate"), "/api/v1/"),
    ]
}

/// Lets each weather have its time, one after the other; the last one stays. Adds how often letters were struck before it.
pub(super) async fn blow(weathers: &[Weather], house: &House, struck: &mut BTreeMap<&'static str, u64>) {
    for weather in weathers {
        count_letters(house, struck).await;
        weather.begin(house).await;
        tokio::time::sleep(LASTS).await;
    }
}

/// Adds how often the faults that are laid on the mail server now have struck; one that was killed knows of none.
async fn count_letters(house: &House, struck: &mut BTreeMap<&'static str, u64>) {
    let laid = list(&house.mail().control.get("/_control/faults").await.unwrap_or_default());
    for (kind, what) in TO_LETTERS {
        let own = laid.iter().filter(|fault| fault["kind"] == kind);
        *struck.entry(what).or_default() += own.map(|fault| fault["struck"].as_u64().expect("a number")).sum::<u64>();
    }
}

/// Fair weather from now on. Adds how often letters were struck in the last one.
pub(super) async fn clears(house: &House, struck: &mut BTreeMap<&'static str, u64>) {
    count_letters(house, struck).await;
    house.mail().control.clear_faults().await.expect("cleared");
    for (vendor, _) in vendors(house) {
        vendor.clear_faults().await.expect("cleared");
    }
    let fair = json!({"drop_percent": 0, "duplicate_percent": 0, "shuffle": false});
    house.stripe().post("/_control/webhooks", fair).await.expect("the reports");
}

/// Adds how often each kind of trouble struck a house, but for its letters.
pub(super) async fn count_struck(house: &House, struck: &mut BTreeMap<&'static str, u64>) {
    for (vendor, path) in vendors(house) {
        let requests = vendor.requests(Some(path)).await.expect("the requests");
        for kind in TO_CALLS {
            let met = requests.iter().filter(|request| request["fault"] == kind).count();
            *struck.entry(kind).or_default() += u64::try_from(met).expect("few");
        }
    }
    let reports = house.stripe().get("/_control/webhooks/pending").await.expect("the reports");
    for kind in TO_REPORTS {
        *struck.entry(kind).or_default() += reports[kind].as_u64().expect("a number");
    }
}

/// What is asked of a weather.
type Rate = fn(&Weather) -> u32;

#[test]
fn a_hundred_seeds_throw_everything_from_fair_weather_to_the_worst() {
    let weathers: Vec<Weather> = (1..=100).map(Weather::of).collect();
    let rates: [(&str, u32, Rate); 6] = [
        ("calls and answers lost", LOST_MAX_PERCENT, |weather| {
            weather.calls_lost_percent + weather.answers_lost_percent
        }),
        ("answers late", 30, |weather| weather.answers_late_percent),
        ("reports lost", LOST_MAX_PERCENT, |weather| weather.reports_lost_percent),
        ("reports doubled", DOUBLED_MAX_PERCENT, |weather| weather.reports_doubled_percent),
        ("letters unanswered", LOST_MAX_PERCENT, |weather| weather.letters_unanswered_percent),
        ("letters garbled", LOST_MAX_PERCENT, |weather| weather.letters_garbled_percent),
    ];
    for (what, worst, rate) in rates {
        let thrown: Vec<u32> = weathers.iter().map(rate).collect();
        let tenth = worst / 10;
        assert!(thrown.iter().all(|rate| *rate <= worst), "{what}: {thrown:?}");
        assert!(thrown.iter().any(|rate| *rate <= tenth), "{what} is never rare: {thrown:?}");
        assert!(thrown.iter().any(|rate| *rate >= worst - tenth), "{what} is never frequent: {thrown:?}");
    }
    let both = |weather: &Weather| weather.calls_lost_percent > 0 && weather.answers_lost_percent > 0;
    assert!(weathers.iter().any(both), "nothing is lost in both directions");
}
