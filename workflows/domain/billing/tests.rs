use super::*;
use crate::{
    ids::InstructionId,
    instruction::{Ask, Instruction},
    money::Money,
};
use alloc::{
    string::{String, ToString},
    vec,
    vec::Vec,
};

const DAY: i64 = 86_400;

fn policy() -> SubscriptionPolicy {
    SubscriptionPolicy {
        reminders_secs: vec![DAY, 3 * DAY, 9 * DAY],
        suspend_after_secs: 7 * DAY,
        grace_secs: 14 * DAY,
        retention_secs: 14 * DAY,
        retention_warning_secs: 3 * DAY,
        expiry_warning_secs: 3 * DAY,
        poll_secs: 3_650 * DAY,
        step_patience_secs: 900,
    }
}

fn view(status: SubscriptionStatus) -> SubscriptionView {
    SubscriptionView {
        status,
        period_start: 0,
        period_end: 30 * DAY,
        cancel_at_period_end: false,
        paid_invoice: Some("in_1".to_string()),
        open_invoice: None,
        price: None,
        pending: None,
        next_price: None,
        trial_until: None,
    }
}

fn unpaid() -> SubscriptionView {
    SubscriptionView {
        open_invoice: Some(OpenInvoice {
            id: "in_2".to_string(),
            delivered: true,
            payment_pending: false,
            needs_confirmation: false,
        }),
        ..view(SubscriptionStatus::PastDue)
    }
}

/// Lives from `now` on until nothing is left to do before `until`, and gives the acts with the day they were done.
fn live(standing: &mut Standing, view: &SubscriptionView, now: &mut i64, until: i64) -> Vec<(i64, Act)> {
    let mut acts = vec![];
    for _ in 0..100 {
        match decide(standing, view, &policy(), *now) {
            Next::Do(act) => {
                *standing = standing.clone().after(&act, *now);
                let handed_to_stripe = act == Act::EndSubscription;
                acts.push((*now / DAY, act));
                if handed_to_stripe {
                    return acts;
                }
            }
            Next::WaitUntil(at) if at <= until => {
                assert!(at > *now, "a wait must move time on");
                *now = at;
            }
            Next::WaitUntil(_) => {
                *now = until;
                return acts;
            }
            Next::Over => return acts,
        }
    }
    panic!("no end after 100 turns: {acts:?}");
}

#[test]
fn a_missing_payment_is_reminded_then_suspended_then_kept_then_destroyed() {
    let (mut standing, mut now) = (Standing::default(), 0);
    let acts = live(&mut standing, &unpaid(), &mut now, 36 * DAY);
    let invoice = || "in_2".to_string();
    assert_eq!(
        acts,
        vec![
            (0, Act::NoteOverdue { invoice: invoice() }),
            (1, Act::Remind { invoice: invoice(), number: 1 }),
            (3, Act::Remind { invoice: invoice(), number: 2 }),
            (7, Act::Suspend { invoice: invoice() }),
            (21, Act::Retain),
            (32, Act::WarnOfDestruction { destroy_at: 35 * DAY }),
            (35, Act::EndSubscription),
        ]
    );
}

#[test]
fn nothing_is_destroyed_before_stripe_has_ended_the_subscription() {
    let standing = Standing { phase: Phase::Retained, retained_at: Some(0), warned_at: Some(0), ..Standing::default() };
    assert_eq!(decide(&standing, &unpaid(), &policy(), 15 * DAY), Next::Do(Act::EndSubscription));
    let ended = view(SubscriptionStatus::Canceled);
    assert_eq!(decide(&standing, &ended, &policy(), 15 * DAY), Next::Do(Act::Expire));
}

#[test]
fn a_payment_brings_everything_back_from_every_phase_before_the_end() {
    for phase in [Phase::PastDue, Phase::Suspended, Phase::Retained] {
        let mut standing = Standing {
            phase,
            overdue: Some(Overdue { invoice: "in_2".to_string(), since: 0, reminders_sent: 2 }),
            suspended_at: Some(0),
            retained_at: Some(0),
            ..Standing::default()
        };
        let mut now = DAY;
        let paid = SubscriptionView { paid_invoice: Some("in_2".to_string()), ..view(SubscriptionStatus::Active) };
        let acts: Vec<Act> = live(&mut standing, &paid, &mut now, 2 * DAY).into_iter().map(|(_, act)| act).collect();
        let first = if phase == Phase::PastDue { Act::NotePaid } else { Act::Resume };
        assert_eq!(acts, vec![first, Act::Receipt { invoice: "in_2".to_string() }]);
        assert_eq!(standing.phase, Phase::Active);
        assert_eq!(standing.overdue, None);
    }
}

