-- Few orders still hold a sealed key: it goes once the machine has it.
create index orders_sealed on orders (id) where sealed_ssh_key is not null;
