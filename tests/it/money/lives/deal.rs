//! What each life is dealt: the first ones by hand, so that together they hold every beginning and every step where it can
//! happen, all others by their dice.
use rand::{RngExt as _, rngs::StdRng};

use super::STEPS_EACH;

/// How a life begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
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
pub(super) enum Step {
    Renews,
    FailsThenPays,
    /// A payment is missing for so long that the server is suspended; then it is paid.
    SuspendedThenPays,
    CancelsAtTheEnd,
    TakesTheEndBack,
    /// It is to end on a day, and not with its period.
    CancelsByDate,
    RefundedInPart,
    /// Staff give something back on our own page.
    RefundedByStaff,
    /// What was given back comes back to us.
    RefundFailsLater,
    DisputeOpened,
    DisputeWon,
    DisputeLost,
    /// The customer takes a larger plan on our own page, and is charged the difference.
    LargerPlan,
    /// The customer chooses a smaller one for the next period, which comes.
    SmallerPlan,
    /// Somebody makes a subscription in Stripe's dashboard.
    AnotherFromTheDashboard,
    /// Ended at once; nothing follows.
    Ends,
    /// The customer is deleted at Stripe; nothing follows.
    CustomerDeleted,
}

/// Every beginning.
pub(super) const BEGINNINGS: [Beginning; 4] =
    [Beginning::Pays, Beginning::PaysInTwoTabs, Beginning::PaysWhileThePageCloses, Beginning::LapsesAndOrdersAgain];

/// Every step.
pub(super) const STEPS: [Step; 17] = [
    Step::Renews,
    Step::FailsThenPays,
    Step::CancelsAtTheEnd,
    Step::TakesTheEndBack,
    Step::RefundedInPart,
    Step::DisputeOpened,
    Step::DisputeWon,
    Step::DisputeLost,
    Step::LargerPlan,
    Step::SmallerPlan,
    Step::AnotherFromTheDashboard,
    Step::CancelsByDate,
    Step::RefundedByStaff,
    Step::RefundFailsLater,
    Step::SuspendedThenPays,
    Step::Ends,
    Step::CustomerDeleted,
];

/// The first so many of them can happen at any time.
const ANY_TIME: usize = 14;
/// Servers are suspended in one step of all lives of a house, as that takes its time.
const SUSPENDED_AT: usize = 2;

/// What a life is dealt.
type Hand = (Beginning, [Step; STEPS_EACH - 1]);

/// Seed 1 and those that follow. What has to happen somewhere stands where nothing before it prevents it.
static BY_HAND: [Hand; 10] = [
    (Beginning::Pays, [Step::Renews, Step::RefundedInPart, Step::SuspendedThenPays, Step::Ends]),
    (Beginning::PaysInTwoTabs, [Step::FailsThenPays, Step::DisputeOpened, Step::Renews, Step::CustomerDeleted]),
    (Beginning::PaysWhileThePageCloses, [Step::LargerPlan, Step::Renews, Step::DisputeWon, Step::RefundedByStaff]),
    (Beginning::LapsesAndOrdersAgain, [Step::SmallerPlan, Step::DisputeLost, Step::Renews, Step::TakesTheEndBack]),
    (
        Beginning::Pays,
        [Step::TakesTheEndBack, Step::AnotherFromTheDashboard, Step::SuspendedThenPays, Step::CancelsByDate],
    ),
    (Beginning::PaysInTwoTabs, [Step::DisputeLost, Step::SmallerPlan, Step::FailsThenPays, Step::CustomerDeleted]),
    (
        Beginning::PaysWhileThePageCloses,
        [Step::AnotherFromTheDashboard, Step::FailsThenPays, Step::RefundFailsLater, Step::Ends],
    ),
    (Beginning::LapsesAndOrdersAgain, [Step::CancelsAtTheEnd, Step::Renews, Step::RefundedInPart, Step::DisputeOpened]),
    (Beginning::Pays, [Step::DisputeWon, Step::LargerPlan, Step::FailsThenPays, Step::Ends]),
    (Beginning::Pays, [Step::Renews, Step::LargerPlan, Step::SuspendedThenPays, Step::CustomerDeleted]),
];

/// What a seed is dealt.
pub(super) fn dealt(seed: u64, dice: &mut StdRng) -> (Beginning, Vec<Step>) {
    let by_hand = usize::try_from(seed).ok().and_then(|seed| BY_HAND.get(seed.checked_sub(1)?));
    match by_hand {
        Some((beginning, steps)) => (*beginning, steps.to_vec()),
        None => thrown(dice),
    }
}

/// Whether all that is dealt by hand is among these seeds.
pub(super) fn hold_all(seeds: &[u64]) -> bool {
    (1..).zip(BY_HAND.iter()).all(|(seed, _)| seeds.contains(&seed))
}

fn thrown(dice: &mut StdRng) -> (Beginning, Vec<Step>) {
    let beginning = match dice.random_range(0..100) {
        0..55 => Beginning::Pays,
        55..70 => Beginning::PaysInTwoTabs,
        70..85 => Beginning::PaysWhileThePageCloses,
        _ => Beginning::LapsesAndOrdersAgain,
    };
    let mut steps: Vec<Step> = (1..STEPS_EACH).map(|_| STEPS[dice.random_range(0..ANY_TIME)]).collect();
    if dice.random_range(0..100) < 15 {
        steps[SUSPENDED_AT] = Step::SuspendedThenPays;
    }
    match dice.random_range(0..100) {
        0..25 => steps[STEPS_EACH - 2] = Step::Ends,
        25..50 => steps[STEPS_EACH - 2] = Step::CustomerDeleted,
        _ => {}
    }
    (beginning, steps)
}

#[test]
fn what_is_dealt_by_hand_holds_every_beginning_and_every_step() {
    for beginning in BEGINNINGS {
        assert!(BY_HAND.iter().any(|(dealt, _)| *dealt == beginning), "{beginning:?} is dealt to nobody");
    }
    for step in STEPS {
        assert!(BY_HAND.iter().any(|(_, dealt)| dealt.contains(&step)), "{step:?} is dealt to nobody");
    }
}
