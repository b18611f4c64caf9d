//! Whom a letter goes to and what it tells, read when it is written.
use contract::letter::{LetterInput, LetterKind, LetterSubject};
use domain::{
    ids::{OrderId, SubscriptionId, UserId},
    instruction::InstructionState,
    order::LATE,
};
use store::{OrderBrief, PlanWish, Subscription};
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
        if input.kind == LetterKind::StaffAttention {
            return self.for_staff(input, doing).await;
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
        let found = self.store.user(user).await.map_err(|error| of_store(doing, error))?;
        let user = found.ok_or_else(|| nothing(doing, "there is no such user"))?;
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
        let brief = self.brief(order, doing).await?;
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
        let server = self.link(&format!("/dashboard/vps/{service}/"));
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
                // Its mirror may be written only after this.
                let until = input.occasion.rsplit('/').next().and_then(|secs| secs.parse().ok());
                told.day =
                    until.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok()).map(day).unwrap_or_default();
                told.link = self.link(&format!("/dashboard/vps/{service}/cancel/"));
            }
            LetterKind::SubscriptionEnding => {
                told.day = of_subscription(|subscription| subscription.period_end);
                told.link = self.link("/billing/portal/");
            }
            LetterKind::ServiceRetained | LetterKind::DestructionWarning => {
                told.day = of_subscription(|subscription| subscription.destroy_at);
                told.link = server;
            }
            LetterKind::PaymentConfirmation
            | LetterKind::PlanConfirmation
            | LetterKind::PaymentReminder
            | LetterKind::ServiceSuspended => {
                let page = subscription.as_ref().and_then(|subscription| subscription.open_invoice_url.clone());
                told.link = page.unwrap_or_else(|| self.link("/billing/portal/"));
            }
            LetterKind::ServiceExpired => told.link = self.link("/pricing/"),
            LetterKind::OrderAbandoned => {
                told.late = brief.reason.as_deref() == Some(LATE);
                told.link = self.link("/dashboard/");
            }
            _ => told.link = server,
        }
        let receiver = Receiver {
            user: Some(brief.user),
            order: Some(brief.order),
            name: brief.customer_name,
            email: brief.customer_email,
        };
        Ok(Gathered::Letter(receiver, Box::new(told)))
    }

    /// The change of plan that the occasion names.
    async fn plan_wish(&self, input: &LetterInput, doing: &str) -> Result<PlanWish, Fault> {
        let named = input.occasion.rsplit('/').next().and_then(|id| id.parse().ok());
        let id = named.ok_or_else(|| nothing(doing, "the occasion names no instruction"))?;
        let found = self.store.plan_wish(id).await.map_err(|error| of_store(doing, error))?;
        found.ok_or_else(|| nothing(doing, "there is no such change of plan"))
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

    fn site(&self) -> String {
        self.site.clone()
    }

    fn link(&self, path: &str) -> String {
        format!("{}{path}", self.site)
    }
}

fn nothing(doing: &str, what: &str) -> Fault {
    Vendor::Database.give_up(doing, what)
}
