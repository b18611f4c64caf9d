//! The drill: everything is lost while orders are worked, and comes back from backups that the portal's database and
//! Temporal's were given at different moments. What was paid is delivered, once, whichever of the two is older.
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use house::{House, HouseOptions};

use crate::{
    mortals::{Part, Stage, production_stage, stage},
    scale::scale,
    shop::until,
    storm::{self, Shape, assert_one_of_each, delivered, everything_is_told, stuck},
};

const LIMIT: Duration = Duration::from_mins(4);

/// Which of the two databases comes back from the earlier backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Older {
    Portal,
    Temporal,
}

struct Drill<'a> {
    stage: &'a Stage,
    house: House,
    ordered: usize,
}

impl Drill<'_> {
    /// Some more customers order and pay, and it begins to be worked.
    async fn pay(&mut self, many: usize) {
        let sessions = storm::order(&self.house, &format!("drill-{}", self.ordered), many).await;
        storm::pay(&self.house, &sessions, Shape::Burst).await;
        self.ordered += many;
    }

    async fn wait_for(&self, wanted: usize) {
        let wanted = i64::try_from(wanted).expect("few");
        until(&format!("{wanted} orders are delivered"), LIMIT, || async {
            delivered(&self.house).await.filter(|done| *done >= wanted).map(drop)
        })
        .await;
    }

    async fn backup(&self, word: &str) -> PathBuf {
        let folder = self.house.logs().join(word);
        let told = self.house.run_ez(&["backup", text(&folder)], "").await.expect("a backup");
        assert!(told.contains("Temporal at"), "{told}");
        folder
    }

    async fn lose_everything(&self) {
        for part in [Part::Worker, Part::Web, Part::Temporal] {
            self.stage.kill(&self.house, part).await;
        }
    }

    /// What the runbook says, in its order.
    async fn restore(&self, folder: &Path) {
        until("the killed processes' connections are gone", LIMIT, || async {
            self.house.run_ez(&["restore", text(folder), "--overwrite"], "").await.ok()
        })
        .await;
        self.stage.start(&self.house, Part::Temporal).await;
        self.house.run_ez(&["migrate"], "").await.expect("migrated");
        let told = self.house.run_ez(&["reconcile", "--restored"], "").await.expect("reconciled");
        eprintln!("drill: {}", told.trim().replace('\n', "; "));
        assert!(told.contains("payments left for staff: 0"), "{told}");
        self.stage.start(&self.house, Part::Worker).await;
        self.stage.start(&self.house, Part::Web).await;
        self.house.run_ez(&["reconcile"], "").await.expect("reconciled once more");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Gives a backup's folder with the portal of one and the Temporal of the other.
fn mixed(portal: &Path, temporal: &Path) -> PathBuf {
    let folder = portal.with_file_name("mixed");
    fs::create_dir(&folder).expect("a folder");
    for (from, wanted) in [(portal, "portal.dump"), (portal, "backup.json"), (temporal, "temporal-")] {
        for file in fs::read_dir(from).expect("a backup") {
            let name = file.expect("a file").file_name();
            if text(name.as_ref()).starts_with(wanted) {
                fs::copy(from.join(&name), folder.join(&name)).expect("copied");
            }
        }
    }
    folder
}

async fn drill(stage: &Stage, older: Older) {
    let third = scale().drill_orders / 3;
    let name = format!("drill-{}", format!("{older:?}").to_lowercase());
    let databases: Vec<&str> = stage.engine.temporal_databases().iter().map(url::Url::as_str).collect();
    let options = HouseOptions { policy: storm::policy(), wide: true, ..HouseOptions::named(&name) }
        .with("EZ_TEMPORAL_DATABASE_URL", &databases.join(","));
    let house = House::start(stage.engine, options).await.unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
    let mut drill = Drill { stage, house, ordered: 0 };

    drill.pay(third).await;
    drill.wait_for(third / 4).await;
    let early = drill.backup("early").await;
    drill.pay(third).await;
    drill.wait_for(third + third / 4).await;
    let late = drill.backup("late").await;
    drill.pay(third).await;
    drill.wait_for(2 * third + third / 4).await;
    drill.lose_everything().await;
    let folder = if older == Older::Portal { mixed(&early, &late) } else { mixed(&late, &early) };
    drill.restore(&folder).await;

    let back = Instant::now();
    let wanted = i64::try_from(drill.ordered).expect("few");
    while delivered(&drill.house).await.is_none_or(|done| done < wanted) {
        assert!(back.elapsed() < LIMIT, "drill {older:?}: not delivered: {:#?}", stuck(&drill.house).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    eprintln!("drill, older {older:?}: all {wanted} delivered {:.1?} after everything was back", back.elapsed());
    everything_is_told(&drill.house, back).await;
    assert_one_of_each(&drill.house, drill.ordered).await;
    drill.house.stop().await.expect("the house closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it has the machine for itself: make test-long"]
async fn databases_of_two_moments_are_restored_under_load_and_nothing_acknowledged_is_lost() {
    let stage = stage().await;
    for older in [Older::Portal, Older::Temporal] {
        drill(&stage, older).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it has the machine for itself: make test-long"]
async fn the_same_with_temporal_over_postgresql() {
    let stage = production_stage().await;
    for older in [Older::Portal, Older::Temporal] {
        drill(&stage, older).await;
    }
}
