//! Places for live pages: so many in one process, and a share of them for each account, so that nobody takes them all.
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use axum::http::StatusCode;
use domain::ids::AccountId;

/// How many streams one process serves.
const LIMIT: usize = 300;
/// How many of them one account may have.
const SHARE: usize = 20;

static PLACES: LazyLock<Arc<Places>> = LazyLock::new(|| Arc::new(Places::new(LIMIT, SHARE)));

/// All places, and how many of them each account has.
struct Places {
    limit: usize,
    share: usize,
    taken: Mutex<HashMap<AccountId, usize>>,
}

/// A place somebody has; it is free again when this is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    account: AccountId,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The account has its share.
    Share,
    /// Nobody gets another one.
    Everything,
}

impl Full {
    /// What the browser is answered.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Share => StatusCode::TOO_MANY_REQUESTS,
            Self::Everything => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Takes a place in this process for a live page of this account.
pub(crate) fn take(account: AccountId) -> Result<Place, Full> {
    PLACES.take(account)
}

impl Places {
    fn new(limit: usize, share: usize) -> Self {
        Self { limit, share, taken: Mutex::default() }
    }

    fn take(self: &Arc<Self>, account: AccountId) -> Result<Place, Full> {
        let mut taken = self.taken();
        let own = taken.get(&account).copied().unwrap_or(0);
        if own >= self.share {
            return Err(Full::Share);
        }
        if taken.values().sum::<usize>() >= self.limit {
            return Err(Full::Everything);
        }
        taken.insert(account, own + 1);
        Ok(Place { places: Arc::clone(self), account })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<AccountId, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        match taken.get_mut(&self.account) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                taken.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn an_account_has_its_share_and_a_place_that_is_left_is_free_again() {
        let places = Arc::new(Places::new(3, 2));
        let [ann, bob, eve] = [1, 2, 3].map(|number| AccountId(Uuid::from_u128(number)));
        let (first, second) = (places.take(ann).ok(), places.take(ann).ok());
        assert_eq!(places.take(ann).err(), Some(Full::Share));
        let third = places.take(bob).ok();
        assert_eq!(places.take(eve).err(), Some(Full::Everything));
        drop(first);
        let fourth = places.take(ann).ok();
        assert_eq!(places.take(ann).err(), Some(Full::Share));
        drop((second, third, fourth));
        assert!(places.taken().is_empty(), "who has no place is remembered");
    }
}
