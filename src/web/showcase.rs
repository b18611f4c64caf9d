//! What is on sale, as the pages for everybody show it: read from the database at most every half second, however many
//! look, and written into a page once for everybody who is not logged in. "Only 2 left" may be that old; whether there
//! really is one is decided by the order.
use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use store::{Image, Plan, Store, StoreError};

/// How old what is shown may be.
const FRESH: Duration = Duration::from_millis(500);

/// What is on sale at one moment, and the pages that show just that.
pub(crate) struct OnSale {
    /// Every plan, in the pages' order.
    pub(crate) plans: Vec<Plan>,
    /// Every image, in the pages' order.
    pub(crate) images: Vec<Image>,
    /// The front page for everybody.
    pub(crate) front: Poster,
    /// The page of plans for everybody.
    pub(crate) pricing: Poster,
}

/// A page that is the same for everybody, written when it is first looked at. It must hold nothing of a visitor: no name,
/// no token.
#[derive(Default)]
pub(crate) struct Poster(OnceLock<Bytes>);

impl Poster {
    /// Gives the page; `write` writes it the first time.
    ///
    /// *Errors*: it could not be written; the next look tries again.
    pub(crate) fn shown(
        &self,
        write: impl FnOnce() -> Result<String, askama::Error>,
    ) -> Result<Response, askama::Error> {
        let page = if let Some(page) = self.0.get() {
            page.clone()
        } else {
            let page = Bytes::from(write()?);
            self.0.get_or_init(|| page).clone()
        };
        let kind = HeaderValue::from_static("text/html; charset=utf-8");
        Ok(([(header::CONTENT_TYPE, kind)], page).into_response())
    }
}

type Look = Shared<BoxFuture<'static, Result<Arc<OnSale>, Arc<StoreError>>>>;

/// Looks at what is on sale, for all who look at the same time together.
pub(crate) struct Showcase {
    store: Store,
    last: Mutex<Option<(Instant, Look)>>,
}

impl Showcase {
    /// Makes it. Nothing is read yet.
    pub(crate) fn new(store: Store) -> Self {
        Self { store, last: Mutex::default() }
    }

    /// What is on sale, or was half a second before.
    ///
    /// *Errors*: it is older, and the database did not tell.
    pub(crate) async fn on_sale(&self) -> Result<Arc<OnSale>, StoreError> {
        self.look().await.map_err(|fault| fault.shared())
    }

    /// The look that is fresh or under way, or a new one. One that failed serves only those who waited for it.
    fn look(&self) -> Look {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((began, look)) = last.as_ref() {
            let usable = match look.peek() {
                Some(seen) => seen.is_ok() && began.elapsed() < FRESH,
                None => true,
            };
            if usable {
                return look.clone();
            }
        }
        let look = read(self.store.clone()).boxed().shared();
        *last = Some((Instant::now(), look.clone()));
        look
    }
}

async fn read(store: Store) -> Result<Arc<OnSale>, Arc<StoreError>> {
    let (plans, images) = tokio::try_join!(store.plans(), store.images()).map_err(Arc::new)?;
    Ok(Arc::new(OnSale { plans, images, front: Poster::default(), pricing: Poster::default() }))
}
