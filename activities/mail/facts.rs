//! Whom a letter goes to and what it tells, read when it is written.
use contract::letter::{LetterInput, LetterKind, LetterSubject};
use domain::{
    ids::{OrderId, SubscriptionId, UserId},
    instruction::InstructionState,
    order::LATE,
    removal::HeldBy,
};
use store::{CLOSED_DOMAIN, OrderBrief, PaidFor, PlanWish, Subscription};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    MailDesk,
    letter::{Facts, day, each, minute},
};
use crate::{
    fault::{Fault, Vendor},
    name::of_store,
};

/// Why nobody is written to.
pub(super) const CLOSED: &str = "the account was closed";

/// Who gets a letter. It has no `Debug`: it names a person.
#[derive(Default)]
pub(super) struct Receiver {
    /// The person, where one of our users gets it.
    pub(super) user: Option<UserId>,
    /// The order it is about.
    pub(super) order: Option<OrderId>,
    pub(super) name: String,
    pub(super) email: String,
}

/// What was found for a letter.
pub(super) enum Gathered {
    /// Somebody to write to, and something to tell.
    Letter(Receiver, Box<Facts>),
    /// It has nothing to say any more, and why.
    Pointless(&'static str),
}

impl MailDesk {
    /// Looks up the receiver and the facts.
    pub(super) async fn gather(&self, input: &LetterInput, doing: &str) -> Result<Gathered, Fault> {
        match input.kind {
            LetterKind::StaffAttention => return self.for_staff(input, doing).await,
            LetterKind::RemovalsHeld => return self.about_the_breaker(doing).await,
            _ => {}
        }
        match &input.subject {
            LetterSubject::User(user) => self.for_a_person(input, *user, doing).await,
            LetterSubject::Order(order) => self.about_a_service(input, *order, None, doing).await,
            LetterSubject::Subscription(id) => {
                let subscription = self.subscription(id, doing).await?;
                self.about_a_service(input, subscription.order, Some(subscription), doing).await
            }
        }
    }

    /// Nobody has confirmed yet that the address belongs to whoever wrote the name, so the name is not repeated to it.
    async fn for_a_person(&self, input: &LetterInput, user: UserId, doing: &str) -> Result<Gathered, Fault> {
        if let Some(found) = self.about_access(input, user, doing).await? {
            return Ok(found);
        }
        if let Some(found) = self.about_privacy(input, user, doing).await? {
            return Ok(found);
        }
        let found = self.store.user(user).await.map_err(|error| of_store(doing, error))?;
        let user = found.ok_or_else(|| nothing(doing, "there is no such user"))?;
        if user.email.ends_with(CLOSED_DOMAIN) {
            return Ok(Gathered::Pointless(CLOSED));
        }
        let receiver = Receiver { user: Some(user.id), order: None, name: String::new(), email: user.email };
        let mut told = Facts { site: self.site(), ..Facts::default() };
        if input.kind != LetterKind::VerifyAddress {
            told.link = self.link("/accounts/login/");
            return Ok(Gathered::Letter(receiver, Box::new(told)));
        }
        let id = input.occasion.strip_prefix("verify_address/").and_then(|text| text.parse::<Uuid>().ok());
        let id = id.ok_or_else(|| nothing(doing, "the occasion names no verification"))?;
        let found = self.store.verification(id).await.map_err(|error| of_store(doing, error))?;
        let verification = found.ok_or_else(|| nothing(doing, "there is no such verification"))?;
        if verification.used_at.is_some() {
            return Ok(Gathered::Pointless("the address was confirmed already"));
        }
        if verification.expires_at <= OffsetDateTime::now_utc() {
            return Ok(Gathered::Pointless("its link had expired before it could be sent"));
        }
        told.day = minute(verification.expires_at);
        told.link = self.link(&format!("/accounts/verify/?id={id}&tag={}", self.keys.tag("verify-address", id)));
        Ok(Gathered::Letter(receiver, Box::new(told)))
    }

