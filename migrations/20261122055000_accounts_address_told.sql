-- The address at Stripe follows one that was confirmed here: which change it is to know, and which one it knows

alter table accounts
    -- the newest confirmed change of the address; Stripe is told while it is not the one it was told of
    add column address_asked uuid,
    add column address_told uuid;