#[test]
fn a_pending_undelivered_or_absent_invoice_never_suspends() {
    let mut pending = unpaid();
    let mut undelivered = unpaid();
    let mut absent = unpaid();
    pending.open_invoice.as_mut().expect("open").payment_pending = true;
    undelivered.open_invoice.as_mut().expect("open").delivered = false;
    absent.open_invoice = None;
    for mut view in [pending, undelivered, absent] {
        for status in [SubscriptionStatus::PastDue, SubscriptionStatus::Unpaid] {
            view.status = status;
            assert_eq!(live(&mut Standing::default(), &view, &mut 0, 3_000 * DAY), vec![]);
        }
    }
}

#[test]
fn what_a_payment_on_its_way_keeps_is_what_would_else_be_done() {
    let mut standing = Standing::default();
    live(&mut standing, &unpaid(), &mut 0, 6 * DAY);
    let mut pending = unpaid();
    pending.open_invoice.as_mut().expect("open").payment_pending = true;
    assert_eq!(kept_by_a_payment(&standing, &pending, &policy(), 6 * DAY), None, "nothing is due yet");
    let suspend = Act::Suspend { invoice: "in_2".to_string() };
    assert_eq!(kept_by_a_payment(&standing, &pending, &policy(), 7 * DAY), Some(suspend));
    assert_eq!(kept_by_a_payment(&standing, &unpaid(), &policy(), 7 * DAY), None, "no payment is on its way");
    standing.hold_until = Some(9 * DAY);
    assert_eq!(kept_by_a_payment(&standing, &pending, &policy(), 7 * DAY), None, "staff hold it");
}

#[test]
fn an_invoice_seen_late_still_gets_every_reminder_and_the_whole_time() {
    let mut now = 100 * DAY;
    let acts = live(&mut Standing::default(), &unpaid(), &mut now, 107 * DAY);
    let days: Vec<i64> = acts.iter().map(|(day, _)| *day).collect();
    assert_eq!(days, vec![100, 101, 103, 107]);
}

#[test]
fn a_cancelled_period_is_announced_once_and_then_retained_and_expired() {
    let (mut standing, mut now) = (Standing::default(), 0);
    let ending = SubscriptionView { cancel_at_period_end: true, ..view(SubscriptionStatus::Active) };
    let acts = live(&mut standing, &ending, &mut now, 30 * DAY);
    assert_eq!(
        acts,
        vec![(0, Act::Receipt { invoice: "in_1".to_string() }), (27, Act::WarnOfEnd { period_end: 30 * DAY }),]
    );
    let acts = live(&mut standing, &view(SubscriptionStatus::Canceled), &mut now, 60 * DAY);
    assert_eq!(
        acts,
        vec![(30, Act::Retain), (41, Act::WarnOfDestruction { destroy_at: 44 * DAY }), (44, Act::Expire),]
    );
    assert_eq!(decide(&standing, &view(SubscriptionStatus::Active), &policy(), now), Next::Over);
}

#[test]
fn a_warning_that_comes_late_still_gives_the_whole_time_it_promises() {
    let mut standing = Standing { phase: Phase::Retained, retained_at: Some(0), ..Standing::default() };
    let mut now = 40 * DAY;
    let acts = live(&mut standing, &view(SubscriptionStatus::Canceled), &mut now, 60 * DAY);
    assert_eq!(acts, vec![(40, Act::WarnOfDestruction { destroy_at: 43 * DAY }), (43, Act::Expire)]);
}

#[test]
fn a_payment_on_its_way_holds_even_the_end() {
    let mut pending = unpaid();
    pending.open_invoice.as_mut().expect("open").payment_pending = true;
    for phase in [Phase::Suspended, Phase::Retained] {
        let mut standing =
            Standing { phase, suspended_at: Some(0), retained_at: Some(0), warned_at: Some(0), ..Standing::default() };
        assert_eq!(live(&mut standing, &pending, &mut (50 * DAY), 90 * DAY), vec![]);
    }
}