    async fn about_a_service(
        &self,
        input: &LetterInput,
        order: OrderId,
        subscription: Option<Subscription>,
        doing: &str,
    ) -> Result<Gathered, Fault> {
        let brief = self.brief(self.order_meant(input, order, doing).await?, doing).await?;
        if brief.customer_email.ends_with(CLOSED_DOMAIN) {
            return Ok(Gathered::Pointless(CLOSED));
        }
        let service = input.service.unwrap_or(brief.service);
        let mut told = self.of_order(&brief);
        if let Some(subscription) = &subscription {
            told.plan.clone_from(&subscription.plan_name);
            told.amount = subscription.money.to_string();
            told.term = each(subscription.term);
        }
        let of_subscription = |at: fn(&Subscription) -> Option<OffsetDateTime>| {
            subscription.as_ref().and_then(at).map(day).unwrap_or_default()
        };
        told.link = self.link(&format!("/dashboard/vps/{service}/"));
        if matches!(input.kind, LetterKind::PlanConfirmation | LetterKind::PlanUnchanged) {
            let wish = self.plan_wish(input, doing).await?;
            if input.kind == LetterKind::PlanConfirmation && wish.state != InstructionState::Accepted {
                return Ok(Gathered::Pointless("the change had come to its end before the letter could be sent"));
            }
            told.other_plan = wish.name;
            told.amount = wish.due.map(|due| due.to_string()).unwrap_or_default();
        }
        match input.kind {
            LetterKind::PaymentReceived => {
                told.day = of_subscription(|subscription| subscription.period_end);
                told.link = self.link("/dashboard/");
            }
            LetterKind::TrialEnding => {
                told.day = named_day(&input.occasion);
                told.link = self.link(&format!("/dashboard/vps/{service}/cancel/"));
            }
            LetterKind::SubscriptionEnding => {
                told.day = named_day(&input.occasion);
                told.link = self.link("/billing/portal/");
            }
            LetterKind::DestructionWarning | LetterKind::ServiceRemoved => told.day = named_day(&input.occasion),
            LetterKind::ServiceRetained => told.day = of_subscription(|subscription| subscription.destroy_at),
            LetterKind::PaymentConfirmation
            | LetterKind::PlanConfirmation
            | LetterKind::PaymentReminder
            | LetterKind::ServiceSuspended => {
                let page = subscription.as_ref().and_then(|subscription| subscription.open_invoice_url.clone());
                told.link = page.unwrap_or_else(|| self.link("/billing/portal/"));
            }
            LetterKind::ServiceExpired => {
                told.covered = input.occasion.ends_with("/removed");
                told.link = self.link(if told.covered { "/dashboard/" } else { "/pricing/" });
            }
            LetterKind::ServiceRestored => told.covered = input.occasion.contains("/kept/"),
            LetterKind::OrderAbandoned => self.of_an_end(&mut told, &brief, doing).await?,
            _ => {}
        }
        let receiver = Receiver {
            user: Some(brief.user),
            order: Some(brief.order),
            name: brief.customer_name,
            email: brief.customer_email,
        };
        Ok(Gathered::Letter(receiver, Box::new(told)))
    }

    /// What is said of an order that was given up, and of what was paid for it.
    async fn of_an_end(&self, told: &mut Facts, brief: &OrderBrief, doing: &str) -> Result<(), Fault> {
        match self.store.paid_for(brief.order).await.map_err(|error| of_store(doing, error))? {
            PaidFor::Nothing => told.free = true,
            PaidFor::This(paid) => told.amount = paid.to_string(),
            PaidFor::Unread => {}
        }
        told.covered = brief.covered_by.is_some();
        // Only one that is late is written to before it is closed.
        told.late = brief.reason.as_deref().is_none_or(|reason| reason == LATE);
        told.link = self.link("/dashboard/");
        Ok(())
    }

    /// A subscription pays for several orders: the one whose service the letter names, else the first.
    async fn order_meant(&self, input: &LetterInput, first: OrderId, doing: &str) -> Result<OrderId, Fault> {
        let Some(service) = input.service else { return Ok(first) };
        let named = self.store.order_of_service(service).await.map_err(|error| of_store(doing, error))?;
        Ok(named.unwrap_or(first))
    }

    /// The change of plan that the occasion names.
    async fn plan_wish(&self, input: &LetterInput, doing: &str) -> Result<PlanWish, Fault> {
        let named = input.occasion.rsplit('/').next().and_then(|id| id.parse().ok());
        let id = named.ok_or_else(|| nothing(doing, "the occasion names no instruction"))?;
        let found = self.store.plan_wish(id).await.map_err(|error| of_store(doing, error))?;
        found.ok_or_else(|| nothing(doing, "there is no such change of plan"))
    }

