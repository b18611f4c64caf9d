//! Every activity of the contract × every fault. Each cell is a whole order, driven through the real engine, the real processes
//! and vendors at the wire, with a fault aimed at the one call that does the activity's work. It ends delivered exactly once or
//! with a clean slate, asked of the vendors themselves (`checks`): machine, disks, tasks, firewall, names, address, payment
//! page, subscription, invoices, charges, refunds, place, entitlement, letters.
//!
//! | column | rows that call a vendor | `mail.send` | database steps |
//! |---|---|---|---|
//! | run twice; undo run twice | `again`: a workflow set back does it all once more; `twice` | `again` | `again` |
//! | fails for good | `stuck`, `nameless`: seen on both sides; retried, abandoned, skipped | `letters` | `ledger` |
//! | worker killed after the effect | `wire` | `letters` | `ledger` |
//! | work done but answer lost | `wire` | `letters` | `ledger` |
//! | 429/503 | `wire` | `letters` | `ledger` |
//! | hangs past its timeout | `wire` | `letters` | `ledger` |
//! | malformed answer | `wire`; `reads`: looks before a step back | `letters` | `ledger` |
//!
//! `round.*` are shown in `money/missed`: a round is started by a schedule and belongs to no order. `privacy.*` are shown in
//! `privacy/faults`: what somebody asks about their own data belongs to no order either.
//!
//! `payment.carry_out` does many kinds of things: the row is a refund, and `instructions` has every other kind that calls Stripe
//! in the same columns.
//!
//! `story` drives an order, `rows` names the calls. The table that is printed says of each cell where it is shown, or why it
//! cannot exist; an activity without its row fails.
use std::io::Write as _;

use crate::twice::contract_names;

mod again;
mod by_hand;
mod checks;
mod instructions;
mod ledger;
mod letters;
mod nameless;
mod order;
mod reads;
mod rows;
mod story;
mod stuck;
mod wire;

pub(crate) use ledger::TRIGGERS;
pub(crate) use order::{Bought, LIMIT, Story, change_price, change_to_medium};
pub(crate) use story::decide_firmly;

const COLUMNS: [&str; 8] = [
    "run twice",
    "fails for good",
    "undo run twice",
    "worker killed after the effect",
    "work done but answer lost",
    "429/503",
    "hangs past its timeout",
    "malformed answer",
];

/// The activities that take a step back.
const UNDOS: [&str; 5] =
    ["payment.expire_checkout", "payment.refund", "machine.destroy", "name.withdraw", "ledger.close_order"];

/// What belongs to no order: a round is started by a schedule.
const ROUNDS: [&str; 2] = ["round.events", "round.compare"];
/// What belongs to no order: somebody asks about their own data.
const PRIVACY: [&str; 6] =
    ["privacy.export", "privacy.look", "privacy.begin", "privacy.forget_customer", "privacy.erase", "privacy.finish"];

/// Where a cell is shown, or why there is none.
#[derive(Clone, Copy)]
enum Cell {
    Shown(&'static str),
    Impossible(&'static str),
}

/// The cell of an activity; nothing for an activity that has no row.
fn cell(activity: &str, column: &str) -> Option<Cell> {
    use Cell::{Impossible, Shown};
    let rooms = [
        (rows::ROWS.iter().any(|row| row.activity == activity), "wire", "stuck"),
        (activity == "mail.send", "letters", "letters"),
        (ledger::rows().any(|row| row == activity) || activity == "ledger.services", "ledger", "ledger"),
        (ROUNDS.contains(&activity), "money/missed", "money/missed"),
        (PRIVACY.contains(&activity), "privacy/faults", "privacy/faults"),
    ];
    let (_, room, for_good) = *rooms.iter().find(|(is_there, ..)| *is_there)?;
    let is_of_no_order = ROUNDS.contains(&activity) || PRIVACY.contains(&activity);
    let is_of_twice = is_of_no_order || again::TOLD.contains(&activity) || activity == again::ENDS;
    Some(match (activity, column) {
        (_, "run twice") if is_of_twice => Shown("twice"),
        ("round.events" | "round.compare", "fails for good") => Impossible(
            "it only reads at Stripe and asks for looks: the next round does it all, and an old round is alerted",
        ),
        (_, "run twice") => Shown("again"),
        (_, "undo run twice") if UNDOS.contains(&activity) => Shown("again"),
        (_, "undo run twice") => Impossible("it takes nothing back"),
        ("ledger.raise_attention" | "ledger.settle_attention", "fails for good") => {
            Impossible("it says what waits for staff, so nothing may wait for it: the workflow goes on")
        }
        ("ledger.services", "fails for good" | "worker killed after the effect" | "malformed answer") => Impossible(
            "it only reads our own rows: there is no effect, no rule that could refuse it, and no second form",
        ),
        ("ledger.services", "429/503") => {
            Impossible("nothing can refuse a read alone: a connection that is refused is one that is cut off")
        }
        (_, "fails for good") => Shown(for_good),
        _ => Shown(room),
    })
}

#[test]
fn every_activity_of_the_contract_has_its_row_in_the_matrix() {
    let mut out = std::io::stdout().lock();
    let mut line = |words: &str| writeln!(out, "{words}").expect("standard output");
    line(&format!("| activity | {} |", COLUMNS.join(" | ")));
    let mut reasons = vec![];
    for activity in contract_names() {
        let cells = COLUMNS.map(|column| match cell(&activity, column) {
            Some(Cell::Shown(room)) => room.to_owned(),
            Some(Cell::Impossible(why)) => {
                if !reasons.contains(&why) {
                    reasons.push(why);
                }
                format!("– ({})", reasons.iter().position(|known| *known == why).unwrap_or_default() + 1)
            }
            None => panic!("{activity} has no row: add it to `rows`, `ledger` or `letters`"),
        });
        line(&format!("| {activity} | {} |", cells.join(" | ")));
    }
    for (index, reason) in reasons.iter().enumerate() {
        line(&format!("({}) {reason}", index + 1));
    }
    for stranger in ["machine.paint", "round.trip", "privacy.fence"] {
        assert!(cell(stranger, "run twice").is_none(), "an activity without a row passes");
    }
}