#[test]
fn a_suspended_machine_without_any_open_invoice_is_given_up_like_any_other() {
    let mut standing = Standing { phase: Phase::Suspended, suspended_at: Some(0), ..Standing::default() };
    let absent = SubscriptionView { open_invoice: None, ..unpaid() };
    let acts = live(&mut standing, &absent, &mut 0, 20 * DAY);
    assert_eq!(acts, vec![(14, Act::Retain)]);
}

#[test]
fn hearing_the_same_fact_again_does_nothing_again() {
    let (mut standing, mut now) = (Standing::default(), 0);
    let paid = view(SubscriptionStatus::Active);
    assert_eq!(live(&mut standing, &paid, &mut now, DAY).len(), 1);
    assert_eq!(live(&mut standing, &paid, &mut now, 2 * DAY), vec![]);
}

#[test]
fn nothing_is_taken_away_while_staff_hold() {
    let suspended = Standing { phase: Phase::Suspended, suspended_at: Some(0), ..Standing::default() };
    let retained = Standing { phase: Phase::Retained, retained_at: Some(0), warned_at: Some(0), ..Standing::default() };
    let overdue = Some(Overdue { invoice: "in_2".to_string(), since: 0, reminders_sent: 3 });
    let past_due = Standing { phase: Phase::PastDue, overdue, ..Standing::default() };
    let ended = view(SubscriptionStatus::Canceled);
    let now = 100 * DAY;
    for (standing, view) in
        [(past_due, unpaid()), (suspended, unpaid()), (retained.clone(), unpaid()), (retained, ended)]
    {
        let Next::Do(act) = decide(&standing, &view, &policy(), now) else { panic!("nothing is due: {standing:?}") };
        assert!(act.takes_away(), "{act:?}");
        let held = Standing { hold_until: Some(now + DAY), ..standing.clone() };
        assert_eq!(decide(&held, &view, &policy(), now), Next::WaitUntil(now + DAY), "{act:?}");
        let over = Standing { hold_until: Some(now), ..standing };
        assert_eq!(decide(&over, &view, &policy(), now), Next::Do(act), "a hold that is over");
    }
    // What gives something is never held.
    let held = Standing { hold_until: Some(now + DAY), phase: Phase::Suspended, ..Standing::default() };
    assert_eq!(decide(&held, &view(SubscriptionStatus::Active), &policy(), now), Next::Do(Act::Resume));
}

#[test]
fn what_will_happen_is_what_then_happens() {
    use forecast::{ComingAct, forecast};
    let ours = |coming: &[forecast::Coming]| -> Vec<(i64, Act)> {
        let acts = coming.iter().filter_map(|coming| match &coming.what {
            ComingAct::We(act) => Some((coming.at / DAY, act.clone())),
            _ => None,
        });
        acts.collect()
    };
    let (standing, unpaid) =
        (Standing { receipted_invoice: Some("in_1".to_string()), ..Standing::default() }, unpaid());
    let told = forecast(&standing, &unpaid, &policy(), 0, 90 * DAY);
    let (mut lived, mut now) = (standing.clone(), 0);
    let mut done = live(&mut lived, &unpaid, &mut now, 90 * DAY);
    let ended = view(SubscriptionStatus::Canceled);
    done.extend(live(&mut lived, &ended, &mut now, 90 * DAY));
    done.retain(|(_, act)| !matches!(act, Act::NoteOverdue { .. } | Act::EndSubscription));
    assert_eq!(ours(&told), done);
    assert!(matches!(done.last(), Some((_, Act::Expire))), "{done:?}");

    let renews = forecast(&standing, &view(SubscriptionStatus::Active), &policy(), 0, 90 * DAY);
    assert_eq!(renews.iter().map(|c| (c.at / DAY, c.what.clone())).collect::<Vec<_>>(), [(30, ComingAct::Renews)]);
    let cancelled = SubscriptionView { cancel_at_period_end: true, ..view(SubscriptionStatus::Active) };
    let words: Vec<_> =
        forecast(&standing, &cancelled, &policy(), 0, 90 * DAY).into_iter().map(|c| c.at / DAY).collect();
    assert_eq!(words, [27, 30, 30, 41, 44], "warned, ended, stopped, warned, destroyed");
    let held = Standing { hold_until: Some(60 * DAY), ..standing };
    let told = forecast(&held, &cancelled, &policy(), 0, 90 * DAY);
    assert!(told.iter().filter(|c| c.what.can_be_held()).all(|c| c.at >= 60 * DAY), "{told:?}");
    assert_eq!(forecast(&held, &cancelled, &policy(), 0, 10 * DAY), vec![], "nothing within ten days");
}