    async fn about_the_breaker(&self, doing: &str) -> Result<Gathered, Fault> {
        let held = self.store.removals_held().await.map_err(|error| of_store(doing, error))?;
        let waiting = held.into_iter().find_map(|(by, number)| (by == HeldBy::Breaker).then_some(number));
        let Some(waiting) = waiting.filter(|number| *number > 0) else {
            return Ok(Gathered::Pointless("staff had decided before the letter could be sent"));
        };
        let receiver = Receiver { email: self.staff_email.clone(), ..Receiver::default() };
        let told = Facts {
            site: self.site(),
            reason: waiting.to_string(),
            link: self.link("/staff/coming/"),
            ..Facts::default()
        };
        Ok(Gathered::Letter(receiver, Box::new(told)))
    }

    async fn for_staff(&self, input: &LetterInput, doing: &str) -> Result<Gathered, Fault> {
        let named = input.occasion.strip_prefix("staff_attention/").and_then(|rest| rest.rsplit_once('/'));
        let (workflow, occurrence) = named.ok_or_else(|| nothing(doing, "the occasion names no workflow"))?;
        let open = self.store.open_attention().await.map_err(|error| of_store(doing, error))?;
        let number: u32 = occurrence.parse().map_err(|_| nothing(doing, "the occasion names no waiting"))?;
        let waiting = open.into_iter().find(|line| line.workflow_id == workflow && line.occurrence == number);
        let settled =
            self.store.attention_is_settled(workflow, number).await.map_err(|error| of_store(doing, error))?;
        if waiting.is_none() && settled {
            return Ok(Gathered::Pointless("staff had settled it before the letter could be sent"));
        }
        // A waiting that could not be written down is told of all the same.
        let (order, step, reason) = waiting.map_or_else(
            || (None, "a step".to_owned(), "It stands in Temporal UI alone.".to_owned()),
            |line| (line.order, line.step.title().to_owned(), line.reason),
        );
        let receiver = Receiver { name: String::new(), email: self.staff_email.clone(), order, user: None };
        let told = Facts {
            site: self.site(),
            step,
            reason,
            workflow: workflow.to_owned(),
            link: self.link("/staff/"),
            ..Facts::default()
        };
        Ok(Gathered::Letter(receiver, Box::new(told)))
    }

    fn of_order(&self, brief: &OrderBrief) -> Facts {
        let address = |at: fn(&store::OrderPlace) -> String| brief.place.as_ref().map(at).unwrap_or_default();
        Facts {
            site: self.site(),
            name: brief.customer_name.clone(),
            hostname: brief.hostname.clone(),
            dns_name: brief.dns_name.as_deref().unwrap_or_default().trim_end_matches('.').to_owned(),
            ipv4: address(|place| place.ipv4.address.to_string()),
            ipv6: address(|place| place.ipv6.address.to_string()),
            has_password: brief.sealed_ssh_key.is_none(),
            plan: brief.plan_name.clone(),
            amount: brief.money.to_string(),
            term: each(brief.term),
            ..Facts::default()
        }
    }

    async fn brief(&self, order: OrderId, doing: &str) -> Result<OrderBrief, Fault> {
        let found = self.store.brief(order).await.map_err(|error| of_store(doing, error))?;
        found.ok_or_else(|| nothing(doing, "there is no such order"))
    }

    async fn subscription(&self, id: &SubscriptionId, doing: &str) -> Result<Subscription, Fault> {
        let found = self.store.subscription(id).await.map_err(|error| of_store(doing, error))?;
        found.ok_or_else(|| nothing(doing, "there is no such subscription"))
    }

    pub(super) fn site(&self) -> String {
        self.site.clone()
    }

    pub(super) fn link(&self, path: &str) -> String {
        format!("{}{path}", self.site)
    }
}

/// The day that an occasion names at its end; our tables may say it only after the letter is written.
fn named_day(occasion: &str) -> String {
    let named = occasion.rsplit('/').next().and_then(|secs| secs.parse().ok());
    named.and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok()).map(day).unwrap_or_default()
}

pub(super) fn nothing(doing: &str, what: &str) -> Fault {
    Vendor::Database.give_up(doing, what)
}
