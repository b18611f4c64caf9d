-- The end of the chain that a worker saw last. One that is cut off while no worker runs is missed by the next.
create table audit_seen (
    only_one boolean primary key default true constraint audit_seen_only_one check (only_one),
    seq bigint not null constraint audit_seen_seq check (seq > 0),
    hash bytea not null constraint audit_seen_hash check (octet_length(hash) = 32)
);