#[test]
fn a_payment_that_waits_for_its_bank_is_asked_for_once() {
    let mut view = unpaid();
    if let Some(open) = view.open_invoice.as_mut() {
        open.needs_confirmation = true;
    }
    let (mut standing, mut now) = (Standing { receipted_invoice: Some("in_1".to_string()), ..Standing::default() }, 0);
    let acts = live(&mut standing, &view, &mut now, 4 * DAY);
    let asked = acts.iter().filter(|(_, act)| matches!(act, Act::AskToConfirm { .. })).collect::<Vec<_>>();
    assert_eq!(asked, [&(0, Act::AskToConfirm { invoice: "in_2".to_string() })]);
    assert!(acts.iter().any(|(_, act)| matches!(act, Act::Remind { number: 1, .. })), "{acts:?}");
}

#[test]
fn another_price_is_fitted_once_and_the_first_one_is_taken_as_it_is() {
    let priced = |price: &str| SubscriptionView { price: Some(price.to_string()), ..view(SubscriptionStatus::Active) };
    let receipted = Standing { receipted_invoice: Some("in_1".to_string()), ..Standing::default() };
    assert!(matches!(decide(&receipted, &priced("price_1"), &policy(), 0), Next::WaitUntil(_)), "nothing is known yet");
    let fitted = Standing { price: Some("price_1".to_string()), ..receipted };
    let act = Act::Reprice { price: "price_2".to_string() };
    assert_eq!(decide(&fitted, &priced("price_2"), &policy(), 0), Next::Do(act.clone()));
    let fitted = fitted.after(&act, 0);
    assert!(matches!(decide(&fitted, &priced("price_2"), &policy(), 0), Next::WaitUntil(_)), "fitted twice");
}

fn changing() -> Standing {
    let what = Ask::ChangePlan {
        price: "price_2".to_string(),
        proration_date: 0,
        shown: Money { amount_minor: 5, currency: "eur".parse().expect("a currency") },
    };
    let instruction =
        Instruction { id: InstructionId(uuid::Uuid::nil()), by: "customer".to_string(), reason: String::new(), what };
    let changing = Changing { instruction, price: "price_2".to_string(), asked: false, taken_back: false };
    Standing {
        price: Some("price_1".to_string()),
        receipted_invoice: Some("in_1".to_string()),
        changing: Some(changing),
        ..Standing::default()
    }
}

#[test]
fn a_change_that_waits_for_the_bank_is_asked_for_once_and_settled_when_it_is_paid_and_fitted() {
    let waiting = |needs_confirmation| SubscriptionView {
        price: Some("price_1".to_string()),
        pending: Some(PendingChange {
            price: "price_2".to_string(),
            invoice: Some("in_2".to_string()),
            until: DAY / 2,
            needs_confirmation,
        }),
        ..view(SubscriptionStatus::Active)
    };
    let standing = changing();
    let asked_at = |at| decide(&standing, &waiting(false), &policy(), at);
    assert_eq!(asked_at(0), Next::WaitUntil(DAY / 2 + 1), "its end would be slept over");
    assert!(matches!(asked_at(DAY / 2 + 1), Next::WaitUntil(at) if at > DAY / 2 + 1), "asked again and again");
    assert_eq!(decide(&standing, &waiting(true), &policy(), 0), Next::Do(Act::AskToConfirmChange));
    let standing = standing.after(&Act::AskToConfirmChange, 0);
    assert_eq!(decide(&standing, &waiting(true), &policy(), 0), Next::WaitUntil(DAY / 2 + 1), "asked for twice");

    let paid = SubscriptionView { price: Some("price_2".to_string()), ..view(SubscriptionStatus::Active) };
    let fit = Act::Reprice { price: "price_2".to_string() };
    assert_eq!(decide(&standing, &paid, &policy(), 0), Next::Do(fit.clone()));
    let standing = standing.after(&fit, 0);
    assert_eq!(decide(&standing, &paid, &policy(), 0), Next::Do(Act::SettleChange));
    assert_eq!(standing.after(&Act::SettleChange, 0).changing, None);
}

