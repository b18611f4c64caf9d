//! Forms and pages for whoever said who they are not long ago: with their password or a passkey, within the last minutes. What cannot
//! be taken back, and whatever staff do, takes one of these as its last argument; everybody else is asked again and comes back.
//! Where only some wishes of a form need it, `Posted::proven_user` asks.
use std::sync::Arc;

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::request::Parts,
};
use store::User;

use super::{
    Portal,
    page::Refusal,
    posted::Posted,
    visitor::{Customer, Visitor, way_back},
};

/// A form sent by somebody who is logged in and said who they are not long ago.
pub(crate) struct ProvenForm {
    /// The form.
    pub(crate) posted: Posted,
    /// Who sent it.
    pub(crate) user: User,
}

impl FromRequest<Arc<Portal>> for ProvenForm {
    type Rejection = Refusal;

    async fn from_request(request: Request, portal: &Arc<Portal>) -> Result<Self, Refusal> {
        let posted = Posted::from_request(request, portal).await?;
        let user = posted.proven_user(portal)?;
        Ok(Self { posted, user })
    }
}

/// A page for somebody who is logged in and said who they are not long ago.
pub(crate) struct ProvenPage {
    /// The visit.
    pub(crate) visitor: Visitor,
    /// Who it is.
    pub(crate) user: User,
}

impl FromRequestParts<Arc<Portal>> for ProvenPage {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, portal: &Arc<Portal>) -> Result<Self, Refusal> {
        let back = way_back(parts);
        let Customer { visitor, user } = Customer::from_request_parts(parts, portal).await?;
        if visitor.is_proven(portal) { Ok(Self { visitor, user }) } else { Err(Refusal::ProveFirst(back)) }
    }
}

/// A form sent by a member of staff, with a second factor where one is required, who said who they are not long ago. For everybody
/// else it does not exist.
pub(crate) struct StaffForm {
    /// The form.
    pub(crate) posted: Posted,
    /// Who sent it.
    pub(crate) user: User,
}

impl FromRequest<Arc<Portal>> for StaffForm {
    type Rejection = Refusal;

    async fn from_request(request: Request, portal: &Arc<Portal>) -> Result<Self, Refusal> {
        let posted = Posted::from_request(request, portal).await?;
        let user = posted.visitor.staff(portal)?;
        posted.proven_user(portal)?;
        Ok(Self { posted, user })
    }
}
