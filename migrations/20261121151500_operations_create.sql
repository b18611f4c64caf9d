-- What operators watch

-- One row for each backup that was finished. The two databases are taken one after the other.
create table backups (
    id uuid primary key,
    portal_taken_at timestamptz not null,
    temporal_taken_at timestamptz not null,
    finished_at timestamptz not null default now()
);
create index backups_finished on backups (finished_at desc);

-- The last webhook whose signature did not fit. That one fitted is seen by its row in payment_events.
create table webhook_refusals (
    only_one boolean primary key default true constraint webhook_refusals_only_one check (only_one),
    last_at timestamptz not null
);

create index letters_open on letters (created_at) where state in ('queued', 'started');