#[test]
fn a_change_that_stripe_dropped_is_given_up_whatever_became_of_the_subscription() {
    for status in [SubscriptionStatus::Active, SubscriptionStatus::PastDue, SubscriptionStatus::Canceled] {
        let dropped = SubscriptionView { price: Some("price_1".to_string()), ..view(status) };
        assert_eq!(decide(&changing(), &dropped, &policy(), 0), Next::Do(Act::GiveChangeUp), "{status}");
    }
    let ended = SubscriptionView { price: Some("price_2".to_string()), ..view(SubscriptionStatus::Canceled) };
    assert_eq!(decide(&changing(), &ended, &policy(), 0), Next::Do(Act::SettleChange), "nothing is fitted any more");
}

#[test]
fn the_end_of_a_trial_is_told_once_beforehand_and_not_to_whoever_cancelled() {
    let trial = SubscriptionView {
        paid_invoice: None,
        trial_until: Some(14 * DAY),
        period_end: 14 * DAY,
        ..view(SubscriptionStatus::Trialing)
    };
    let standing = Standing::default();
    assert_eq!(decide(&standing, &trial, &policy(), 0), Next::WaitUntil(11 * DAY));
    let told = Act::WarnOfTrialEnd { until: 14 * DAY };
    assert_eq!(decide(&standing, &trial, &policy(), 11 * DAY), Next::Do(told.clone()));
    let after = standing.clone().after(&told, 11 * DAY);
    assert!(matches!(decide(&after, &trial, &policy(), 11 * DAY), Next::WaitUntil(_)), "told twice");
    let cancelled = SubscriptionView { cancel_at_period_end: true, ..trial };
    let end = Act::WarnOfEnd { period_end: 14 * DAY };
    assert_eq!(decide(&standing, &cancelled, &policy(), 11 * DAY), Next::Do(end));
}

fn server(number: u128) -> ServiceId {
    ServiceId(uuid::Uuid::from_u128(number))
}

fn leaving(service: ServiceId) -> Standing {
    let what = Ask::RemoveServer { service };
    let instruction =
        Instruction { id: InstructionId(uuid::Uuid::nil()), by: "customer".to_string(), reason: String::new(), what };
    Standing {
        receipted_invoice: Some("in_1".to_string()),
        leaving: vec![Leaving { service, instruction, stopped_at: None }],
        ..Standing::default()
    }
}

#[test]
fn a_server_that_is_taken_away_is_stopped_at_once_and_destroyed_after_the_retention_days() {
    let (service, paid) = (server(1), view(SubscriptionStatus::Active));
    let standing = leaving(service);
    let stop = Act::SetServerAside { service };
    assert_eq!(decide(&standing, &paid, &policy(), 5), Next::Do(stop.clone()));
    let standing = standing.after(&stop, 5);
    let due = 5 + 14 * DAY;
    assert_eq!(decide(&standing, &paid, &policy(), 5), Next::WaitUntil(due), "its end would be slept over");
    let destroy = Act::DestroyServer { service };
    assert_eq!(decide(&standing, &paid, &policy(), due), Next::Do(destroy.clone()));
    assert!(destroy.takes_away() && stop.takes_away());
    let held = Standing { hold_until: Some(due + DAY), ..standing.clone() };
    assert_eq!(decide(&held, &paid, &policy(), due), Next::WaitUntil(due + DAY), "destroyed although staff hold it");
    let standing = standing.after(&destroy, due);
    assert!(standing.leaving.is_empty() && standing.phase == Phase::Active);
}

#[test]
fn a_server_that_is_taken_away_goes_while_a_payment_is_missing_and_with_the_subscription_when_that_ends() {
    let service = server(1);
    let suspended = Standing {
        phase: Phase::Suspended,
        suspended_at: Some(0),
        overdue: Some(Overdue { invoice: "in_2".to_string(), since: 0, reminders_sent: 3 }),
        ..leaving(service)
    };
    assert_eq!(decide(&suspended, &unpaid(), &policy(), DAY), Next::Do(Act::SetServerAside { service }));
    let ended = view(SubscriptionStatus::Canceled);
    assert_eq!(decide(&leaving(service), &ended, &policy(), 0), Next::Do(Act::Retain));
    let kept = leaving(service).after(&Act::SetServerAside { service }, 0).after(&Act::Retain, DAY);
    assert_eq!(decide(&kept, &ended, &policy(), 14 * DAY), Next::Do(Act::WarnOfDestruction { destroy_at: 17 * DAY }));
    assert!(kept.after(&Act::Expire, 15 * DAY).leaving.is_empty());
}
