-- What moved an account's credit at Stripe, as Stripe tells it. A move is never changed there, so neither is its row.
create table credit_moves (
    id text primary key,
    customer_id text not null,
    account_id uuid not null references accounts,
    -- Stripe's word: adjustment, applied_to_invoice, unapplied_from_invoice, …
    kind text not null,
    -- below nought it gives the customer credit
    amount_minor bigint not null,
    currency text not null,
    -- the invoice that it was used for, or that it was given back for
    invoice_id text,
    -- the instruction of staff that it was made for
    instruction_id uuid,
    created_at timestamptz not null
);
create index credit_moves_account on credit_moves (account_id, created_at desc);
