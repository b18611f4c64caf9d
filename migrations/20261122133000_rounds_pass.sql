-- A comparison that one round does not read to its end, so that the next goes on where it stopped

alter table rounds
    -- the subscription after which Stripe's list is read on; none: from the beginning
    add column reached text,
    add column pass_began_at timestamptz,
    -- every subscription that was listed until there
    add column met text[] not null default '{}',
    add constraint rounds_pass check ((reached is null) = (pass_began_at is null));
