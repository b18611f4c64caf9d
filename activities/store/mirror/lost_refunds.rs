//! Money that was given back and did not arrive, until as much was given back later.
use crate::{
    Actor, Store, StoreError,
    audit::{self, Entry},
    fault::Doing,
};
use domain::ids::AccountId;
use serde_json::json;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// What stands beside one that staff settled otherwise.
const SETTLED_OTHERWISE: &str = "staff settled it otherwise";

/// Something given back of a payment.
#[derive(Debug, Clone)]
struct PaidBack {
    refund: String,
    payment: String,
    amount_minor: i64,
    given_at: OffsetDateTime,
    /// When we heard that it did not arrive, if it did not and nobody settled it otherwise.
    lost_at: Option<OffsetDateTime>,
}

impl Store {
    /// Takes from staff every lost refund of whose payment as much was given back later. What makes up for one makes up for
    /// no other.
    pub(super) async fn take_lost_refunds_from_staff(&self) -> Result<(), StoreError> {
        let given = sqlx::query_as!(
            PaidBack,
            r#"select distinct r.id as "refund!", r.payment_id as "payment!", r.amount_minor as "amount_minor!",
                r.created_at as "given_at!", case when told.state = 'unclaimed' or told.last_error is null
                    then told.received_at end as "lost_at?"
               from payment_events shown join refunds lost on lost.id = shown.object_id
               join refunds r on r.payment_id = lost.payment_id
               left join payment_events told on told.id = 'difference/refund/' || r.id
               where shown.type = 'difference' and shown.object_kind = 'refund' and shown.state = 'unclaimed'"#
        )
        .fetch_all(&self.pool)
        .await
        .doing("reading lost refunds")?;
        let mut payments: BTreeMap<String, Vec<PaidBack>> = BTreeMap::new();
        for one in given {
            payments.entry(one.payment.clone()).or_default().push(one);
        }
        let made_up: Vec<String> = payments.into_values().flat_map(made_up_for).collect();
        if made_up.is_empty() {
            return Ok(());
        }
        sqlx::query!(
            "update payment_events set state = 'handled', last_error = null, handled_at = now()
             where type = 'difference' and object_kind = 'refund' and state = 'unclaimed' and object_id = any($1)",
            &made_up,
        )
        .execute(&self.pool)
        .await
        .doing("taking lost refunds from staff")?;
        Ok(())
    }

    /// Takes one from staff that they settled otherwise than by giving it back again, with who and why. Says `false` when it
    /// is not shown to them, or not any more.
    pub async fn settle_lost_refund(&self, refund: &str, by: &str, because: &str) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let settled = sqlx::query!(
            r#"update payment_events set state = 'handled', last_error = $2, handled_at = now()
               where id = 'difference/refund/' || $1::text and state = 'unclaimed'
               returning (select o.account_id from orders o where o.id = payment_events.order_id) as "account_id?""#,
            refund,
            SETTLED_OTHERWISE,
        )
        .fetch_optional(&mut *tx)
        .await
        .doing("settling a lost refund")?;
        let Some(settled) = settled else { return Ok(false) };
        let entry = Entry {
            actor: Actor::named(&mut tx, by).await?,
            action: "refund.settled",
            account: settled.account_id.map(AccountId),
            subject: format!("refund/{refund}"),
            network: None,
            before: Some(json!({ "state": "unclaimed" })),
            after: Some(json!({ "state": "handled", "because": because })),
        };
        audit::note(&mut tx, &entry).await?;
        tx.commit().await.doing("settling a lost refund")?;
        Ok(true)
    }
}

/// Which lost refunds of one payment were made up for. Each later one goes to a lost one of its own amount, then to the one that
/// was lost first, and what is over to the next. One that is lost, too, counts: it is a lost one of its own.
fn made_up_for(mut given: Vec<PaidBack>) -> Vec<String> {
    given.sort_by(|a, b| (a.given_at, &a.refund).cmp(&(b.given_at, &b.refund)));
    let mut lost: Vec<(OffsetDateTime, &PaidBack)> = given.iter().filter_map(|one| Some((one.lost_at?, one))).collect();
    lost.sort_by(|(at, a), (bt, b)| (at, &a.refund).cmp(&(bt, &b.refund)));
    let mut left: Vec<(OffsetDateTime, i64)> = vec![];
    let mut made_up = vec![];
    for again in &given {
        left.push((again.given_at, again.amount_minor));
        lost.sort_by_key(|(_, one)| one.amount_minor != again.amount_minor);
        lost.retain(|(lost_at, one)| {
            let is_made_up = take(&mut left, *lost_at, one.amount_minor);
            if is_made_up {
                made_up.push(one.refund.clone());
            }
            !is_made_up
        });
        lost.sort_by(|(at, a), (bt, b)| (at, &a.refund).cmp(&(bt, &b.refund)));
    }
    made_up
}

/// Takes an amount out of what was given back after a moment, if there is as much.
fn take(left: &mut [(OffsetDateTime, i64)], after: OffsetDateTime, amount_minor: i64) -> bool {
    let there: i64 = left.iter().filter(|(at, _)| *at > after).map(|(_, minor)| minor).sum();
    if there < amount_minor {
        return false;
    }
    let mut wanted = amount_minor;
    for (_, minor) in left.iter_mut().filter(|(at, _)| *at > after) {
        let taken = wanted.min(*minor);
        *minor -= taken;
        wanted -= taken;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(refund: &str, amount_minor: i64, given_at: i64, lost_at: Option<i64>) -> PaidBack {
        let moment = |secs| OffsetDateTime::from_unix_timestamp(secs).expect("a moment");
        PaidBack {
            refund: refund.to_owned(),
            payment: "ch_1".to_owned(),
            amount_minor,
            given_at: moment(given_at),
            lost_at: lost_at.map(moment),
        }
    }

    #[test]
    fn what_makes_up_for_one_lost_refund_makes_up_for_no_other() {
        let both = [given("a", 200, 1, Some(10)), given("b", 100, 2, Some(11))];
        let after = |more: &[PaidBack]| made_up_for(both.iter().chain(more).cloned().collect());
        assert!(after(&[]).is_empty());
        assert!(after(&[given("c", 300, 9, None)]).is_empty(), "given back before they were lost");
        assert_eq!(after(&[given("c", 200, 20, None)]), ["a"]);
        assert_eq!(after(&[given("c", 100, 20, None)]), ["b"]);
        assert_eq!(after(&[given("c", 300, 20, None)]), ["a", "b"]);
        assert_eq!(after(&[given("c", 150, 20, None), given("d", 150, 21, None)]), ["b", "a"], "in parts");
    }

    #[test]
    fn one_that_is_lost_again_stands_for_the_one_before() {
        let lost_twice = vec![given("a", 200, 1, Some(10)), given("b", 200, 20, Some(30))];
        assert_eq!(made_up_for(lost_twice.clone()), ["a"]);
        let again = lost_twice.into_iter().chain([given("c", 200, 40, None)]).collect();
        assert_eq!(made_up_for(again), ["a", "b"]);
    }
}
