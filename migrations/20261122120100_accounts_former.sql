-- Whose name may still stand at Stripe after an account got another first owner, until Stripe is told

alter table accounts add column address_former uuid;
