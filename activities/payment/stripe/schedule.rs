//! Another plan at the end of the paid period: a schedule at Stripe that changes the price when it turns, and then lets go.
use contract::payment::CarriedOut;
use domain::{billing::SubscriptionStatus, ids::SubscriptionId};
use stripe::StripeRequest as _;
use stripe_billing::{
    Subscription, SubscriptionSchedule, SubscriptionScheduleEndBehavior,
    subscription_schedule::{
        CreateSubscriptionSchedule, ReleaseSubscriptionSchedule, RetrieveSubscriptionSchedule,
        UpdateSubscriptionSchedule, UpdateSubscriptionSchedulePhases, UpdateSubscriptionSchedulePhasesDuration,
        UpdateSubscriptionSchedulePhasesDurationInterval, UpdateSubscriptionSchedulePhasesEndDate,
        UpdateSubscriptionSchedulePhasesItems, UpdateSubscriptionSchedulePhasesProrationBehavior,
        UpdateSubscriptionSchedulePhasesStartDate,
    },
};

use super::{
    Attempt, StripeApi, asked, instruction::refused, plan::price_of, read, subscription::has_ended, under, write,
};
use crate::{
    call::Kind,
    fault::{Fault, Vendor},
};

const DOING: &str = "changing the plan at the end of the period";

impl StripeApi {
    /// Changes to this price when the period ends; until then everything stays as it is.
    ///
    /// *Idempotence*: looks for the schedule first; makes it under `<act>/schedule`, and writes the same phases again.
    /// *Source*: Stripe documentation, "Subscription schedules", use cases, downgrading.
    pub(super) async fn change_plan_at_end(
        &self,
        id: &SubscriptionId,
        price: &str,
        act: &str,
        attempt: Attempt,
    ) -> Result<CarriedOut, Fault> {
        let look = self.look(id).await?;
        if look.status != SubscriptionStatus::Active {
            return Ok(refused("Only a paid subscription can change its plan."));
        }
        let subscription = look.subscription;
        if subscription.cancel_at_period_end || subscription.cancel_at.is_some() {
            return Ok(refused("It is cancelled. Take the cancellation back first."));
        }
        if subscription.pending_update.is_some() {
            return Ok(refused("Another change waits for its payment."));
        }
        if price_of(&subscription).as_deref() == Some(price) {
            return Ok(refused("It is your plan already."));
        }
        let schedule = self.schedule(&subscription, act, attempt).await?;
        let Some(now) = &schedule.current_phase else {
            return Err(Vendor::Stripe.give_up(DOING, format!("{} has no phase that holds now", schedule.id)));
        };
        let kept = subscription.items.data.iter().map(|item| UpdateSubscriptionSchedulePhasesItems {
            price: Some(item.price.id.to_string()),
            quantity: item.quantity,
            ..UpdateSubscriptionSchedulePhasesItems::new()
        });
        let paid = UpdateSubscriptionSchedulePhases {
            start_date: Some(UpdateSubscriptionSchedulePhasesStartDate::Timestamp(now.start_date)),
            end_date: Some(UpdateSubscriptionSchedulePhasesEndDate::Timestamp(now.end_date)),
            ..UpdateSubscriptionSchedulePhases::new(kept.collect::<Vec<_>>())
        };
        let wanted = UpdateSubscriptionSchedulePhasesItems {
            price: Some(price.to_owned()),
            quantity: Some(1),
            ..UpdateSubscriptionSchedulePhasesItems::new()
        };
        // The schedule lets go after it; the price stays.
        let month =
            UpdateSubscriptionSchedulePhasesDuration::new(UpdateSubscriptionSchedulePhasesDurationInterval::Month);
        let next = UpdateSubscriptionSchedulePhases {
            duration: Some(month),
            proration_behavior: Some(UpdateSubscriptionSchedulePhasesProrationBehavior::None),
            ..UpdateSubscriptionSchedulePhases::new(vec![wanted])
        };
        let request = UpdateSubscriptionSchedule::new(schedule.id.clone())
            .end_behavior(SubscriptionScheduleEndBehavior::Release)
            .phases(vec![paid, next])
            .customize()
            .request_strategy(under(&attempt.key(&format!("{act}/phases")))?);
        write(DOING, request.send(&self.client)).await?;
        Ok(CarriedOut::Done { object: Some(schedule.id.to_string()) })
    }

    async fn schedule(
        &self,
        subscription: &Subscription,
        act: &str,
        attempt: Attempt,
    ) -> Result<SubscriptionSchedule, Fault> {
        if let Some(known) = &subscription.schedule {
            return read(DOING, RetrieveSubscriptionSchedule::new(known.id().clone()).send(&self.client)).await;
        }
        let request = CreateSubscriptionSchedule::new()
            .from_subscription(subscription.id.to_string())
            .customize()
            .request_strategy(under(&attempt.key(&format!("{act}/schedule")))?);
        write(DOING, request.send(&self.client)).await
    }

    /// Keeps the plan that was to change: a change that waits for its payment is given up, and so is one at the end.
    ///
    /// *Idempotence*: with neither there is nothing to do.
    pub(super) async fn keep_plan(
        &self,
        id: &SubscriptionId,
        act: &str,
        attempt: Attempt,
    ) -> Result<CarriedOut, Fault> {
        let look = self.look(id).await?;
        if has_ended(look.status) {
            return Ok(refused("The subscription has ended already."));
        }
        self.give_change_up(&look.subscription, act, attempt).await?;
        self.unschedule(&look.subscription, act, attempt).await?;
        Ok(CarriedOut::Done { object: None })
    }

    /// Takes a subscription out of its schedule, under `<act>/release`; it goes on as it is now.
    pub(super) async fn unschedule(
        &self,
        subscription: &Subscription,
        act: &str,
        attempt: Attempt,
    ) -> Result<(), Fault> {
        let Some(schedule) = &subscription.schedule else { return Ok(()) };
        let (doing, id) = ("taking back a change of plan", SubscriptionId(subscription.id.to_string()));
        let key = under(&attempt.key(&format!("{act}/release/{}", schedule.id())))?;
        let request = ReleaseSubscriptionSchedule::new(schedule.id().clone()).customize().request_strategy(key);
        match asked(Kind::Write, request.send(&self.client)).await {
            Ok(_) => Ok(()),
            // It ended meanwhile, and holds nothing any more.
            Err(denial) if denial.is_final() && self.look(&id).await?.subscription.schedule.is_none() => Ok(()),
            Err(denial) => Err(denial.on_write(doing)),
        }
    }
}
