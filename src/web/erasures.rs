//! Whose data goes, when, what stays and until when: for staff. Nobody is named here, because nobody is any more.
use askama::Template;
use axum::{extract::State, response::Response};
use store::{Erasure, ErasureState, KeptLine, kept_after_erasure};

use super::{
    Shared, WebSettings,
    page::{self, Refusal, Shell},
    staff::workflow_address,
    visitor::Staff,
};

#[derive(Template)]
#[template(path = "page/erasures.html")]
struct Whole<'a> {
    shell: Shell,
    erasures: Vec<Erasure>,
    settings: &'a WebSettings,
}

impl Whole<'_> {
    /// Where an operator sees the workflow.
    fn workflow(&self, erasure: &Erasure) -> String {
        workflow_address(self.settings, &erasure.id.workflow_id())
    }

    /// How it stands.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    fn state(&self, erasure: &Erasure) -> &'static str {
        match erasure.state {
            ErasureState::Asked if erasure.is_late => "Not confirmed in time",
            ErasureState::Asked => "Waits to be confirmed",
            ErasureState::Lapsed => "Not confirmed in time",
            ErasureState::Waiting if erasure.held_because.is_some() => "Held",
            ErasureState::Waiting => "Can be taken back",
            ErasureState::TakenBack => "Taken back",
            ErasureState::Erasing => "Being erased",
            ErasureState::Erased => "Erased; the last letter is on its way",
            ErasureState::Done if erasure.rest_erased_at.is_some() => "Erased, the books too",
            ErasureState::Done => "Erased",
        }
    }

    /// What stays of it.
    #[expect(clippy::unused_self, reason = "a template calls it")]
    fn kept(&self, erasure: &Erasure) -> Vec<KeptLine> {
        let begun = matches!(erasure.state, ErasureState::Erasing | ErasureState::Erased | ErasureState::Done);
        if !begun {
            return vec![];
        }
        kept_after_erasure(erasure.kept_until.filter(|_| erasure.rest_erased_at.is_none()))
    }
}

/// The page.
pub(crate) async fn list(State(portal): Shared, mut staff: Staff) -> Result<Response, Refusal> {
    let erasures = portal.store.erasures().await?;
    let shell = staff.visitor.form_shell("staff").await?;
    Ok(page::ok(&Whole { shell, erasures, settings: &portal.settings }))
}
