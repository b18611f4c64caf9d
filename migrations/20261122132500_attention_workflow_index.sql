-- A wait for staff is found by its workflow also when it is settled, and a charge by whom it was paid by

create index attention_workflow on attention (workflow_id, occurrence);
create index payments_customer on payments (customer_id);
