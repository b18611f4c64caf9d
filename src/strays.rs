//! Machines that nobody wants any more: a clone that Proxmox began after its order was given up, had looked for its machine and
//! had given the number back. They are looked for and shown to whoever operates the cluster. Nothing is destroyed by itself:
//! what no order knows is nobody's to judge but a person's.
use std::{fmt, time::Duration};

use activities::machine::proxmox::{BareCopies, BareCopy, ProxmoxApi};
use domain::{ids::OrderId, order::OrderStatus};
use store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

/// How often the cluster is looked through.
const EVERY: Duration = Duration::from_mins(10);
/// How long after a failure it is looked through again.
const AGAIN: Duration = Duration::from_mins(1);
/// How many machines the last look found.
const STRAYS_METRIC: &str = "ez_machines_stray";

/// A machine with the stamp of an order that has no use for it.
pub(crate) struct Stray {
    copy: BareCopy,
    order: OrderId,
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BareCopy { vmid, node, .. } = &self.copy;
        write!(f, "machine {vmid} on {node} was copied for order {}, which is over or has another", self.order)
    }
}

/// What a look through the cluster found.
pub(crate) struct Strays {
    /// Every machine that nobody wants any more.
    pub(crate) left: Vec<Stray>,
    /// How many machines may be one and could not be read.
    unread: usize,
}

impl fmt::Display for Strays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.left.is_empty() {
            write!(f, "none is left that no order wants")?;
        }
        for (index, stray) in self.left.iter().enumerate() {
            write!(f, "{}{stray}", if index == 0 { "" } else { "; " })?;
        }
        if self.unread == 0 { Ok(()) } else { write!(f, "; of {} it could not be read", self.unread) }
    }
}

/// Looks through the cluster until `stop`. Several workers may do it side by side: they only look.
pub(crate) async fn keep(store: Store, proxmox: ProxmoxApi, stop: CancellationToken) {
    metrics::gauge!(STRAYS_METRIC).set(0.0);
    loop {
        let rest = match find(&store, &proxmox).await {
            Ok(strays) => {
                tell(&strays.left);
                EVERY
            }
            Err(fault) => {
                tracing::warn!(
                    error = format!("{fault:#}"),
                    "machines nobody wants could not be looked for; trying again"
                );
                AGAIN
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(rest) => {}
        }
    }
}

/// Every machine that nobody wants any more.
///
/// *Errors*: the cluster or the database does not answer.
pub(crate) async fn find(store: &Store, proxmox: &ProxmoxApi) -> anyhow::Result<Strays> {
    let BareCopies { found, unread } = proxmox.bare_copies().await?;
    let mut left = vec![];
    for copy in found {
        // An order ends after its machine was destroyed: one that was being destroyed just now is gone when its order is over.
        if let Some(order) = not_wanted_by(store, &copy).await?
            && proxmox.is_still_there(&copy).await?
        {
            left.push(Stray { copy, order });
        }
    }
    Ok(Strays { left, unread })
}

/// The order that a copy was made for, when it is over, or was delivered with another machine. A service that we do not know may
/// be another portal's, or be written down again after a restore.
async fn not_wanted_by(store: &Store, copy: &BareCopy) -> Result<Option<OrderId>, StoreError> {
    let Some(order) = store.order_of_service(copy.service).await? else { return Ok(None) };
    let is_over = match store.order_status(order).await? {
        Some(OrderStatus::Lapsed | OrderStatus::SoldOut | OrderStatus::Abandoned) => true,
        Some(OrderStatus::Delivered) => {
            let place = store.brief(order).await?.and_then(|brief| brief.place);
            place.is_some_and(|place| !place.held || place.vmid != copy.vmid)
        }
        Some(OrderStatus::AwaitingPayment | OrderStatus::Provisioning) | None => false,
    };
    Ok(is_over.then_some(order))
}

fn tell(strays: &[Stray]) {
    for Stray { copy: BareCopy { vmid, node, service }, order } in strays {
        tracing::warn!(vmid = vmid.0, node, %service, %order, "a machine is left that no order wants");
    }
    metrics::gauge!(STRAYS_METRIC).set(f64::from(u32::try_from(strays.len()).unwrap_or(u32::MAX)));
}
