//! A further server that a subscription covers: one form, and one write, which is Temporal's. Nothing is paid.
use askama::Template;
use axum::{
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use contract::order::{CoverReply, OrderInput};
use domain::{
    ids::{OrderId, SubscriptionId},
    order::OrderStatus,
};
use store::{Further, Image, OrderBrief, User};
use uuid::Uuid;

use super::{
    Portal, Shared,
    checkout::{machine, service_of},
    fields::{Field, Summary},
    page::{self, Refusal, Shell},
    posted::Posted,
    redirect,
    visitor::Customer,
};

/// What is said when the order's row does not say it.
const NO_PLACE: &str = "There is no place for another server now.";

/// Why it was not taken.
enum FurtherRefusal {
    /// As everywhere.
    Page(Refusal),
    /// The plan covers no more, or not now; why.
    None(Box<NoneLeft>),
    /// Temporal is away; the same form may be sent again.
    Away(Box<Whole>),
    /// A field has to be corrected.
    Faulted(Box<Whole>),
}

impl<T: Into<Refusal>> From<T> for FurtherRefusal {
    fn from(fault: T) -> Self {
        Self::Page(fault.into())
    }
}

impl IntoResponse for FurtherRefusal {
    fn into_response(self) -> Response {
        match self {
            Self::Page(refusal) => refusal.into_response(),
            Self::None(page) => page::render(StatusCode::CONFLICT, &*page),
            Self::Faulted(page) => page::render(StatusCode::UNPROCESSABLE_ENTITY, &*page),
            Self::Away(mut page) => {
                page.form.away = true;
                let mut response = page::render(StatusCode::SERVICE_UNAVAILABLE, &*page);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
                response
            }
        }
    }
}

/// The form with everything it shows.
struct Form {
    further: Further,
    images: Vec<Image>,
    order: OrderId,
    hostname: Field,
    image: Field,
    ssh_key: Field,
    away: bool,
}

impl Form {
    fn summary(&self) -> Summary<'_> {
        Summary::of([&self.hostname, &self.image, &self.ssh_key])
    }
}

#[derive(Template)]
#[template(path = "page/further.html")]
struct Whole {
    shell: Shell,
    form: Form,
}

#[derive(Template)]
#[template(path = "page/further_none.html")]
struct NoneLeft {
    shell: Shell,
    why: String,
}

/// The form. The order's id is made here, so that a form sent twice is one order.
pub(crate) async fn form(State(portal): Shared, Path(id): Path<String>, mut customer: Customer) -> Response {
    let shown = async {
        let shell = customer.visitor.form_shell("dashboard").await?;
        let (shell, further) = covered(&portal, shell, &customer.user, id).await?;
        let form = filled(&portal, further, OrderId(Uuid::new_v4())).await?;
        Ok(page::ok(&Whole { shell, form }))
    };
    shown.await.unwrap_or_else(FurtherRefusal::into_response)
}

/// Takes the form and leads to the order.
pub(crate) async fn submit(State(portal): Shared, Path(id): Path<String>, mut posted: Posted) -> Response {
    let taken = async {
        let user = posted.user()?;
        let shell = posted.visitor.form_shell("dashboard").await?;
        let order = posted.text("order").parse::<OrderId>().map_err(|_| Refusal::Unreadable)?;
        if let Some(known) = portal.store.brief(order).await? {
            return way_on(shell, &known, &user);
        }
        let (shell, further) = match covered(&portal, shell, &user, id).await {
            Err(FurtherRefusal::None(none)) => return taken_meanwhile(&portal, *none, order, &user).await,
            found => found?,
        };
        let mut form = filled(&portal, further, order).await?;
        let fields = (&mut form.hostname, &mut form.image, &mut form.ssh_key);
        let Some((hostname, sealed_ssh_key)) = machine(&portal, &form.images, fields, &posted)? else {
            return Err(FurtherRefusal::Faulted(Box::new(Whole { shell, form })));
        };
        portal.take_order(&posted.visitor.caller, user.account).await?;
        let input = OrderInput {
            order,
            account: user.account,
            service: service_of(order),
            plan: form.further.plan_slug.clone(),
            term: form.further.term,
            currency: form.further.currency.clone(),
            hostname,
            image: form.image.value.clone(),
            sealed_ssh_key,
            trial_days: 0,
            covered_by: Some(form.further.subscription.clone()),
            attention_raised: 0,
            given_up: None,
            policy: portal.settings.policy.clone(),
        };
        match portal.temporal.begin_covered(input).await {
            Ok(CoverReply::Begun | CoverReply::Refused | CoverReply::Closed) => {}
            Ok(CoverReply::Delayed) => return Err(FurtherRefusal::Away(Box::new(Whole { shell, form }))),
            Err(fault) => {
                tracing::warn!(fault = page::whole(&fault), "no further server without Temporal");
                return Err(FurtherRefusal::Away(Box::new(Whole { shell, form })));
            }
        }
        match portal.store.brief(order).await? {
            Some(known) => way_on(shell, &known, &user),
            None => Err(FurtherRefusal::Away(Box::new(Whole { shell, form }))),
        }
    };
    Box::pin(taken).await.unwrap_or_else(FurtherRefusal::into_response)
}

/// What the subscription covers, if it is this customer's and there is a place.
async fn covered(portal: &Portal, shell: Shell, user: &User, id: String) -> Result<(Shell, Further), FurtherRefusal> {
    let further = portal.store.further(&SubscriptionId(id), user.account).await?.ok_or(Refusal::NotFound)?;
    match &further.refusal {
        Some(refusal) => Err(FurtherRefusal::None(Box::new(NoneLeft { shell, why: refusal.words() }))),
        None => Ok((shell, further)),
    }
}

/// The last place may be this order's own: the same form, sent twice at once, took it since the order was looked for.
async fn taken_meanwhile(
    portal: &Portal,
    none: NoneLeft,
    order: OrderId,
    user: &User,
) -> Result<Response, FurtherRefusal> {
    match portal.store.brief(order).await? {
        Some(known) => way_on(none.shell, &known, user),
        None => Err(FurtherRefusal::None(Box::new(none))),
    }
}

async fn filled(portal: &Portal, further: Further, order: OrderId) -> Result<Form, FurtherRefusal> {
    let images = portal.store.images().await?;
    let first = images.first().map(|image| image.slug.clone()).unwrap_or_default();
    Ok(Form {
        further,
        order,
        hostname: Field::new("hostname", "Name of your server", ""),
        image: Field::new("image", "Operating system", first),
        ssh_key: Field::new("ssh_key", "SSH public key", ""),
        images,
        away: false,
    })
}

/// Where the customer goes with an order that is written down.
fn way_on(shell: Shell, order: &OrderBrief, user: &User) -> Result<Response, FurtherRefusal> {
    if order.account != user.account {
        return Err(Refusal::NotFound.into());
    }
    if order.status == OrderStatus::SoldOut {
        let why = order.reason.clone().unwrap_or_else(|| NO_PLACE.to_owned());
        return Err(FurtherRefusal::None(Box::new(NoneLeft { shell, why })));
    }
    Ok(redirect::see_other(&format!("/dashboard/orders/{}/", order.order)))
}
