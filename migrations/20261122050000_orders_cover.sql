-- A plan may cover further services: an order names the subscription that covers it, and nothing is paid for it.
alter table orders add column covered_by text;

-- How large a machine after the first is; nothing means as large as the plan's own.
alter table plans
    add column further_cores integer,
    add column further_memory_mib integer,
    add column further_disk_gib integer,
    add constraint plans_further check (
        num_nulls(further_cores, further_memory_mib, further_disk_gib) in (0, 3)
        and coalesce(least(further_cores, further_memory_mib, further_disk_gib), 1) > 0
    );

-- The size that the machine of an order has by its plan.
create view machine_sizes as
select o.id as order_id,
    case when o.covered_by is null then p.cores else coalesce(p.further_cores, p.cores) end as cores,
    case when o.covered_by is null then p.memory_mib else coalesce(p.further_memory_mib, p.memory_mib) end as memory_mib,
    case when o.covered_by is null then p.disk_gib else coalesce(p.further_disk_gib, p.disk_gib) end as disk_gib
from orders o join plans p on p.id = o.plan_id;

-- The one place where it is counted how much of what a subscription lets an account have is used.
create view entitlement_use as
select e.subscription_id, e.kind, e.quantity,
    (select count(*) from services s where s.subscription_id = e.subscription_id and s.kind = e.kind
        and s.status not in ('expired', 'undone')) as used
from entitlements e where e.closed_at is null;
